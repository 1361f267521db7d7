//! The arithmetic of what is shown: one total out of two stores, rates, and numbers that only move
//! forward. Pure: times come in as parameters.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use footfall_shared::protocol::{Article, Fence, Position, shown};
use footfall_shared::stores::reads::Look;
use tokio::time::Instant;

use crate::frame::{HitPercent, TopArticle};

/// Views that wait in Redis above a position in MySQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// How many; too few rather than too many.
    pub views: u64,
    /// Whether it is neither.
    pub is_exact: bool,
}

impl Pending {
    /// What `look` has found beyond `fence`, where `stored_views` of it are in entries up to the fence's position, if that
    /// is known. No view is counted in both, whichever was read first: `fence` counts entries up to its position, and only
    /// those behind it are added here.
    #[must_use]
    pub fn above(fence: &Fence, look: &Look, stored_views: Option<u64>) -> Self {
        let Position { first, tail } = look.position;
        let is_stored = fence.position > tail;
        let views = match stored_views {
            // A recovery decides at this moment what of the data set is still to be counted.
            _ if look.age.epoch != fence.epoch => None,
            // All that was in the log is in MySQL by now.
            _ if fence.position >= tail => Some(0),
            // Less than `first`: the entries between the two were stored after the fence was read.
            _ if fence.position < first => Some(look.pending_views),
            // Between COMMIT and ACK: some of the entries are in MySQL already.
            stored_views => stored_views.map(|stored| look.pending_views.saturating_sub(stored)),
        };
        // By something else than a flush, MySQL's counts were changed since the fence was read.
        let is_changed = look.age.version > fence.version;
        let is_missed = fence.position.saturating_add(1) < first;
        Self { views: views.unwrap_or(0), is_exact: views.is_some() && !is_changed && !is_missed && !is_stored }
    }
}

/// All shards added up, of each store as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Views in MySQL.
    pub stored_views: u64,
    /// Views that wait in Redis.
    pub pending_views: u64,
    /// Distinct users in MySQL.
    pub readers: u64,
    /// Distinct (article, user) pairs in MySQL.
    pub reader_pairs: u64,
    /// Distinct articles in MySQL.
    pub articles: u64,
    /// Entries of the log that are not acknowledged.
    pub log_entries: u64,
    /// Age of the oldest view that waits, in milliseconds.
    pub lag_ms: u64,
    /// Whether MySQL was ever read for all shards.
    pub is_stored_known: bool,
    /// Whether acknowledged views may be in neither store.
    pub is_behind: bool,
    /// Whether `stored_views + pending_views` is every view in the two stores, not too few.
    pub is_exact: bool,
}

impl Totals {
    /// Adds up; of each shard what MySQL has, and what was found in Redis with the part of it above that.
    pub fn of(shards: impl Iterator<Item = (Option<Fence>, Option<(Look, Pending)>)>) -> Self {
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
    pub fn views(&self) -> u64 {
        shown(self.stored_views.saturating_add(self.pending_views))
    }
}

/// Whether MySQL lacks what it once had: acknowledged entries, or an epoch that was begun in it.
/// `fence` must have been read after `look`.
#[must_use]
pub fn is_store_older(fence: &Fence, look: &Look) -> bool {
    let Look { age, position, .. } = look;
    fence.epoch < age.epoch || (fence.epoch == age.epoch && fence.position.saturating_add(1) < position.first)
}

/// Whether MySQL was emptied (`footfall clean`) or put back to an older state between two looks: the
/// only cases in which numbers may go back. A flush moves `flush_epoch` only together with `position`.
#[must_use]
pub fn is_reset(before: &Fence, after: &Fence) -> bool {
    after.views < before.views
        || after.position < before.position
        || (after.position == before.position && after.flush_epoch != before.flush_epoch)
}

/// Up to when MySQL is known to have every view: what is listed of later times is a part. Shared by the feed, which finds
/// out, and the lists.
#[derive(Debug, Default)]
pub struct StoredUntil(AtomicU64);

impl StoredUntil {
    /// All views before this time are in MySQL; milliseconds since 1970.
    pub fn set(&self, unix_ms: u64) {
        self.0.store(unix_ms, Ordering::Relaxed);
    }

    /// None until it was known once.
    #[must_use]
    pub fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|unix_ms| *unix_ms > 0)
    }
}

/// Growth per second of a number, over a sliding window.
#[derive(Debug, Default)]
pub struct Rate(VecDeque<(Instant, u64)>);

