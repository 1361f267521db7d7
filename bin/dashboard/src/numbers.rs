//! The arithmetic of what is shown: one total out of two stores, rates, and numbers that only grow. Pure: times come in
//! as parameters.

mod ranking;
mod rates;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use footfall_shared::protocol::Fence;
use footfall_shared::protocol::Position;
use footfall_shared::protocol::shown;
use footfall_shared::stores::reads::LogStatus;

pub(crate) use self::ranking::{CANDIDATES, Ranking};
pub(crate) use self::rates::{HitRate, Rate};

/// A waiting view that is older than this means that flushing is behind.
pub(crate) const LAG_MS_MAX: u64 = 5_000;

/// Views that wait in Redis above a position in MySQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    /// At most as many as there are.
    pub(crate) views: u64,
    /// Whether these are all.
    pub(crate) is_exact: bool,
}

impl Pending {
    /// What `look` has found beyond `fence`, where `stored_views` of it are in entries up to the fence's position, if that
    /// is known. No view is counted in both, whichever was read first: `fence` counts entries up to its position, and only
    /// those behind it are added here.
    #[must_use]
    pub(crate) fn above(fence: &Fence, look: &LogStatus, stored_views: Option<u64>) -> Self {
        let Position { first, tail } = look.position;
        let is_stored = fence.position > tail;
        let views = match stored_views {
            // A recovery is deciding what of the data set is still to be counted.
            _ if look.tag.epoch != fence.epoch => None,
            // All that was in the log is in MySQL by now.
            _ if fence.position >= tail => Some(0),
            // Less than `first`: the entries between the two were stored after the fence was read.
            _ if fence.position < first => Some(look.pending_views),
            // Between COMMIT and ACK: some of the entries are in MySQL already.
            stored_views => stored_views.map(|stored| look.pending_views.saturating_sub(stored)),
        };
        // Something other than a flush has changed MySQL's counts since the fence was read.
        let is_changed = look.tag.version > fence.version;
        let is_missed = fence.position.saturating_add(1) < first;
        Self { views: views.unwrap_or(0), is_exact: views.is_some() && !is_changed && !is_missed && !is_stored }
    }
}

/// All shards added up, of each store as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    /// Views in MySQL.
    pub(crate) stored_views: u64,
    /// Views that wait in Redis.
    pub(crate) pending_views: u64,
    /// Distinct users in MySQL.
    pub(crate) readers: u64,
    /// Distinct (article, user) pairs in MySQL.
    pub(crate) reader_pairs: u64,
    /// Distinct articles in MySQL.
    pub(crate) articles: u64,
    /// Entries of the log that are not acknowledged.
    pub(crate) log_entries: u64,
    /// Age of the oldest view that waits, in milliseconds.
    pub(crate) lag_ms: u64,
    /// Whether MySQL was ever read for all shards.
    pub(crate) is_stored_known: bool,
    /// Whether acknowledged views may be in neither store.
    pub(crate) is_behind: bool,
    /// Whether `stored_views + pending_views` is every view in the two stores, not too few.
    pub(crate) is_exact: bool,
}

impl Totals {
    /// Adds up all shards: of each, what MySQL has, and what was found in Redis with the part of it that MySQL lacks.
    pub(crate) fn of(shards: impl Iterator<Item = (Option<Fence>, Option<(LogStatus, Pending)>)>) -> Self {
        let mut sum = Self { is_stored_known: true, is_exact: true, ..Self::default() };
        for (fence, found) in shards {
            if let Some(fence) = fence {
                sum.stored_views = shown(sum.stored_views.saturating_add(fence.views));
                // A user belongs to the shard that saw them first, so nobody is counted twice.
                sum.readers = shown(sum.readers.saturating_add(fence.users));
                sum.reader_pairs = shown(sum.reader_pairs.saturating_add(fence.readers));
                sum.articles = shown(sum.articles.saturating_add(fence.articles));
            } else {
                sum.is_stored_known = false;
            }
            if let Some((look, pending)) = found {
                sum.pending_views = shown(sum.pending_views.saturating_add(pending.views));
                sum.is_exact &= pending.is_exact;
                sum.is_behind |= look.is_behind;
                sum.log_entries = sum.log_entries.saturating_add(look.position.entries());
                sum.lag_ms = sum.lag_ms.max(look.lag_ms);
            } else {
                sum.is_exact = false;
            }
        }
        sum
    }

