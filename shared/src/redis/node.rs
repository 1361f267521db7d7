//! One Redis server: a connection that is made when needed, and made again after an error that leaves its state unknown.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};
use tokio::sync::{Mutex, SetOnce};

use super::client::{at, must_reconnect, timed_out};
use super::scripts::Script;
use super::server::{MastersFuture, ReplyFuture, Scope, Server};
use crate::service::contain::contained;

type Result<T> = std::result::Result<T, RedisError>;

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

    /// Address or socket, for people.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Ends what is under way, as if time were out: whether it took effect is not known.
    pub(super) fn leave(&self, why: String) {
        let _ = self.left.set(why); // Once is enough.
    }

    /// Runs a script; `call` is the command that does so if the server knows it.
    pub(super) async fn script(&self, script: &'static Script, call: Cmd) -> Result<Value> {
        self.understood(async move {
            let mut connection = self.connection().await?;
            let is_unknown = |error: &RedisError| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript);
            let result = call.query_async(&mut connection).await;
            if !result.as_ref().is_err_and(is_unknown) {
                return result;
            }
            script.prepared.load_async(&mut connection).await?;
            call.query_async(&mut connection).await
        })
        .await
    }

    /// Runs commands in one go; answers an array of their replies.
    pub(super) async fn pipeline(&self, pipeline: Pipeline) -> Result<Value> {
        self.understood(async move { pipeline.query_async(&mut self.connection().await?).await }).await
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

/// Alone it is asked about everything.
impl Server for Node {
    fn script(&self, _: Scope, script: &'static Script, call: Cmd) -> ReplyFuture<'_> {
        Box::pin(self.script(script, call))
    }

    fn pipeline(&self, _: Scope, pipeline: Pipeline) -> ReplyFuture<'_> {
        Box::pin(self.pipeline(pipeline))
    }

    fn masters(self: Arc<Self>) -> MastersFuture {
        Box::pin(async { Ok(vec![(self.place.clone(), self as Arc<dyn Server>)]) })
    }
}