/// Long enough that natural batches do not make the number jump, short enough to see a change at once.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// A rate over less says more about the moment than about the traffic.
const RATE_WINDOW_MIN: Duration = Duration::from_secs(1);

impl Rate {
    /// Takes the number of now; answers its growth per second, once the window is long enough.
    pub fn add(&mut self, now: Instant, value: u64) -> Option<f64> {
        self.0.push_back((now, value));
        // One sample beyond the window stays: after a pause, growth is spread over the whole pause.
        while self.0.len() > 2 && now - self.0[1].0 >= RATE_WINDOW {
            self.0.pop_front();
        }
        let (since, first) = self.0[0];
        let span = now - since;
        (span >= RATE_WINDOW_MIN).then(|| {
            let grown = value.saturating_sub(first) as f64;
            (grown / span.as_secs_f64() * 10.0).round() / 10.0
        })
    }
}

/// Turns two ever-growing counters into a hit rate.
#[derive(Debug, Default)]
pub struct HitRate(VecDeque<(Instant, u64, u64)>);

impl HitRate {
    /// Nothing could be learnt for a while: the last minute begins anew.
    pub fn missed(&mut self) {
        self.0.clear();
    }

    /// Takes hits and misses of now; answers the rate.
    pub fn add(&mut self, now: Instant, hits: u64, misses: u64) -> HitPercent {
        // Counters that went back were started anew, with Redis.
        if self.0.back().is_some_and(|last| hits < last.1 || misses < last.2) {
            self.0.clear();
        }
        self.0.push_back((now, hits, misses));
        while self.0.len() > 2 && now - self.0[1].0 >= Duration::from_secs(60) {
            self.0.pop_front();
        }
        let (_, hits_before, misses_before) = self.0[0];
        HitPercent { minute: percent(hits - hits_before, misses - misses_before), total: percent(hits, misses) }
    }
}

/// Rounded down, so that 100 means all.
fn percent(hits: u64, misses: u64) -> Option<f64> {
    let all = hits.saturating_add(misses);
    (all > 0).then(|| (hits as f64 * 10_000.0 / all as f64).floor() / 100.0)
}

/// The most viewed articles, by what MySQL has and what waits on top.
#[derive(Debug, Default)]
pub struct Ranking {
    candidates: Vec<(Article, u64, u64)>,
    /// The greatest number shown of each article: pending views can be gone for a moment.
    marks: HashMap<Article, u64>,
}

/// Lines shown.
pub const TOP: usize = 10;
/// Lines read: what waits can lift an article of these into the ranking.
pub const CANDIDATES: u32 = 30;
/// Articles that came and went are forgotten at this number.
const MARKS_MAX: usize = 1_000;

impl Ranking {
    /// Takes the articles with the most views in MySQL: article, views, readers.
    pub fn set(&mut self, candidates: Vec<(Article, u64, u64)>) {
        if self.marks.len() > MARKS_MAX {
            self.marks.retain(|article, _| candidates.iter().any(|candidate| candidate.0 == *article));
        }
        self.candidates = candidates;
    }

    /// The articles whose pending views are of interest.
    pub fn articles(&self) -> impl Iterator<Item = &Article> {
        self.candidates.iter().map(|(article, _, _)| article)
    }

