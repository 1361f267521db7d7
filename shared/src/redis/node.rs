//! One Redis server: a connection that is made when needed, and made again after an error that leaves its state unknown.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue, IntoConnectionInfo,
    Pipeline, RedisError, ServerErrorKind, Value,
};
use tokio::sync::{Mutex, SetOnce};

use super::client::{at, must_reconnect, timed_out};
use super::scripts::Script;
use super::server::{MastersFuture, ReplyFuture, Scope, Server};
use crate::service::contain::contained;

type Result<T> = std::result::Result<T, RedisError>;

/// What a server is asked.
pub(super) enum Request {
    /// A script, and the command that runs it if the server knows it.
    Script(&'static Script, Cmd),
    /// Commands in one go; the answer is an array of their replies.
    Commands(Pipeline),
}

/// A server, and the one connection to it.
pub(super) struct Node {
    client: Client,
    /// Address or socket.
    place: String,
    /// Which setting says how to log in.
    setting: &'static str,
    timeout: Duration,
    connection: Mutex<Option<MultiplexedConnection>>,
    /// Why nobody is to wait for it any more.
    left: SetOnce<String>,
}

impl Node {
    /// Connects later.
    pub(super) fn new(client: Client, place: String, setting: &'static str, timeout: Duration) -> Self {
        Self { client, place, setting, timeout, connection: Mutex::default(), left: SetOnce::new() }
    }

    /// Where one logs in as with `login`.
    pub(super) fn elsewhere(
        login: &ConnectionInfo,
        host: &str,
        port: u16,
        setting: &'static str,
        timeout: Duration,
    ) -> Result<Self> {
        let (host, place) = (host.to_owned(), place_of(host, port));
        let address = match login.addr().clone() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure, tls_params }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        let client = Client::open(login.clone().set_addr(address).into_connection_info()?)?;
        Ok(Self::new(client, place, setting, timeout))
    }

    /// Address or socket, for people.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Ends what is under way, as if time were out: whether it took effect is not known.
    pub(super) fn leave(&self, why: String) {
        let _ = self.left.set(why); // Once is enough.
    }

    /// Asks it; `is_moving` is said where a cluster is about to move the keys to it.
    pub(super) async fn ask(&self, request: &Request, is_moving: bool) -> Result<Value> {
        let work = async {
            let mut connection = self.connection().await?;
            let (script, call) = match request {
                Request::Script(script, call) => (script, call),
                Request::Commands(pipeline) if is_moving => return asking(pipeline).query_async(&mut connection).await,
                Request::Commands(pipeline) => return pipeline.query_async(&mut connection).await,
            };
            let is_unknown = |error: &RedisError| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript);
            let result = run(call, is_moving, &mut connection).await;
            if !result.as_ref().is_err_and(is_unknown) {
                return result;
            }
            script.prepared.load_async(&mut connection).await?;
            run(call, is_moving, &mut connection).await
        };
        self.understood(work).await
    }

    /// Runs commands in one go; answers an array of their replies.
    pub(super) async fn pipeline(&self, pipeline: Pipeline) -> Result<Value> {
        self.ask(&Request::Commands(pipeline), false).await
    }

    /// What it answers within so much time, or why it does not, with its place.
    pub(super) async fn told<T: FromRedisValue>(
        &self,
        pipeline: Pipeline,
        limit: Duration,
    ) -> std::result::Result<T, String> {
        let asked = async { Ok(redis::from_redis_value(self.pipeline(pipeline).await?)?) };
        let said = tokio::time::timeout(limit, asked).await;
        let said = said.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        said.map_err(|error: RedisError| {
            let why = error.to_string();
            // Said already by one that could not be reached.
            let place = format!("{}: ", self.place);
            if why.contains(&place) { why } else { place + &why }
        })
    }

    async fn connection(&self) -> Result<MultiplexedConnection> {
        let connect = async {
            let mut slot = self.connection.lock().await;
            if let Some(connection) = &*slot {
                return Ok(connection.clone());
            }
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(self.timeout))
                .set_response_timeout(Some(self.timeout));
            let connection = self.client.get_multiplexed_async_connection_with_config(&config).await;
            Ok(slot.insert(connection.map_err(|error| at(&self.place, self.setting, &error))?).clone())
        };
        let timed_out = |_| timed_out(format!("no connection to {} within {:?}", self.place, self.timeout));
        tokio::time::timeout(self.timeout, connect).await.map_err(timed_out)?
    }

    /// The client library panics over some answers that are none, instead of saying so.
    async fn understood(&self, work: impl Future<Output = Result<Value>>) -> Result<Value> {
        let result = tokio::select! {
            biased;
            result = contained(work) => match result {
                Ok(result) => result,
                Err(why) => Err(io::Error::other(format!("the answer makes no sense ({why})")).into()),
            },
            why = self.left.wait() => return Err(timed_out(why.clone())),
        };
        if result.as_ref().is_err_and(must_reconnect) {
            *self.connection.lock().await = None;
        }
        result
    }
}

/// Host and port, for people.
pub(super) fn place_of(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

async fn run(call: &Cmd, is_moving: bool, connection: &mut MultiplexedConnection) -> Result<Value> {
    if !is_moving {
        return call.query_async(connection).await;
    }
    let (reply,) = asking(redis::pipe().add_command(call.clone())).query_async(connection).await?;
    Ok(reply)
}

/// The same with the word before each command that lets it in where keys are about to be moved to. The replies to that are
/// left out, no others.
fn asking(pipeline: &Pipeline) -> Pipeline {
    let mut asking = redis::pipe();
    for command in pipeline.cmd_iter() {
        asking.cmd("ASKING").ignore().add_command(command.clone());
    }
    asking
}

/// Alone it is asked about everything.
impl Server for Node {
    fn script(&self, _: Scope, script: &'static Script, call: Cmd) -> ReplyFuture<'_> {
        Box::pin(async move { self.ask(&Request::Script(script, call), false).await })
    }

    fn pipeline(&self, _: Scope, pipeline: Pipeline) -> ReplyFuture<'_> {
        Box::pin(self.pipeline(pipeline))
    }

    fn masters(self: Arc<Self>) -> MastersFuture {
        Box::pin(async { Ok(vec![(self.place.clone(), self as Arc<dyn Server>)]) })
    }
}
