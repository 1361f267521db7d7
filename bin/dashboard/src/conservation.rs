//! The conservation check: every view that was accepted is stored, pending, journalled or in quarantine, at any moment.

use std::collections::HashMap;
use std::time::Duration;

use footfall_shared::mysql::{self, column};
use footfall_shared::protocol::{Conservation, shown};
use footfall_shared::redis;
use footfall_shared::service::telemetry::{self, IntGaugeVec};
use footfall_shared::stores::books::add_up;
use tokio::time::Instant;
use tracing::{error, info};

use crate::now::Now;
use crate::snapshot::{ConservationCheck, ShownConservation};

/// An ingest that has not reported for this long has ended, or cannot reach Redis.
const REPORT_AGE_MAX: Duration = Duration::from_secs(5);
/// A check that is older than this does not hold any more: flushes may have come between each time, or a store is away.
const CHECK_AGE_MAX: Duration = Duration::from_secs(5);

/// Both stores as they were read for one check.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Per shard, what Redis says of its views.
    pub(crate) held: Vec<redis::LogTotals>,
    /// What each ingest reported last: producer, beat, views that only its journal holds.
    pub(crate) reports: Vec<(String, u64, u64)>,
    /// Per shard, what MySQL says, read after Redis.
    pub(crate) stored: Vec<mysql::ShardTotals>,
}

/// The last check, and what it needs to remember.
pub(crate) struct Ledger {
    last: Option<(Instant, ConservationCheck)>,
    /// What each ingest reported last: its beat, journalled views, and when the beat was first seen.
    reports: HashMap<String, (u64, u64, Instant)>,
    is_broken: bool,
    gauge: IntGaugeVec,
    timestamp: IntGaugeVec,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            last: None,
            reports: HashMap::new(),
            is_broken: false,
            gauge: telemetry::gauges(
                "footfall_conservation_views",
                "Where all views are: accepted is the sum of the others; unaccounted must be 0 once nothing is pending. \
                 Absent while it is not known.",
                "part",
            ),
            timestamp: telemetry::gauges(
                "footfall_as_of_timestamp_seconds",
                "When what is shown of this kind was last known to be right (Unix time).",
                "of",
            ),
        }
    }

    /// The last check. `is_readable`: whether both stores can be read at the moment.
    pub(crate) fn last(&mut self, now: Instant, is_readable: bool) -> Option<ConservationCheck> {
        let (checked_at, check) = self.last.as_mut()?;
        let is_current = is_readable && now - *checked_at < CHECK_AGE_MAX;
        if !is_current {
            self.gauge.reset();
        }
        check.is_current = is_current;
        Some(check.clone())
    }

    /// Makes a check. Returns false if a flush or a recovery came between the two stores: then read both again.
    pub(crate) fn check(&mut self, now: Now, reading: Reading) -> bool {
        let journalled = self.journalled(now.at, reading.reports);
        let Some(sums) = add_up(&reading.held, &reading.stored, journalled) else { return false };
        let found = as_shown(&sums);
        self.show(now, &found);
        self.last = Some((now.at, ConservationCheck { as_of: now.rfc3339(), is_current: true, found }));
        true
    }

    /// The views that only journals hold, as the running ingests report them.
    fn journalled(&mut self, now: Instant, reports: Vec<(String, u64, u64)>) -> u64 {
        let mut sum = 0;
        for (producer, beat, views) in reports {
            let known = self.reports.entry(producer).or_insert((beat, views, now));
            if known.0 != beat {
                *known = (beat, views, now);
            }
            if now - known.2 < REPORT_AGE_MAX {
                sum = u64::saturating_add(sum, views);
            }
        }
        self.reports.retain(|_, (.., seen)| now - *seen < REPORT_AGE_MAX * 100);
        sum
    }

    fn show(&mut self, now: Now, found: &ShownConservation) {
        let part = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for (name, value) in [
            ("accepted", part(found.accepted)),
            ("stored", part(found.stored)),
            ("pending", part(found.pending)),
            ("journalled", part(found.journalled)),
            ("quarantined", part(found.quarantined)),
            ("dropped", part(found.dropped)),
            ("repeated", part(found.repeated)),
            ("unaccounted", found.unaccounted),
        ] {
            self.gauge.with_label_values(&[name]).set(value);
        }
        self.timestamp.with_label_values(&["conservation"]).set(i64::try_from(now.unix_ms / 1_000).unwrap_or(i64::MAX));
        if found.is_broken() != self.is_broken {
            self.is_broken = found.is_broken();
            if self.is_broken {
                error!("the conservation check failed: {found:?}; run `footfall verify --live`");
            } else {
                info!("the conservation check passes again");
            }
        }
    }
}

/// The sums as programs that read JSON can hold them.
fn as_shown(sums: &Conservation) -> ShownConservation {
    let part = |sum| shown(column(sum));
    ShownConservation {
        accepted: part(sums.accepted),
        stored: part(sums.stored),
        pending: part(sums.pending),
        journalled: part(sums.journalled),
        quarantined: part(sums.quarantined),
        dropped: part(sums.dropped),
        repeated: part(sums.repeated),
        unaccounted: sums.difference().clamp(i64::MIN.into(), i64::MAX.into()) as i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_books_are_added_up(held: [u64; 3], stored: [u64; 6], journalled: u64) {
            let [first, pending_views, accepted_views] = held;
            let held = redis::LogTotals { first, pending_views, accepted_views };
            let [position, stored_views, dropped_views, direct_views, repeated_views, quarantined_views] = stored;
            let [stored_views, dropped_views, direct_views, repeated_views, quarantined_views] =
                [stored_views, dropped_views, direct_views, repeated_views, quarantined_views].map(u128::from);
            let books = |position| mysql::ShardTotals {
                position, stored_views, dropped_views, direct_views, repeated_views, quarantined_views,
            };
            let _ = add_up(&[held], &[books(position)], journalled);
            let before = books(first.saturating_sub(1));
            let found = add_up(&[held, held], &[before, before], journalled).map(|sums| as_shown(&sums));
            proptest::prop_assert!(first == 0 || found.is_some_and(|found| found.accepted <= footfall_shared::protocol::VIEWS_MAX));
        }
    }

    /// A version without limits has taken 2^64 - 1 views, and refused as many.
    #[test]
    fn counts_of_an_older_version_are_no_difference() {
        let most = u128::from(u64::MAX);
        let held = redis::LogTotals { first: 5, pending_views: 1, accepted_views: 4 };
        let stored = mysql::ShardTotals {
            position: 4,
            stored_views: most,
            dropped_views: 0,
            direct_views: 2 * most,
            repeated_views: 0,
            quarantined_views: most,
        };
        let found = as_shown(&add_up(&[held], &[stored], 0).expect("one state"));
        assert!(!found.is_broken(), "{found:?}");
        assert_eq!(found.stored, footfall_shared::protocol::VIEWS_MAX);
    }
}
