//! The total as it is shown. It never goes back, and it is a number only while all of it is known.

use std::time::Duration;

use tokio::time::Instant;

use crate::now::Now;
use crate::numbers::{Rate, Totals};
use crate::snapshot::Snapshot;

/// How long the total may be inexact before anybody is told. Until then all numbers stay as they were, together.
const GRACE: Duration = Duration::from_secs(3);

pub(super) struct Total {
    /// The last time at which it was exact, or could not be.
    settled_at: Instant,
    /// The last time at which it was known; none before the first.
    known_at: Option<Instant>,
    /// The greatest total that was ever shown; there are at least as many views.
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

/// How much of the total is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Completeness {
    /// All of it.
    Complete,
    /// All of it a moment ago; what is missing usually is known in the next round.
    RecentlyComplete,
    /// A part.
    Partial,
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
        now - self.settled_at > GRACE
    }

    /// Writes what is known now into the snapshot.
    pub(super) fn show(&mut self, time: Now, totals: &Totals, can: Readable, snapshot: &mut Snapshot) -> Completeness {
        let now = time.at;
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
        let is_recent = || self.known_at.is_some_and(|at| now - at <= GRACE);
        let known = match () {
            () if totals.is_exact && is_whole => Completeness::Complete,
            // A flush that is not acknowledged yet.
            () if can.redis && is_mysql_readable && is_whole && is_recent() => return Completeness::RecentlyComplete,
            () => Completeness::Partial,
        };
        let is_known = known == Completeness::Complete;
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
        // While Redis is away, views go to MySQL directly: that is not the flushers' rate.
        snapshot.stored_views_per_second =
            if is_mysql_readable && can.redis { self.stored_rate.add(now, totals.stored_views) } else { None };
        if is_known {
            snapshot.as_of = Some(time.rfc3339());
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
            Self { start, total: Total::new(start), snapshot: Snapshot::initial("s".into()) }
        }

        fn at(&mut self, ms: u64, totals: Totals, can: Readable) -> (Completeness, Option<u64>, Option<u64>) {
            let now = self.start + Duration::from_millis(ms);
            let known = self.total.show(Now { at: now, unix_ms: ms }, &totals, can, &mut self.snapshot);
            (known, self.snapshot.views, self.snapshot.at_least)
        }
    }

    #[test]
    fn a_flush_that_is_not_acknowledged_changes_nothing_for_a_while() {
        let mut shown = Shown::new();
        assert_eq!(shown.at(0, exact(100, 43), ALL), (Completeness::Complete, Some(143), None));
        let between = Totals { is_exact: false, ..exact(140, 0) };
        assert_eq!(shown.at(250, between, ALL), (Completeness::RecentlyComplete, Some(143), None));
        assert_eq!(shown.snapshot.pending_views, Some(43), "all numbers are of one moment");
        assert_eq!(shown.at(500, exact(140, 5), ALL), (Completeness::Complete, Some(145), None));
        // It lasts.
        assert_eq!(shown.at(3_500, between, ALL).0, Completeness::RecentlyComplete);
        assert!(!shown.total.is_unsettled(shown.start + GRACE));
        assert_eq!(shown.at(3_501, between, ALL), (Completeness::Partial, None, Some(145)));
        assert!(shown.total.is_unsettled(shown.start + Duration::from_millis(3_501)));
        // While MySQL is away nothing can be settled.
        let without_mysql = Readable { mysql: false, ..ALL };
        assert_eq!(shown.at(3_750, between, without_mysql), (Completeness::Partial, None, Some(145)));
        assert!(!shown.total.is_unsettled(shown.start + Duration::from_millis(3_750)));
    }

    #[test]
    fn nobody_is_told_of_fewer_than_before() {
        let mut shown = Shown::new();
        shown.at(0, exact(100, 43), ALL);
        assert_eq!(shown.at(250, exact(100, 3), ALL), (Completeness::Partial, None, Some(143)));
        assert_eq!(shown.total.missing_views(), 40);
        let behind = Totals { is_behind: true, ..exact(100, 60) };
        assert_eq!(shown.at(500, behind, ALL), (Completeness::Partial, None, Some(160)));
        assert_eq!(shown.at(750, exact(100, 60), ALL), (Completeness::Complete, Some(160), None));
        let without_redis = Totals { is_exact: false, ..exact(100, 0) };
        assert_eq!(
            shown.at(1_000, without_redis, Readable { redis: false, ..ALL }),
            (Completeness::Partial, None, Some(160))
        );
        assert_eq!((shown.snapshot.pending_views, shown.snapshot.stored_views), (None, Some(100)));
        shown.total.forget();
        assert_eq!(shown.at(1_250, exact(7, 0), ALL), (Completeness::Complete, Some(7), None));
    }

    #[test]
    fn what_is_not_known_is_no_number() {
        let all = exact(100, 43);
        let flushed = Totals { is_exact: false, ..all };
        let (redis, mysql) = (Readable { mysql: false, ..ALL }, Readable { redis: false, ..ALL });
        for (case, totals, can, views, pending, stored) in [
            ("both stores", all, ALL, Some(143), Some(43), Some(100)),
            ("only redis, and nothing was flushed since", all, redis, Some(143), Some(43), Some(100)),
            ("only redis, and something was flushed", flushed, redis, None, Some(43), None),
            ("only mysql", flushed, mysql, None, None, Some(100)),
            ("mysql was never read", Totals { is_stored_known: false, ..flushed }, ALL, None, Some(43), None),
            ("neither", flushed, Readable { redis: false, mysql: false }, None, None, None),
        ] {
            let mut shown = Shown::new();
            shown.at(0, totals, can);
            let snapshot = &shown.snapshot;
            assert_eq!(
                (snapshot.views, snapshot.pending_views, snapshot.stored_views),
                (views, pending, stored),
                "{case}"
            );
            assert_eq!(snapshot.at_least, views.is_none().then_some(143), "{case}");
            assert_eq!(snapshot.as_of.is_some(), views.is_some(), "{case}");
            assert_eq!([snapshot.log_entries, snapshot.lag_ms].map(|number| number.is_some()), [pending.is_some(); 2]);
            let of_mysql = [snapshot.readers, snapshot.reader_pairs, snapshot.articles];
            assert_eq!(of_mysql.map(|number| number.is_some()), [stored.is_some(); 3], "{case}");
        }
    }

    #[test]
    fn a_rate_is_of_what_is_known() {
        let mut shown = Shown::new();
        shown.at(0, exact(100, 43), ALL);
        shown.at(2_000, exact(120, 43), ALL);
        let rates = |shown: &Shown| (shown.snapshot.views_per_second, shown.snapshot.stored_views_per_second);
        assert_eq!(rates(&shown), (Some(10.0), Some(10.0)));
        let as_of = shown.snapshot.as_of.clone();
        // Views reach MySQL past Redis: that is not what the flushers do.
        let direct = Totals { is_exact: false, ..exact(200, 0) };
        shown.at(2_250, direct, Readable { redis: false, ..ALL });
        assert_eq!((rates(&shown), &shown.snapshot.as_of), ((None, None), &as_of));
        shown.at(2_500, Totals { is_behind: true, ..exact(200, 43) }, ALL);
        assert_eq!((rates(&shown).0, &shown.snapshot.as_of), (None, &as_of));
    }
}
