//! What the batchers count and show.

use footfall_shared::protocol::Shard;
use footfall_shared::protocol::packed::Path;
use footfall_shared::service::telemetry::{self, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

/// The metrics of all shards. Cheap to clone: the same metrics.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) failures: IntCounter,
    pub(crate) syncs: IntCounter,
    pub(crate) damaged: IntCounter,
    batches: IntCounterVec,
    retained_batches: IntGaugeVec,
    retained_bytes: IntGaugeVec,
    journal_bytes: IntGaugeVec,
    journal_limit: IntGaugeVec,
    journalled_views: IntGaugeVec,
    redis_memory: IntGaugeVec,
}

/// What is shown of one shard.
pub(crate) struct Gauges {
    retained_batches: IntGauge,
    retained_bytes: IntGauge,
    journal_bytes: IntGauge,
    journalled_views: IntGauge,
}

/// The numbers behind [`Gauges`].
pub(crate) struct Kept {
    pub(crate) retained_batches: usize,
    pub(crate) retained_bytes: usize,
    pub(crate) journal_bytes: u64,
    pub(crate) journalled_views: u64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let of_shards = |name, help| telemetry::gauges(name, help, "shard");
        Self {
            batches: telemetry::counters("footfall_batches_total", "Batches built, by path.", "path"),
            failures: telemetry::counter("footfall_batch_failures_total", "Tries to store a batch that failed."),
            syncs: telemetry::counter(
                "footfall_journal_syncs_total",
                "Times that the journal was brought to the disk.",
            ),
            damaged: telemetry::counter(
                "footfall_journal_damaged_total",
                "Batches that the journal could not give back.",
            ),
            retained_batches: of_shards("footfall_retained_batches", "Batches kept until MySQL has them."),
            retained_bytes: of_shards("footfall_retained_bytes", "Memory of batches kept without a journal."),
            journal_bytes: of_shards("footfall_journal_bytes", "Disk space of the journal."),
            journal_limit: of_shards("footfall_journal_limit_bytes", "Most disk space that the journal may take."),
            journalled_views: of_shards("footfall_journalled_views", "Acknowledged views that only the journal holds."),
            redis_memory: telemetry::gauges(
                "footfall_redis_memory_bytes",
                "Memory that Redis has in use (`used`), and the most that it may (`limit`, 0 for none).",
                "kind",
            ),
        }
    }

    /// The gauges of a shard whose journal may take so many bytes.
    pub(crate) fn of(&self, shard: Shard, journal_limit: u64) -> Gauges {
        let shard = shard.to_string();
        let of = |gauges: &IntGaugeVec| gauges.with_label_values(&[&shard]);
        of(&self.journal_limit).set(whole(journal_limit));
        Gauges {
            retained_batches: of(&self.retained_batches),
            retained_bytes: of(&self.retained_bytes),
            journal_bytes: of(&self.journal_bytes),
            journalled_views: of(&self.journalled_views),
        }
    }

    pub(crate) fn count_batch(&self, path: Path) {
        let path = match path {
            Path::Redis => "redis",
            Path::Direct => "direct",
        };
        self.batches.with_label_values(&[path]).inc();
    }

    pub(crate) fn show_memory(&self, used: u64, max: u64) {
        for (kind, bytes) in [("used", used), ("limit", max)] {
            self.redis_memory.with_label_values(&[kind]).set(whole(bytes));
        }
    }

    /// It is not known any more.
    pub(crate) fn forget_memory(&self) {
        self.redis_memory.reset();
    }
}

impl Gauges {
    pub(crate) fn show(&self, kept: &Kept) {
        self.retained_batches.set(whole(kept.retained_batches as u64));
        self.retained_bytes.set(whole(kept.retained_bytes as u64));
        self.journal_bytes.set(whole(kept.journal_bytes));
        self.journalled_views.set(whole(kept.journalled_views));
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
