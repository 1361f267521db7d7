//! Other processes that open the same data set at the same time.

use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::{DataSet, Fence};
use crate::service::random;

/// How long a process that has begun an epoch may take to open it, at least, before another begins the next one.
const PATIENCE: Duration = Duration::from_millis(500);
/// At most: it doubles each time that it was not enough.
const PATIENCE_MAX: Duration = Duration::from_secs(8);

/// What is known of other processes that are at it.
pub(super) struct Others {
    /// The epoch that MySQL had at the first look.
    first: Option<u64>,
    /// The one that it had last, and since when.
    last: (u64, Instant),
    patience: Duration,
}

impl Default for Others {
    fn default() -> Self {
        Self { first: None, last: (0, Instant::now()), patience: PATIENCE + spread(PATIENCE) }
    }
}

impl Others {
    /// Whether another process has begun this epoch of MySQL's a moment ago, so that it may be about to open it. If it has
    /// died instead, that is over after a while.
    pub(super) fn are_opening(&mut self, data: Option<DataSet>, fence: &Fence) -> bool {
        let epoch = fence.epoch;
        let first = *self.first.get_or_insert(epoch);
        if self.last.0 != epoch {
            self.last = (epoch, Instant::now());
        }
        // An epoch under which something was flushed was opened once: a data set that is empty or older then says nothing
        // by itself, it may be that nobody has noticed yet.
        let was_never_open = fence.flush_epoch < epoch && data.is_none_or(|data| data.epoch < epoch);
        let is_begun =
            epoch > first || was_never_open || data.is_some_and(|data| data.is_current && data.epoch < epoch);
        if is_begun && self.last.1.elapsed() >= self.patience {
            self.patience = (self.patience * 2).min(PATIENCE_MAX);
            return false;
        }
        is_begun
    }

    pub(super) async fn wait(&self) {
        tokio::time::sleep(Duration::from_millis(10) + spread(Duration::from_millis(40))).await;
    }
}

/// A random part of it: what has begun together is not to go on together.
fn spread(of: Duration) -> Duration {
    of.mul_f64(random::number() as f64 / u64::MAX as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MySQL in an epoch under which nothing was flushed yet, or the one before.
    fn fence(epoch: u64, flush_epoch: u64) -> Fence {
        Fence { epoch, flush_epoch, ..Fence::default() }
    }

    fn data(epoch: u64, is_current: bool) -> Option<DataSet> {
        Some(DataSet { epoch, is_current, ..DataSet::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn who_begins_is_given_time_and_more_of_it_each_time() {
        let mut others = Others::default();
        assert!(!others.are_opening(data(4, false), &fence(4, 4)), "nobody is at it");
        for (epoch, least) in [(5, PATIENCE), (6, PATIENCE * 2), (7, PATIENCE * 4)] {
            assert!(others.are_opening(data(4, false), &fence(epoch, 4)), "epoch {epoch} was begun a moment ago");
            tokio::time::advance(least - Duration::from_millis(1)).await;
            assert!(others.are_opening(data(4, false), &fence(epoch, 4)), "epoch {epoch} may still be opened");
            tokio::time::advance(least + Duration::from_millis(1)).await;
            assert!(!others.are_opening(data(4, false), &fence(epoch, 4)), "who began epoch {epoch} has died");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_epoch_that_was_never_open_may_be_about_to_be() {
        assert!(Others::default().are_opening(None, &fence(5, 4)));
        assert!(Others::default().are_opening(data(4, false), &fence(5, 4)));
        assert!(Others::default().are_opening(data(4, true), &fence(5, 5)), "the one before is open");
        // Something was flushed under it: the data set was lost, and whoever sees it first begins the next.
        assert!(!Others::default().are_opening(None, &fence(5, 5)));
        assert!(!Others::default().are_opening(data(4, false), &fence(5, 5)));
    }
}
