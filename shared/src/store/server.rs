//! Whether a server can do what is asked of it, and keeps what it was given.

use sea_orm::sqlx::mysql::MySqlConnectOptions;

use super::{Result, Store};
use crate::config;
use crate::grading::Level;

/// What a statement may need, whatever the ids: see `STATEMENT_ROWS_MAX`.
const PACKET_BYTES_MIN: u64 = 16 << 20;

/// The first versions with `JSON_TABLE`, <https://mariadb.com/kb/en/json_table/>.
const MARIADB_MIN: (u32, u32) = (10, 6);
/// See [`MARIADB_MIN`].
const MYSQL_MIN: (u32, u32) = (8, 0);

/// Whether a connection can be tried with these settings; a sentence if not.
pub fn check(database: &config::Database) -> std::result::Result<(), String> {
    let url = database.url.0.as_str();
    let why = match url.parse::<MySqlConnectOptions>() {
        Err(error) => error.to_string(),
        Ok(_) if !url.starts_with("mysql://") => "it does not begin with mysql://".to_owned(),
        Ok(options) if options.get_database().is_none() => "it names no database".to_owned(),
        Ok(_) => return Ok(()),
    };
    Err(format!("database.url cannot be used ({why}): it must be such as mysql://user:password@host:3306/footfall"))
}

impl Store {
    /// What of the server and its settings endangers views, and how much.
    pub async fn findings(&self) -> Result<Vec<(Level, String)>> {
        let sql = "SELECT VERSION() AS version, @@SESSION.sql_mode AS sql_mode, \
                   CAST(@@innodb_flush_log_at_trx_commit AS UNSIGNED) AS flush_log, \
                   CAST(@@max_allowed_packet AS UNSIGNED) AS packet_bytes";
        let Some(row) = self.one(sql, []).await? else { return Ok(Vec::new()) };
        Ok(findings(
            &row.try_get::<String>("", "version")?,
            &row.try_get::<String>("", "sql_mode")?,
            row.try_get("", "flush_log")?,
            row.try_get("", "packet_bytes")?,
        ))
    }
}

fn findings(version: &str, sql_mode: &str, flush_log: u64, packet_bytes: u64) -> Vec<(Level, String)> {
    let mut findings = Vec::new();
    if is_too_old(version) {
        let sentence = format!(
            "the database has version {version}, which lacks JSON_TABLE: it must be MariaDB {}.{} or MySQL {}.{}, or later",
            MARIADB_MIN.0, MARIADB_MIN.1, MYSQL_MIN.0, MYSQL_MIN.1
        );
        findings.push((Level::Critical, sentence));
    }
    // Every session asks for it; something between could swallow that.
    if !sql_mode.contains("STRICT_ALL_TABLES") {
        let sentence = "the database does not keep the sql_mode of a session, which must be strict, or values could be \
                        cut: connect to it directly";
        findings.push((Level::Critical, sentence.into()));
    }
    if flush_log != 1 {
        let sentence = format!(
            "the database has innodb_flush_log_at_trx_commit = {flush_log}: when its machine fails, it loses counts that it \
             has confirmed, and counting stands still; set it to 1"
        );
        findings.push((Level::Degraded, sentence));
    }
    if packet_bytes < PACKET_BYTES_MIN {
        let sentence = format!(
            "the database has max_allowed_packet = {packet_bytes}: a flush of long ids may be larger; set it to \
             {PACKET_BYTES_MIN} or more"
        );
        findings.push((Level::Degraded, sentence));
    }
    findings
}

/// Whether a version, such as `10.11.6-MariaDB-0+deb12u1` or `8.0.35`, is too old. One that cannot be read is not.
fn is_too_old(version: &str) -> bool {
    let mut numbers = version.split(|character: char| !character.is_ascii_digit()).map(|number| number.parse().ok());
    let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else { return false };
    (major, minor) < if version.contains("MariaDB") { MARIADB_MIN } else { MYSQL_MIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_told_from_new_ones() {
        for (version, too_old) in [
            ("10.11.6-MariaDB-0+deb12u1", false),
            ("10.6.0-MariaDB", false),
            ("10.5.23-MariaDB-log", true),
            ("11.4.2-MariaDB", false),
            ("8.0.35-0ubuntu0.22.04.1", false),
            ("9.7.0", false),
            ("5.7.44-log", true),
            ("unknown", false),
        ] {
            assert_eq!(is_too_old(version), too_old, "{version}");
        }
    }

    #[test]
    fn what_endangers_views_is_found() {
        let strict = "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION";
        let levels = |version, sql_mode, flush_log, packet| -> Vec<Level> {
            findings(version, sql_mode, flush_log, packet).into_iter().map(|(level, _)| level).collect()
        };
        assert!(levels("10.11.6-MariaDB", strict, 1, 16 << 20).is_empty());
        assert_eq!(levels("10.3.39-MariaDB", "", 1, 16 << 20), [Level::Critical, Level::Critical]);
        assert_eq!(levels("8.0.35", strict, 2, 1 << 20), [Level::Degraded, Level::Degraded]);
    }
}
