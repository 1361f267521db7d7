//! What a flusher shows of its work.

use footfall_shared::protocol::{Remembered, Shard};
use footfall_shared::redis::Page;
use footfall_shared::service::telemetry::{self, GaugeVec, Histogram, IntCounter, IntGaugeVec};

/// The metrics of all shards.
#[derive(Clone)]
pub struct Metrics {
    pub(crate) transactions: IntCounter,
    pub(crate) views: IntCounter,
    pub(crate) rows: IntCounter,
    pub(crate) repeats: IntCounter,
    pub(crate) fenced: IntCounter,
    pub(crate) failures: IntCounter,
    pub(crate) discarded: IntCounter,
    pub(crate) quarantined: IntCounter,
    pub(crate) seconds: Histogram,
    pub(crate) pending: IntGaugeVec,
    pub(crate) entries: IntGaugeVec,
    pub(crate) held: IntGaugeVec,
    pub(crate) lag: GaugeVec,
    pub(crate) ids: IntGaugeVec,
    pub(crate) ids_window: GaugeVec,
    pub(crate) ids_early: IntGaugeVec,
}

impl Metrics {
    /// Registers them.
    #[must_use]
    pub fn new() -> Self {
        Self {
            transactions: telemetry::counter(
                "footfall_flush_transactions_total",
                "Transactions that moved views to MySQL.",
            ),
            views: telemetry::counter("footfall_flush_views_total", "Views moved to MySQL."),
            rows: telemetry::counter("footfall_flush_rows_total", "Reader rows written to MySQL."),
            repeats: telemetry::counter("footfall_flush_repeats_total", "Flushes that the fence knew already."),
            fenced: telemetry::counter("footfall_flush_fenced_total", "Flushes refused because the epoch was over."),
            failures: telemetry::counter("footfall_flush_failures_total", "Tries to flush that failed."),
            discarded: telemetry::counter(
                "footfall_discarded_data_sets_total",
                "Redis data sets that did not add up and were set aside.",
            ),
            quarantined: telemetry::counter("footfall_quarantined_views_total", "Views put into quarantine."),
            seconds: telemetry::seconds("footfall_flush_seconds", "Duration of a flush transaction."),
            pending: telemetry::gauges("footfall_pending_views", "Views in Redis that MySQL does not have.", "shard"),
            entries: telemetry::gauges("footfall_log_entries", "Batches in Redis that MySQL does not have.", "shard"),
            held: telemetry::gauges("footfall_held_views", "Views read from Redis for the next transaction.", "shard"),
            lag: telemetry::gauges_of_seconds("footfall_flush_lag_seconds", "Age of the oldest pending view.", "shard"),
            ids: telemetry::gauges("footfall_view_ids", "View ids that Redis remembers.", "shard"),
            ids_window: telemetry::gauges_of_seconds(
                "footfall_view_ids_window_seconds",
                "Since when Redis remembers all view ids: a repeat of an older view counts again. 0 if that is not known.",
                "shard",
            ),
            ids_early: telemetry::gauges(
                "footfall_view_ids_forgotten_early",
                "View ids that Redis forgot before their time, because there were too many, since its data began.",
                "shard",
            ),
        }
    }
}

impl Metrics {
    /// Redis cannot be read, or was not opened: what waits in it is not known.
    pub(crate) fn forget(&self, shard: Shard) {
        let shard = shard.to_string();
        // They may not be there yet.
        let _ = self.pending.remove_label_values(&[&shard]);
        let _ = self.entries.remove_label_values(&[&shard]);
        let _ = self.lag.remove_label_values(&[&shard]);
    }

    pub(crate) fn show(&self, shard: Shard, page: &Page, held: u64) {
        let shard = shard.to_string();
        self.pending.with_label_values(&[&shard]).set(whole(page.pending_views));
        self.entries.with_label_values(&[&shard]).set(whole(page.position.entries()));
        self.held.with_label_values(&[&shard]).set(whole(held));
        let lag_ms = page.now_ms.saturating_sub(page.stored_until_ms);
        self.lag.with_label_values(&[&shard]).set(lag_ms as f64 / 1_000.0);
    }

    pub(crate) fn show_ids(&self, shard: Shard, ids: &Remembered) {
        let shard = shard.to_string();
        self.ids.with_label_values(&[&shard]).set(whole(ids.added + ids.before));
        self.ids_window.with_label_values(&[&shard]).set(ids.window_ms as f64 / 1_000.0);
        self.ids_early.with_label_values(&[&shard]).set(whole(ids.forgotten_early));
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
