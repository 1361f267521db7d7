//! How often reads were answered from a cache. It is counted in Redis, for all processes.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::numbers::HitRate;
use crate::snapshot::{HitPercent, Snapshot};

#[derive(Default)]
pub(super) struct Hits {
    keyspace: HitRate,
    queries: HitRate,
    interfaces: BTreeMap<String, HitRate>,
}

impl Hits {
    /// Takes hits and misses: of Redis's own lookups, and of reads by interface.
    pub(super) fn add(
        &mut self,
        now: Instant,
        (hits, misses): (u64, u64),
        reads: BTreeMap<String, (u64, u64)>,
        snapshot: &mut Snapshot,
    ) {
        snapshot.redis_hits = self.keyspace.add(now, hits, misses);
        let mut all = (0, 0);
        for (interface, (hits, misses)) in reads {
            all = (u64::saturating_add(all.0, hits), u64::saturating_add(all.1, misses));
            let percent = self.interfaces.entry(interface.clone()).or_default().add(now, hits, misses);
            snapshot.interface_hits.insert(interface, percent);
        }
        snapshot.query_hits = self.queries.add(now, all.0, all.1);
    }

    /// Redis cannot be read.
    pub(super) fn missed(&mut self, snapshot: &mut Snapshot) {
        let all = [&mut self.keyspace, &mut self.queries].into_iter().chain(self.interfaces.values_mut());
        all.for_each(HitRate::missed);
        snapshot.redis_hits = HitPercent::default();
        snapshot.query_hits = HitPercent::default();
        snapshot.interface_hits.clear();
    }
}
