//! One consistent look at Redis and MySQL while views are counted and flushed.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use footfall_shared::mysql::{Audit, Store};
use footfall_shared::protocol::{Article, Batch, Fence, Position, Producer, Row, Shard};
use footfall_shared::redis::{Entry, Queue, QueueError, Redis};

use crate::Result;
use crate::failure::Failure;

/// Looks that a recovery may spoil before this gives up.
const LOOKS_MAX: u32 = 20;
/// Pause before another look.
const PAUSE: Duration = Duration::from_millis(200);

/// What is counted at one moment: every view is in one of the two, and in only one.
pub(super) struct Observation {
    /// MySQL, in one snapshot.
    pub(super) audit: Audit,
    /// What Redis holds and this snapshot does not have, by shard.
    pub(super) shards: Vec<Waiting>,
}

impl Observation {
    /// What waits of the articles that were asked for, or else of those with the most views; shards together.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.shards.iter().flat_map(|shard| &shard.rows)
    }
}

/// What waits in one shard.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting {
    /// The data set: the life of its server, and its epoch if it holds anything.
    pub(super) data: (String, Option<u64>),
    /// Whether a recovery has opened it.
    pub(super) is_open: bool,
    /// The batches that will be flushed on top of the snapshot, in order.
    pub(super) batches: Vec<Head>,
    /// Rows of these batches, of a few articles. All of them may be many millions.
    pub(super) rows: Vec<Row>,
    /// Where each producer is, as Redis says: number and cumulative views of its last batch.
    pub(super) producers: BTreeMap<Producer, (u64, u64)>,
    /// What of the log does not add up.
    pub(super) damage: Vec<String>,
}

/// A batch without its rows.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) producer: Producer,
    pub(super) number: u64,
    pub(super) cumulative_views: u64,
    pub(super) numbered_views: u64,
}

impl Head {
    pub(super) fn of(batch: &Batch) -> Self {
        let Batch { producer, number, cumulative_views, .. } = *batch;
        Self { producer, number, cumulative_views, numbered_views: batch.numbered_views() }
    }

    /// Views of its producer before it.
    pub(super) fn views_before(&self) -> u64 {
        self.cumulative_views.saturating_sub(self.numbered_views)
    }
}

