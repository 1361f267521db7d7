//! Redis as everybody here uses it: requests, each of a scope.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, Pipeline, RedisError, Value};
use tokio::sync::watch;

use super::errors::Result;
use super::scripts::{NOTE, Script};
use super::server::{Scope, Server};
use super::topology::Topology;
use crate::service::config;

/// Redis, on as many servers as there are. Cheap to clone.
#[derive(Clone)]
pub struct Redis {
    server: Arc<dyn Server>,
    /// Whether the slots of a cluster are followed.
    pub(super) is_cluster: bool,
}

impl Redis {
    /// Takes the URLs apart; connects later.
    pub fn new(redis: &config::Redis, timeout: Duration) -> std::result::Result<Self, RedisError> {
        let is_cluster = redis.topology == config::Topology::Cluster;
        Ok(Self { server: Arc::new(Topology::new(redis, timeout)?), is_cluster })
    }

    /// What answers in the place of a server.
    pub fn simulated(server: Arc<dyn Server>) -> Self {
        Self { server, is_cluster: false }
    }

    pub(super) fn at(&self, scope: Scope) -> Calls {
        Calls { server: Arc::clone(&self.server), scope }
    }

    /// Where a key of no shard is. In a cluster another one may be elsewhere.
    pub(super) fn home(&self, key: &str) -> Calls {
        self.at(Scope::of(key))
    }

    /// Every server that takes writes, with its place: for what is asked of a server and not of keys.
    pub(super) async fn masters(&self) -> Result<Vec<(String, Calls)>> {
        let masters = Arc::clone(&self.server).masters().await?;
        Ok(masters.into_iter().map(|(place, server)| (place, Calls { server, scope: Scope::Home(0) })).collect())
    }
}

/// Where requests of one scope go. Cheap to clone.
#[derive(Clone)]
pub(super) struct Calls {
    server: Arc<dyn Server>,
    scope: Scope,
}

impl Calls {
    pub(super) async fn script(&self, script: &'static Script, call: Cmd) -> std::result::Result<Value, RedisError> {
        self.server.script(self.scope, script, call).await
    }

    pub(super) async fn commands<T: FromRedisValue>(&self, pipeline: Pipeline) -> std::result::Result<T, RedisError> {
        Ok(redis::from_redis_value(self.server.pipeline(self.scope, pipeline).await?)?)
    }

    /// See [`Server::look_again`].
    pub(super) async fn look_again(&self) {
        self.server.look_again().await;
    }

    /// See [`Server::moves`].
    pub(super) fn moves(&self) -> watch::Receiver<u64> {
        self.server.moves()
    }

    /// Sets fields of hashes: `(key, field, value)`.
    pub(super) async fn note<const N: usize>(&self, notes: [(&str, &str, &str); N]) -> Result<()> {
        let mut call = NOTE.call(notes.map(|(key, ..)| key));
        for (_, field, value) in notes {
            call.arg(field).arg(value);
        }
        self.script(&NOTE, call).await?;
        Ok(())
    }
}
