//! Every error in one of a few classes: what it means, how bad it is, and so what is done about it.
//!
//! | class | level | what is done | what the client sees |
//! | --- | --- | --- | --- |
//! | `cache_transient` | info | the same batch number again, 3 tries, then as `cache_down` | latency |
//! | `cache_down`, `cache_read_only` | degraded | breaker; new batches go to MySQL directly, unknown ones wait in the journal | 204 |
//! | `cache_full` | degraded | new batches go to MySQL directly, those with ids wait in the journal until there is room | 204, then 503 |
//! | `cache_corrupt` | critical | the data set is set aside, ingest sends again what MySQL lacks; never guess | 204 |
//! | `db_transient` | info | roll back, the whole transaction again | nothing |
//! | `db_down` | degraded | Redis accumulates | 204; cold reads say `degraded` |
//! | `db_poison` | degraded | bisect, quarantine in the same transaction | nothing |
//! | `db_behind` | critical | the shard stands still: MySQL is older than what it once confirmed | 204, then 503 |
//! | `disk_full`, `disk_failing` | critical | nothing is acknowledged that only the disk would hold | 503 |

use std::io;
use std::sync::LazyLock;

use redis::{ErrorKind, RedisError, ServerErrorKind};
use sea_orm::{DbErr, RuntimeErr};

use crate::queue::QueueError;
use crate::recovery::RecoveryError;
use crate::store::StoreError;
use crate::telemetry::{self, IntCounterVec};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Goes by itself and nobody notices.
    Info,
    /// All counts, but slower, or with one store less.
    Degraded,
    /// Somebody must act.
    Critical,
}

/// What kind of error it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Redis is busy, or did not answer in time. Whether it acted is not known.
    CacheTransient,
    /// Redis cannot be reached.
    CacheDown,
    /// Redis answers, and takes no writes: not the master any more, or its disk fails.
    CacheReadOnly,
    /// Redis has no memory left. It says so before it writes anything.
    CacheFull,
    /// What Redis holds does not add up.
    CacheCorrupt,
    /// Deadlock, lock time-out: nothing was written.
    DbTransient,
    /// MySQL cannot be reached, takes no writes, or did not answer in time.
    DbDown,
    /// MySQL refuses a row.
    DbPoison,
    /// MySQL lacks what it once confirmed.
    DbBehind,
    /// The disk has no room left.
    DiskFull,
    /// The disk fails.
    DiskFailing,
}

static ERRORS: LazyLock<IntCounterVec> =
    LazyLock::new(|| telemetry::counters("footfall_errors_total", "Errors by class.", "class"));

/// Shows a counter for every class before its first error: a rate over what appears with its first count misses that one.
pub fn show_counters() {
    for class in Class::ALL {
        ERRORS.with_label_values(&[class.name()]);
    }
}

impl Class {
    const ALL: [Self; 11] = [
        Self::CacheTransient,
        Self::CacheDown,
        Self::CacheReadOnly,
        Self::CacheFull,
        Self::CacheCorrupt,
        Self::DbTransient,
        Self::DbDown,
        Self::DbPoison,
        Self::DbBehind,
        Self::DiskFull,
        Self::DiskFailing,
    ];

    /// How bad it is.
    #[must_use]
    pub fn level(self) -> Level {
        match self {
            Self::CacheTransient | Self::DbTransient => Level::Info,
            Self::CacheDown | Self::CacheReadOnly | Self::CacheFull | Self::DbDown | Self::DbPoison => Level::Degraded,
            Self::CacheCorrupt | Self::DbBehind | Self::DiskFull | Self::DiskFailing => Level::Critical,
        }
    }

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CacheTransient => "cache_transient",
            Self::CacheDown => "cache_down",
            Self::CacheReadOnly => "cache_read_only",
            Self::CacheFull => "cache_full",
            Self::CacheCorrupt => "cache_corrupt",
            Self::DbTransient => "db_transient",
            Self::DbDown => "db_down",
            Self::DbPoison => "db_poison",
            Self::DbBehind => "db_behind",
            Self::DiskFull => "disk_full",
            Self::DiskFailing => "disk_failing",
        }
    }

    /// Counts one error of this class.
    pub fn count(self) {
        ERRORS.with_label_values(&[self.name()]).inc();
    }
}

/// An error that can be graded.
pub trait Grade {
    /// Its class.
    fn class(&self) -> Class;
}

