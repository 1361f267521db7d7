//! The books of all views: what was accepted is stored, pending, journalled or in quarantine, at any moment.

use std::collections::HashMap;
use std::time::Duration;

use footfall_shared::mysql::{self, Store, StoreError, column};
use footfall_shared::protocol::shown;
use footfall_shared::redis::{self, Queue, QueueError};
use footfall_shared::service::clock;
use footfall_shared::service::telemetry::{self, IntGaugeVec};
use tokio::time::Instant;
use tracing::{error, info};

use crate::frame::{Books, Conservation};

/// Looks until no flush comes between the two stores.
const LOOKS_MAX: u32 = 3;
/// An ingest that has not reported for so long has ended, or is cut off.
const REPORT_AGE_MAX: Duration = Duration::from_secs(5);

/// Books that could not be kept for so long are old: flushes may have come between each time, or a store is away.
const AGE_MAX: Duration = Duration::from_secs(5);

/// Keeps the books.
pub(crate) struct Ledger {
    /// What was found last, and when.
    found: Option<(Instant, Books)>,
    /// What each ingest said last: its beat, journalled views, and when the beat was first seen.
    reports: HashMap<String, (u64, u64, Instant)>,
    is_broken: bool,
    gauge: IntGaugeVec,
    timestamp: IntGaugeVec,
}

/// A look could not be had.
pub(crate) enum Unreadable {
    Redis(QueueError),
    MySql(StoreError),
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            found: None,
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

    /// The books as they were found last. `is_readable`: whether both stores can be read at the moment.
    pub(crate) fn books(&mut self, is_readable: bool) -> Option<Books> {
        let (found_at, books) = self.found.as_mut()?;
        let is_current = is_readable && found_at.elapsed() < AGE_MAX;
        if !is_current {
            self.gauge.reset();
        }
        books.is_current = is_current;
        Some(books.clone())
    }

    /// Looks at all shards, unless flushes or a recovery come between each time.
    pub(crate) async fn look(
        &mut self,
        queues: impl Iterator<Item = &Queue> + Clone,
        store: &Store,
    ) -> Result<(), Unreadable> {
        for _ in 0..LOOKS_MAX {
            let mut held = Vec::new();
            let mut journalled = 0;
            for queue in queues.clone() {
                let Some(books) = queue.books().await.map_err(Unreadable::Redis)? else { return Ok(()) };
                held.push(books);
                let reports = queue.reports().await.map_err(Unreadable::Redis)?;
                journalled = u64::saturating_add(journalled, self.journalled(reports));
            }
            let stored = store.books().await.map_err(Unreadable::MySql)?;
            if let Some(found) = add_up(&held, &stored, journalled) {
                self.show(&found);
                let as_of = clock::rfc3339(clock::unix_ms());
                self.found = Some((Instant::now(), Books { as_of, is_current: true, found }));
                return Ok(());
            }
        }
        Ok(())
    }

    /// What the ingests that live say that only their journals hold.
    fn journalled(&mut self, reports: Vec<(String, u64, u64)>) -> u64 {
        let now = Instant::now();
        let mut sum = 0;
        for (producer, beat, views) in reports {
            let known = self.reports.entry(producer).or_insert((beat, views, now));
            if known.0 != beat {
                *known = (beat, views, now);
            }
            if known.2.elapsed() < REPORT_AGE_MAX {
                sum = u64::saturating_add(sum, views);
            }
        }
        self.reports.retain(|_, (.., seen)| seen.elapsed() < REPORT_AGE_MAX * 100);
        sum
    }

    fn show(&mut self, found: &Conservation) {
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
        self.timestamp.with_label_values(&["conservation"]).set(seconds());
        if found.is_broken() != self.is_broken {
            self.is_broken = found.is_broken();
            if self.is_broken {
                error!("the books do not add up: {found:?}; run `footfall verify --live`");
            } else {
                info!("the books add up again");
            }
        }
    }
}

fn seconds() -> i64 {
    i64::try_from(clock::unix_ms() / 1_000).unwrap_or(i64::MAX)
}