    /// Every view that is known of.
    #[must_use]
    pub(crate) fn views(&self) -> u64 {
        shown(self.stored_views.saturating_add(self.pending_views))
    }
}

/// Whether MySQL lacks what it once had: acknowledged entries, or an epoch that was begun in it.
/// `fence` must have been read after `look`.
#[must_use]
pub(crate) fn is_store_older(fence: &Fence, look: &LogStatus) -> bool {
    let LogStatus { tag, position, .. } = look;
    fence.epoch < tag.epoch || (fence.epoch == tag.epoch && fence.position.saturating_add(1) < position.first)
}

/// Whether MySQL was emptied (`footfall clean`) or put back to an older state between two looks: the
/// only cases in which numbers may go back. A flush moves `flush_epoch` only together with `position`.
#[must_use]
pub(crate) fn is_reset(before: &Fence, after: &Fence) -> bool {
    after.views < before.views
        || after.position < before.position
        || (after.position == before.position && after.flush_epoch != before.flush_epoch)
}

/// Up to when MySQL is known to have every view: lists of later times are incomplete. The feed finds it out, and the lists
/// read it. What MySQL had before is remembered, so that a replica that has only that can be given its time.
#[derive(Debug, Default)]
pub(crate) struct StoredUntil(Mutex<VecDeque<Stand>>);

/// What MySQL had at a time.
#[derive(Debug)]
struct Stand {
    /// All views before this time are in it; milliseconds since 1970.
    unix_ms: u64,
    fences: Vec<Fence>,
}

/// One a second, for an hour: a replica that is behind by more has no known time.
const STANDS_MAX: usize = 3_600;
/// See [`STANDS_MAX`].
const STAND_MS: u64 = 1_000;

impl StoredUntil {
    /// All views before this time are in MySQL, whose fences are these; milliseconds since 1970.
    pub(crate) fn set(&self, unix_ms: u64, fences: Vec<Fence>) {
        let mut stands = self.lock();
        let before_ms = stands.len().checked_sub(2).map_or(0, |before| stands[before].unix_ms);
        let is_one_of_a_second = |last: &Stand| last.unix_ms < before_ms.saturating_add(STAND_MS);
        if stands.back().is_some_and(|last| last.fences == fences || is_one_of_a_second(last)) {
            stands.pop_back();
        }
        stands.push_back(Stand { unix_ms, fences });
        if stands.len() > STANDS_MAX {
            stands.pop_front();
        }
    }

    /// None until it was known once.
    #[must_use]
    pub(crate) fn get(&self) -> Option<u64> {
        self.lock().back().map(|stand| stand.unix_ms)
    }

