//! What was shown of each article. Views that Redis lost are missing until ingest has sent them again, and a cached value
//! may be a flush behind what another read has seen in MySQL; a reader notices neither: no number is below one that this
//! process has shown. Where neither store answers, these are the numbers that are left.

use std::hash::RandomState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, UnitWeighter};
use tokio::time::Instant;

use crate::counter::{Article, shown};
use crate::telemetry::{self, IntCounter, IntGauge};

/// Articles that are remembered; about 150 bytes each.
const ARTICLES_MAX: usize = 100_000;
/// What both stores together still lack after this time is lost: nobody sends it any more, and the number goes back.
const CATCH_UP_MAX: Duration = Duration::from_secs(600);

/// The numbers of an article, as they were read or as they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    /// Views in MySQL; none if it was not read.
    pub(super) stored_views: Option<u64>,
    /// Readers in MySQL.
    pub(super) readers: u64,
    /// Views that MySQL does not have.
    pub(super) pending_views: u64,
    /// Everything before this time is in MySQL and in `readers`; milliseconds since 1970, none if not known.
    pub(super) as_of_ms: Option<u64>,
}

impl Seen {
    pub(super) fn views(&self) -> u64 {
        shown(self.stored_views.unwrap_or(0).saturating_add(self.pending_views))
    }
}

/// The greatest numbers of an article that were shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    views: u64,
    readers: u64,
    /// None if MySQL was never read for it.
    stored_views: Option<u64>,
    as_of_ms: Option<u64>,
    /// Since when both stores together have had fewer.
    below_since: Option<Instant>,
}

impl Mark {
    fn of(seen: &Seen) -> Self {
        let Seen { stored_views, readers, as_of_ms, .. } = *seen;
        Self { views: seen.views(), readers, stored_views, as_of_ms, below_since: None }
    }

    /// What to show instead of `seen`.
    fn show(&mut self, seen: Seen, is_whole: bool, now: Instant) -> Seen {
        if seen.views() >= self.views {
            self.below_since = None;
        } else if !is_whole {
            self.below_since = None; // What is away is not lost.
        } else if now - *self.below_since.get_or_insert(now) >= CATCH_UP_MAX {
            *self = Self::of(&seen);
        }
        self.views = self.views.max(seen.views());
        self.readers = self.readers.max(seen.readers);
        self.stored_views = self.stored_views.max(seen.stored_views);
        self.as_of_ms = self.as_of_ms.max(seen.as_of_ms);
        let was_read = seen.stored_views.is_some();
        let stored_views = if was_read { seen.stored_views } else { self.stored_views };
        Seen {
            stored_views,
            readers: self.readers,
            pending_views: self.views.saturating_sub(stored_views.unwrap_or(0)),
            as_of_ms: if was_read { seen.as_of_ms } else { self.as_of_ms },
        }
    }
}

/// What was shown, of as many articles as fit.
pub(super) struct Shown {
    marks: Cache<Article, Arc<Mutex<Mark>>, UnitWeighter, RandomState, Evictions>,
    articles: IntGauge,
    lifted: IntCounter,
}

#[derive(Clone)]
struct Evictions {
    articles: IntGauge,
    evicted: IntCounter,
}

impl Lifecycle<Article, Arc<Mutex<Mark>>> for Evictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: Article, _: Arc<Mutex<Mark>>) {
        self.articles.dec();
        self.evicted.inc();
    }
}

impl Shown {
    pub(super) fn new() -> Self {
        let articles = telemetry::gauge("footfall_shown_articles", "Articles whose shown numbers are remembered.");
        let evicted = telemetry::counter(
            "footfall_shown_evictions_total",
            "Articles whose shown numbers were forgotten because others needed the place.",
        );
        let lifted = telemetry::counter(
            "footfall_lifted_reads_total",
            "Reads that were answered with more views than the stores had, because those had been shown before.",
        );
        let evictions = Evictions { articles: articles.clone(), evicted };
        let marks = Cache::with(ARTICLES_MAX, ARTICLES_MAX as u64, UnitWeighter, RandomState::new(), evictions);
        Self { marks, articles, lifted }
    }

    /// What to show of an article now that `seen` was read; `is_whole` if both stores stand behind it.
    pub(super) fn show(&self, article: &Article, seen: Seen, is_whole: bool, now: Instant) -> Seen {
        let mark = if seen.views() > 0 {
            let begin = || {
                self.articles.inc();
                Ok::<_, std::convert::Infallible>(Arc::new(Mutex::new(Mark::of(&seen))))
            };
            let Ok(mark) = self.marks.get_or_insert_with(article, begin);
            mark
        } else {
            // Below zero nothing goes: whoever asks for what was never read takes nobody's place.
            let Some(mark) = self.marks.get(article) else { return seen };
            mark
        };
        let shown = lock(&mark).show(seen, is_whole, now);
        if shown.views() > seen.views() {
            self.lifted.inc();
        }
        shown
    }

