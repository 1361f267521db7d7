//! Who is at work: one committed row, for as long as whoever took it says every second that they still are. Not a named
//! lock of the server: in Galera that is local to a node.

use std::time::Duration;

use anyhow::{Context, anyhow};
use footfall_shared::mysql::{INIT_LEASE, execute_alone};
use footfall_shared::service::random;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use tokio::time::sleep;

use crate::{number, run};

/// Whoever has not said for so long that they are still at work is taken for dead.
const LEASE: Duration = Duration::from_secs(5);
const RENEWAL: Duration = Duration::from_secs(1);

/// Microseconds since 1970 by the database's clock, on which all agree.
const NOW: &str = "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS UNSIGNED)";

/// What the row says at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Noted {
    holder: u64,
    until_us: u64,
    pub(crate) is_held: bool,
}

/// Looks at the row; none if there never was one.
pub(crate) async fn look(db: &DatabaseConnection) -> anyhow::Result<Option<Noted>> {
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{}' \
         AND TABLE_COMMENT = '{}'",
        INIT_LEASE.name,
        INIT_LEASE.comment()
    );
    if number(db, &sql).await? == 0 {
        return Ok(None);
    }
    let sql = format!(
        "SELECT holder, until_us, CAST(until_us > {NOW} AS SIGNED) AS is_held FROM {} WHERE one = 1",
        INIT_LEASE.name
    );
    let Some(row) = db.query_one_raw(Statement::from_string(DbBackend::MySql, sql)).await? else { return Ok(None) };
    Ok(Some(Noted {
        holder: row.try_get("", "holder")?,
        until_us: row.try_get("", "until_us")?,
        is_held: row.try_get::<i64>("", "is_held")? != 0,
    }))
}

/// The right to work.
pub(crate) struct Lease<'a> {
    db: &'a DatabaseConnection,
    holder: u64,
}

impl<'a> Lease<'a> {
    /// Takes it, unless another holds it.
    pub(crate) async fn take(db: &'a DatabaseConnection) -> anyhow::Result<Option<Self>> {
        let name = INIT_LEASE.name;
        run(db, &INIT_LEASE.create().replacen("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1)).await?;
        run(db, &format!("INSERT IGNORE INTO {name} (one, holder, until_us) VALUES (1, 0, 0)")).await?;
        let lease = Self { db, holder: random::number() };
        Ok(lease.renew(&format!("until_us < {NOW}")).await?.then_some(lease))
    }

    /// Does the work, and lets go of the lease.
    pub(crate) async fn during<T>(self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let result = tokio::select! {
            result = work => result,
            error = self.keep() => Err(error),
        };
        // It would run out by itself.
        let sql = format!("UPDATE {} SET until_us = 0 WHERE one = 1 AND holder = {}", INIT_LEASE.name, self.holder);
        let _ = run(self.db, &sql).await;
        result
    }

    /// Says every second that the work goes on; ends if another has taken over.
    async fn keep(&self) -> anyhow::Error {
        loop {
            sleep(RENEWAL).await;
            // A database that does not answer is the work's own matter.
            if let Ok(false) = self.renew(&format!("holder = {}", self.holder)).await {
                return anyhow!(
                    "the database did not answer for {LEASE:?}, and another `footfall init` has taken over: wait for it"
                );
            }
        }
    }

    async fn renew(&self, condition: &str) -> anyhow::Result<bool> {
        let sql = format!(
            "UPDATE {} SET holder = {}, until_us = {NOW} + {} WHERE one = 1 AND {condition}",
            INIT_LEASE.name,
            self.holder,
            LEASE.as_micros()
        );
        let changed = execute_alone(self.db, &sql).await.context("the lease in MySQL cannot be taken")?;
        Ok(changed == 1)
    }
}