    /// The same of a replica, by its fences. None if it is further behind than is remembered.
    #[must_use]
    pub(crate) fn of_replica(&self, fences: &[Fence]) -> Option<u64> {
        let has = |stand: &&Stand| {
            let at = |fence: &Fence| (fence.position, fence.version);
            let mut both = fences.iter().map(at).zip(stand.fences.iter().map(at));
            fences.len() == stand.fences.len() && both.all(|(has, had)| has.0 >= had.0 && has.1 >= had.1)
        };
        self.lock().iter().rev().find(has).map(|stand| stand.unix_ms)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Stand>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // Nothing in here is ever half done.
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use footfall_shared::protocol::Article;
    use footfall_shared::protocol::keys::CacheTag;
    use tokio::time::Instant;

    use super::*;

    fn fence(position: u64) -> Fence {
        Fence { epoch: 1, position, flush_epoch: 1, version: 0, views: 100, readers: 0, users: 0, articles: 0 }
    }

    /// A log with 43 views in it.
    fn look(first: u64, tail: u64) -> LogStatus {
        let (tag, position) = (CacheTag { epoch: 1, version: 0 }, Position { tail, first });
        LogStatus { tag, position, pending_views: 43, lag_ms: 0, is_behind: false, is_whole: true }
    }

    #[test]
    fn pending_views_are_those_above_the_fence() {
        for (position, first, tail, stored, expected) in [
            // Nothing between: all that Redis has, read or not.
            (6, 7, 9, None, (43, true)),
            (6, 7, 9, Some(0), (43, true)),
            // COMMIT, not yet ACK: without what is in MySQL already, if the log was read so far.
            (7, 7, 9, Some(10), (33, true)),
            (8, 7, 9, Some(40), (3, true)),
            (8, 7, 9, None, (0, false)),
            (9, 7, 9, Some(43), (0, true)),
            (9, 7, 9, None, (0, true)),
            // The fence was read before the last flush, or Redis before it.
            (5, 7, 9, None, (43, false)),
            (10, 7, 9, None, (0, false)),
        ] {
            let pending = Pending::above(&fence(position), &look(first, tail), stored);
            assert_eq!((pending.views, pending.is_exact), expected, "{position} {first} {tail} {stored:?}");
        }
        let next_epoch = Fence { epoch: 2, ..fence(6) };
        assert_eq!(Pending::above(&next_epoch, &look(7, 9), None), Pending { views: 0, is_exact: false });
        let changed = LogStatus { tag: CacheTag { epoch: 1, version: 1 }, ..look(7, 9) };
        assert_eq!(Pending::above(&fence(6), &changed, None), Pending { views: 43, is_exact: false });
        // The fence is as new as that change.
        let read_since = Fence { version: 1, ..fence(6) };
        assert_eq!(Pending::above(&read_since, &changed, None), Pending { views: 43, is_exact: true });
    }

    proptest::proptest! {
        #[test]
        fn any_stores_are_added_up(fences: [u64; 5], looks: [u64; 5], epochs: (bool, bool)) {
            let [position, views, readers, users, articles] = fences;
            let fence = Fence {
                epoch: u64::from(epochs.0), position, flush_epoch: 1, version: 0, views, readers, users, articles,
            };
            let [first, tail, pending_views, stored_views, lag_ms] = looks;
            let look = LogStatus { tag: CacheTag { epoch: u64::from(epochs.1), version: 0 }, pending_views, lag_ms, ..look(first, tail) };
            let pending = Pending::above(&fence, &look, Some(stored_views));
            let totals = Totals::of([(Some(fence), Some((look, pending))); 3].into_iter());
            let _ = (totals.views(), is_store_older(&fence, &look), is_reset(&fence, &fence));
            proptest::prop_assert!(totals.views() <= footfall_shared::protocol::VIEWS_MAX);
            let article = Article::parse(b"a").expect("test id");
            let mut ranking = Ranking::default();
            ranking.set(Instant::now(), vec![(article.clone(), views, readers)]);
            ranking.top(&HashMap::from([(article, pending_views)]), true);
            let _ = (rates::percent(first, tail), HitRate::default().add(Instant::now(), first, tail));
        }
    }

    #[test]
    fn totals_are_sums_and_exact_only_if_every_shard_is() {
        type Shard = (Option<Fence>, Option<(LogStatus, Pending)>);
        let totals = |shards: &[Shard]| Totals::of(shards.iter().copied());
        let all = Pending { views: 43, is_exact: true };
        let good = (Some(fence(6)), Some((look(7, 9), all)));
        let sum = totals(&[good, good]);
        assert_eq!((sum.views(), sum.pending_views, sum.log_entries, sum.is_exact), (286, 86, 6, true));
        assert!(sum.is_stored_known && !sum.is_behind);
        let sum = totals(&[good, (Some(fence(6)), None)]);
        assert_eq!((sum.views(), sum.is_exact, sum.is_stored_known), (243, false, true));
        let sum = totals(&[good, (None, Some((look(7, 9), Pending { is_exact: false, ..all })))]);
        assert_eq!((sum.views(), sum.is_exact, sum.is_stored_known), (186, false, false));
        let late = |lag_ms| (Some(fence(6)), Some((LogStatus { lag_ms, ..look(7, 9) }, all)));
        assert_eq!(totals(&[late(5), late(7), late(6)]).lag_ms, 7, "the oldest view of all shards");
        let of_mysql = Fence { users: 3, readers: 4, articles: 2, ..fence(6) };
        let sum = totals(&[(Some(of_mysql), None), (Some(of_mysql), None)]);
        assert_eq!((sum.readers, sum.reader_pairs, sum.articles), (6, 8, 4));
        let behind = LogStatus { is_behind: true, ..look(7, 9) };
        let sum = totals(&[good, (Some(fence(6)), Some((behind, all)))]);
        assert!(sum.is_exact && sum.is_behind, "{sum:?}");
    }

    #[test]
    fn a_store_that_forgot_is_noticed() {
        assert!(!is_store_older(&fence(6), &look(7, 9)));
        assert!(!is_store_older(&Fence { epoch: 2, ..fence(6) }, &look(9, 9)));
        assert!(is_store_older(&fence(6), &look(8, 9)));
        assert!(is_store_older(&Fence { epoch: 0, ..fence(6) }, &look(7, 9)));
    }

    #[test]
    fn only_an_emptied_store_is_a_reset() {
        let before = fence(6);
        let cleaned = Fence { epoch: 2, flush_epoch: 2, views: 0, ..before };
        assert!(is_reset(&before, &cleaned));
        let cleaned_before_the_first_flush = Fence { epoch: 2, flush_epoch: 2, ..before };
        assert!(is_reset(&before, &cleaned_before_the_first_flush));
        assert!(is_reset(&before, &Fence { views: before.views + 1, position: 5, ..before }), "an older position");
        assert!(is_reset(&before, &Fence { views: before.views - 1, position: 7, ..before }), "fewer views");
        let recovered = Fence { epoch: 2, ..before };
        let flushed = Fence { epoch: 2, flush_epoch: 2, position: 7, ..before };
        assert!(!is_reset(&before, &before) && !is_reset(&before, &recovered) && !is_reset(&before, &flushed));
    }

    #[test]
    fn until_it_is_known_once_mysql_has_nothing_up_to_no_time() {
        let until = StoredUntil::default();
        assert_eq!(until.get(), None);
        until.set(1_000, vec![fence(6)]);
        assert_eq!(until.get(), Some(1_000));
    }

    #[test]
    fn a_replica_has_what_mysql_had_at_its_position() {
        let until = StoredUntil::default();
        let direct = |position| Fence { version: 1, ..fence(position) };
        let of = |fences: &[Fence]| until.of_replica(fences);
        assert_eq!(of(&[fence(6)]), None);
        for (unix_ms, position) in [(10_000, 6), (20_000, 7), (20_300, 8), (20_900, 9), (22_000, 10)] {
            until.set(unix_ms, vec![fence(position), fence(6)]);
        }
        assert_eq!(of(&[fence(10), fence(6)]), Some(22_000));
        assert_eq!(of(&[fence(11), direct(7)]), Some(22_000), "it is ahead of what was read last");
        assert_eq!(of(&[fence(9), fence(6)]), Some(20_000), "not every moment is remembered: rather too old");
        assert_eq!(of(&[fence(6), fence(6)]), Some(10_000));
        assert_eq!((of(&[fence(5), fence(6)]), of(&[fence(10)])), (None, None));
        // Nothing comes, and the time goes on; then what does not move a position.
        until.set(60_000, vec![fence(10), fence(6)]);
        until.set(70_000, vec![direct(10), fence(6)]);
        assert_eq!(of(&[fence(10), fence(6)]), Some(60_000));
        assert_eq!(of(&[direct(10), fence(6)]), Some(70_000));
        for unix_s in 100..100 + 2 * STANDS_MAX as u64 {
            until.set(unix_s * 1_000, vec![fence(unix_s), fence(6)]);
        }
        assert_eq!(of(&[fence(99), fence(6)]), None);
        assert_eq!(until.lock().len(), STANDS_MAX);
    }
}
