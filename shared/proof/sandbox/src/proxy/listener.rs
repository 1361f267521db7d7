//! Accepts clients, and stops to without losing the port.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::connection::Connection;
use super::lock::lock;
use super::serve;
use super::shared::Shared;
use super::socket::Port;

/// How many connections may be open; more are closed at once.
const CONNECTIONS_MAX: usize = 1024;

#[derive(Debug)]
pub(crate) struct Listener {
    shared: Arc<Shared>,
    port: Port,
    /// Nothing while connects are to be refused.
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    socket: Arc<TcpListener>,
    thread: JoinHandle<()>,
}

impl Listener {
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let listener = Self { shared, port: Port::reserve()?, running: Mutex::default() };
        listener.resume()?;
        Ok(listener)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Listens, when it does not already.
    pub(super) fn resume(&self) -> io::Result<()> {
        let mut running = lock(&self.running);
        if running.is_none() {
            let socket = Arc::new(self.port.listen()?);
            let (shared, theirs) = (self.shared.clone(), socket.clone());
            let thread = thread::Builder::new().name("proxy".to_owned()).spawn(move || accept(&shared, &theirs))?;
            *running = Some(Running { socket, thread });
        }
        Ok(())
    }

    /// Stops listening. Clients that were accepted are known to `shared` when this returns.
    pub(super) fn stop(&self) {
        if let Some(Running { socket, thread }) = lock(&self.running).take() {
            // Linux takes this as the end of listening, and wakes the thread that accepts.
            let _ = rustix::net::shutdown(&*socket, rustix::net::Shutdown::Both);
            // It cannot panic: it runs no code but ours.
            let _ = thread.join();
        }
    }
}

/// Accepts until the socket is shut down.
fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    /// Before trying again, when this process has, for example, too many files open.
    const PAUSE: Duration = Duration::from_millis(50);

    loop {
        let result = match listener.accept() {
            Ok((client, peer)) => serve(shared, client, peer),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            eprintln!("proxy: cannot accept a client: {error}");
            thread::sleep(PAUSE);
        }
    }
}

/// A connection that `shared` knows of, as long as it lasts.
struct Entry {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let connection = self.shared.change(|state| state.connections.remove(&self.number));
        // After the lock is gone: this may be the last owner, and what a connection owns can want that lock.
        drop(connection);
    }
}

fn serve(shared: &Arc<Shared>, client: TcpStream, peer: SocketAddr) -> io::Result<()> {
    if shared.state().connections.len() >= CONNECTIONS_MAX {
        return Err(io::Error::other(format!("{CONNECTIONS_MAX} are connected already")));
    }
    let connection = Arc::new(Connection::new(shared.clone(), client, peer));
    let number = shared.counters.connections.fetch_add(1, Ordering::Relaxed);
    shared.state().connections.insert(number, connection.clone());
    let entry = Entry { shared: shared.clone(), number };
    let serve = move || {
        let _entry = entry;
        serve::serve(&connection);
    };
    thread::Builder::new().name("proxy requests".to_owned()).spawn(serve).map(drop)
}
