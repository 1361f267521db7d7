//! `footfall verify`: is every acknowledged view counted, and none twice?

mod checks;
mod compare;
mod live;
mod look;
mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use footfall_proof::ledger;
use footfall_shared::mysql::{Fences, Store, column};
use footfall_shared::protocol::{Article, Row};
use footfall_shared::redis::Redis;
use footfall_shared::service::config::Config;
use indicatif::HumanCount;
use tokio::time::Instant;

use crate::failure::{self, Failure};
use crate::terminal::{count, note, print, seconds};
use crate::{DIFFERENCE_FOUND, Result};
use checks::Check;
use compare::{Comparison, Difference, Place};
use look::Observation;

/// Pause between two looks while something may still change.
const PAUSE: Duration = Duration::from_millis(500);

/// Compares ledgers of `footfall load` with what MySQL and Redis have counted
///
/// For every article and user: acknowledged <= counted <= attempted, where attempted views are the acknowledged ones
/// and those of unknown outcome. `missing` are acknowledged views that are not counted; `extra` are views counted
/// above those attempted, also of users that are in no ledger. Articles that are in no ledger are left alone.
///
/// Views in quarantine are not counted, but not missing either. The invariants of the whole are checked too. The exit code
/// is 0 if all is right, 1 if not.
///
/// With --live it looks at the invariants every two seconds while views come in, and prints for each look where all views
/// are: accepted = stored + pending + journalled + quarantined + dropped + repeated. Stores that cannot be reached, and
/// recoveries, are no difference: it says that it cannot look, and goes on. A look that is under way when --seconds are
/// over is finished. If none of its looks was possible, the exit code is 69. Ledgers are compared at the end.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A ledger; repeat it for several
    #[arg(long = "ledger", value_name = "FILE", required_unless_present = "live")]
    ledgers: Vec<PathBuf>,
    /// Watch the invariants beside the traffic, until Ctrl-C or --seconds are over
    #[arg(long)]
    live: bool,
    /// How long to watch
    #[arg(long, value_name = "N", requires = "live", value_parser = seconds())]
    seconds: Option<u64>,
    /// How long to wait until nothing is on its way any more
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = seconds())]
    wait: u64,
    /// How many of the pairs that differ to show
    #[arg(long, value_name = "N", default_value_t = 20)]
    list: usize,
}

impl Args {
    /// Whether it goes on until somebody ends it.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }
}

pub(crate) async fn run(config: &Config, args: &Args) -> Result {
    let store = Store::new(&config.database).await?;
    let redis = failure::redis(config)?;
    store.check_schema(config.shards.get()).await?;
    let mut was_right = true;
    if args.live {
        was_right = live::watch(config, &store, &redis, args.seconds.map(Duration::from_secs)).await?;
    }
    if !args.ledgers.is_empty() {
        was_right &= compare(config, args, &store, &redis).await?;
    }
    Ok(if was_right { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENCE_FOUND) })
}

/// Answers whether the ledgers and the stores agree, and all invariants hold.
async fn compare(config: &Config, args: &Args, store: &Store, redis: &Redis) -> Result<bool> {
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    let mut comparison = read_ledgers(&args.ledgers)?;
    let articles = articles_of(&comparison)?;
    let look = compare_when_quiet(store, redis, config.shards.get(), &articles, &mut comparison, deadline).await?;
    let (report, broken) = report(&comparison, &look, articles.len(), args.list);
    let result = comparison.result();
    let invariants = match broken {
        0 => String::new(),
        broken => format!(", {} FAILED", count(broken as u64, "invariant")),
    };
    print(&format!(
        "{report}{} missing, {} extra{invariants}\n",
        HumanCount(result.missing),
        HumanCount(result.extra)
    ))?;
    Ok(result.missing + result.extra == 0 && broken == 0)
}

