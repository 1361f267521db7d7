//! The schema, forward only. A change that an older build cannot live with is made in two steps:
//! expand first, contract in a later release.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use footfall_shared::config;
use footfall_shared::store::{SCHEMA_VERSION, connect_options};
use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{Database, DatabaseConnection, DbBackend, Statement};

mod m0001_counts;
mod m0002_fallbacks;
mod m0003_lists;

struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m0001_counts::Migration), Box::new(m0002_fallbacks::Migration), Box::new(m0003_lists::Migration)]
    }
}

/// How long a second `footfall init` waits for the first.
const LOCK_SECONDS: u32 = 300;

/// Brings the database to this build's schema for the given number of shards. Safe to run twice, and
/// by two processes at once: an advisory lock makes them take turns.
pub async fn migrate(database: &config::Database, shards: u16) -> anyhow::Result<()> {
    let mut options = connect_options(database);
    options
        // MySQL's named locks belong to a connection, so there is only one.
        .max_connections(1)
        .idle_timeout(None::<Duration>)
        .max_lifetime(None::<Duration>);
    let db = Database::connect(options).await?;
    let lock = format!("SELECT GET_LOCK('footfall_migrations', {LOCK_SECONDS}) AS locked");
    ensure!(
        number(&db, &lock).await? == 1,
        "another `footfall init` has been at work for {LOCK_SECONDS} s: wait for it, or end it, then run this again"
    );
    let result = migrate_locked(&db, shards).await;
    number(&db, "SELECT RELEASE_LOCK('footfall_migrations') AS released").await?;
    result
}

async fn migrate_locked(db: &DatabaseConnection, shards: u16) -> anyhow::Result<()> {
    Migrator::up(db, None).await.context("the tables could not be created")?;
    let record = "INSERT IGNORE INTO footfall_schema_version (one, version, shards) VALUES (1, ?, ?)";
    db.execute_raw(Statement::from_sql_and_values(DbBackend::MySql, record, [SCHEMA_VERSION.into(), shards.into()]))
        .await?;
    let upgrade = "UPDATE footfall_schema_version SET version = ? WHERE version < ?";
    let versions = [SCHEMA_VERSION.into(), SCHEMA_VERSION.into()];
    db.execute_raw(Statement::from_sql_and_values(DbBackend::MySql, upgrade, versions)).await?;
    let recorded = number(db, "SELECT CAST(shards AS SIGNED) FROM footfall_schema_version").await?;
    if recorded != i64::from(shards) {
        bail!(
            "this database was set up with {recorded} shards, the configuration says {shards}: set `shards` to {recorded}"
        );
    }
    for shard in 0..shards {
        let fence = "INSERT IGNORE INTO footfall_shard_fence (shard) VALUES (?)";
        db.execute_raw(Statement::from_sql_and_values(DbBackend::MySql, fence, [shard.into()])).await?;
    }
    Ok(())
}

async fn number(db: &DatabaseConnection, sql: &str) -> anyhow::Result<i64> {
    let row = db.query_one_raw(Statement::from_string(DbBackend::MySql, sql)).await?.context("no answer")?;
    Ok(row.try_get_by_index::<Option<i64>>(0)?.unwrap_or(0))
}
