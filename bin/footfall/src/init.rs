//! `footfall init`: brings a database to the schema of this build.

use std::process::ExitCode;
use std::time::Duration;

use footfall_shared::mysql::{Fences, SCHEMA_VERSION, Store, StoreError};
use footfall_shared::protocol::errors::Severity;
use footfall_shared::service::config::Config;
use footfall_shared::service::lifecycle::{EXIT_CONFIGURATION, ExitError};
use tokio::time::Instant;

use crate::Result;
use crate::failure::Failure;
use crate::terminal::{note, print, seconds};

/// Pause between two tries to reach a database that is still starting.
const RETRY: Duration = Duration::from_millis(500);

/// Sets the database up, or brings it to the schema of this version
///
/// Safe to run twice, and from several places at once: one of them works, the others wait. It also records the number of shards, which is fixed from then on.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long to wait for a database that does not answer yet
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = seconds())]
    wait: u64,
}

pub(crate) async fn run(config: &Config, args: &Args) -> Result {
    let store = Store::new(&config.database).await?;
    let was_ready = wait_for_database(&store, config, Duration::from_secs(args.wait)).await?;
    for finding in store.findings().await? {
        match finding.severity {
            Severity::Critical => return Err(Failure::Dependency(finding.to_string())),
            Severity::Degraded => note(format_args!("warning: {finding}")),
            Severity::Info => note(format_args!("note: {finding}")),
        }
    }
    let notes = footfall_migrations::migrate(&config.database, config.shards.get()).await.map_err(failure)?;
    for sentence in notes {
        note(format_args!("note: {sentence}"));
    }
    store.check_schema(config.shards.get()).await?;
    let shards = match config.shards.get() {
        1 => "1 shard".to_owned(),
        shards => format!("{shards} shards"),
    };
    let done = if was_ready { "nothing to do, it has" } else { "set up with" };
    print(&format!("{}: {done} schema version {SCHEMA_VERSION} and {shards}\n", config.database.url))?;
    Ok(ExitCode::SUCCESS)
}

fn failure(error: anyhow::Error) -> Failure {
    match error.downcast::<ExitError>() {
        Ok(ExitError { code: EXIT_CONFIGURATION, sentence }) => Failure::Configuration(sentence),
        Ok(ExitError { sentence, .. }) => Failure::Dependency(sentence),
        Err(error) => Failure::Dependency(format!(
            "the database could not be set up to the end: {error}; mend that (the user of database.url needs all rights on its \
             database, and no other client may hold a table) and run `footfall init` again, which goes on from there"
        )),
    }
}

/// Answers whether the database already is as it should be.
async fn wait_for_database(store: &Store, config: &Config, patience: Duration) -> Result<bool> {
    let deadline = Instant::now() + patience;
    let mut told = false;
    loop {
        match store.check_schema(config.shards.get()).await {
            Ok(()) => return Ok(true),
            Err(StoreError::Schema(_) | StoreError::Corrupt(_) | StoreError::RefusesAll(_)) => return Ok(false),
            // Every other error is waited out, "access denied" too: a fresh server lets users in last.
            Err(error @ (StoreError::Db(_) | StoreError::Unreachable { .. } | StoreError::TooLong(_)))
                if Instant::now() + RETRY > deadline =>
            {
                return Err(error.into());
            }
            Err(error @ (StoreError::Db(_) | StoreError::Unreachable { .. } | StoreError::TooLong(_))) => {
                if !told {
                    note(format_args!("waiting up to {} s for {} ({error})", patience.as_secs(), config.database.url));
                    told = true;
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
