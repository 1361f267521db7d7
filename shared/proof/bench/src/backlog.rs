//! Views that wait in Redis, and are drained.

use std::time::Instant;

use anyhow::ensure;
use footfall_drill::stack::Role;

use crate::load::Kind;
use crate::measure::{cpu_seconds, memory_mib};
use crate::names::{DRAINS, DRAINS_LOAD, MARIADB_ALONE, WHOLE};
use crate::report::Figure;
use crate::run::Bench;
use crate::scene::Load;

impl Bench<'_> {
    /// Lets views wait in Redis, and looks at what they take there; then at how fast the flusher moves them, and how fast
    /// it goes by hand.
    pub(crate) fn backlog(&mut self) -> anyhow::Result<()> {
        let (load, name) = (&self.load(Kind::Batch, 8), DRAINS_LOAD);
        self.bar.set_message(DRAINS);
        self.scene.drain()?;
        self.scene.pause_flusher(true)?;
        let empty = self.scene.redis_bytes()?;
        let waiting = self.wait_in_redis(load);
        let full = self.scene.redis_bytes();
        let elsewhere = self.scene.metric(Role::Ingest, "footfall_journalled_views");
        self.scene.pause_flusher(false)?;
        let (views, elsewhere) = (waiting?, elsewhere?);
        ensure!(elsewhere == 0.0, "{elsewhere} views wait in the journal: Redis was too slow for this measurement");
        let [flusher, mariadb] = [self.scene.pid(Role::Flusher), self.scene.stack.mariadb.process().pid()];
        let before = [cpu_seconds(flusher)?, cpu_seconds(mariadb)?];
        let (counted, began) = (self.scene.counts()?, Instant::now());
        self.scene.flush()?;
        let seconds = began.elapsed().as_secs_f64();
        self.scene.drain()?;
        let counts = self.scene.counts()?.since(counted);
        let (size, millions) = (views as f64, views as f64 / 1e6);
        let cpu = (cpu_seconds(mariadb)? - before[1]) / millions;
        let mut figures = vec![
            (Figure::PerSecond, size / seconds),
            (Figure::RowsPerSecond, counts.rows / seconds),
            (Figure::CpuFlusher, (cpu_seconds(flusher)? - before[0]) / millions),
            (Figure::CpuMariaDb, cpu),
            (Figure::RedisBytes, (full? - empty) / size),
            (Figure::MemoryMib, memory_mib(flusher)?.1),
            (Figure::TransactionViews, counts.transaction_views()),
        ];
        let alone = self.scene.mariadb_alone(counts.transaction_views(), views)?;
        let rows = alone.rows / alone.seconds;
        figures.extend([(Figure::OfLimit, counts.rows / seconds / rows), (Figure::CpuOfLimits, cpu / alone.cpu)]);
        self.report.add(DRAINS, WHOLE, name, &figures);
        let figures =
            [(Figure::PerSecond, size / alone.seconds), (Figure::RowsPerSecond, rows), (Figure::CpuMariaDb, alone.cpu)];
        self.report.add(DRAINS, MARIADB_ALONE, name, &figures);
        Ok(())
    }

    /// Sends loads until as many views wait as wanted; answers how many.
    fn wait_in_redis(&mut self, load: &Load) -> anyhow::Result<u64> {
        let mut views = 0;
        loop {
            views += self.scene.send_to_ours(load)?.report.views;
            if views >= self.args.backlog_views.unwrap_or(0) {
                return Ok(views);
            }
        }
    }
}
