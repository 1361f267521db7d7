//! What can go wrong with MySQL, and what each of it means.

use std::time::Duration;

use sea_orm::sqlx::mysql::MySqlDatabaseError;
use sea_orm::{DbErr, RuntimeErr};

use crate::protocol::errors::{ErrorClass, Grade};

/// What a call of the store can fail with.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// MySQL did not answer, or refused.
    #[error("mysql: {0}")]
    Db(#[from] DbErr),
    /// There is no connection to MySQL.
    #[error("mysql at {place}: {why}")]
    Unreachable {
        /// Its address or socket.
        place: String,
        /// In the words of MySQL or of the operating system.
        why: String,
    },
    /// The tables are missing, are not as this build needs them, or belong to another version.
    #[error("{0}")]
    Schema(String),
    /// What MySQL holds does not add up.
    #[error("mysql holds damaged data: {0}")]
    Corrupt(&'static str),
    /// A read needed too long, and MySQL has ended it.
    #[error(
        "mysql ended a read that needed more than {0:?}: there is too much to look through; raise database.timeout_ms, or \
         delete with `footfall forget` what a flood has left"
    )]
    TooLong(Duration),
    /// It refuses rows, and every other too that is tried in their place: no row is to blame.
    #[error(
        "mysql refuses every row, not only some, so views wait: {0}; look at what has changed \
         in its tables, triggers and settings"
    )]
    RefusesAll(String),
}

impl StoreError {
    /// MySQL has taken the transaction back because another one was in its way, and nothing of it is there, or will be: a
    /// deadlock or a conflict that was found at COMMIT, in a cluster too (SQLSTATE 40), or a lock that was waited for too
    /// long, where whoever has this error takes back the rest.
    pub(super) fn was_rolled_back(&self) -> bool {
        self.is_conflict() || self.mysql().is_some_and(|error| ROLLED_BACK.contains(&error.number()))
    }

    /// A deadlock or a conflict, after which MySQL has taken the whole transaction back (SQLSTATE 40).
    pub(super) fn is_conflict(&self) -> bool {
        self.mysql().is_some_and(|error| error.code().is_some_and(|state| state.starts_with("40")))
    }

    fn mysql(&self) -> Option<&MySqlDatabaseError> {
        match self {
            Self::Db(error) => mysql_error(error),
            _ => None,
        }
    }

    /// No answer came in time.
    #[must_use]
    pub fn timed_out(limit: Duration) -> Self {
        Self::Db(DbErr::Custom(format!("no answer within {limit:?}")))
    }
}

pub(super) type Result<T> = std::result::Result<T, StoreError>;

pub(super) const NO_FENCE: StoreError = StoreError::Corrupt("the fence of the shard is missing: run `footfall init`");

/// Server errors by what they mean for a transaction, of MariaDB and MySQL: <https://mariadb.com/kb/en/mariadb-error-codes/>,
/// <https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html>. In order. One that is in no list is waited
/// for, and then may be a row's: a number belongs into the second list if views could go to quarantine for an outage.
///
/// The same transaction may well succeed at once: lock time-out, deadlock, killed or timed-out query, conflict in a cluster.
const TRANSIENT: [u16; 19] =
    [1015, 1020, 1047, 1180, 1205, 1206, 1213, 1297, 1317, 1412, 1613, 1614, 1615, 1637, 1927, 1969, 3024, 3101, 3572];

/// Those of them after which nothing was written, and whose SQLSTATE does not say so: a lock was waited for too long, and
/// Group Replication's conflict at COMMIT.
const ROLLED_BACK: [u16; 2] = [1205, 3101];

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

fn class_of(code: u16) -> ErrorClass {
    let among = |codes: &[u16]| codes.contains(&code);
    match code {
        _ if among(&TRANSIENT) => ErrorClass::DbTransient,
        _ if among(&DOWN) => ErrorClass::DbDown,
        _ if among(&SCHEMA) => ErrorClass::DbSchema,
        _ if among(&POISON) => ErrorClass::DbPoison,
        _ => ErrorClass::DbUnknown,
    }
}

/// Server errors that are about tables, not about rows: one is missing (1146, 1932 in the engine), is a view or what no row
/// can be put into (1288, 1347, 1348, 1356, 1393, 1394, 1471), is read-only (1036), has other columns (1054, 1136, 1364), or
/// may not be used (1142, 1143). <https://mariadb.com/kb/en/mariadb-error-codes/>
const SCHEMA: [u16; 15] = [1036, 1054, 1136, 1142, 1143, 1146, 1288, 1347, 1348, 1356, 1364, 1393, 1394, 1471, 1932];

/// The server's error number, if the server answered with an error.
#[must_use]
pub(super) fn mysql_code(error: &DbErr) -> Option<u16> {
    mysql_error(error).map(MySqlDatabaseError::number)
}

/// What the server said, if it answered with an error.
fn mysql_error(error: &DbErr) -> Option<&MySqlDatabaseError> {
    let (DbErr::Exec(error) | DbErr::Query(error)) = error else { return None };
    let RuntimeErr::SqlxError(error) = error else { return None };
    error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()
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
    fn class(&self) -> ErrorClass {
        match mysql_code(self) {
            Some(code) => class_of(code),
            None if is_of_another_type(self) => ErrorClass::DbSchema,
            // There was no answer, or none that we could read.
            None => ErrorClass::DbDown,
        }
    }
}

impl Grade for StoreError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Db(error) => error.class(),
            Self::Schema(_) => ErrorClass::DbSchema,
            Self::Corrupt(_) => ErrorClass::DbBehind,
            Self::TooLong(_) => ErrorClass::DbTransient,
            Self::Unreachable { .. } | Self::RefusesAll(_) => ErrorClass::DbDown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(class_of(code), ErrorClass::DbPoison, "{code}");
        }
        assert_eq!(class_of(1105), ErrorClass::DbUnknown, "the server's own \"unknown error\"");
    }
}
