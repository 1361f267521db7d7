//! One consistent look at Redis and MySQL while views are counted and flushed.

use std::collections::BTreeMap;
use std::time::Duration;

use footfall_shared::counter::{Article, Row, Shard};
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
    /// What Redis holds and this snapshot does not have.
    pub(super) waiting: Vec<Row>,
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
            waiting.extend(held.above(fence));
        }
        if is_consistent {
            return Ok(Look { audit, waiting });
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
    incarnation: String,
    /// None if the data set is empty.
    epoch: Option<u64>,
    generations: BTreeMap<u64, Vec<Row>>,
    /// The last generation that was acknowledged before it was read.
    forgotten: u64,
}

impl Held {
    /// Sealed generations never change (I7). The open one only grows until it is sealed: if that happens meanwhile,
    /// the reading goes on from there.
    async fn read(queue: &Queue) -> Result<Self> {
        let state = queue.state().await?;
        let mut held = Self {
            incarnation: state.incarnation,
            epoch: state.data.map(|data| data.epoch),
            generations: BTreeMap::new(),
            forgotten: 0,
        };
        let Some(mut position) = state.data.map(|data| data.position) else {
            return Ok(held);
        };
        let mut next = position.first;
        loop {
            while next < position.open {
                let sealed = queue.sealed(next).await?;
                match sealed.header {
                    Some(_) => held.insert(next, sealed.batches),
                    None => held.forgotten = next,
                }
                next += 1;
            }
            let open = queue.open_batches().await?;
            let after = queue.state().await?.data.map(|data| data.position);
            match after {
                Some(after) if after.open > position.open => position = after,
                // A data set that went away or back is noticed by `is_unmoved`.
                Some(_) | None => {
                    held.insert(position.open, open);
                    return Ok(held);
                }
            }
        }
    }

    fn insert(&mut self, generation: u64, batches: Vec<footfall_shared::counter::Batch>) {
        let rows = batches.into_iter().flat_map(|batch| batch.rows).collect();
        self.generations.insert(generation, rows);
    }

    /// Whether what was read belongs to the snapshot of MySQL with this fence.
    async fn is_unmoved(&self, queue: &Queue, fence: &Fence) -> Result<bool> {
        let now = queue.state().await?;
        let is_same_data = now.incarnation == self.incarnation && now.data.map(|data| data.epoch) == self.epoch;
        let is_known = self.epoch.is_none_or(|epoch| epoch <= fence.epoch);
        Ok(is_same_data && is_known && self.forgotten <= fence.generation)
    }

    /// What will be flushed on top of this fence. Of an overtaken history, nothing will: the recovery puts it aside.
    fn above(self, fence: &Fence) -> impl Iterator<Item = Row> {
        let is_overtaken = self.epoch.is_some_and(|epoch| epoch < fence.flush_epoch);
        let generation = fence.generation;
        self.generations
            .into_iter()
            .filter(move |(number, _)| !is_overtaken && *number > generation)
            .flat_map(|(_, rows)| rows)
    }
}

/// Whether all shards are open and nothing waits in any of them.
pub(super) async fn is_drained(redis: &Redis, shards: u16) -> Result<bool> {
    for shard in Shard::all(shards) {
        let state = redis.shard(shard).state().await?;
        if !state.data.is_some_and(|data| data.is_current && data.pending_views() == 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use footfall_shared::counter::User;

    fn row(views: u64) -> Row {
        Row { article: Article::parse(b"a").expect("test id"), user: User::parse(b"u").expect("test id"), views }
    }

    #[test]
    fn only_generations_above_the_fence_wait() {
        let waiting = |epoch, generation, flush_epoch| {
            let held = Held {
                incarnation: String::new(),
                epoch: Some(epoch),
                generations: (4..=6).map(|number| (number, vec![row(number)])).collect(),
                forgotten: 0,
            };
            let fence = Fence { epoch: 9, generation, flush_epoch, views: 0, readers: 0, users: 0, articles: 0 };
            held.above(&fence).map(|row| row.views).collect::<Vec<_>>()
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