    /// The ranking with `pending` views on top; an article that is missing there has none, or it is
    /// not known. `is_known`: whether no view is missing.
    pub fn top(&mut self, pending: &HashMap<Article, u64>, is_known: bool) -> Vec<TopArticle> {
        let mut lines: Vec<TopArticle> = Vec::with_capacity(self.candidates.len());
        for (article, stored_views, readers) in &self.candidates {
            let stored_views = shown(*stored_views);
            let views = shown(stored_views.saturating_add(pending.get(article).copied().unwrap_or(0)));
            let mark = self.marks.entry(article.clone()).or_default();
            *mark = views.max(*mark);
            lines.push(TopArticle {
                article: article.to_string(),
                views: is_known.then_some(*mark),
                at_least: (!is_known).then_some(*mark),
                stored_views,
                readers: shown(*readers),
            });
        }
        let views = |line: &TopArticle| line.views.or(line.at_least);
        lines.sort_by(|a, b| views(b).cmp(&views(a)).then_with(|| a.article.cmp(&b.article)));
        lines.truncate(TOP);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use footfall_shared::protocol::keys::Age;

    fn fence(position: u64) -> Fence {
        Fence { epoch: 1, position, flush_epoch: 1, version: 0, views: 100, readers: 0, users: 0, articles: 0 }
    }

    /// A log with 43 views in it.
    fn look(first: u64, tail: u64) -> Look {
        let (age, position) = (Age { epoch: 1, version: 0 }, Position { tail, first });
        Look { age, position, pending_views: 43, lag_ms: 0, is_behind: false, is_whole: true }
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
        let changed = Look { age: Age { epoch: 1, version: 1 }, ..look(7, 9) };
        assert_eq!(Pending::above(&fence(6), &changed, None), Pending { views: 43, is_exact: false });
    }

    proptest::proptest! {
        #[test]
        fn any_stores_are_added_up(fences: [u64; 5], looks: [u64; 5], epochs: (bool, bool)) {
            let [position, views, readers, users, articles] = fences;
            let fence = Fence {
                epoch: u64::from(epochs.0), position, flush_epoch: 1, version: 0, views, readers, users, articles,
            };
            let [first, tail, pending_views, stored_views, lag_ms] = looks;
            let look = Look { age: Age { epoch: u64::from(epochs.1), version: 0 }, pending_views, lag_ms, ..look(first, tail) };
            let pending = Pending::above(&fence, &look, Some(stored_views));
            let totals = Totals::of([(Some(fence), Some((look, pending))); 3].into_iter());
            let _ = (totals.views(), is_store_older(&fence, &look), is_reset(&fence, &fence));
            proptest::prop_assert!(totals.views() <= footfall_shared::protocol::VIEWS_MAX);
            let article = Article::parse(b"a").expect("test id");
            let mut ranking = Ranking::default();
            ranking.set(vec![(article.clone(), views, readers)]);
            ranking.top(&HashMap::from([(article, pending_views)]), true);
            let _ = (percent(first, tail), HitRate::default().add(Instant::now(), first, tail));
        }
    }

    #[test]
    fn totals_are_sums_and_exact_only_if_every_shard_is() {
        type Shard = (Option<Fence>, Option<(Look, Pending)>);
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
        let behind = Look { is_behind: true, ..look(7, 9) };
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
        let recovered = Fence { epoch: 2, ..before };
        let flushed = Fence { epoch: 2, flush_epoch: 2, position: 7, ..before };
        assert!(!is_reset(&before, &before) && !is_reset(&before, &recovered) && !is_reset(&before, &flushed));
    }

    #[test]
    fn a_rate_is_growth_over_the_last_seconds() {
        let start = Instant::now();
        let mut rate = Rate::default();
        assert_eq!(rate.add(start, 1_000), None);
        for second in 1..=10 {
            assert_eq!(rate.add(start + Duration::from_secs(second), 1_000 + 20 * second), Some(20.0));
        }
        for second in 11..=14 {
            rate.add(start + Duration::from_secs(second), 1_200);
        }
        assert_eq!(rate.add(start + Duration::from_secs(15), 1_200), Some(0.0));
        // 40 s without a look: not a burst of the last 5 s.
        assert_eq!(rate.add(start + Duration::from_secs(55), 1_600), Some(10.0));
    }

    #[test]
    fn a_hit_rate_forgets_what_is_older_than_a_minute() {
        let start = Instant::now();
        let mut rate = HitRate::default();
        assert_eq!(rate.add(start, 0, 0), HitPercent::default());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(rate.add(after(30), 50, 50), HitPercent { minute: Some(50.0), total: Some(50.0) });
        assert_eq!(rate.add(after(90), 100_049, 51), HitPercent { minute: Some(99.99), total: Some(99.94) });
        // Redis was restarted.
        assert_eq!(rate.add(after(91), 3, 1), HitPercent { minute: None, total: Some(75.0) });
    }

    #[test]
    fn an_article_never_goes_back() {
        let article = |id: &str| Article::parse(id.as_bytes()).expect("test id");
        let mut ranking = Ranking::default();
        ranking.set(vec![(article("a"), 10, 2), (article("b"), 9, 2)]);
        let views =
            |lines: Vec<TopArticle>| lines.into_iter().map(|line| (line.article, line.views)).collect::<Vec<_>>();
        let pending = HashMap::from([(article("b"), 5)]);
        assert_eq!(views(ranking.top(&pending, true)), [("b".into(), Some(14)), ("a".into(), Some(10))]);
        assert_eq!(views(ranking.top(&HashMap::new(), true)), [("b".into(), Some(14)), ("a".into(), Some(10))]);
        let lines = ranking.top(&HashMap::new(), false);
        assert_eq!((lines[0].at_least, lines[1].at_least), (Some(14), Some(10)));
        assert_eq!(views(lines), [("b".into(), None), ("a".into(), None)]);
    }
}
