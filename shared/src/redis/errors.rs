//! What can go wrong with Redis, and what each of it means.

use std::io;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::protocol::errors::{ErrorClass, Grade};
use crate::protocol::packed::PackedError;

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
        Self::Redis(io::Error::from(io::ErrorKind::TimedOut).into())
    }
}

impl From<PackedError> for QueueError {
    fn from(error: PackedError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

pub(super) type Result<T> = std::result::Result<T, QueueError>;

impl Grade for RedisError {
    fn class(&self) -> ErrorClass {
        match self.kind() {
            // Asked first: the connection is gone, or nothing can be said about it.
            ErrorKind::Io if self.is_timeout() => ErrorClass::CacheTransient,
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::NoScript,
            ) => ErrorClass::CacheTransient,
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => ErrorClass::CacheReadOnly,
            _ => match self.code() {
                Some("OOM") => ErrorClass::CacheFull,
                Some("MISCONF" | "NOREPLICAS") => ErrorClass::CacheReadOnly,
                Some("BUSY") => ErrorClass::CacheTransient,
                Some("WRONGTYPE") => ErrorClass::CacheCorrupt,
                // A script that stumbles over what it finds.
                Some("ERR") if self.detail().is_some_and(|detail| detail.contains("user_script")) => {
                    ErrorClass::CacheCorrupt
                }
                _ if self.kind() == ErrorKind::UnexpectedReturnType => ErrorClass::CacheCorrupt,
                _ => ErrorClass::CacheDown,
            },
        }
    }
}

impl Grade for QueueError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Epoch => ErrorClass::CacheTransient,
            Self::Redis(error) => error.class(),
            Self::Corrupt(_) => ErrorClass::CacheCorrupt,
            Self::Shards(_) => ErrorClass::CacheReadOnly,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_errors_are_graded() {
        let said = |line: &str| {
            let (code, detail) = line.split_once(' ').expect("a code and a text");
            redis::make_extension_error(code.to_owned(), Some(detail.to_owned()))
        };
        for (error, class) in [
            (RedisError::from(io::Error::from(io::ErrorKind::TimedOut)), ErrorClass::CacheTransient),
            (RedisError::from(io::Error::from(io::ErrorKind::ConnectionRefused)), ErrorClass::CacheDown),
            (RedisError::from(io::Error::from(io::ErrorKind::BrokenPipe)), ErrorClass::CacheDown),
            (
                RedisError::from((ErrorKind::Server(ServerErrorKind::BusyLoading), "loading")),
                ErrorClass::CacheTransient,
            ),
            (RedisError::from((ErrorKind::Server(ServerErrorKind::ReadOnly), "replica")), ErrorClass::CacheReadOnly),
            (
                RedisError::from((ErrorKind::Server(ServerErrorKind::TryAgain), "half moved")),
                ErrorClass::CacheTransient,
            ),
            (RedisError::from((ErrorKind::Server(ServerErrorKind::ClusterDown), "no")), ErrorClass::CacheTransient),
            (said("OOM command not allowed"), ErrorClass::CacheFull),
            (said("MISCONF no disk"), ErrorClass::CacheReadOnly),
            (said("NOREPLICAS too few"), ErrorClass::CacheReadOnly),
            (said("WRONGTYPE not a list"), ErrorClass::CacheCorrupt),
            (RedisError::from((ErrorKind::AuthenticationFailed, "password")), ErrorClass::CacheDown),
        ] {
            assert_eq!(error.class(), class, "{error}");
        }
    }
}
