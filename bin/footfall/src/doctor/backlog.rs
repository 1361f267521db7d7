//! What waits: in the log of each shard, and in quarantine for a person.

use std::time::Duration;

use footfall_shared::mysql::{Fences, Store};
use footfall_shared::protocol::errors::{ErrorClass, Grade};
use footfall_shared::protocol::{Decision, Fence, Progress, Shard, State, total};
use footfall_shared::redis::{QueueError, Redis};
use footfall_shared::service::config::Config;

use super::check::Check;
use super::runbook;
use super::stores::{mysql_fails, redis_fails};
use crate::terminal::count;

pub(super) const BACKLOG: &str = "backlog";
pub(super) const QUARANTINE: &str = "quarantine";

/// As the alert: the flusher needs a second or two.
const LAG_MAX: Duration = Duration::from_secs(60);

pub(super) async fn look(config: &Config, redis: &Redis, store: &Store) -> Vec<Check> {
    let mut shards = Vec::new();
    for shard in Shard::all(config.shards.get()) {
        // In this order: a lower position in MySQL then means that it has lost something.
        let state = match redis.shard(shard).state().await {
            Ok(state) => state,
            Err(QueueError::Redis(_)) => {
                return vec![Check::warning(BACKLOG, "not known without Redis", "mend Redis")];
            }
            Err(error) => {
                shards.push(Err(redis_fails(BACKLOG, &error)));
                continue;
            }
        };
        shards.push(judge(shard, &state, store.fence(shard).await.ok().as_ref()));
    }
    let waiting: Vec<Waiting> = shards.iter().filter_map(|shard| shard.as_ref().ok().copied()).collect();
    let mut checks: Vec<Check> = shards.into_iter().filter_map(Result::err).collect();
    if !waiting.is_empty() {
        checks.insert(0, Check::ok(BACKLOG, sum(&waiting)));
    }
    checks
}

/// What waits in a shard of which nothing is to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    entries: u64,
    views: u64,
    lag_ms: u64,
}

/// Without `fence` MySQL could not be asked.
fn judge(shard: Shard, state: &State, fence: Option<&Fence>) -> Result<Waiting, Check> {
    if let Some(Decision::Halt((epoch, position))) = fence.map(|fence| state.decide(Progress::from(fence), None)) {
        let what = format!(
            "MySQL is older than Redis: it lacks what it once confirmed of shard {shard}, up to epoch {epoch} and position \
             {position}; this shard stands still"
        );
        return Err(Check::problem(BACKLOG, what, format!("do not hurry: {}", runbook::MYSQL_BEHIND)));
    }
    let Some(data) = &state.data else {
        let what = format!("Redis holds nothing of shard {shard}, and no recovery has opened it");
        return Err(Check::warning(BACKLOG, what, "an ingest or a flusher opens it by itself: start them"));
    };
    if data.is_damaged {
        let what = format!("what Redis holds of shard {shard} does not add up");
        return Err(Check::problem(BACKLOG, what, runbook::DATA_DAMAGED));
    }
    let waiting = Waiting { entries: data.position.entries(), views: data.pending_views, lag_ms: data.lag_ms };
    if !data.is_current {
        let what = format!("Redis was started anew, and no recovery has opened shard {shard}: {waiting}");
        return Err(Check::warning(BACKLOG, what, "an ingest or a flusher opens it by itself, with MySQL: start them"));
    }
    if u128::from(waiting.lag_ms) > LAG_MAX.as_millis() {
        let next = format!("see that MySQL answers and a flusher runs, then {}", runbook::FLUSH_LAG);
        return Err(Check::warning(BACKLOG, format!("in shard {shard} {waiting}"), next));
    }
    if data.is_behind {
        let what = format!("of shard {shard} acknowledged views wait in a journal, or are on their way back from one");
        return Err(Check::warning(BACKLOG, what, "nothing, as soon as both stores and the ingests are well"));
    }
    Ok(waiting)
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { entries, views, lag_ms } = *self;
        if entries == 0 {
            return f.write_str("nothing waits for MySQL");
        }
        let (entries, views) = (count(entries, "batch"), count(views, "view"));
        write!(f, "{entries} with {views} wait for MySQL, the oldest for {}.{} s", lag_ms / 1_000, lag_ms % 1_000 / 100)
    }
}

fn sum(shards: &[Waiting]) -> String {
    let all = Waiting {
        entries: total(shards.iter().map(|shard| shard.entries)),
        views: total(shards.iter().map(|shard| shard.views)),
        lag_ms: shards.iter().map(|shard| shard.lag_ms).max().unwrap_or(0),
    };
    format!("in {} {all}", count(shards.len() as u64, "shard"))
}

