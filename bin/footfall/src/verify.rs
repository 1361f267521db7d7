//! `footfall verify`: is every acknowledged view counted, and none twice?

mod compare;
mod look;

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use footfall_shared::config::Config;
use footfall_shared::counter::Article;
use footfall_shared::queue::Redis;
use footfall_shared::store::{Audit, Store};
use indicatif::HumanCount;
use tokio::time::Instant;

use crate::failure::{self, Failure};
use crate::{DIFFERENCE_FOUND, Result, ledger};
use compare::{Comparison, Difference, Place};
use look::Look;

/// Pause between two looks while something may still change.
const PAUSE: Duration = Duration::from_millis(500);

/// Compares ledgers of `footfall load` with what MySQL and Redis have counted
///
/// For every article and user: acknowledged <= counted <= attempted, where attempted views are the acknowledged ones
/// and those of unknown outcome. `missing` are acknowledged views that are not counted; `extra` are views counted
/// above those attempted, also of users that are in no ledger. Articles that are in no ledger are left alone.
///
/// The invariants of the whole database are checked too. The exit code is 0 if all is right, 1 if not.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A ledger; repeat it for several
    #[arg(long = "ledger", value_name = "FILE", required = true)]
    ledgers: Vec<PathBuf>,
    /// How long to wait until nothing is on its way any more
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
    /// How many of the pairs that differ to show
    #[arg(long, value_name = "N", default_value_t = 20)]
    list: usize,
}

pub(crate) async fn run(config: &Config, args: &Args) -> Result {
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    let mut comparison = read_ledgers(&args.ledgers)?;
    let articles = articles_of(&comparison)?;
    let store = Store::new(&config.database).await?;
    let redis = failure::redis(config)?;
    store.check_schema(config.shards).await?;

    let audit = compare_when_quiet(&store, &redis, config.shards, &articles, &mut comparison, deadline).await?;
    let broken = report(&comparison, &audit, articles.len(), args.list);
    let result = comparison.result();
    print!("{} missing, {} extra", HumanCount(result.missing), HumanCount(result.extra));
    match broken {
        0 => println!(),
        1 => println!(", 1 invariant FAILED"),
        broken => println!(", {broken} invariants FAILED"),
    }
    let is_right = result.missing + result.extra == 0 && broken == 0;
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENCE_FOUND) })
}

fn read_ledgers(paths: &[PathBuf]) -> Result<Comparison> {
    let mut comparison = Comparison::default();
    for path in paths {
        let file = File::open(path).map_err(|error| Failure::file(format_args!("read {}", path.display()), &error))?;
        let is_complete = ledger::read(BufReader::new(file), |entry| comparison.attempted(entry))
            .map_err(|why| Failure::Usage(format!("{} is not a usable ledger: {why}", path.display())))?;
        if !is_complete {
            eprintln!(
                "warning: {} has no end: `footfall load` still runs or was killed, and what it had just sent shows as extra",
                path.display()
            );
        }
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
) -> Result<Audit> {
    let mut told = false;
    loop {
        while Instant::now() < deadline && !look::is_drained(redis, shards).await? {
            if !told {
                let left = deadline - Instant::now();
                eprintln!("waiting up to {} s until all views are in MySQL", left.as_secs());
                told = true;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let Look { audit, waiting } = look::look(store, redis, shards, articles).await?;
        comparison.forget_counted();
        for (rows, place) in [(&audit.pairs, Place::MySql), (&waiting, Place::Redis)] {
            for row in rows {
                comparison.counted(row.article.as_str(), row.user.as_str(), row.views, place);
            }
        }
        if comparison.result().missing == 0 || Instant::now() >= deadline {
            return Ok(audit);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Prints what was found; answers how many invariants are broken.
fn report(comparison: &Comparison, audit: &Audit, articles: usize, list: usize) -> usize {
    let result = comparison.result();
    println!("acknowledged {:>13}", HumanCount(result.sum.acknowledged).to_string());
    println!(
        "attempted    {:>13}  ({} more were refused) of {} articles",
        HumanCount(result.sum.attempted()).to_string(),
        HumanCount(result.refused),
        HumanCount(articles as u64)
    );
    println!(
        "counted      {:>13}  (MySQL {}, still in Redis {})",
        HumanCount(result.sum.counted()).to_string(),
        HumanCount(result.sum.mysql),
        HumanCount(result.sum.redis)
    );
    println!();
    let invariants = invariants(audit);
    for (name, broken) in &invariants {
        match broken {
            None => println!("ok      {name}"),
            Some(how) => println!("FAILED  {name}: {how}"),
        }
    }
    println!();
    let (differences, all) = comparison.differences(list);
    if !differences.is_empty() {
        println!("{}", Difference::HEAD);
        for difference in &differences {
            println!("{difference}");
        }
        if all > differences.len() {
            println!("... and {} more pairs (--list shows more)", HumanCount((all - differences.len()) as u64));
        }
        println!();
    }
    invariants.iter().filter(|(_, broken)| broken.is_some()).count()
}

/// The invariants that one snapshot of MySQL must fulfil, and how it breaks them.
fn invariants(audit: &Audit) -> [(&'static str, Option<String>); 4] {
    let fenced = |total: fn(&footfall_shared::store::Fence) -> u64| audit.fences.iter().map(total).sum::<u64>();
    let (views, readers, users) = (fenced(|f| f.views), fenced(|f| f.readers), fenced(|f| f.users));
    let torn: Vec<&str> = audit.torn.iter().map(Article::as_str).collect();
    [
        (
            "I4: every article's views and readers are the sums of its readers' rows",
            (!torn.is_empty()).then(|| format!("not so for {}", torn.join(", "))),
        ),
        (
            "I9: views counted = views that the producers sent = views that were flushed",
            (audit.reader_views != audit.fenced_views || audit.reader_views != views)
                .then(|| format!("{}, {}, {views}", audit.reader_views, audit.fenced_views)),
        ),
        (
            "readers' rows = rows that were flushed",
            (audit.reader_rows != readers).then(|| format!("{}, {readers}", audit.reader_rows)),
        ),
        ("users = users that were flushed", (audit.users != users).then(|| format!("{}, {users}", audit.users))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use footfall_shared::store::Fence;

    fn audit() -> Audit {
        let fence = Fence { epoch: 1, generation: 1, flush_epoch: 1, views: 5, readers: 2, users: 1, articles: 1 };
        Audit {
            fences: vec![fence, fence],
            reader_views: 10,
            reader_rows: 4,
            users: 2,
            fenced_views: 10,
            torn: vec![],
            pairs: vec![],
        }
    }

    #[test]
    fn each_invariant_is_checked() {
        let broken = |change: fn(&mut Audit)| {
            let mut audit = audit();
            change(&mut audit);
            invariants(&audit).map(|(_, broken)| broken.is_some())
        };
        assert_eq!(broken(|_| {}), [false, false, false, false]);
        assert_eq!(
            broken(|audit| audit.torn.push(Article::parse(b"a").expect("test id"))),
            [true, false, false, false]
        );
        assert_eq!(broken(|audit| audit.reader_views += 1), [false, true, false, false]);
        assert_eq!(broken(|audit| audit.fenced_views += 1), [false, true, false, false]);
        assert_eq!(broken(|audit| audit.fences[0].views += 1), [false, true, false, false]);
        assert_eq!(broken(|audit| audit.reader_rows += 1), [false, false, true, false]);
        assert_eq!(broken(|audit| audit.users += 1), [false, false, false, true]);
    }
}
