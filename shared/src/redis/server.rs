//! What scripts and commands are run by, and which server they go to.

use std::pin::Pin;
use std::sync::Arc;

use redis::{Cmd, Pipeline, RedisError, Value};
use tokio::sync::watch;

use super::scripts::Script;
use crate::protocol::Shard;
use crate::protocol::keys::{self, ShardKeys};

/// A request that is on its way.
pub type ReplyFuture<'a> = Pin<Box<dyn Future<Output = Result<Value, RedisError>> + Send + 'a>>;

/// Servers that are being looked for, each with its place.
pub type MastersFuture = Pin<Box<dyn Future<Output = Result<Vec<(String, Arc<dyn Server>)>, RedisError>> + Send>>;

/// A look at which servers there are.
pub type LookFuture<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// What a request is about, and so which server it goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The keys of this shard.
    Shard(Shard),
    /// Keys of no shard that have this slot in a cluster.
    Home(u16),
}

impl Scope {
    /// One key of no shard.
    pub(super) fn of(key: &str) -> Self {
        Self::Home(keys::slot(key))
    }

    /// The slot of its keys in a cluster.
    pub(super) fn slot(self) -> u16 {
        match self {
            Self::Shard(shard) => keys::slot(&ShardKeys::tag(shard)),
            Self::Home(slot) => slot,
        }
    }
}

/// What runs scripts and commands: Redis, on one server or on several, or in a simulation what behaves like it.
pub trait Server: Send + Sync {
    /// Runs a script where its keys are; `call` is the command that does so if the server knows it.
    fn script(&self, scope: Scope, script: &'static Script, call: Cmd) -> ReplyFuture<'_>;
    /// Runs commands where their keys are, in one go; answers an array of their replies.
    fn pipeline(&self, scope: Scope, pipeline: Pipeline) -> ReplyFuture<'_>;
    /// Asks once more which servers have which keys, where that can change.
    fn look_again(&self) -> LookFuture<'_> {
        Box::pin(std::future::ready(()))
    }
    /// Changes whenever keys are found on another server.
    fn moves(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
    /// Every server that takes writes, for itself.
    fn masters(self: Arc<Self>) -> MastersFuture;
}