pub(super) async fn quarantine(config: &Config, redis: &Redis, store: &Store) -> Vec<Check> {
    let (rows, logs) = tokio::join!(store.quarantined_rows(), redis.asides(config.shards.get()));
    match rows {
        Ok(rows) => vec![judge_quarantine(rows, logs.ok())],
        // Said already.
        Err(error) if error.class() == ErrorClass::DbDown => {
            vec![Check::warning(QUARANTINE, "not known without MySQL", "mend MySQL")]
        }
        Err(error) => vec![mysql_fails(QUARANTINE, &error)],
    }
}

/// Rows in MySQL, and logs that were set aside in Redis, as far as it could be asked.
fn judge_quarantine(rows: u64, logs: Option<u64>) -> Check {
    let of_logs = match logs {
        None => "; whether logs were set aside is not known without Redis".to_owned(),
        Some(0) => String::new(),
        Some(logs) => format!(", {} set aside in Redis", count(logs, "log")),
    };
    match (rows, logs) {
        (0, Some(0)) => Check::ok(QUARANTINE, "nothing is in it"),
        (0, None) => Check::ok(QUARANTINE, format!("no row is in it{of_logs}")),
        _ => Check::warning(
            QUARANTINE,
            format!("{} could not be counted{of_logs}", count(rows, "row")),
            format!(
                "`footfall quarantine list` says why: mend that, then `footfall quarantine replay --all`; {}",
                runbook::QUARANTINE
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use footfall_shared::protocol::{DataSet, Position};

    use super::super::check::Level;
    use super::*;

    fn state(change: impl FnOnce(&mut DataSet)) -> State {
        let position = Position { first: 6, tail: 9 };
        let mut data =
            DataSet { is_current: true, epoch: 3, position, pending_views: 12, lag_ms: 1_234, ..DataSet::default() };
        change(&mut data);
        State { incarnation: "a".into(), data: Some(data) }
    }

    fn fence(position: u64) -> Fence {
        Fence { epoch: 3, position, flush_epoch: 3, version: 0, views: 0, readers: 0, users: 0, articles: 0 }
    }

    #[test]
    fn what_waits_is_a_table() {
        let said = |state: &State, position| {
            let check = judge(Shard(0), state, Some(&fence(position))).err();
            check.map(|check| (check.level, check.next))
        };
        assert_eq!(said(&state(|_| ()), 5), None);
        for (what, state, position, level, next) in [
            ("MySQL is older", state(|_| ()), 4, Level::Problem, "FootfallMySQLBehind"),
            ("damage", state(|data| data.is_damaged = true), 5, Level::Problem, "FootfallDataDamaged"),
            ("a restart", state(|data| data.is_current = false), 5, Level::Warning, "start them"),
            ("nothing", State { incarnation: "a".into(), data: None }, 5, Level::Warning, "start them"),
            ("late", state(|data| data.lag_ms = 60_001), 5, Level::Warning, "FootfallFlushLag"),
            ("behind", state(|data| data.is_behind = true), 5, Level::Warning, "as soon as"),
        ] {
            let (found, then) = said(&state, position).unwrap_or_else(|| panic!("{what}: nothing"));
            assert!(found == level && then.contains(next), "{what}: {then}");
        }
        assert!(judge(Shard(0), &state(|_| ()), None).is_ok(), "without MySQL");
    }

    #[test]
    fn shards_are_added_up() {
        let waiting = Waiting { entries: 1, views: 2, lag_ms: 950 };
        let more = Waiting { entries: 2, views: 1_000, lag_ms: 1_234 };
        assert_eq!(
            sum(&[waiting, more]),
            "in 2 shards 3 batches with 1,002 views wait for MySQL, the oldest for 1.2 s"
        );
        assert_eq!(sum(&[Waiting { entries: 0, views: 0, lag_ms: 0 }]), "in 1 shard nothing waits for MySQL");
    }

    #[test]
    fn a_quarantine_is_a_warning() {
        assert_eq!(judge_quarantine(0, Some(0)).level, Level::Ok);
        assert_eq!(judge_quarantine(0, None).level, Level::Ok);
        for (rows, logs) in [(1, Some(0)), (0, Some(1)), (3, None)] {
            let check = judge_quarantine(rows, logs);
            assert!(check.level == Level::Warning && check.next.contains("quarantine list"), "{check:?}");
        }
    }
}
