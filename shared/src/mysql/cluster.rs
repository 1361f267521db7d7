//! MySQL as several servers: which kind of cluster it is, what our sessions ask of it, and how those who write to the same
//! rows at two nodes let each other through.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sea_orm::sqlx::mysql::MySqlConnection;
use sea_orm::sqlx::{Error, Executor};
use tokio::time::{Instant, sleep_until};

use crate::protocol::Shard;
use crate::service::finding::Finding;

/// The settings that tell.
pub(super) const NAMES: &str = "'wsrep_on', 'wsrep_node_name', 'wsrep_cluster_name', 'group_replication_group_name', \
     'group_replication_single_primary_mode', 'group_replication_consistency', 'rpl_semi_sync_master_enabled', \
     'rpl_semi_sync_source_enabled', 'rpl_semi_sync_master_timeout', 'rpl_semi_sync_source_timeout'";

/// Every node of a Galera cluster answers, one that is behind too, and would say a position that Redis knows to be over:
/// "MySQL is older than Redis". With this a read, and a transaction, begins when its node has all that was committed anywhere
/// before (<https://mariadb.com/kb/en/galera-cluster-system-variables/#wsrep_sync_wait>).
const SYNC_WAIT: &str = "SET SESSION wsrep_sync_wait = 1";

/// Sets a session up: with these statements, and for what its server is a part of.
///
/// # Errors
///
/// If the server refuses, or goes away.
pub async fn set_up_session(connection: &mut MySqlConnection, statements: &[&'static str]) -> Result<(), Error> {
    for statement in statements {
        connection.execute(*statement).await?;
    }
    // Not only where it is on: a variable that a server lacks is an error.
    if connection.fetch_optional("SHOW VARIABLES WHERE Variable_name = 'wsrep_on' AND Value = 'ON'").await?.is_some() {
        IS_GALERA.store(true, Ordering::Relaxed);
        connection.execute(SYNC_WAIT).await?;
    }
    Ok(())
}

static IS_GALERA: AtomicBool = AtomicBool::new(false);

/// Direct batches of all ingests write to the same rows. One server makes them wait for each other in a queue; in Galera the
/// transaction that commits first wins, and one that follows itself at once would win for ever.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<Shard, Instant>>);

/// After a transaction the others have this many times as long as it took.
const TURN: u32 = 2;
/// But no longer than this: clients wait.
const TURN_MAX: Duration = Duration::from_millis(100);

impl Turns {
    /// Lets the others go first, in Galera.
    pub(super) async fn wait(&self, shard: Shard) {
        let until = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&shard).copied();
        if let Some(until) = until {
            sleep_until(until).await;
        }
    }

    /// A transaction of ours has ended that took so long.
    pub(super) fn took(&self, shard: Shard, took: Duration) {
        if IS_GALERA.load(Ordering::Relaxed) {
            let until = Instant::now() + (took * TURN).min(TURN_MAX);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(shard, until);
        }
    }
}

/// What kind of cluster it is, and what of that endangers views.
pub(super) fn findings(settings: &HashMap<String, String>) -> Vec<Finding> {
    let setting = |name: &str| settings.get(name).map_or("", String::as_str);
    let mut findings = Vec::new();
    if setting("wsrep_on") == "ON" {
        let sentence = format!(
            "the database is a Galera cluster ({}, node {}): reads wait for what was committed on other nodes",
            setting("wsrep_cluster_name"),
            setting("wsrep_node_name")
        );
        findings.push(Finding::note(sentence));
    }
    if !setting("group_replication_group_name").is_empty() {
        let sentence =
            format!("the database is a member of the replication group {}", setting("group_replication_group_name"));
        findings.push(Finding::note(sentence));
        if setting("group_replication_single_primary_mode") == "OFF" {
            let what = "the replication group takes writes at every member, so transactions are rolled back for each \
                        other's sake";
            findings.push(Finding::degraded(what, "send all of Footfall to one member"));
        }
        if setting("group_replication_consistency") == "EVENTUAL" {
            let what = "the replication group has group_replication_consistency = EVENTUAL, so a new primary could answer \
                        before it has everything, and Footfall would take it for one that has lost views";
            findings.push(Finding::degraded(what, "set it to BEFORE_ON_PRIMARY_FAILOVER"));
        }
    }
    let of = |name: &str| format!("{}{}", setting(&name.replace('*', "master")), setting(&name.replace('*', "source")));
    if of("rpl_semi_sync_*_enabled") == "ON" {
        let sentence = format!(
            "the database is replicated semi-synchronously: a commit waits up to {} ms for a replica, and no longer",
            of("rpl_semi_sync_*_timeout")
        );
        findings.push(Finding::note(sentence));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::errors::Severity;

    #[test]
    fn every_kind_of_cluster_is_named() {
        let found = |settings: &[(&str, &str)]| {
            let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            findings(&settings.collect())
        };
        assert!(found(&[]).is_empty());
        assert!(found(&[("wsrep_on", "OFF"), ("wsrep_cluster_name", "my_wsrep_cluster")]).is_empty());
        assert!(found(&[("group_replication_group_name", ""), ("rpl_semi_sync_master_enabled", "OFF")]).is_empty());
        let galera = [("wsrep_on", "ON"), ("wsrep_node_name", "db2"), ("wsrep_cluster_name", "site")];
        let [finding] = &found(&galera)[..] else { panic!("{:?}", found(&galera)) };
        assert!(
            finding.severity == Severity::Info && finding.what.contains("Galera cluster (site, node db2)"),
            "{finding}"
        );
        let group = [
            ("group_replication_group_name", "g"),
            ("group_replication_single_primary_mode", "OFF"),
            ("group_replication_consistency", "EVENTUAL"),
        ];
        let levels: Vec<Severity> = found(&group).into_iter().map(|finding| finding.severity).collect();
        assert_eq!(levels, [Severity::Info, Severity::Degraded, Severity::Degraded]);
        for word in ["master", "source"] {
            let (enabled, timeout) = (format!("rpl_semi_sync_{word}_enabled"), format!("rpl_semi_sync_{word}_timeout"));
            let found = found(&[(&enabled, "ON"), (&timeout, "10000")]);
            assert!(matches!(&found[..], [finding] if finding.what.contains("10000 ms")), "{found:?}");
        }
    }
}
