//! The server itself: how it is reached, and how scripts and commands are run there.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, TlsCertificates, Value,
};
use tokio::sync::Mutex;

use super::errors::Result;
use super::scripts::{NOTE, Script};
use crate::service::config;
use crate::service::contain::contained;

/// A request that is on its way.
pub type ReplyFuture<'a> = Pin<Box<dyn Future<Output = std::result::Result<Value, RedisError>> + Send + 'a>>;

/// What runs scripts and commands: a Redis server, or in a simulation what behaves like one.
pub trait Server: Send + Sync {
    /// Runs a script; `call` is the command that does so if the server knows it.
    fn script(&self, script: &'static Script, call: Cmd) -> ReplyFuture<'_>;
    /// Runs commands in one go; answers an array of their replies.
    fn pipeline(&self, pipeline: redis::Pipeline) -> ReplyFuture<'_>;
}

/// A Redis server, reached over one connection that is made when needed and made again after an
/// error that leaves its state unknown.
struct Reached {
    client: Client,
    /// Address or socket.
    place: String,
    timeout: Duration,
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Reached {
    async fn connection(&self) -> std::result::Result<MultiplexedConnection, RedisError> {
        let connect = async {
            let mut slot = self.connection.lock().await;
            if let Some(connection) = &*slot {
                return Ok(connection.clone());
            }
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(self.timeout))
                .set_response_timeout(Some(self.timeout));
            let connection = self.client.get_multiplexed_async_connection_with_config(&config).await;
            Ok(slot.insert(connection.map_err(|error| at(&self.place, &error))?).clone())
        };
        let timed_out = |_| {
            let sentence = format!("no connection to {} within {:?}", self.place, self.timeout);
            RedisError::from(io::Error::new(io::ErrorKind::TimedOut, sentence))
        };
        tokio::time::timeout(self.timeout, connect).await.map_err(timed_out)?
    }

    /// The client library panics over some answers that are none, instead of saying so.
    async fn understood<T>(
        &self,
        work: impl Future<Output = std::result::Result<T, RedisError>>,
    ) -> std::result::Result<T, RedisError> {
        match contained(work).await {
            Ok(result) => result,
            Err(why) => {
                *self.connection.lock().await = None;
                Err(io::Error::other(format!("the answer makes no sense ({why})")).into())
            }
        }
    }

    async fn look_at(&self, result: &std::result::Result<Value, RedisError>) {
        if result.as_ref().is_err_and(must_reconnect) {
            *self.connection.lock().await = None;
        }
    }
}

impl Server for Reached {
    fn script(&self, script: &'static Script, call: Cmd) -> ReplyFuture<'_> {
        Box::pin(self.understood(async move {
            let mut connection = self.connection().await?;
            let is_unknown = |error: &RedisError| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript);
            let mut result = call.query_async(&mut connection).await;
            if result.as_ref().is_err_and(is_unknown) {
                result = match script.prepared.load_async(&mut connection).await {
                    Ok(_) => call.query_async(&mut connection).await,
                    Err(error) => Err(error),
                };
            }
            self.look_at(&result).await;
            result
        }))
    }

    fn pipeline(&self, pipeline: redis::Pipeline) -> ReplyFuture<'_> {
        Box::pin(self.understood(async move {
            let mut connection = self.connection().await?;
            let result = pipeline.query_async(&mut connection).await;
            self.look_at(&result).await;
            result
        }))
    }
}

/// What went wrong with a connection, of the same kind, and where.
fn at(place: &str, error: &RedisError) -> RedisError {
    if error.is_io_error() {
        let kind = match error.is_timeout() {
            true => io::ErrorKind::TimedOut,
            false if error.is_connection_refusal() => io::ErrorKind::ConnectionRefused,
            false => io::ErrorKind::NotConnected,
        };
        return io::Error::new(kind, format!("{place}: {error}")).into();
    }
    if error.kind() == ErrorKind::AuthenticationFailed {
        // The library has left out what Redis said.
        let sentence = format!("{place} refuses the user or the password of redis.url");
        return redis::make_extension_error("WRONGPASS".to_owned(), Some(sentence));
    }
    RedisError::from((error.kind(), "no connection", format!("{place}: {error}")))
}

pub(super) fn client(redis: &config::Redis) -> std::result::Result<Client, RedisError> {
    let url = redis.url.with_password();
    let Some(ca) = &redis.ca else { return Client::open(url) };
    let root_cert = Some(config::read_bytes(ca).map_err(io::Error::other)?);
    Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert })
}

/// Redis. Cheap to clone.
#[derive(Clone)]
pub struct Redis {
    pub(super) server: Arc<dyn Server>,
}

impl Redis {
    /// Takes the URL apart; connects later.
    pub fn new(redis: &config::Redis, timeout: Duration) -> std::result::Result<Self, RedisError> {
        let client = client(redis)?;
        let place = redis.url.place();
        Ok(Self { server: Arc::new(Reached { client, place, timeout, connection: Mutex::default() }) })
    }

    /// What answers in the place of a server.
    pub fn simulated(server: Arc<dyn Server>) -> Self {
        Self { server }
    }

    pub(super) async fn commands<T: FromRedisValue>(
        &self,
        pipeline: redis::Pipeline,
    ) -> std::result::Result<T, RedisError> {
        Ok(redis::from_redis_value(self.server.pipeline(pipeline).await?)?)
    }

    /// Sets fields of hashes: `(key, field, value)`.
    pub(super) async fn note<const N: usize>(&self, notes: [(&str, &str, &str); N]) -> Result<()> {
        let mut call = NOTE.call(notes.map(|(key, ..)| key));
        for (_, field, value) in notes {
            call.arg(field).arg(value);
        }
        self.server.script(&NOTE, call).await?;
        Ok(())
    }
}

/// A time-out does not cancel the command, and a server that became read-only is not the master any
/// more: a new connection is the way out of both.
fn must_reconnect(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_unrecoverable_error()
        || matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configuration asks its own rules only, which must not be wider than the client's.
    #[test]
    fn the_client_takes_every_url_that_the_configuration_takes() {
        for url in [
            "redis://h",
            "redis://u:p%40%23%2F%3F%25@h:6380/15",
            "redis://:p@[::1]/65535",
            "redis://127.0.0.1:6379/",
            "rediss://:p@redis.example:6380/0",
            "unix:///run/redis.sock",
            "unix:///run/redis%20one.sock?db=1&user=u&pass=p@ss%2B",
        ] {
            client(&config::Redis { url: url.parse().expect(url), ..config::Redis::default() }).expect(url);
        }
        for url in ["redis://0.0.0.0", "redis://[::]:6379", "redis://h/65536", "redis://h/-1", "redis://h/0?protocol=4"]
        {
            url.parse::<config::RedisUrl>().expect_err(url);
        }
    }
}