impl Grade for RedisError {
    fn class(&self) -> Class {
        match self.kind() {
            // Asked first: the connection is gone, or nothing can be said about it.
            ErrorKind::Io if self.is_timeout() => Class::CacheTransient,
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::NoScript,
            ) => Class::CacheTransient,
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => Class::CacheReadOnly,
            _ => match self.code() {
                Some("OOM") => Class::CacheFull,
                Some("MISCONF" | "NOREPLICAS") => Class::CacheReadOnly,
                Some("BUSY") => Class::CacheTransient,
                Some("WRONGTYPE") => Class::CacheCorrupt,
                // A script that stumbles over what it finds.
                Some("ERR") if self.detail().is_some_and(|detail| detail.contains("user_script")) => {
                    Class::CacheCorrupt
                }
                _ if self.kind() == ErrorKind::UnexpectedReturnType => Class::CacheCorrupt,
                _ => Class::CacheDown,
            },
        }
    }
}

impl Grade for QueueError {
    fn class(&self) -> Class {
        match self {
            Self::Epoch => Class::CacheTransient,
            Self::Redis(error) => error.class(),
            Self::Corrupt(_) => Class::CacheCorrupt,
            Self::Shards(_) => Class::CacheReadOnly,
        }
    }
}

/// Server errors after which the same transaction may well succeed: lock time-out, deadlock, and what a server says that
/// is being stopped or, in a Galera cluster, is not ready.
const TRANSIENT: [u16; 4] = [1205, 1213, 1047, 1317];
/// Server errors that are about the values of a row: out of range, wrong, too long, NULL, refused by a CHECK (3819 MySQL,
/// 4025 MariaDB), by a trigger (1644) or by a foreign key, a number that overflows.
/// <https://mariadb.com/kb/en/mariadb-error-codes/>
const POISON: [u16; 12] = [1048, 1264, 1265, 1292, 1366, 1406, 1452, 1644, 1690, 3819, 3156, 4025];

/// The server's error number, if the server answered with an error.
#[must_use]
pub fn mysql_code(error: &DbErr) -> Option<u16> {
    use sea_orm::sqlx::mysql::MySqlDatabaseError;
    let (DbErr::Exec(error) | DbErr::Query(error)) = error else { return None };
    let RuntimeErr::SqlxError(error) = error else { return None };
    Some(error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?.number())
}

impl Grade for DbErr {
    fn class(&self) -> Class {
        match mysql_code(self) {
            Some(code) if TRANSIENT.contains(&code) => Class::DbTransient,
            Some(code) if POISON.contains(&code) => Class::DbPoison,
            _ => Class::DbDown,
        }
    }
}

impl Grade for StoreError {
    fn class(&self) -> Class {
        match self {
            Self::Db(error) => error.class(),
            Self::Schema(_) | Self::Corrupt(_) => Class::DbBehind,
        }
    }
}

impl Grade for RecoveryError {
    fn class(&self) -> Class {
        match self {
            Self::Queue(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::StoreIsOlder { .. } => Class::DbBehind,
        }
    }
}

impl Grade for io::Error {
    fn class(&self) -> Class {
        match self.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Class::DiskFull,
            _ => Class::DiskFailing,
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
            (RedisError::from(io::Error::from(io::ErrorKind::TimedOut)), Class::CacheTransient),
            (RedisError::from(io::Error::from(io::ErrorKind::ConnectionRefused)), Class::CacheDown),
            (RedisError::from(io::Error::from(io::ErrorKind::BrokenPipe)), Class::CacheDown),
            (RedisError::from((ErrorKind::Server(ServerErrorKind::BusyLoading), "loading")), Class::CacheTransient),
            (RedisError::from((ErrorKind::Server(ServerErrorKind::ReadOnly), "replica")), Class::CacheReadOnly),
            (said("OOM command not allowed"), Class::CacheFull),
            (said("MISCONF no disk"), Class::CacheReadOnly),
            (said("NOREPLICAS too few"), Class::CacheReadOnly),
            (said("WRONGTYPE not a list"), Class::CacheCorrupt),
            (RedisError::from((ErrorKind::AuthenticationFailed, "password")), Class::CacheDown),
        ] {
            assert_eq!(error.class(), class, "{error}");
        }
    }

    #[test]
    fn disk_errors_are_graded() {
        assert_eq!(io::Error::from(io::ErrorKind::StorageFull).class(), Class::DiskFull);
        assert_eq!(io::Error::other("I/O").class(), Class::DiskFailing);
    }
}