/// Redis first, then MySQL: an entry that was flushed in between is at or below the position of the snapshot, and its
/// copy from Redis is left out. The other way round, one that was trimmed in between would be in neither.
/// Only a recovery in between makes another look necessary.
pub(super) async fn look(store: &Store, redis: &Redis, shards: u16, articles: &[Article]) -> Result<Observation> {
    for _ in 0..LOOKS_MAX {
        let mut held = Vec::new();
        for shard in Shard::all(shards) {
            held.push(Held::read(&redis.shard(shard)).await?);
        }
        let audit = store.audit(articles).await?;
        let asked: HashSet<&Article> = match articles {
            [] => audit.top.iter().map(|(article, _)| article).collect(),
            articles => articles.iter().collect(),
        };
        let mut waiting = Vec::new();
        let mut is_consistent = true;
        for ((held, fence), shard) in held.into_iter().zip(&audit.fences).zip(Shard::all(shards)) {
            is_consistent &= held.is_unmoved(&redis.shard(shard), fence).await?;
            waiting.push(held.above(fence, &asked));
        }
        drop(asked);
        if is_consistent {
            return Ok(Observation { audit, shards: waiting });
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(Failure::Dependency(format!(
        "redis was opened anew during each of {LOOKS_MAX} looks, or MySQL is older than Redis: \
         the logs of the services say more; try again when they are quiet"
    )))
}

/// The log of one shard as Redis holds it.
struct Held {
    waiting: Waiting,
    /// Packed as they are: unpacked they would take many times as much memory.
    entries: Vec<Entry>,
    /// The last position that was trimmed before it was read.
    trimmed: u64,
}

impl Held {
    /// What is in the log and where the producers are belongs to one moment; entries never change (I7), so they can be
    /// read afterwards. Those that are gone by then are in MySQL.
    async fn read(queue: &Queue) -> Result<Self> {
        let state = queue.state().await?;
        if state.data.is_some_and(|data| data.generation_before.is_some()) {
            return Err(Failure::Dependency(format!(
                "redis holds shard {} as the version before has left it: start a flusher or an ingest, which opens it, then \
                 try again",
                queue.shard()
            )));
        }
        let moment = queue.moment().await?;
        let data = (state.incarnation, state.data.map(|data| data.epoch));
        let is_open = state.data.is_some_and(|data| data.is_current);
        let mut waiting = Waiting { data, is_open, producers: moment.producers, ..Waiting::default() };
        if state.data.is_some_and(|data| data.is_damaged) {
            waiting.damage.push("the log is not as long as its positions say, or has become something else".into());
        }
        let mut held = Self { waiting, entries: vec![], trimmed: 0 };
        let Some(position) = moment.position else { return Ok(held) };
        match held.read_log(queue, position).await {
            Err(QueueError::Corrupt(why)) => held.waiting.damage.push(why),
            read => read?,
        }
        Ok(held)
    }

    async fn read_log(&mut self, queue: &Queue, position: Position) -> std::result::Result<(), QueueError> {
        let mut log = queue.log(position);
        let mut next = position.first;
        loop {
            let entries = log.next().await?;
            let Some((first, last)) = entries.first().zip(entries.last()) else { break };
            if first.position > next {
                self.trimmed = first.position - 1;
            }
            next = last.position + 1;
            self.entries.extend(entries);
        }
        if next <= position.tail {
            self.trimmed = position.tail;
        }
        Ok(())
    }

    /// Whether what was read belongs to the snapshot of MySQL with this fence.
    async fn is_unmoved(&self, queue: &Queue, fence: &Fence) -> Result<bool> {
        let now = queue.state().await?;
        let epoch = self.waiting.data.1;
        let is_same_data = (now.incarnation, now.data.map(|data| data.epoch)) == self.waiting.data;
        let is_known = epoch.is_none_or(|epoch| epoch <= fence.epoch);
        Ok(is_same_data && is_known && self.trimmed <= fence.position)
    }

    /// What will be flushed on top of this fence. Of an overtaken history, nothing will: the recovery puts it aside.
    fn above(self, fence: &Fence, asked: &HashSet<&Article>) -> Waiting {
        let Self { mut waiting, entries, .. } = self;
        if waiting.data.1.is_some_and(|epoch| epoch < fence.flush_epoch) {
            waiting.damage.clear();
            return waiting;
        }
        for entry in entries.into_iter().filter(|entry| entry.position > fence.position) {
            match entry.batch() {
                Ok(batch) => {
                    waiting.batches.push(Head::of(&batch));
                    waiting.rows.extend(batch.rows.into_iter().filter(|row| asked.contains(&row.article)));
                }
                Err(error) => waiting.damage.push(error.to_string()),
            }
        }
        waiting
    }
}

/// Whether all shards are open and nothing waits in any of them.
pub(super) async fn is_drained(redis: &Redis, shards: u16) -> Result<bool> {
    for shard in Shard::all(shards) {
        let state = redis.shard(shard).state().await?;
        if !state.data.is_some_and(|data| data.is_current && data.position.entries() == 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use footfall_shared::protocol::packed;

    #[test]
    fn only_entries_above_the_fence_wait() {
        let waiting = |epoch, position, flush_epoch| {
            let entry = |number| Entry {
                position: number,
                came_ms: 0,
                packed: match number {
                    7 => [][..].into(),
                    _ => packed::encode(&Batch::fold(Producer(1), number, 0, 0, vec![])).into(),
                },
            };
            let waiting = Waiting { data: (String::new(), Some(epoch)), ..Waiting::default() };
            let held = Held { waiting, entries: (4..=7).map(entry).collect(), trimmed: 0 };
            let fence =
                Fence { epoch: 9, position, flush_epoch, version: 0, views: 0, readers: 0, users: 0, articles: 0 };
            let waiting = held.above(&fence, &HashSet::new());
            let numbers = waiting.batches.iter().map(|batch| batch.number).collect::<Vec<_>>();
            (numbers, waiting.damage.len())
        };
        assert_eq!(waiting(9, 3, 9), (vec![4, 5, 6], 1));
        assert_eq!(waiting(9, 5, 9), (vec![6], 1));
        assert_eq!(waiting(9, 8, 9), (vec![], 0));
        // Not opened again yet, but it will be.
        assert_eq!(waiting(8, 4, 8), (vec![5, 6], 1));
        // MySQL went on under a later epoch.
        assert_eq!(waiting(7, 4, 8), (vec![], 0));
    }
}
