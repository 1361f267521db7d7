//! Which server has which keys.

mod sentinel;

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline, RedisError, Value};

use self::sentinel::Sentinels;
use super::client::{client, must_reconnect};
use super::node::Node;
use super::scripts::Script;
use super::server::{LookFuture, MastersFuture, ReplyFuture, Scope, Server};
use crate::service::config;

/// All servers that keys are on.
pub(super) enum Topology {
    /// These, for ever: shard after shard is on the next one. The keys of no shard are on the first.
    Fixed(Vec<Arc<Node>>),
    /// One at a time.
    Sentinel(Sentinels),
}

impl Topology {
    /// As it is configured; connects later.
    pub(super) fn new(redis: &config::Redis, timeout: Duration) -> Result<Self, RedisError> {
        if let Some(sentinels) = &redis.sentinels {
            return Ok(Self::Sentinel(Sentinels::new(redis, sentinels, timeout)?));
        }
        let node = |url| Ok(Arc::new(Node::new(client(redis, url)?, url.place(), "redis.url", timeout)));
        Ok(Self::Fixed(redis.url.iter().map(node).collect::<Result<_, RedisError>>()?))
    }

    /// The server that has these keys.
    async fn node(&self, scope: Scope) -> Result<Arc<Node>, RedisError> {
        match (self, scope) {
            (Self::Fixed(nodes), Scope::Shard(shard)) => Ok(Arc::clone(&nodes[usize::from(shard.0) % nodes.len()])),
            (Self::Fixed(nodes), Scope::Home) => Ok(Arc::clone(&nodes[0])),
            (Self::Sentinel(sentinels), _) => sentinels.master().await,
        }
    }

    /// Every server that takes writes.
    async fn nodes(&self) -> Result<Vec<Arc<Node>>, RedisError> {
        match self {
            Self::Fixed(nodes) => Ok(nodes.clone()),
            Self::Sentinel(sentinels) => Ok(vec![sentinels.master().await?]),
        }
    }

    /// Behind an error of a connection there may be another server that has the keys now.
    fn look_at(&self, result: &Result<Value, RedisError>) {
        if let Self::Sentinel(sentinels) = self
            && result.as_ref().is_err_and(must_reconnect)
        {
            sentinels.doubt();
        }
    }
}

impl Server for Topology {
    fn script(&self, scope: Scope, script: &'static Script, call: Cmd) -> ReplyFuture<'_> {
        Box::pin(async move {
            let result = self.node(scope).await?.script(script, call).await;
            self.look_at(&result);
            result
        })
    }

    fn pipeline(&self, scope: Scope, pipeline: Pipeline) -> ReplyFuture<'_> {
        Box::pin(async move {
            let result = self.node(scope).await?.pipeline(pipeline).await;
            self.look_at(&result);
            result
        })
    }

    fn look_again(&self) -> LookFuture<'_> {
        Box::pin(async move {
            if let Self::Sentinel(sentinels) = self {
                sentinels.look_again().await;
            }
        })
    }

    fn masters(self: Arc<Self>) -> MastersFuture {
        Box::pin(async move {
            let nodes = self.nodes().await?.into_iter();
            Ok(nodes.map(|node| (node.place().to_owned(), node as Arc<dyn Server>)).collect())
        })
    }
}
