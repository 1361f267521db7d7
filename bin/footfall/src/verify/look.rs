//! One consistent look at Redis and MySQL while views are counted and flushed.

use std::collections::BTreeMap;
use std::time::Duration;

use footfall_shared::counter::{Article, Batch, Producer, Row, Shard, total};
use footfall_shared::queue::{Queue, Redis};
use footfall_shared::store::{Audit, Fence, Store};

use crate::Result;
use crate::failure::Failure;

/// Looks that a recovery may spoil before this gives up.
const LOOKS_MAX: u32 = 20;
/// Pause before another look.
const PAUSE: Duration = Duration::from_millis(200);

/// What is counted at one moment: every view is in one of the two, and in only one.
pub(super) struct Look {
    /// MySQL, in one snapshot.
    pub(super) audit: Audit,
    /// What Redis holds and this snapshot does not have, by shard.
    pub(super) shards: Vec<Waiting>,
}

impl Look {
    /// What waits, shards together.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.shards.iter().flat_map(|shard| &shard.batches).flat_map(|batch| &batch.rows)
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
    pub(super) batches: Vec<Batch>,
    /// Where each producer is, as Redis says: number and cumulative views of its last batch.
    pub(super) producers: BTreeMap<Producer, (u64, u64)>,
    /// Generations whose batches and views are not as many as their header and their totals say.
    pub(super) torn: Vec<u64>,
}

/// Redis first, then MySQL: a generation that was flushed in between is at or below the fence of the snapshot, and
/// its copy from Redis is left out. The other way round, one that was acknowledged in between would be in neither.
/// Only a recovery in between, which rearranges the generations, makes another look necessary.
pub(super) async fn look(store: &Store, redis: &Redis, shards: u16, articles: &[Article]) -> Result<Look> {
    for _ in 0..LOOKS_MAX {
        let mut held = Vec::new();
        for shard in Shard::all(shards) {
            held.push(Held::read(&redis.shard(shard)).await?);
        }
        let audit = store.audit(articles).await?;
        let mut waiting = Vec::new();
        let mut is_consistent = true;
        for ((held, fence), shard) in held.into_iter().zip(&audit.fences).zip(Shard::all(shards)) {
            is_consistent &= held.is_unmoved(&redis.shard(shard), fence).await?;
            waiting.push(held.above(fence));
        }
        if is_consistent {
            return Ok(Look { audit, shards: waiting });
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(Failure::Dependency(format!(
        "redis was opened anew during each of {LOOKS_MAX} looks, or MySQL is older than Redis: \
         the logs of the services say more; try again when they are quiet"
    )))
}

/// The generations of one shard that Redis holds.
struct Held {
    waiting: Waiting,
    generations: BTreeMap<u64, Vec<Batch>>,
    /// Generations whose parts disagree.
    torn: Vec<u64>,
    /// The last generation that was acknowledged before it was read.
    forgotten: u64,
}

impl Held {
    /// The open generation and the producers' positions belong to one moment; the sealed ones before it never change
    /// (I7), so they can be read afterwards. Those that are gone by then are in MySQL.
    async fn read(queue: &Queue) -> Result<Self> {
        let state = queue.state().await?;
        let moment = queue.moment().await?;
        let data = (state.incarnation, state.data.map(|data| data.epoch));
        let is_open = state.data.is_some_and(|data| data.is_current);
        let waiting = Waiting { data, is_open, producers: moment.producers, ..Waiting::default() };
        let mut held = Self { waiting, generations: BTreeMap::new(), torn: vec![], forgotten: 0 };
        let Some(position) = moment.position else {
            return Ok(held);
        };
        for generation in position.first..position.open {
            let sealed = queue.peek_sealed(generation).await?;
            let Some((batches, views)) = sealed.header else {
                held.forgotten = generation;
                continue;
            };
            let logged = total(sealed.batches.iter().map(Batch::views));
            let counted = total(sealed.totals.values().copied());
            if (batches, views, views) != (sealed.batches.len() as u64, logged, counted) {
                held.torn.push(generation);
            }
            held.generations.insert(generation, sealed.batches);
        }
        held.generations.insert(position.open, moment.open);
        Ok(held)
    }

    /// Whether what was read belongs to the snapshot of MySQL with this fence.
    async fn is_unmoved(&self, queue: &Queue, fence: &Fence) -> Result<bool> {
        let now = queue.state().await?;
        let epoch = self.waiting.data.1;
        let is_same_data = (now.incarnation, now.data.map(|data| data.epoch)) == self.waiting.data;
        let is_known = epoch.is_none_or(|epoch| epoch <= fence.epoch);
        Ok(is_same_data && is_known && self.forgotten <= fence.position)
    }

    /// What will be flushed on top of this fence. Of an overtaken history, nothing will: the recovery puts it aside.
    fn above(self, fence: &Fence) -> Waiting {
        let is_overtaken = self.waiting.data.1.is_some_and(|epoch| epoch < fence.flush_epoch);
        let waits = |generation: u64| !is_overtaken && generation > fence.position;
        let torn = self.torn.into_iter().filter(|generation| waits(*generation)).collect();
        let generations = self.generations.into_iter().filter(|(generation, _)| waits(*generation));
        Waiting { torn, batches: generations.flat_map(|(_, batches)| batches).collect(), ..self.waiting }
    }
}

/// Whether all shards are open and nothing waits in any of them.
pub(super) async fn is_drained(redis: &Redis, shards: u16) -> Result<bool> {
    for shard in Shard::all(shards) {
        let state = redis.shard(shard).state().await?;
        if !state.data.is_some_and(|data| data.is_current && data.is_drained()) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_generations_above_the_fence_wait() {
        let waiting = |epoch, generation, flush_epoch| {
            let waiting = Waiting { data: (String::new(), Some(epoch)), ..Waiting::default() };
            let batches = |number| (number, vec![Batch::fold(Producer(1), number, 0, 0, vec![])]);
            let held = Held { waiting, generations: (4..=6).map(batches).collect(), torn: vec![5], forgotten: 0 };
            let fence = Fence {
                epoch: 9,
                position: generation,
                flush_epoch,
                version: 0,
                views: 0,
                readers: 0,
                users: 0,
                articles: 0,
            };
            let waiting = held.above(&fence);
            assert_eq!(waiting.torn.is_empty(), waiting.batches.iter().all(|batch| batch.number != 5));
            waiting.batches.iter().map(|batch| batch.number).collect::<Vec<_>>()
        };
        assert_eq!(waiting(9, 3, 9), [4, 5, 6]);
        assert_eq!(waiting(9, 5, 9), [6]);
        assert_eq!(waiting(9, 8, 9), [0; 0]);
        // Not opened again yet, but it will be.
        assert_eq!(waiting(8, 4, 8), [5, 6]);
        // MySQL went on under a later epoch.
        assert_eq!(waiting(7, 4, 8), [0; 0]);
    }
}
