//! Sets a database up, or brings it to the schema of this build; forward only. The database may be the site's own: what is
//! there is looked at first, and nothing is changed while anything is in the way. A change that an older build cannot live
//! with is made in two steps: expand first, contract in a later release.

mod plan;
mod previous;

use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use footfall_shared::mysql::connect_options;
use footfall_shared::service::config;
use footfall_shared::service::lifecycle::ExitError;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};

use crate::plan::Plan;

/// How long a second `footfall init` waits for the first.
const LOCK_SECONDS: u32 = 300;

/// Strict, whatever the server's default. And a table that others use for longer is not waited for: whoever comes later would
/// wait behind us.
const SESSION: &str =
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', SESSION lock_wait_timeout = 10";

/// Brings the database to this build's schema for the given number of shards; answers what a person should know besides.
/// Safe to run twice, and by two processes at once: an advisory lock makes them take turns. One that was ended in the
/// middle is gone on with.
///
/// # Errors
///
/// A [`ExitError`] if nothing was changed, because something is in the way.
pub async fn migrate(database: &config::Database, shards: u16) -> anyhow::Result<Vec<String>> {
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

async fn migrate_locked(db: &DatabaseConnection, shards: u16) -> anyhow::Result<Vec<String>> {
    db.execute_unprepared(SESSION).await?;
    let plan = Plan::make(db, shards).await?;
    plan.carry_out(db, shards).await?;
    Ok(plan.notes())
}

fn refuse(code: u8, sentence: String) -> anyhow::Error {
    ExitError { code, sentence: format!("{sentence}; nothing was changed") }.into()
}

async fn run(db: &DatabaseConnection, sql: &str) -> anyhow::Result<()> {
    // Not as a chain: these errors say already what they come from.
    db.execute_unprepared(sql).await.map_err(|error| anyhow!("{sql}: {error}"))?;
    Ok(())
}

async fn number(db: &DatabaseConnection, sql: &str) -> anyhow::Result<i64> {
    let row = db.query_one_raw(Statement::from_string(DbBackend::MySql, sql)).await?.context("no answer")?;
    Ok(row.try_get_by_index::<Option<i64>>(0)?.unwrap_or(0))
}
