//! `footfall erase`: forgets who a reader was. What was read stays counted.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use footfall_shared::mysql::{Fences, Store};
use footfall_shared::protocol::packed;
use footfall_shared::protocol::{Shard, User, total};
use footfall_shared::redis::{Entry, Queue, Redis};
use footfall_shared::service::config::Config;
use tokio::time::Instant;

use crate::aside::without_user;
use crate::failure::{self, Failure};
use crate::terminal::{confirm, count, print, seconds};
use crate::{DIFFERENCE_FOUND, Result};

/// Pause between two looks at what is still on its way.
const PAUSE: Duration = Duration::from_millis(300);
/// Reports that an ingest makes until one of them surely was made after this command began.
const BEATS: u64 = 2;
/// An ingest reports twice a second; one that is silent for this long has ended, or cannot reach Redis.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Forgets a reader: gone from MySQL, Redis and the journals; all totals stay
///
/// In MySQL, in quarantine and in logs that were set aside, the user's id is replaced by a random one, another for each
/// article, so that nothing ties the reads together any more. Views that are still on their way to MySQL cannot be
/// changed there, so the command waits until they have arrived. Each ingest lets go of its journal's files at most 15 s
/// after MySQL has all that is in them. Redis writes its append-only file anew.
///
/// A user who is nowhere is most likely misspelled: then it says so, and the exit code is 1.
///
/// If the user reads on meanwhile, or the way to MySQL is blocked, the command gives up after --wait, says what is left,
/// and the exit code is 1. It can be repeated at any time. Views that come later are counted anew, under the user's id.
/// Not reached are backups, MySQL's redo and binary logs, which it overwrites in time, damaged stretches that ingest keeps in
/// the folder `damaged` of its journals, and the ledgers of `footfall load`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The user's id
    #[arg(long, value_name = "U")]
    user: String,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    /// How long to wait for views that are on their way
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = seconds())]
    wait: u64,
}