/// None if the two stores were looked at in different states of the flusher.
fn add_up(held: &[redis::Books], stored: &[mysql::Books], journalled: u64) -> Option<Conservation> {
    // Wide enough for any counts, also for those of an older version, which had no limit.
    let journalled = u128::from(journalled);
    let mut accepted = journalled;
    let [mut in_mysql, mut pending, mut quarantined, mut dropped, mut repeated] = [0_u128; 5];
    for (held, stored) in held.iter().zip(stored) {
        if Some(held.first) != stored.position.checked_add(1) {
            return None;
        }
        accepted += u128::from(held.accepted_views) + stored.direct_views;
        in_mysql += stored.stored_views;
        pending += u128::from(held.pending_views);
        quarantined += stored.quarantined_views;
        dropped += stored.dropped_views;
        repeated += stored.repeated_views;
    }
    let accounted = in_mysql + pending + journalled + quarantined + dropped + repeated;
    let unaccounted = i128::from(column(accepted)) - i128::from(column(accounted));
    let part = |sum| shown(column(sum));
    Some(Conservation {
        accepted: part(accepted),
        stored: part(in_mysql),
        pending: part(pending),
        journalled: part(journalled),
        quarantined: part(quarantined),
        dropped: part(dropped),
        repeated: part(repeated),
        unaccounted: unaccounted.clamp(i64::MIN.into(), i64::MAX.into()) as i64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_books_are_added_up(held: [u64; 3], stored: [u64; 6], journalled: u64) {
            let [first, pending_views, accepted_views] = held;
            let held = redis::Books { first, pending_views, accepted_views };
            let [position, stored_views, dropped_views, direct_views, repeated_views, quarantined_views] = stored;
            let [stored_views, dropped_views, direct_views, repeated_views, quarantined_views] =
                [stored_views, dropped_views, direct_views, repeated_views, quarantined_views].map(u128::from);
            let books = |position| mysql::Books {
                position, stored_views, dropped_views, direct_views, repeated_views, quarantined_views,
            };
            let _ = add_up(&[held], &[books(position)], journalled);
            let before = books(first.saturating_sub(1));
            let found = add_up(&[held, held], &[before, before], journalled);
            proptest::prop_assert!(first == 0 || found.is_some_and(|found| found.accepted <= footfall_shared::protocol::VIEWS_MAX));
        }
    }

    /// A version without limits has taken 2^64 - 1 views, and refused as many.
    #[test]
    fn counts_of_an_older_version_are_no_difference() {
        let most = u128::from(u64::MAX);
        let held = redis::Books { first: 5, pending_views: 1, accepted_views: 4 };
        let stored = mysql::Books {
            position: 4,
            stored_views: most,
            dropped_views: 0,
            direct_views: 2 * most,
            repeated_views: 0,
            quarantined_views: most,
        };
        let found = add_up(&[held], &[stored], 0).expect("one state");
        assert!(!found.is_broken(), "{found:?}");
        assert_eq!(found.stored, footfall_shared::protocol::VIEWS_MAX);
    }

    #[test]
    fn the_books_add_up_or_say_by_how_much_they_do_not() {
        let held = redis::Books { first: 5, pending_views: 3, accepted_views: 20 };
        let stored = mysql::Books {
            position: 4,
            stored_views: 19,
            dropped_views: 1,
            direct_views: 6,
            repeated_views: 1,
            quarantined_views: 2,
        };
        let right = add_up(&[held], &[stored], 7).expect("one state");
        assert_eq!((right.accepted, right.unaccounted, right.is_broken()), (33, 0, false));
        let lost = add_up(&[held], &[mysql::Books { stored_views: 20, ..stored }], 7).expect("one state");
        assert!(lost.is_broken() && lost.unaccounted == -1);
        let repeats_wait = add_up(&[redis::Books { accepted_views: 22, ..held }], &[stored], 0).expect("one state");
        assert!(!repeats_wait.is_broken());
        let drained = redis::Books { accepted_views: 19, pending_views: 0, ..held };
        let too_many = add_up(&[drained], &[stored], 0).expect("one state");
        assert!(too_many.is_broken(), "{too_many:?}");
        assert_eq!(add_up(&[held], &[mysql::Books { position: 5, ..stored }], 0), None);
    }
}