    /// Views that MySQL is known to have had of an article.
    pub(super) fn stored_views(&self, article: &Article) -> u64 {
        self.marks.get(article).and_then(|mark| lock(&mark).stored_views).unwrap_or(0)
    }

    /// Lets all numbers go back.
    pub(super) fn forget_all(&self) {
        self.marks.clear();
        self.articles.set(0);
    }
}

fn lock(mark: &Mutex<Mark>) -> MutexGuard<'_, Mark> {
    mark.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(stored: u64, pending_views: u64, readers: u64) -> Seen {
        Seen { stored_views: Some(stored), readers, pending_views, as_of_ms: Some(7) }
    }

    fn article(id: &str) -> Article {
        Article::parse(id.as_bytes()).expect("test id")
    }

    #[test]
    fn what_was_shown_is_shown_until_it_is_back() {
        let (shown, a, now) = (Shown::new(), article("a"), Instant::now());
        assert_eq!(shown.show(&a, seen(10, 5, 4), true, now), seen(10, 5, 4));
        // Redis has lost what waited; then a part of it is flushed, by way of a value that a flush has overtaken.
        assert_eq!(shown.show(&a, seen(10, 0, 4), true, now), seen(10, 5, 4));
        assert_eq!(shown.show(&a, seen(12, 0, 3), true, now), seen(12, 3, 4));
        assert_eq!(shown.show(&a, seen(12, 4, 5), true, now), seen(12, 4, 5));
        assert_eq!(shown.show(&article("b"), seen(1, 0, 1), true, now), seen(1, 0, 1));
    }

    #[test]
    fn without_mysql_its_numbers_are_those_shown_last() {
        let (shown, a, now) = (Shown::new(), article("a"), Instant::now());
        let only_redis = |pending_views| Seen { pending_views, ..Seen::default() };
        assert_eq!(shown.show(&a, only_redis(0), false, now), only_redis(0));
        assert_eq!(shown.show(&a, only_redis(3), false, now), only_redis(3));
        assert_eq!(shown.show(&a, only_redis(0), false, now), only_redis(3));
        assert_eq!(shown.show(&a, seen(10, 5, 4), true, now), seen(10, 5, 4));
        // Some of the 6 may be among the 10.
        assert_eq!(shown.show(&a, only_redis(6), false, now), seen(10, 5, 4));
        assert_eq!(shown.show(&a, only_redis(16), false, now), seen(10, 6, 4));
    }

    #[test]
    fn what_never_comes_back_is_given_up() {
        let (shown, a, start) = (Shown::new(), article("a"), Instant::now());
        shown.show(&a, seen(10, 5, 4), true, start);
        assert_eq!(shown.show(&a, seen(11, 0, 4), true, start), seen(11, 4, 4));
        // While a store is away nothing is lost, however long that takes.
        let later = start + 2 * CATCH_UP_MAX;
        assert_eq!(shown.show(&a, seen(11, 0, 4), false, later), seen(11, 4, 4));
        assert_eq!(shown.show(&a, seen(11, 0, 4), true, later), seen(11, 4, 4));
        let given_up = later + CATCH_UP_MAX;
        assert_eq!(shown.show(&a, seen(11, 1, 4), true, given_up), seen(11, 1, 4));
        assert_eq!(shown.show(&a, seen(11, 2, 4), true, given_up), seen(11, 2, 4));
    }

    #[test]
    fn what_was_forgotten_may_go_back() {
        let (shown, a, now) = (Shown::new(), article("a"), Instant::now());
        assert_eq!(shown.stored_views(&a), 0);
        shown.show(&a, seen(10, 5, 4), true, now);
        shown.show(&a, seen(9, 6, 4), true, now);
        assert_eq!(shown.stored_views(&a), 10);
        shown.forget_all();
        assert_eq!(shown.show(&a, seen(2, 0, 1), true, now), seen(2, 0, 1));
    }

    proptest::proptest! {
        #[test]
        fn any_counts_are_shown_and_none_goes_back(counts in proptest::collection::vec((proptest::option::of(0u64..), 0u64.., 0u64..), 1..8)) {
            let (marks, a, now) = (Shown::new(), article("a"), Instant::now());
            let mut before = 0;
            for (stored_views, pending_views, readers) in counts {
                let seen = Seen { stored_views, readers, pending_views, as_of_ms: None };
                let views = marks.show(&a, seen, stored_views.is_some(), now).views();
                proptest::prop_assert!(views >= before && views <= crate::counter::VIEWS_MAX);
                before = views;
            }
        }
    }

    #[test]
    fn no_more_articles_are_remembered_than_fit() {
        let (shown, now) = (Shown::new(), Instant::now());
        for number in 0..ARTICLES_MAX + 5_000 {
            shown.show(&article(&number.to_string()), seen(1, 0, 1), true, now);
        }
        assert!(shown.marks.len() <= ARTICLES_MAX && shown.marks.len() > ARTICLES_MAX / 2, "{}", shown.marks.len());
    }
}
