//! Serves one client: a thread for each direction.

use std::io;
use std::thread;
use std::time::Instant;

use super::connection::Connection;
use super::frame::{Reply, Requests};
use super::replies::ReplyPump;
use super::requests::RequestPump;
use super::shared::Close;
use super::{Protocol, mysql};

/// Ends both threads when one panics, as a rule's matcher may make it: the other one would wait for ever.
struct CloseOnPanic<'a>(&'a Connection);

impl Drop for CloseOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.close();
        }
    }
}

/// Serves the client until either side ends. This thread carries requests, another one replies.
pub(super) fn serve(connection: &Connection) {
    // Errors are the end of the connection, which is what the other side sees; there is nobody else to tell.
    let _ = run(connection);
    connection.close();
}

fn run(connection: &Connection) -> io::Result<()> {
    connection.client.set_nodelay(true)?;
    let server = connection.connect()?;
    let requests = match connection.shared.protocol {
        Protocol::Redis => Requests::Redis,
        Protocol::MySql => {
            let mut greeting = mysql::read_greeting(&mut &*server)?;
            let arrived = Instant::now();
            let capabilities = mysql::temper_greeting(&mut greeting);
            connection.to_client(&greeting, arrived)?;
            // A server that refuses the connection says so instead of a greeting, and closes.
            let Some(capabilities) = capabilities else { return Ok(()) };
            connection.expect(Reply::MySql(mysql::Reply::login()), None);
            Requests::MySql(mysql::Requests::new(capabilities))
        }
    };
    thread::scope(|scope| {
        let _closes = CloseOnPanic(connection);
        let replies = || {
            let _ = ReplyPump::new(connection, server).run();
            // The server has closed, or a rule has: nothing more can be answered.
            connection.close();
        };
        thread::Builder::new().name("proxy replies".to_owned()).spawn_scoped(scope, replies)?;
        let result = RequestPump::new(connection, &connection.client, requests).run();
        if result.is_err() {
            connection.close();
        }
        result
    })
}