fn read_ledgers(paths: &[PathBuf]) -> Result<Comparison> {
    let mut comparison = Comparison::default();
    let (mut files, mut runs) = (BTreeSet::new(), BTreeMap::new());
    let mut entries = 0_u64;
    for path in paths {
        let cannot = |error| Failure::file(format_args!("read {}", path.display()), &error);
        let file = File::open(path).map_err(cannot)?;
        let inode = file.metadata().map_err(cannot)?;
        if inode.is_file() && !files.insert((inode.dev(), inode.ino())) {
            return Err(Failure::Usage(format!("the ledger {} was given twice: give it once", path.display())));
        }
        let kind = ledger::read(BufReader::new(file), |entry| {
            entries += 1;
            comparison.attempted(entry);
        })
        .map_err(|why| Failure::Usage(format!("{} is not a usable ledger: {why}", path.display())))?;
        if let Some(first) = kind.run.and_then(|run| runs.insert(run, path)) {
            return Err(Failure::Usage(format!(
                "{} and {} are ledgers of one run: give one of them",
                first.display(),
                path.display()
            )));
        }
        if !kind.is_complete {
            note(format_args!(
                "warning: {} has no end: `footfall load` still runs or was killed, and what it had just sent shows as extra",
                path.display()
            ));
        }
    }
    if entries == 0 {
        return Err(Failure::Usage("no view is in the ledgers: there is nothing to compare".into()));
    }
    Ok(comparison)
}

fn articles_of(comparison: &Comparison) -> Result<Vec<Article>> {
    let mut articles = comparison
        .articles()
        .map(|id| Article::parse(id.as_bytes()))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| Failure::Usage(format!("a ledger is damaged: {error}")))?;
    articles.sort_unstable();
    Ok(articles)
}

/// Waits until Redis is drained and nothing is missing, or until time is up, and leaves the last look in `comparison`.
///
/// An empty Redis is not enough: after it lost its data, ingest still holds the views and sends them again.
async fn compare_when_quiet(
    store: &Store,
    redis: &Redis,
    shards: u16,
    articles: &[Article],
    comparison: &mut Comparison,
    deadline: Instant,
) -> Result<Observation> {
    let mut told = false;
    loop {
        while Instant::now() < deadline && !look::is_drained(redis, shards).await? {
            if !told {
                let left = deadline.saturating_duration_since(Instant::now());
                note(format_args!("waiting up to {} s until all views are in MySQL", left.as_secs()));
                told = true;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let look = look::look(store, redis, shards, articles).await?;
        comparison.forget_counted();
        let mut add = |row: &Row, place| comparison.counted(row.article.as_str(), row.user.as_str(), row.views, place);
        look.audit.pairs.iter().for_each(|row| add(row, Place::MySql));
        look.audit.quarantined.iter().for_each(|row| add(row, Place::Quarantine));
        look.rows().for_each(|row| add(row, Place::Redis));
        if comparison.result().missing == 0 || Instant::now() >= deadline {
            return Ok(look);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Says what was found, and how many invariants are broken.
fn report(comparison: &Comparison, look: &Observation, articles: usize, list: usize) -> (String, usize) {
    let result = comparison.result();
    let mut lines = vec![
        format!("acknowledged {:>13}", HumanCount(result.sum.acknowledged).to_string()),
        format!(
            "attempted    {:>13}  ({} more were refused) of {} articles",
            HumanCount(result.sum.attempted()).to_string(),
            HumanCount(result.refused),
            HumanCount(articles as u64)
        ),
        format!(
            "counted      {:>13}  (MySQL {}, still in Redis {})",
            HumanCount(result.sum.counted()).to_string(),
            HumanCount(result.sum.stored),
            HumanCount(result.sum.pending)
        ),
        format!(
            "quarantined  {:>13}  (footfall quarantine list shows all {})",
            HumanCount(result.sum.quarantined).to_string(),
            HumanCount(column(look.audit.quarantined_views))
        ),
        String::new(),
    ];
    let invariants: Vec<Check> = checks::of_mysql(&look.audit).into_iter().chain(checks::of_redis(look)).collect();
    lines.extend(invariants.iter().map(|(name, broken)| match broken {
        None => format!("ok      {name}"),
        Some(how) => format!("FAILED  {name}: {how}"),
    }));
    lines.push(String::new());
    let (differences, all) = comparison.differences(list);
    if !differences.is_empty() {
        lines.push(Difference::HEAD.to_string());
        lines.extend(differences.iter().map(ToString::to_string));
        if all > differences.len() {
            let more = HumanCount((all - differences.len()) as u64);
            lines.push(format!("... and {more} more pairs (--list shows more)"));
        }
        lines.push(String::new());
    }
    lines.push(String::new());
    (lines.join("\n"), invariants.iter().filter(|(_, broken)| broken.is_some()).count())
}
