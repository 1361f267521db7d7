//! The total as it is shown. It never goes back, and it is a number only while it is known. Pure: times come in as
//! parameters.

use std::time::Duration;

use footfall_shared::service::clock;
use tokio::time::Instant;

use crate::frame::Snapshot;
use crate::numbers::{Rate, Totals};

/// How long the total may be inexact before it is worth a word. Until then all numbers stay as they were, together.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) struct Total {
    /// The last time at which it was exact, or could not be.
    settled_at: Instant,
    /// The last time at which it was known; none before the first.
    known_at: Option<Instant>,
    /// There are at least so many views: the greatest number that was ever shown.
    least_views: u64,
    /// By how much the total was below that, when it was exact.
    missing_views: u64,
    rate: Rate,
    stored_rate: Rate,
}

/// Which stores can be read now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Readable {
    /// Redis, and all its logs are open.
    pub(super) redis: bool,
    pub(super) mysql: bool,
}

/// What is known of the total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// All of it.
    All,
    /// All of it a moment ago; what is not known now usually is at the next look.
    AllBefore,
    /// A part.
    Part,
}

impl Total {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            settled_at: now,
            known_at: None,
            least_views: 0,
            missing_views: 0,
            rate: Rate::default(),
            stored_rate: Rate::default(),
        }
    }

    /// MySQL was emptied or restored: numbers begin anew.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.settled_at);
    }

    /// Views that were shown before and are in neither store now.
    pub(super) fn missing_views(&self) -> u64 {
        self.missing_views
    }

    /// Whether the total was inexact for longer than a flush takes.
    pub(super) fn is_unsettled(&self, now: Instant) -> bool {
        now - self.settled_at > PATIENCE
    }

    /// Writes down what is known now.
    pub(super) fn show(&mut self, now: Instant, totals: &Totals, can: Readable, snapshot: &mut Snapshot) -> Known {
        let is_mysql_readable = can.mysql && totals.is_stored_known;
        if totals.is_exact {
            self.missing_views = self.least_views.saturating_sub(totals.views());
        }
        if totals.is_exact || !can.redis || !can.mysql {
            self.settled_at = now;
        }
        // Views that Redis lost come back from ingest, and a page that counts down and up again would say that views were
        // lost and others made up: nobody is told of fewer than before.
        self.least_views = self.least_views.max(totals.views());
        let is_whole = !totals.is_behind && self.missing_views == 0;
        let is_recent = || self.known_at.is_some_and(|at| now - at <= PATIENCE);
        let known = match () {
            () if totals.is_exact && is_whole => Known::All,
            // A flush that is not acknowledged yet.
            () if can.redis && is_mysql_readable && is_whole && is_recent() => return Known::AllBefore,
            () => Known::Part,
        };
        let is_known = known == Known::All;
        let if_redis = |number: u64| can.redis.then_some(number);
        // Where no flush was missed, MySQL has what it had.
        let if_mysql = |number: u64| (is_mysql_readable || totals.is_exact).then_some(number);
        snapshot.views = is_known.then_some(totals.views());
        snapshot.at_least = (!is_known).then_some(self.least_views);
        snapshot.pending_views = if_redis(totals.pending_views);
        snapshot.log_entries = if_redis(totals.log_entries);
        snapshot.lag_ms = if_redis(totals.lag_ms);
        snapshot.stored_views = if_mysql(totals.stored_views);
        snapshot.readers = if_mysql(totals.readers);
        snapshot.reader_pairs = if_mysql(totals.reader_pairs);
        snapshot.articles = if_mysql(totals.articles);
        snapshot.views_per_second = if is_known { self.rate.add(now, totals.views()) } else { None };
        // What goes to MySQL past Redis is not the flushers' doing.
        snapshot.stored_views_per_second =
            if is_mysql_readable && can.redis { self.stored_rate.add(now, totals.stored_views) } else { None };
        if is_known {
            snapshot.as_of = Some(clock::rfc3339(clock::unix_ms()));
            self.known_at = Some(now);
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Readable = Readable { redis: true, mysql: true };

    fn exact(stored_views: u64, pending_views: u64) -> Totals {
        Totals { stored_views, pending_views, is_stored_known: true, is_exact: true, ..Totals::default() }
    }

    struct Shown {
        start: Instant,
        total: Total,
        snapshot: Snapshot,
    }

    impl Shown {
        fn new() -> Self {
            let start = Instant::now();
            Self { start, total: Total::new(start), snapshot: Snapshot::before_the_first_look("s".into()) }
        }

        fn at(&mut self, ms: u64, totals: Totals, can: Readable) -> (Known, Option<u64>, Option<u64>) {
            let now = self.start + Duration::from_millis(ms);
            let known = self.total.show(now, &totals, can, &mut self.snapshot);
            (known, self.snapshot.views, self.snapshot.at_least)
        }
    }

    #[test]
    fn a_flush_that_is_not_acknowledged_changes_nothing_for_a_while() {
        let mut shown = Shown::new();
        assert_eq!(shown.at(0, exact(100, 43), ALL), (Known::All, Some(143), None));
        let between = Totals { is_exact: false, ..exact(140, 0) };
        assert_eq!(shown.at(250, between, ALL), (Known::AllBefore, Some(143), None));
        assert_eq!(shown.snapshot.pending_views, Some(43), "all numbers are of one moment");
        assert_eq!(shown.at(500, exact(140, 5), ALL), (Known::All, Some(145), None));
        // It lasts.
        assert_eq!(shown.at(3_500, between, ALL).0, Known::AllBefore);
        assert!(!shown.total.is_unsettled(shown.start + PATIENCE));
        assert_eq!(shown.at(3_501, between, ALL), (Known::Part, None, Some(145)));
        assert!(shown.total.is_unsettled(shown.start + Duration::from_millis(3_501)));
        // While MySQL is away nothing can be settled.
        let without_mysql = Readable { mysql: false, ..ALL };
        assert_eq!(shown.at(3_750, between, without_mysql), (Known::Part, None, Some(145)));
        assert!(!shown.total.is_unsettled(shown.start + Duration::from_millis(3_750)));
    }

    #[test]
    fn nobody_is_told_of_fewer_than_before() {
        let mut shown = Shown::new();
        shown.at(0, exact(100, 43), ALL);
        assert_eq!(shown.at(250, exact(100, 3), ALL), (Known::Part, None, Some(143)));
        assert_eq!(shown.total.missing_views(), 40);
        let behind = Totals { is_behind: true, ..exact(100, 60) };
        assert_eq!(shown.at(500, behind, ALL), (Known::Part, None, Some(160)));
        assert_eq!(shown.at(750, exact(100, 60), ALL), (Known::All, Some(160), None));
        let without_redis = Totals { is_exact: false, ..exact(100, 0) };
        assert_eq!(shown.at(1_000, without_redis, Readable { redis: false, ..ALL }), (Known::Part, None, Some(160)));
        assert_eq!((shown.snapshot.pending_views, shown.snapshot.stored_views), (None, Some(100)));
        shown.total.forget();
        assert_eq!(shown.at(1_250, exact(7, 0), ALL), (Known::All, Some(7), None));
    }
}
