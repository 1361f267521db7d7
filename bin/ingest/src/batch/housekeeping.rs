//! What a shard does now and then, and what it tells the others of itself. Pure: time comes in.

use std::time::Duration;

use tokio::time::Instant;

/// Housekeeping interval.
const INTERVAL: Duration = Duration::from_millis(500);

pub(crate) struct Housekeeping {
    at: Instant,
    /// Grows with each report, so that others see that we live.
    beat: u64,
    /// Whether the last report had views that only the journal holds.
    was_behind: bool,
}

/// What an ingest tells the others, by way of Redis.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) beat: u64,
    /// Acknowledged views that only the journal holds.
    pub(crate) journalled_views: u64,
    /// What MySQL must have before it can take what is kept: a batch, and the views up to and including it; of each path.
    pub(crate) stored: [(u64, u64); 2],
    /// Whether readers shall hear that their numbers are a part.
    pub(crate) is_behind: bool,
}

impl Housekeeping {
    pub(crate) fn new(now: Instant) -> Self {
        Self { at: now, beat: 0, was_behind: false }
    }

    /// Whether it is time; true once per interval.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.at;
        if is_due {
            self.at = now + INTERVAL;
        }
        is_due
    }

    pub(crate) fn report(&mut self, journalled_views: u64, stored: [(u64, u64); 2]) -> Report {
        self.beat += 1;
        let is_behind = journalled_views > 0;
        // Views that wait for a moment only are nothing to tell readers.
        let was_behind = std::mem::replace(&mut self.was_behind, is_behind);
        Report { beat: self.beat, journalled_views, stored, is_behind: is_behind && was_behind }
    }

    pub(crate) fn due(&self) -> Instant {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_hear_only_of_views_that_wait_for_longer() {
        let start = Instant::now();
        let mut housekeeping = Housekeeping::new(start);
        assert!(housekeeping.is_due(start) && !housekeeping.is_due(start));
        assert!(!housekeeping.is_due(start + INTERVAL / 2) && housekeeping.is_due(start + INTERVAL));
        let reports = [3, 0, 3, 3].map(|journalled| housekeeping.report(journalled, [(0, 0); 2]));
        assert_eq!(
            reports.map(|report| (report.beat, report.is_behind)),
            [(1, false), (2, false), (3, false), (4, true)]
        );
    }
}
