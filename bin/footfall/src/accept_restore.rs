//! `footfall accept-restore`: goes on from a MySQL that came back older than it was.

use std::process::ExitCode;

use footfall_shared::mysql::{Fences, Known, Lost, Store};
use footfall_shared::protocol::{Positions, Shard};
use footfall_shared::redis::{Queue, Redis};
use footfall_shared::service::config::Config;
use footfall_shared::stores::recovery;

use crate::failure::{self, Failure};
use crate::terminal::{confirm, count, print};
use crate::{DIFFERENCE_FOUND, Result};

/// Looks that a trim or a recovery may spoil before this gives up.
const LOOKS_MAX: u32 = 20;

/// Goes on from a MySQL that came back older than it was, without the views in between
///
/// After a restore from a backup the shards stand still, because what was flushed since then is in MySQL no more. If
/// binary logs, a replica or the old disk still have it, bring MySQL forward instead: nothing is lost then, and all goes
/// on by itself. This is for when they do not. It asks Redis and the ingests how far MySQL once was, and moves its fences
/// there. The views in between are lost; as many stay in quarantine, as rows whose article and reader are not known. What
/// waits in Redis and in the journals is counted.
///
/// Leave the services running: what an ingest knows of batches that went to MySQL directly is asked of it through Redis.
/// Run it once more if a service says that it still stands still. A repeat changes nothing.
#[derive(clap::Args)]
#[command(
    after_help = "Example: look first, then accept\n  footfall accept-restore --dry-run\n  footfall accept-restore"
)]
pub(crate) struct Args {
    /// Only say what would be lost; exit code 1 if anything would
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(config: &Config, args: &Args) -> Result {
    let store = Store::new(&config.database).await?;
    let redis = failure::redis(config)?;
    store.check_schema(config.shards.get()).await?;
    let mut views = 0;
    let mut behind = Vec::new();
    for shard in Shard::all(config.shards.get()) {
        let lost = store.accept_restore(shard, &known(&redis, shard).await?, false).await?;
        if lost.is_behind {
            views += lost.views;
            print(&format!("shard {shard}: MySQL lacks {}\n", said(&lost)))?;
            behind.push(shard);
        } else {
            print(&format!("shard {shard}: MySQL has everything that Redis and the ingests know of\n"))?;
        }
    }
    if behind.is_empty() {
        print("there is nothing to accept: nothing was changed\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.dry_run {
        print(&format!("{} would be lost for good; nothing was changed\n", count(views, "view")))?;
        return Ok(ExitCode::from(DIFFERENCE_FOUND));
    }
    let question = format!("Go on without {}, for good? Is there no newer data of MySQL?", count(views, "view"));
    confirm(&question, "nothing was changed", args.yes).await?;
    let (mut went_on, all) = (0, behind.len() as u64);
    let mut lost_views = 0;
    for shard in behind {
        let lost = accept(config, &store, &redis, shard).await.map_err(|failure| {
            failure.with(&format!("{went_on} of {} go on; run the same once more", count(all, "shard")))
        })?;
        went_on += 1;
        lost_views += lost.views;
        print(&format!("shard {shard}: goes on without {}\n", said(&lost)))?;
    }
    print(&format!(
        "{} on without {}\n",
        if all == 1 { "1 shard goes".into() } else { format!("{all} shards go") },
        count(lost_views, "view")
    ))?;
    Ok(ExitCode::SUCCESS)
}

async fn accept(config: &Config, store: &Store, redis: &Redis, shard: Shard) -> Result<Lost> {
    let lost = store.accept_restore(shard, &known(redis, shard).await?, true).await?;
    recovery::open(&redis.shard(shard), store, config.shards.get()).await?;
    Ok(lost)
}

fn said(lost: &Lost) -> String {
    let [entries, batches, views] = [(lost.entries, "entry"), (lost.batches, "batch"), (lost.views, "view")]
        .map(|(number, one)| count(number, one));
    format!("{entries} of the log; {batches} with {views}")
}

/// How far MySQL once was, as Redis and the ingests know it.
async fn known(redis: &Redis, shard: Shard) -> Result<Known> {
    let queue = redis.shard(shard);
    let [said, direct] = queue.said_to_be_stored().await?;
    for _ in 0..LOOKS_MAX {
        if let Some(mut known) = known_to_redis(&queue).await? {
            for (producer, position) in said {
                let known = known.through_redis.entry(producer).or_default();
                *known = position.max(*known);
            }
            return Ok(Known { direct, ..known });
        }
    }
    Err(Failure::Dependency(format!("redis was changed during each of {LOOKS_MAX} looks at shard {shard}: try again")))
}

/// What the data set knows; none if it was changed meanwhile.
async fn known_to_redis(queue: &Queue) -> Result<Option<Known>> {
    let moment = queue.moment().await?;
    let Some(data) = queue.state().await?.data else { return Ok(Some(Known::default())) };
    if data.is_damaged {
        return Err(Failure::Dependency(format!(
            "what Redis holds of shard {} does not add up: start a flusher, which sets it aside, then try again",
            queue.shard()
        )));
    }
    if data.generation_before.is_some() {
        return Err(Failure::Dependency(format!(
            "redis holds shard {} as the version before has left it: run the `footfall accept-restore` of that version, then \
             go on with this one",
            queue.shard()
        )));
    }
    let Some(position) = moment.position.filter(|position| *position == data.position) else { return Ok(None) };
    // MySQL had whatever comes before the first batch that waits, or all if none of a producer does.
    let mut waiting = Positions::new();
    let (mut log, mut next) = (queue.log(position), position.first);
    loop {
        let entries = log.next().await?;
        for (entry, position) in entries.iter().zip(next..) {
            if entry.position != position {
                return Ok(None); // Trimmed meanwhile.
            }
            let batch = entry.batch()?;
            waiting.entry(batch.producer).or_insert((batch.number - 1, batch.views_before()));
        }
        next += entries.len() as u64;
        if entries.is_empty() {
            break;
        }
    }
    if next <= position.tail {
        return Ok(None);
    }
    let through_redis =
        moment.producers.into_iter().map(|(producer, last)| (producer, waiting.remove(&producer).unwrap_or(last)));
    Ok(Some(Known {
        data: Some((data.epoch, data.tag().version, data.position.first - 1)),
        through_redis: through_redis.collect(),
        direct: Positions::new(),
    }))
}
