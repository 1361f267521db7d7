//! Whether a server can do what is asked of it, and keeps what it was given.

use std::collections::HashMap;

use super::cluster;
use super::errors::Result;
use super::store::Store;
use super::tables::TABLES;
use crate::service::finding::Finding;

/// What a statement may need, whatever the ids: see `STATEMENT_ROWS_MAX`.
const PACKET_BYTES_MIN: u64 = 16 << 20;

/// The first versions with `JSON_TABLE`, <https://mariadb.com/kb/en/json_table/>.
const MARIADB_MIN: (u32, u32) = (10, 6);
/// See [`MARIADB_MIN`].
const MYSQL_MIN: (u32, u32) = (8, 0);

impl Store {
    /// What the server is a part of, what of it endangers views, and how much.
    pub async fn findings(&self) -> Result<Vec<Finding>> {
        let mut findings = self.settings().await?;
        findings.extend(self.clock().await?);
        Ok(findings)
    }

    /// The same without its clock: version, settings, and what others have put on our tables.
    pub async fn settings(&self) -> Result<Vec<Finding>> {
        let version = self.version().await?;
        // Not a SELECT of each: the isolation level has one name in MariaDB and another in MySQL.
        let names = "'sql_mode', 'tx_isolation', 'transaction_isolation', 'innodb_flush_log_at_trx_commit', \
                     'max_allowed_packet', 'log_bin', 'binlog_format', 'sync_binlog', 'read_only'";
        let mut settings = HashMap::new();
        let sql = format!("SHOW SESSION VARIABLES WHERE Variable_name IN ({names}, {})", cluster::NAMES);
        for row in self.all(&sql, []).await? {
            settings.insert(row.try_get::<String>("", "Variable_name")?, row.try_get::<String>("", "Value")?);
        }
        let mut findings = findings(&version, &settings);
        findings.extend(cluster::findings(&settings));
        let names: Vec<String> = TABLES.iter().map(|table| format!("'{}'", table.name)).collect();
        let sql = format!(
            "SELECT CAST(TRIGGER_NAME AS CHAR) AS name, CAST(EVENT_OBJECT_TABLE AS CHAR) AS on_table \
             FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = DATABASE() AND EVENT_OBJECT_TABLE IN ({})",
            names.join(", ")
        );
        for row in self.all(&sql, []).await? {
            let (name, table): (String, String) = (row.try_get("", "name")?, row.try_get("", "on_table")?);
            let what = format!(
                "the table {table} has a trigger, {name}, that is not Footfall's: it runs in every flush, and rows at which it \
                 fails are not counted"
            );
            findings.push(Finding::degraded(what, "drop it"));
        }
        Ok(findings)
    }
}

fn findings(version: &str, settings: &HashMap<String, String>) -> Vec<Finding> {
    let setting = |name: &str| settings.get(name).map_or("", String::as_str);
    let mut findings = Vec::new();
    if is_too_old(version) {
        let next = format!(
            "install MariaDB {}.{} or MySQL {}.{}, or later",
            MARIADB_MIN.0, MARIADB_MIN.1, MYSQL_MIN.0, MYSQL_MIN.1
        );
        findings.push(Finding::critical(format!("the database has version {version}, which lacks JSON_TABLE"), next));
    }
    // Every session asks for both; something between could swallow that.
    let isolation = format!("{}{}", setting("tx_isolation"), setting("transaction_isolation"));
    for (name, value, wanted, why) in [
        ("sql_mode", setting("sql_mode"), "STRICT_ALL_TABLES", "values could be cut"),
        ("isolation level", &isolation, "READ-COMMITTED", "numbers could be shown that are never committed"),
    ] {
        if !value.contains(wanted) {
            let what =
                format!("the database does not keep the {name} of a session, {wanted}, but has {value}, so {why}");
            findings.push(Finding::critical(what, "connect to it directly"));
        }
    }
    if setting("log_bin") == "ON" && setting("binlog_format") == "STATEMENT" {
        let what =
            "the database has binlog_format = STATEMENT, so it would refuse every flush, which is READ-COMMITTED";
        findings.push(Finding::critical(what, "set it to ROW or MIXED"));
    }
    let sync_binlog = setting("sync_binlog");
    if setting("log_bin") == "ON" && !matches!(sync_binlog, "" | "1") {
        let what = format!(
            "the database has sync_binlog = {sync_binlog}: when its machine fails, its binary log lacks counts that it has \
             confirmed, and so do its replicas"
        );
        findings.push(Finding::degraded(what, "set it to 1, or never make one of its replicas the master after that"));
    }
    if !matches!(setting("read_only"), "" | "OFF" | "0") {
        let what = "the database is read-only, as a replica is: only its administrators can write to it";
        findings.push(Finding::degraded(what, "let database.url lead to the master, or set read_only to 0"));
    }
    let flush_log = setting("innodb_flush_log_at_trx_commit");
    if flush_log != "1" {
        let what = format!(
            "the database has innodb_flush_log_at_trx_commit = {flush_log}: when its machine fails, it loses counts that it \
             has confirmed, and counting stands still"
        );
        findings.push(Finding::degraded(what, "set it to 1"));
    }
    let packet_bytes = setting("max_allowed_packet");
    if packet_bytes.parse().is_ok_and(|bytes: u64| bytes < PACKET_BYTES_MIN) {
        let what = format!("the database has max_allowed_packet = {packet_bytes}: a flush of long ids may be larger");
        findings.push(Finding::degraded(what, format!("set it to {PACKET_BYTES_MIN} or more")));
    }
    findings
}

