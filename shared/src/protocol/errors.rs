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
//! | `db_schema` | critical | nothing is written until the tables are as this build needs them; Redis accumulates | 204; cold reads say `degraded` |
//! | `db_unknown` | degraded | the whole transaction again, 4 tries, then as `db_poison` | nothing |
//! | `db_behind` | critical | the shard stands still: MySQL is older than what it once confirmed | 204, then 503 |
//! | `disk_full`, `disk_failing` | critical | nothing is acknowledged that only the disk would hold | 503 |

use std::io;
use std::sync::LazyLock;

use redis::{ErrorKind, RedisError, ServerErrorKind};
use sea_orm::{DbErr, RuntimeErr};

use crate::redis::QueueError;
use crate::stores::recovery::RecoveryError;
use crate::mysql::StoreError;
use crate::service::telemetry::{self, IntCounterVec};

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
    /// The tables are not as this build needs them, or may not be used.
    DbSchema,
    /// MySQL refuses for a reason that is in none of our lists. It may pass, and it may be about a row.
    DbUnknown,
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
    const ALL: [Self; 13] = [
        Self::CacheTransient,
        Self::CacheDown,
        Self::CacheReadOnly,
        Self::CacheFull,
        Self::CacheCorrupt,
        Self::DbTransient,
        Self::DbDown,
        Self::DbPoison,
        Self::DbSchema,
        Self::DbUnknown,
        Self::DbBehind,
        Self::DiskFull,
        Self::DiskFailing,
    ];

    /// How bad it is.
    #[must_use]
    pub fn level(self) -> Level {
        match self {
            Self::CacheTransient | Self::DbTransient => Level::Info,
            Self::CacheDown
            | Self::CacheReadOnly
            | Self::CacheFull
            | Self::DbDown
            | Self::DbPoison
            | Self::DbUnknown => Level::Degraded,
            Self::CacheCorrupt | Self::DbSchema | Self::DbBehind | Self::DiskFull | Self::DiskFailing => {
                Level::Critical
            }
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
            Self::DbSchema => "db_schema",
            Self::DbUnknown => "db_unknown",
            Self::DbBehind => "db_behind",
            Self::DiskFull => "disk_full",
            Self::DiskFailing => "disk_failing",
        }
    }

    /// MySQL must not be written to, neither through Redis nor directly, until a person has acted.
    #[must_use]
    pub fn closes_mysql(self) -> bool {
        matches!(self, Self::DbSchema | Self::DbBehind)
    }

    /// Whether a row may be what MySQL refuses: then it is looked for, after a while.
    #[must_use]
    pub fn may_be_a_row(self) -> bool {
        matches!(self, Self::DbPoison | Self::DbUnknown)
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

/// Server errors by what they mean for a transaction, of MariaDB and MySQL: <https://mariadb.com/kb/en/mariadb-error-codes/>,
/// <https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html>. In order. One that is in no list is waited
/// for, and then may be a row's: a number belongs into the second list if views could go to quarantine for an outage.
///
/// The same transaction may well succeed at once: lock time-out, deadlock, killed or timed-out query, conflict in a cluster.
const TRANSIENT: [u16; 19] =
    [1015, 1020, 1047, 1180, 1205, 1206, 1213, 1297, 1317, 1412, 1613, 1614, 1615, 1637, 1927, 1969, 3024, 3101, 3572];
/// The server, its disk or its tables cannot take anything now, or will not from us: whatever row it were.
const DOWN: [u16; 119] = [
    1002, 1003, 1004, 1005, 1006, 1009, 1010, 1011, 1012, 1013, 1014, 1016, 1017, 1018, 1019, 1021, 1023, 1024, 1025,
    1026, 1027, 1028, 1030, 1033, 1034, 1035, 1037, 1038, 1040, 1041, 1042, 1043, 1044, 1045, 1046, 1049, 1053, 1064,
    1077, 1078, 1079, 1080, 1081, 1085, 1098, 1109, 1114, 1119, 1128, 1129, 1130, 1131, 1132, 1133, 1135, 1152, 1153,
    1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1192, 1194, 1195, 1203, 1218, 1223, 1226, 1227, 1243, 1251,
    1275, 1286, 1289, 1290, 1296, 1305, 1370, 1402, 1419, 1429, 1436, 1449, 1461, 1524, 1593, 1594, 1598, 1665, 1694,
    1698, 1792, 1812, 1813, 1814, 1820, 1836, 1840, 1862, 1874, 1877, 1878, 2006, 2013, 3032, 3098, 3100, 3118, 3159,
    3168, 3169, 3170, 3638, 4031,
];
/// About the values of a row: out of range, wrong, too long, NULL, a character or JSON that cannot be read, refused by a
/// key, a CHECK, a trigger, a foreign key or a partition.
const POISON: [u16; 56] = [
    1022, 1048, 1062, 1118, 1169, 1216, 1217, 1264, 1265, 1292, 1300, 1365, 1366, 1367, 1406, 1411, 1416, 1441, 1451,
    1452, 1526, 1586, 1644, 1645, 1690, 1748, 1977, 3140, 3141, 3143, 3144, 3146, 3147, 3148, 3149, 3150, 3155, 3156,
    3157, 3158, 3669, 3819, 3854, 3903, 3904, 3905, 3907, 4025, 4035, 4036, 4037, 4038, 4039, 4040, 4041, 4042,
];

fn class_of(code: u16) -> Class {
    let among = |codes: &[u16]| codes.contains(&code);
    match code {
        _ if among(&TRANSIENT) => Class::DbTransient,
        _ if among(&DOWN) => Class::DbDown,
        _ if among(&SCHEMA) => Class::DbSchema,
        _ if among(&POISON) => Class::DbPoison,
        _ => Class::DbUnknown,
    }
}

/// Server errors that are about tables, not about rows: one is missing (1146, 1932 in the engine), is a view or what no row
/// can be put into (1288, 1347, 1348, 1356, 1393, 1394, 1471), is read-only (1036), has other columns (1054, 1136, 1364), or
/// may not be used (1142, 1143). <https://mariadb.com/kb/en/mariadb-error-codes/>
const SCHEMA: [u16; 15] = [1036, 1054, 1136, 1142, 1143, 1146, 1288, 1347, 1348, 1356, 1364, 1393, 1394, 1471, 1932];

/// The server's error number, if the server answered with an error.
#[must_use]
pub fn mysql_code(error: &DbErr) -> Option<u16> {
    use sea_orm::sqlx::mysql::MySqlDatabaseError;
    let (DbErr::Exec(error) | DbErr::Query(error)) = error else { return None };
    let RuntimeErr::SqlxError(error) = error else { return None };
    Some(error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?.number())
}

/// Whether an answer had other columns, or others' types, than were asked for.
fn is_of_another_type(error: &DbErr) -> bool {
    use sea_orm::sqlx::Error;
    match error {
        DbErr::Type(_) | DbErr::TryIntoErr { .. } => true,
        DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => {
            matches!(
                &**error,
                Error::ColumnDecode { .. } | Error::ColumnNotFound(_) | Error::ColumnIndexOutOfBounds { .. }
            )
        }
        _ => false,
    }
}

impl Grade for DbErr {
    fn class(&self) -> Class {
        match mysql_code(self) {
            Some(code) => class_of(code),
            None if is_of_another_type(self) => Class::DbSchema,
            // There was no answer, or none that we could read.
            None => Class::DbDown,
        }
    }
}

impl Grade for StoreError {
    fn class(&self) -> Class {
        match self {
            Self::Db(error) => error.class(),
            Self::Schema(_) => Class::DbSchema,
            Self::Corrupt(_) => Class::DbBehind,
            Self::TooLong(_) => Class::DbTransient,
            Self::Unreachable { .. } | Self::RefusesAll(_) => Class::DbDown,
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
    fn every_server_error_is_in_one_list_at_most() {
        let mut all = Vec::new();
        for (name, codes) in [("TRANSIENT", &TRANSIENT[..]), ("DOWN", &DOWN), ("POISON", &POISON)] {
            assert!(codes.is_sorted_by(|a, b| a < b), "{name} is in order: {codes:?}");
            all.extend_from_slice(codes);
        }
        all.sort_unstable();
        assert!(all.windows(2).all(|two| two[0] != two[1]), "{all:?}");
    }

    #[test]
    fn no_outage_is_a_rows_fault() {
        // Disk full, read-only in all its ways, connections, rights, a killed query, a shutdown, locks, a cluster, crashed
        // tables, lost tablespaces, a table that lacks a column.
        for code in [
            1021, 1114, 1026, 1030, 1036, 1290, 1792, 1836, 1874, 1040, 1203, 1226, 1044, 1045, 1142, 1227, 1698, 1317,
            1053, 1152, 1927, 2006, 2013, 1205, 1213, 1047, 3101, 1194, 1195, 1877, 1812, 1814, 1932, 1054, 1146, 1364,
            1969, 3024,
        ] {
            assert!(!class_of(code).may_be_a_row(), "{code} is graded {}", class_of(code).name());
        }
        for code in [1048, 1062, 1264, 1265, 1366, 1406, 1452, 1644, 1690, 3140, 3819, 4025, 4035] {
            assert_eq!(class_of(code), Class::DbPoison, "{code}");
        }
        assert_eq!(class_of(1105), Class::DbUnknown, "the server's own \"unknown error\"");
    }

    #[test]
    fn disk_errors_are_graded() {
        assert_eq!(io::Error::from(io::ErrorKind::StorageFull).class(), Class::DiskFull);
        assert_eq!(io::Error::other("I/O").class(), Class::DiskFailing);
    }
}
