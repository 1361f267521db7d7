//! `footfall doctor`: what is wrong with an installation, and what to do about each of it.

mod backlog;
mod books;
mod check;
mod journal;
mod runbook;
mod services;
mod stores;

use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use footfall_shared::mysql::Store;
use footfall_shared::service::config::{Config, ConfigError};
use footfall_shared::service::contain::contained;
use footfall_shared::service::lifecycle::{EXIT_CONFIGURATION, EXIT_DEPENDENCY};

use crate::terminal::{is_screen, print};
use crate::{DIFFERENCE_FOUND, Result, failure};
use check::{Check, Level};

/// How long one part of the look may take: more than `database.timeout_ms` by default, and than a service is given that is
/// starting.
const LIMIT: Duration = Duration::from_secs(8);

/// Says what is wrong with the installation, and what to do about it
///
/// It looks at the configuration, both stores, their settings and clocks, the journal and its disk, what waits and for how
/// long, the quarantine, the books, and the services, and changes nothing. A line each: ok, warning (it works, and somebody
/// should know) or problem (somebody must act), and below it the next step. What is down keeps nothing else from being
/// looked at; it takes some seconds. Run it on the machine of the services, as root: the journal is for nobody else.
///
/// The exit code is that of the worst: 0 all is ok, 1 a warning, 69 a problem, 78 the configuration cannot be used.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// `loaded` is the configuration, or what is wrong with it; `file` is where it is from, beside the environment.
pub(crate) async fn run(loaded: std::result::Result<Config, ConfigError>, file: Option<&Path>, args: &Args) -> Result {
    let from = file.map_or_else(String::new, |file| format!("{} and ", file.display()));
    let (checks, is_usable) = match loaded {
        Ok(config) => (look(&config, &format!("{from}the environment")).await, true),
        Err(ConfigError(mistakes)) => (unusable(mistakes), false),
    };
    print(&if args.json { check::json(&checks) } else { check::report(&checks, is_screen()) })?;
    Ok(match check::worst(&checks) {
        _ if !is_usable => ExitCode::from(EXIT_CONFIGURATION),
        Level::Problem => ExitCode::from(EXIT_DEPENDENCY),
        Level::Warning => ExitCode::from(DIFFERENCE_FOUND),
        Level::Ok => ExitCode::SUCCESS,
    })
}

const CONFIGURATION: &str = "configuration";

fn unusable(mistakes: Vec<String>) -> Vec<Check> {
    let next = "mend that, then run this again: nothing else was looked at";
    mistakes.into_iter().map(|mistake| Check::problem(CONFIGURATION, mistake, next)).collect()
}

/// All parts side by side, in the order in which they are shown.
async fn look(config: &Config, from: &str) -> Vec<Check> {
    let mut checks = configuration(config, from);
    let redis = match failure::redis(config) {
        Ok(redis) => redis,
        Err(failure) => {
            checks.push(Check::problem(stores::REDIS, failure.to_string(), "mend the URL"));
            return checks;
        }
    };
    let store = match Store::new(&config.database).await {
        Ok(store) => store,
        Err(error) => {
            checks.push(Check::problem(stores::MYSQL, error.to_string(), "mend the URL"));
            return checks;
        }
    };
    let parts = tokio::join!(
        within(stores::REDIS, Box::pin(stores::redis(config, &redis))),
        within(stores::MYSQL, Box::pin(stores::mysql(config, &store))),
        within(stores::CLOCKS, Box::pin(stores::clocks(&redis, &store))),
        within(journal::JOURNAL, Box::pin(journal::look(config, &store))),
        within(backlog::BACKLOG, Box::pin(backlog::look(config, &redis, &store))),
        within(backlog::QUARANTINE, Box::pin(backlog::quarantine(config, &redis, &store))),
        within(books::BOOKS, Box::pin(books::look(config, &redis, &store))),
        within(services::SERVICES, Box::pin(services::look(config, &redis))),
    );
    checks.extend(<[Vec<Check>; 8]>::from(parts).into_iter().flatten());
    checks
}

/// What a part finds, or that it has found nothing in time. Boxed, because all of them together are larger than a stack.
async fn within(name: &'static str, part: Pin<Box<dyn Future<Output = Vec<Check>> + '_>>) -> Vec<Check> {
    match tokio::time::timeout(LIMIT, contained(part)).await {
        Ok(Ok(checks)) => checks,
        Ok(Err(why)) => vec![Check::problem(
            name,
            format!("an answer makes no sense, or this is a mistake of Footfall's: {why}"),
            "look at the logs of the store that was asked",
        )],
        Err(_) => vec![Check::problem(
            name,
            format!("it could not be looked at within {} s", LIMIT.as_secs()),
            "look at what has another problem here, and run this again",
        )],
    }
}

fn configuration(config: &Config, from: &str) -> Vec<Check> {
    let warnings = config.warnings().into_iter().map(|warning| match warning.rsplit_once("; ") {
        Some((what, next)) => Check::warning(CONFIGURATION, what, next),
        None => Check::warning(CONFIGURATION, warning, "see security.md"),
    });
    let checks: Vec<Check> = warnings.collect();
    if checks.is_empty() {
        return vec![Check::ok(CONFIGURATION, format!("every setting of {from} can be used"))];
    }
    checks
}