/// Whether a version, such as `10.11.6-MariaDB-0+deb12u1` or `MySQL 8.0.35`, is too old. One that cannot be read is not.
fn is_too_old(version: &str) -> bool {
    let number = version.trim_start_matches(|character: char| !character.is_ascii_digit()); // Behind the name of the server.
    let mut numbers = number.split(|character: char| !character.is_ascii_digit()).map(|number| number.parse().ok());
    let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else { return false };
    (major, minor) < if version.contains("MariaDB") { MARIADB_MIN } else { MYSQL_MIN }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::errors::Severity;

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
            ("MySQL 5.7.44-log", true),
            ("MySQL 8.0.35", false),
            ("unknown", false),
        ] {
            assert_eq!(is_too_old(version), too_old, "{version}");
        }
    }

    #[test]
    fn what_endangers_views_is_found() {
        let safe = [
            ("sql_mode", "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"),
            ("tx_isolation", "READ-COMMITTED"),
            ("innodb_flush_log_at_trx_commit", "1"),
            ("max_allowed_packet", "16777216"),
            ("log_bin", "OFF"),
            ("binlog_format", "STATEMENT"),
            ("sync_binlog", "0"),
            ("read_only", "OFF"),
        ];
        let levels = |version, changed: &[(&str, &str)]| -> Vec<Severity> {
            let settings = safe.iter().chain(changed).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            findings(version, &settings.collect()).into_iter().map(|finding| finding.severity).collect()
        };
        let mariadb = "10.11.6-MariaDB";
        assert!(levels(mariadb, &[]).is_empty());
        assert!(levels("8.0.35", &[("tx_isolation", ""), ("transaction_isolation", "READ-COMMITTED")]).is_empty());
        assert_eq!(levels("10.3.39-MariaDB", &[("sql_mode", "")]), [Severity::Critical, Severity::Critical]);
        assert_eq!(levels(mariadb, &[("tx_isolation", "READ-UNCOMMITTED")]), [Severity::Critical]);
        assert_eq!(levels(mariadb, &[("log_bin", "ON"), ("sync_binlog", "1")]), [Severity::Critical]);
        let log = [("log_bin", "ON"), ("binlog_format", "MIXED")];
        assert_eq!(levels(mariadb, &log), [Severity::Degraded], "sync_binlog");
        assert!(levels(mariadb, &[&log[..], &[("sync_binlog", "1")]].concat()).is_empty());
        assert_eq!(levels(mariadb, &[("read_only", "ON")]), [Severity::Degraded]);
        let risks = [("innodb_flush_log_at_trx_commit", "2"), ("max_allowed_packet", "1048576")];
        assert_eq!(levels("8.0.35", &risks), [Severity::Degraded, Severity::Degraded]);
    }
}
