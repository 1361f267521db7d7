//! How often reads were answered from a cache. It is counted in Redis, for all processes.

use std::collections::BTreeMap;

use footfall_shared::redis::{QueueError, Redis};
use tokio::time::Instant;

use crate::frame::{HitPercent, Snapshot};
use crate::numbers::HitRate;

#[derive(Default)]
pub(super) struct Hits {
    keyspace: HitRate,
    queries: HitRate,
    interfaces: BTreeMap<String, HitRate>,
}

impl Hits {
    pub(super) async fn look(&mut self, redis: &Redis, snapshot: &mut Snapshot) -> Result<(), QueueError> {
        let (hits, misses) = redis.keyspace_hits().await?;
        snapshot.redis_hits = self.keyspace.add(Instant::now(), hits, misses);
        let (now, mut all) = (Instant::now(), (0, 0));
        for (interface, (hits, misses)) in redis.reads().await? {
            all = (u64::saturating_add(all.0, hits), u64::saturating_add(all.1, misses));
            let hits = self.interfaces.entry(interface.clone()).or_default().add(now, hits, misses);
            snapshot.interface_hits.insert(interface, hits);
        }
        snapshot.query_hits = self.queries.add(now, all.0, all.1);
        Ok(())
    }

    /// Redis cannot be read.
    pub(super) fn missed(&mut self, redis: &Redis, snapshot: &mut Snapshot) {
        redis.forget_hits();
        let all = [&mut self.keyspace, &mut self.queries].into_iter().chain(self.interfaces.values_mut());
        all.for_each(HitRate::missed);
        snapshot.redis_hits = HitPercent::default();
        snapshot.query_hits = HitPercent::default();
        snapshot.interface_hits.clear();
    }
}
