//! The books: where all views are, from running totals of both stores.

use crate::mysql::ShardTotals;
use crate::protocol::Conservation;
use crate::redis::LogTotals;

/// Where all views are: `held` is what Redis says of each shard, `stored` what MySQL said after it, and `journalled` the
/// views that only journals hold. None if a flush or a recovery came between the two: then read both again.
#[must_use]
pub fn add_up(held: &[LogTotals], stored: &[ShardTotals], journalled: u64) -> Option<Conservation> {
    let journalled = u128::from(journalled);
    let mut sums = Conservation { accepted: journalled, journalled, ..Default::default() };
    for (held, stored) in held.iter().zip(stored) {
        if Some(held.first) != stored.position.checked_add(1) {
            return None;
        }
        sums.accepted += u128::from(held.accepted_views) + stored.direct_views;
        sums.stored += stored.stored_views;
        sums.pending += u128::from(held.pending_views);
        sums.quarantined += stored.quarantined_views;
        sums.dropped += stored.dropped_views;
        sums.repeated += stored.repeated_views;
    }
    Some(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_add_up_or_say_by_how_much_they_do_not() {
        let held = LogTotals { first: 5, pending_views: 3, accepted_views: 20 };
        let stored = ShardTotals {
            position: 4,
            stored_views: 19,
            dropped_views: 1,
            direct_views: 6,
            repeated_views: 1,
            quarantined_views: 2,
        };
        let right = add_up(&[held], &[stored], 7).expect("one state");
        assert_eq!((right.accepted, right.difference(), right.is_broken()), (33, 0, false));
        let lost = add_up(&[held], &[ShardTotals { stored_views: 20, ..stored }], 7).expect("one state");
        assert!(lost.is_broken() && lost.difference() == -1);
        let repeats_wait = add_up(&[LogTotals { accepted_views: 22, ..held }], &[stored], 0).expect("one state");
        assert!(!repeats_wait.is_broken());
        let drained = LogTotals { accepted_views: 19, pending_views: 0, ..held };
        let too_many = add_up(&[drained], &[stored], 0).expect("one state");
        assert!(too_many.is_broken(), "{too_many:?}");
        assert_eq!(add_up(&[held], &[ShardTotals { position: 5, ..stored }], 0), None);
    }
}