pub(crate) async fn run(config: &Config, args: &Args) -> Result {
    let user = User::parse(args.user.as_bytes()).map_err(|error| Failure::Usage(error.to_string()))?;
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    let (store, redis) = (Store::new(&config.database).await?, failure::redis(config)?);
    let unchanged = |failure: Failure| Failure::Dependency(format!("{failure}. Nothing was changed"));
    store.check_schema(config.shards.get()).await.map_err(|error| unchanged(error.into()))?;
    let question =
        format!("Replace the user {user} by random names, in {} and {}?", config.database.url, config.redis.url);
    confirm(&question, "nothing was changed", args.yes).await?;

    let mut done = Done::default();
    let result = erase(config, &store, &redis, &user, deadline, &mut done).await;
    let Done { rows, logs } = done;
    let what = format!(
        "{} changed in MySQL, {} changed in logs that were set aside in Redis",
        count(rows, "row"),
        count(logs, "batch")
    );
    let left = result.map_err(|failure| {
        Failure::Dependency(format!(
            "{failure}. Until then: {what}. The user is not erased yet: repeat the command when that is mended"
        ))
    })?;
    print(&format!("{what}\n"))?;
    if !left.is_empty() {
        for what in left {
            print(&format!("NOT ERASED: {what}\n"))?;
        }
        return Ok(ExitCode::from(DIFFERENCE_FOUND));
    }
    // Also where the user is not found: what was erased before may still be in the file.
    print(rewrite_file(&redis, deadline).await)?;
    if rows + logs == 0 {
        print(&format!(
            "NOT FOUND: there is no user {user} in MySQL, in quarantine, in what waits or was set aside: nobody was erased. \
             Ids compare by bytes: is it written exactly so?\n"
        ))?;
        return Ok(ExitCode::from(DIFFERENCE_FOUND));
    }
    print(&format!(
        "the user {user} is erased, and nothing is on its way; the journals let go within 15 s, as long as MySQL is reachable\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// What was changed.
#[derive(Default)]
struct Done {
    rows: u64,
    logs: u64,
}

/// Answers what may be left.
async fn erase(
    config: &Config,
    store: &Store,
    redis: &Redis,
    user: &User,
    deadline: Instant,
    done: &mut Done,
) -> Result<Vec<String>> {
    let mut ingests = Ingests::default();
    let left = loop {
        // In the direction in which views travel, so that none slips by: journal, Redis, MySQL.
        let mut left = Vec::new();
        for shard in Shard::all(config.shards.get()) {
            left.extend(ingests.look(shard, redis.shard(shard).reports().await?, Instant::now()));
        }
        for shard in Shard::all(config.shards.get()) {
            let views = waiting(&redis.shard(shard), user).await?;
            if views > 0 {
                left.push(format!("{} of the user wait in Redis, shard {shard}, for MySQL", count(views, "view")));
            }
        }
        if left.is_empty() || Instant::now() >= deadline {
            break left;
        }
        tokio::time::sleep(PAUSE).await;
    };
    // Only now, and once: a row that is renamed before its reader's next view arrives makes two readers of one.
    for shard in Shard::all(config.shards.get()) {
        done.logs += rename_aside(&redis.shard(shard), user).await?;
    }
    done.rows += store.erase(user, config.shards.get()).await?;
    Ok(left)
}

/// Views of the user that Redis holds for MySQL.
async fn waiting(queue: &Queue, user: &User) -> Result<u64> {
    if queue.state().await?.data.is_some_and(|data| data.generation_before.is_some()) {
        return Err(Failure::Dependency(format!(
            "redis holds shard {} as the version before has left it: start a flusher or an ingest, which opens it",
            queue.shard()
        )));
    }
    let Some(position) = queue.moment().await?.position else { return Ok(0) };
    // What is trimmed before it is read is in MySQL, which comes next.
    let mut log = queue.log(position);
    let mut views = 0;
    loop {
        let entries = log.next().await?;
        if entries.is_empty() {
            return Ok(views);
        }
        for entry in entries {
            let rows = entry.batch()?.rows;
            let of_user = rows.iter().filter(|row| row.user == *user).map(|row| row.views);
            views = total(of_user.chain([views]));
        }
    }
}

/// Renames the user in the logs that were set aside; answers in how many batches.
async fn rename_aside(queue: &Queue, user: &User) -> Result<u64> {
    let mut renamed = 0;
    for (epoch, first) in queue.aside().await? {
        let mut at = 0;
        loop {
            let records = queue.aside_log(epoch, first, at).await?;
            if records.is_empty() {
                break;
            }
            let next = at + records.len() as u64;
            let mut changes = Vec::new();
            for (index, old) in (at..).zip(records) {
                let entry = Entry::parse(index, &old)?;
                match packed::decode(&entry.packed) {
                    Ok(batch) => {
                        if let Some(renamed) = without_user(&batch, user, random_name) {
                            // What Redis has written before the batch stays as it is.
                            let envelope = &old[..old.len() - entry.packed.len()];
                            let new = [envelope, &packed::encode(&renamed)].concat();
                            changes.push((index, old, new));
                        }
                    }
                    // Nobody can tell whose views are in it.
                    Err(_) if contains(&old, user.as_bytes()) => {
                        return Err(Failure::Dependency(format!(
                            "aside:{}:{epoch}:{first} holds a damaged batch with these bytes: look at it with \
                             `footfall quarantine show`, then drop it",
                            queue.shard()
                        )));
                    }
                    Err(_) => {}
                }
            }
            let batches = changes.len() as u64;
            // If somebody else has changed it meanwhile, this piece is read again.
            if batches == 0 || queue.rewrite_aside(epoch, first, changes).await? {
                renamed += batches;
                at = next;
            }
        }
    }
    Ok(renamed)
}

/// As MySQL's own names for erased users.
fn random_name() -> User {
    let name = format!("erased-{:032x}", rand::random::<u128>());
    User::parse(name.as_bytes()).expect("39 letters, digits and a dash are a user id")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Redis's file holds every command since it was last written anew.
async fn rewrite_file(redis: &Redis, deadline: Instant) -> &'static str {
    let rewrite = async {
        if !redis.rewrite_file().await? {
            return Ok(Some("redis keeps no append-only file\n"));
        }
        while redis.is_rewriting_file().await? {
            if Instant::now() >= deadline {
                return Ok(Some("redis is still writing its append-only file anew\n"));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok::<_, footfall_shared::redis::QueueError>(None)
    };
    match rewrite.await {
        Ok(Some(said)) => said,
        Ok(None) => "redis has written its append-only file anew\n",
        Err(_) => "redis could not be asked to write its append-only file anew: have it done (BGREWRITEAOF)\n",
    }
}

/// What the ingests say of their journals.
#[derive(Default)]
struct Ingests(BTreeMap<(Shard, String), Beats>);

/// The first report that was seen, and the last one that was another.
struct Beats {
    first: u64,
    last: u64,
    heard: Instant,
}

impl Ingests {
    /// Takes the reports of a shard, `(producer, beat, journalled views)`; answers for which journals to wait.
    fn look(&mut self, shard: Shard, reports: Vec<(String, u64, u64)>, now: Instant) -> Vec<String> {
        let mut wait_for = Vec::new();
        for (producer, beat, journalled) in reports {
            let beats =
                self.0.entry((shard, producer.clone())).or_insert(Beats { first: beat, last: beat, heard: now });
            if beat != beats.last {
                (beats.last, beats.heard) = (beat, now);
            }
            let is_silent = now >= beats.heard + SILENCE_MAX;
            if journalled > 0 {
                let views = count(journalled, "view");
                let how = if is_silent { "which is silent, holds" } else { "holds" };
                wait_for.push(format!(
                    "ingest {producer} {how} {views} in its journal, shard {shard}, some of which may be the user's"
                ));
            } else if beats.last.saturating_sub(beats.first) < BEATS && !is_silent {
                wait_for
                    .push(format!("ingest {producer} has not said yet what it holds in its journal, shard {shard}"));
            }
        }
        wait_for
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journals_are_waited_for_until_they_say_that_they_are_empty() {
        let mut ingests = Ingests::default();
        let start = Instant::now();
        let mut look = |seconds, reports: &[(&str, u64, u64)]| {
            let reports = reports.iter().map(|(name, beat, views)| ((*name).to_owned(), *beat, *views)).collect();
            ingests.look(Shard(0), reports, start + Duration::from_secs(seconds)).len()
        };
        assert_eq!(look(0, &[("a", 5, 0), ("b", 9, 4)]), 2);
        assert_eq!(look(1, &[("a", 6, 0), ("b", 11, 4)]), 2); // The first one may have been made before this began.
        assert_eq!(look(2, &[("a", 7, 0), ("b", 11, 0)]), 0);
        assert_eq!(look(3, &[]), 0); // Ended in order.
        // One that is silent from the beginning has ended; if it held something, that counts.
        assert_eq!(look(4, &[("c", 1, 0), ("d", 1, 7)]), 2);
        assert_eq!(look(10, &[("c", 1, 0), ("d", 1, 7)]), 1);
    }

    #[test]
    fn random_names_differ() {
        assert_ne!(random_name(), random_name());
    }

    #[test]
    fn bytes_are_found_in_bytes() {
        assert!(contains(b"..poison..", b"poison") && !contains(b"poiso", b"poison"));
    }
}
