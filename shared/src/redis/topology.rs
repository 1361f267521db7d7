//! Which server has which keys.

mod cluster;
mod rounds;
mod sentinel;
mod slots;

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline, RedisError, Value};
use tokio::sync::watch;

use self::cluster::Cluster;
use self::sentinel::Sentinels;
use super::client::{client, must_reconnect};
use super::node::{Node, Request};
use super::scripts::Script;
use super::server::{LookFuture, MastersFuture, ReplyFuture, Scope, Server};
use crate::service::config;

/// All servers that keys are on.
pub(super) enum Topology {
    /// These, for ever: shard after shard is on the next one. The keys of no shard are on the first.
    Fixed(Vec<Arc<Node>>),
    /// One at a time.
    Sentinel(Sentinels),
    /// Each has some slots.
    Cluster(Cluster),
}

impl Topology {
    /// As it is configured; connects later.
    pub(super) fn new(redis: &config::Redis, timeout: Duration) -> Result<Self, RedisError> {
        if redis.topology == config::Topology::Cluster {
            return Ok(Self::Cluster(Cluster::new(redis, timeout)?));
        }
        if let Some(sentinels) = &redis.sentinels {
            return Ok(Self::Sentinel(Sentinels::new(redis, sentinels, timeout)?));
        }
        let node = |url| Ok(Arc::new(Node::new(client(redis, url)?, url.place(), "redis.url", timeout)));
        Ok(Self::Fixed(redis.url.iter().map(node).collect::<Result<_, RedisError>>()?))
    }

    /// Asks the server that has these keys.
    async fn ask(&self, scope: Scope, request: Request) -> Result<Value, RedisError> {
        match self {
            Self::Fixed(nodes) => {
                let at = if let Scope::Shard(shard) = scope { usize::from(shard.0) % nodes.len() } else { 0 };
                nodes[at].ask(&request, false).await
            }
            Self::Sentinel(sentinels) => {
                let result = sentinels.master().await?.ask(&request, false).await;
                // Behind an error of a connection there may be another server that has the keys now.
                if result.as_ref().is_err_and(must_reconnect) {
                    sentinels.doubt();
                }
                result
            }
            Self::Cluster(cluster) => cluster.ask(scope.slot(), &request).await,
        }
    }

    /// Every server that takes writes.
    async fn nodes(&self) -> Result<Vec<Arc<Node>>, RedisError> {
        match self {
            Self::Fixed(nodes) => Ok(nodes.clone()),
            Self::Sentinel(sentinels) => Ok(vec![sentinels.master().await?]),
            Self::Cluster(cluster) => cluster.masters().await,
        }
    }
}

impl Server for Topology {
    fn script(&self, scope: Scope, script: &'static Script, call: Cmd) -> ReplyFuture<'_> {
        Box::pin(self.ask(scope, Request::Script(script, call)))
    }

    fn pipeline(&self, scope: Scope, pipeline: Pipeline) -> ReplyFuture<'_> {
        Box::pin(self.ask(scope, Request::Commands(pipeline)))
    }

    fn look_again(&self) -> LookFuture<'_> {
        Box::pin(async move {
            match self {
                Self::Fixed(_) => {}
                Self::Sentinel(sentinels) => sentinels.look_again().await,
                Self::Cluster(cluster) => cluster.look_again().await,
            }
        })
    }

    fn moves(&self) -> watch::Receiver<u64> {
        match self {
            Self::Fixed(nodes) => nodes[0].moves(),
            Self::Sentinel(sentinels) => sentinels.moves(),
            Self::Cluster(cluster) => cluster.moves(),
        }
    }

    fn masters(self: Arc<Self>) -> MastersFuture {
        Box::pin(async move {
            let nodes = self.nodes().await?.into_iter();
            Ok(nodes.map(|node| (node.place().to_owned(), node as Arc<dyn Server>)).collect())
        })
    }
}
