//! Redis: where accepted views wait until MySQL has them, as the entries of one log per shard. Only this module goes
//! through it; every script is one atomic step of the protocol.
//!
//! | file | steps |
//! | --- | --- |
//! | `append` | what an ingest does: register, append, remember view ids, report |
//! | `follow` | the one way to read the log; cached bases; what a flusher does when MySQL has entries: advance, trim |
//! | `reopen` | what a recovery does: look at the data set, open it under a new epoch |
//! | `books` | what is told and kept beside the log, for whoever watches |
//! | `tool` | what the operator's tool looks at and sets right |

mod append;
mod books;
mod follow;
mod reopen;
mod scripts;
mod server;
mod tool;

use std::sync::Arc;

use redis::{Cmd, FromRedisValue, RedisError, Value};

use crate::counter::{Shard, VIEWS_MAX};
use crate::keys::ShardKeys;
use crate::packed::PackedError;

use scripts::LOOK;

pub use append::Applied;
pub use books::Books;
pub use follow::{Advanced, Base, Bases, Entry, Page};
pub use reopen::{DataSet, ID_BYTES, Remembered, State};
pub use scripts::{Script, WhenFull, scripts};
pub use server::{Answer, Redis, Server};
pub use tool::{LogReader, Moment};

/// What a call of the queue can fail with.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The data set is not open under the epoch that the caller knows: recover, then try again.
    #[error("redis holds a data set that no recovery has opened under this epoch")]
    Epoch,
    /// Redis did not answer, or refused. Whether the command took effect is not known.
    #[error("redis: {0}")]
    Redis(#[from] RedisError),
    /// What Redis holds does not add up. Never guessed around.
    #[error("redis holds damaged data: {0}")]
    Corrupt(String),
    /// The producers and the data set disagree about the number of shards.
    #[error("redis was set up with {0} shards, not with the configured number: set `shards` to {0}")]
    Shards(String),
}

impl QueueError {
    /// No answer came in time.
    #[must_use]
    pub fn timed_out() -> Self {
        Self::Redis(std::io::Error::from(std::io::ErrorKind::TimedOut).into())
    }
}

impl From<PackedError> for QueueError {
    fn from(error: PackedError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

type Result<T> = std::result::Result<T, QueueError>;

/// The queue of one shard. Cheap to clone.
#[derive(Clone)]
pub struct Queue {
    redis: Redis,
    keys: Arc<ShardKeys>,
    shard: Shard,
}

/// What of the log is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Position of the newest entry; `first - 1` if there is none.
    pub tail: u64,
    /// Position of the oldest one: MySQL has all before it.
    pub first: u64,
}

impl Position {
    /// Entries in it.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.tail.saturating_add(1).saturating_sub(self.first)
    }
}

/// When this part of its memory is in use Redis is full: the rest is for what leads to a flush.
pub const MEMORY_PERCENT_MAX: u64 = 80;

impl Redis {
    /// The queue of one shard.
    #[must_use]
    pub fn shard(&self, shard: Shard) -> Queue {
        Queue { redis: self.clone(), keys: Arc::new(ShardKeys::new(shard)), shard }
    }
}

impl Queue {
    /// The server that it is in.
    #[must_use]
    pub fn redis(&self) -> &Redis {
        &self.redis
    }

    /// Which shard this is.
    #[must_use]
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// Runs a script; answers its first word and the rest. `EPOCH` and `DAMAGED` become errors.
    async fn call(&self, script: &'static Script, call: Cmd) -> Result<(String, Reply)> {
        let reply = self.redis.server.script(script, call).await?;
        let mut reply: Vec<Value> = from_value(reply)?;
        if reply.is_empty() {
            return Err(QueueError::Corrupt("a script answered nothing".into()));
        }
        let word: String = from_value(reply.remove(0))?;
        match word.as_str() {
            "EPOCH" => Err(QueueError::Epoch),
            "DAMAGED" => Err(QueueError::Corrupt("the log is not as long as it should be".into())),
            _ => Ok((word, Reply(reply))),
        }
    }

    /// Commands that only read, at one moment.
    async fn at_once<T: FromRedisValue>(&self, commands: redis::Pipeline) -> Result<T> {
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
        Ok(from_value(self.redis.server.script(&LOOK, call).await?)?)
    }
}

fn from_value<T: FromRedisValue>(value: Value) -> std::result::Result<T, RedisError> {
    Ok(redis::from_redis_value(value)?)
}

fn number_of(value: &Value) -> Result<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok().filter(|number| *number <= VIEWS_MAX).ok_or_else(|| {
            QueueError::Corrupt(format!("a script answered {number}, which nobody can have counted to"))
        }),
        other => Err(QueueError::Corrupt(format!("a script answered {other:?} instead of a number"))),
    }
}

/// The values of a script's reply behind its first word.
struct Reply(Vec<Value>);

impl Reply {
    fn number(&self, at: usize) -> Result<u64> {
        match self.0.get(at) {
            Some(value) => number_of(value),
            None => Err(QueueError::Corrupt("a script answered too little".into())),
        }
    }

    fn text(&self, at: usize) -> Result<String> {
        let value = self.0.get(at).cloned().unwrap_or(Value::Nil);
        Ok(redis::from_redis_value(value).map_err(RedisError::from)?)
    }

    fn positions(&self) -> Result<Vec<usize>> {
        (0..self.0.len()).map(|at| Ok(usize::try_from(self.number(at)?).unwrap_or(usize::MAX))).collect()
    }

    /// Tail and first.
    fn position(&self, at: usize) -> Result<Position> {
        let (tail, first) = (self.number(at)?, self.number(at + 1)?);
        if first == 0 || first > tail + 1 {
            return Err(QueueError::Corrupt(format!("its log begins at {first} and ends at {tail}")));
        }
        Ok(Position { tail, first })
    }

    /// The list at this place.
    fn list(&self, at: usize) -> Result<&[Value]> {
        match self.0.get(at) {
            Some(Value::Array(list)) => Ok(list),
            other => Err(QueueError::Corrupt(format!("a script answered {other:?} instead of a list"))),
        }
    }
}
