//! Sets a database up, or brings it to the schema of this build; forward only. The database may be the site's own: what is
//! there is looked at first, and nothing is changed while anything is in the way. A change that an older build cannot live
//! with is made in two steps: expand first, contract in a later release.

mod lease;
mod plan;
mod previous;

use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use footfall_shared::mysql::{connect_options, execute_alone, set_up_session};
use footfall_shared::service::config;
use footfall_shared::service::lifecycle::ExitError;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};
use tokio::time::{Instant, sleep};

use crate::lease::Lease;
use crate::plan::Plan;

/// How long it is waited for another `footfall init`.
const PATIENCE: Duration = Duration::from_secs(300);
/// Pause between two looks at what another one does.
const PAUSE: Duration = Duration::from_millis(250);

/// Strict, whatever the server's default. And a table that others use for longer is not waited for: whoever comes later would
/// wait behind us.
const SESSION: &str =
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', SESSION lock_wait_timeout = 10";

/// Brings the database to this build's schema for the given number of shards; answers what a person should know besides.
/// Safe to run twice, and from several places at once: one works, the others wait and see. Where everything is as it should
/// be, nothing is written at all. One that was ended in the middle is gone on with.
///
/// # Errors
///
/// A [`ExitError`] if nothing was changed, because something is in the way.
pub async fn migrate(database: &config::Database, shards: u16) -> anyhow::Result<Vec<String>> {
    let mut options = connect_options(database);
    options
        // One works, the other says so.
        .max_connections(2)
        .map_sqlx_mysql_pool_opts(|pool| {
            pool.after_connect(|connection, _| Box::pin(set_up_session(connection, &[SESSION])))
        });
    let db = Database::connect(options).await?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(notes) = migrate_unless_another_does(&db, shards).await? {
            return Ok(notes);
        }
        ensure!(
            Instant::now() < deadline,
            "another `footfall init` has been at work for {PATIENCE:?}: wait for it, or end it, then run this again"
        );
        sleep(PAUSE).await;
    }
}

/// None if another one is at work, or was just now: what is seen meanwhile is not the whole.
async fn migrate_unless_another_does(db: &DatabaseConnection, shards: u16) -> anyhow::Result<Option<Vec<String>>> {
    let before = lease::look(db).await?;
    if before.is_some_and(|noted| noted.is_held) {
        return Ok(None);
    }
    let plan = Plan::make(db, shards).await;
    if lease::look(db).await? != before {
        return Ok(None);
    }
    if plan?.is_empty() {
        return Ok(Some(vec![]));
    }
    let Some(lease) = Lease::take(db).await? else { return Ok(None) };
    let work = async {
        // It may have been done since.
        let plan = Plan::make(db, shards).await?;
        plan.carry_out(db, shards).await?;
        Ok(Some(plan.notes()))
    };
    lease.during(work).await
}

fn refuse(code: u8, sentence: String) -> anyhow::Error {
    ExitError { code, sentence: format!("{sentence}; nothing was changed") }.into()
}

async fn run(db: &DatabaseConnection, sql: &str) -> anyhow::Result<()> {
    // Not as a chain: these errors say already what they come from.
    execute_alone(db, sql).await.map_err(|error| anyhow!("{sql}: {error}"))?;
    Ok(())
}

async fn number(db: &DatabaseConnection, sql: &str) -> anyhow::Result<i64> {
    let row = db.query_one_raw(Statement::from_string(DbBackend::MySql, sql)).await?.context("no answer")?;
    Ok(row.try_get_by_index::<Option<i64>>(0)?.unwrap_or(0))
}
