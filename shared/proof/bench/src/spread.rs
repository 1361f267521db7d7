//! What a view costs when there are several shards, which have batches of their own, and several ingests, which do too. All
//! of it on the same cores: what another machine would add is not seen, only what dividing costs.

use crate::load::Kind;
use crate::names::{SPREAD, WHOLE};
use crate::report::Figure;
use crate::run::{Bench, ROWS_BEFORE, STEADY_VIEWS};
use crate::scene::{Load, Scene};

/// Shards and ingests, as many views as are answered.
const SPREADS: [(u16, usize); 6] = [(1, 1), (2, 1), (4, 1), (1, 2), (1, 4), (4, 4)];
/// Shards, ingests, and for how many milliseconds a small batch waits for others, at a rate that all of them can do.
const LINGERS: [(u16, usize, u64); 7] = [(4, 1, 0), (4, 1, 2), (1, 4, 0), (1, 4, 2), (4, 4, 0), (4, 4, 2), (4, 4, 5)];

impl Bench<'_> {
    /// Each in turn.
    pub(crate) fn spread(&mut self) -> anyhow::Result<()> {
        let all = SPREADS.map(|(shards, ingests)| (shards, ingests, 0, None)).into_iter();
        let all = all.chain(LINGERS.map(|(shards, ingests, linger)| (shards, ingests, linger, Some(STEADY_VIEWS))));
        for _ in 0..self.args.rounds {
            for (shards, ingests, linger_ms, rate) in all.clone() {
                let mut name = format!("{shards} shards, {ingests} ingests");
                if let Some(rate) = rate {
                    name += &format!(", {rate} views/s, linger {linger_ms} ms");
                }
                self.bar.set_message(name.clone());
                let dir = tempfile::tempdir()?;
                let mut scene = Scene::start_spread(dir.path(), shards, ingests, linger_ms)?;
                scene.renew_tables(ROWS_BEFORE)?;
                let load = Load { rate, ..self.load(Kind::Post, 64) };
                let stored = scene.send_and_store(&load)?;
                let sent = &stored.sent;
                let mut figures = sent.cpu.clone();
                figures.extend([
                    (Figure::PerSecond, sent.per_second()),
                    (Figure::P50Ms, sent.report.p50_us as f64 / 1e3),
                    (Figure::P99Ms, sent.report.p99_us as f64 / 1e3),
                    (Figure::BatchViews, stored.counts.batch_views()),
                    (Figure::TransactionViews, stored.counts.transaction_views()),
                ]);
                self.report.add(SPREAD, WHOLE, &name, &figures);
            }
        }
        Ok(())
    }
}
