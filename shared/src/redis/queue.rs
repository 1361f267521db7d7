//! The queue of one shard, and how its scripts are called.

use std::sync::Arc;

use redis::{Cmd, FromRedisValue};
use tokio::sync::watch;

use super::calls::{Calls, Redis};
use super::errors::Result;
use super::replies::{Reply, Word, from_value};
use super::scripts::{LOOK, Script};
use super::server::Scope;
use crate::protocol::Shard;
use crate::protocol::keys::ShardKeys;

/// The queue of one shard. Cheap to clone.
#[derive(Clone)]
pub struct Queue {
    pub(super) calls: Calls,
    pub(super) keys: Arc<ShardKeys>,
    shard: Shard,
}

impl Redis {
    /// The queue of one shard.
    #[must_use]
    pub fn shard(&self, shard: Shard) -> Queue {
        Queue { calls: self.at(Scope::Shard(shard)), keys: Arc::new(ShardKeys::new(shard)), shard }
    }
}

impl Queue {
    /// Which shard this is.
    #[must_use]
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// Changes whenever keys, be it of other shards, are found on another server.
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.calls.moves()
    }

    /// Runs a script; answers its first word and the rest.
    pub(super) async fn call(&self, script: &'static Script, call: Cmd) -> Result<(Word, Reply)> {
        Reply::parse(self.calls.script(script, call).await?)
    }

    /// Commands that only read, at one moment.
    pub(super) async fn at_once<T: FromRedisValue>(&self, commands: redis::Pipeline) -> Result<T> {
        let words: Vec<Vec<&[u8]>> = commands
            .cmd_iter()
            .map(|command| {
                let word = |word| if let redis::Arg::Simple(word) = word { Some(word) } else { None };
                command.args_iter().filter_map(word).collect()
            })
            .collect();
        let mut call = LOOK.call(words.iter().map(|words| std::str::from_utf8(words[1]).expect("our keys are text")));
        for words in &words {
            call.arg(words[0]).arg(words.len() - 2).arg(&words[2..]);
        }
        Ok(from_value(self.calls.script(&LOOK, call).await?)?)
    }
}
