//! How often keys were there: as all processes count it of their cache-first reads, and as Redis does.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use futures_util::future::try_join_all;
use redis::InfoDict;

use super::calls::Redis;
use super::errors::Result;
use crate::protocol::keys;
use crate::service::telemetry::{self, IntGaugeVec};

static KEYSPACE: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "Redis's own counts of key look-ups since it started, as it told them last.";
    telemetry::gauges("footfall_redis_keyspace", help, "result")
});

impl Redis {
    /// Redis's own counts of key look-ups that hit and that missed, since its servers started.
    pub async fn keyspace_hits(&self) -> Result<(u64, u64)> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("INFO").arg("stats");
        let masters = self.masters().await?;
        let each = masters.iter().map(|(_, server)| server.commands::<(InfoDict,)>(pipeline.clone()));
        let infos = try_join_all(each).await?;
        let counts = ["hits", "misses"].map(|result| {
            let count = infos.iter().map(|(info,)| info.get::<i64>(&format!("keyspace_{result}")).unwrap_or(0)).sum();
            KEYSPACE.with_label_values(&[result]).set(count);
            count.unsigned_abs()
        });
        Ok(counts.into())
    }

    /// They are not known any more: nothing is better than what was true before.
    pub fn forget_hits(&self) {
        KEYSPACE.reset();
    }

    /// Adds to the shared counts of cache-first reads of one interface.
    pub(crate) async fn add_reads(&self, interface: &str, hits: u64, misses: u64) -> Result<()> {
        let mut pipeline = redis::pipe();
        pipeline
            .hincr(keys::READS, format!("{interface}:hits"), hits)
            .ignore()
            .hincr(keys::READS, format!("{interface}:misses"), misses)
            .ignore();
        Ok(self.home(keys::READS).commands(pipeline).await?)
    }

    /// Hits and misses of the cache-first reads of all processes, by interface.
    pub async fn reads(&self) -> Result<BTreeMap<String, (u64, u64)>> {
        let mut pipeline = redis::pipe();
        pipeline.hgetall(keys::READS);
        let (counts,): (BTreeMap<String, u64>,) = self.home(keys::READS).commands(pipeline).await?;
        let mut reads: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for (name, count) in counts {
            match name.split_once(':') {
                Some((interface, "hits")) => reads.entry(interface.into()).or_default().0 = count,
                Some((interface, "misses")) => reads.entry(interface.into()).or_default().1 = count,
                _ => {}
            }
        }
        Ok(reads)
    }
}
