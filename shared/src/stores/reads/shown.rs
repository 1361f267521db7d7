//! What was shown of each article. Views that Redis lost are missing until ingest has sent them again: until then this
//! process says that there are at least as many as it has shown, and where neither store answers, it still knows that.

use std::hash::RandomState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, UnitWeighter};
use tokio::time::Instant;

use super::numbers::{ArticleNumbers, Found};
use crate::protocol::Article;
use crate::service::telemetry::{self, IntCounter, IntGauge};

/// Articles that are remembered; about 150 bytes each.
const ARTICLES_MAX: usize = 100_000;
/// What both stores together still lack after this time is lost: nobody sends it any more, and the number goes back.
const CATCH_UP_MAX: Duration = Duration::from_secs(600);

/// The greatest numbers of an article that were shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Mark {
    views: u64,
    readers: u64,
    /// Views that MySQL had; 0 if it was never read for it.
    stored_views: u64,
    /// Since when both stores together have had fewer.
    below_since: Option<Instant>,
}

impl Mark {
    fn show(&mut self, article: &Article, found: Found, now: Instant) -> ArticleNumbers {
        // What is away is not lost.
        let is_below = matches!(found, Found::All { live, .. } if live.lacks.is_none() && live.views() < self.views);
        if !is_below {
            self.below_since = None;
        } else if now - *self.below_since.get_or_insert(now) >= CATCH_UP_MAX {
            *self = Self::default();
        }
        let numbers = ArticleNumbers::of(article, found, (self.views, self.readers));
        self.views = self.views.max(numbers.views.or(numbers.at_least).unwrap_or(0));
        self.readers = self.readers.max(numbers.readers.unwrap_or(0));
        self.stored_views = self.stored_views.max(match found {
            Found::All { live, .. } => live.stored_views,
            Found::Stored { views } => views,
            Found::Waiting { .. } | Found::Nothing => 0,
        });
        numbers
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
            "Reads that were answered with at least so many views, more than were found, because those had been shown before.",
        );
        let evictions = Evictions { articles: articles.clone(), evicted };
        let marks = Cache::with(ARTICLES_MAX, ARTICLES_MAX as u64, UnitWeighter, RandomState::new(), evictions);
        Self { marks, articles, lifted }
    }

    /// What to answer of an article now that this was found.
    pub(super) fn show(&self, article: &Article, found: Found, now: Instant) -> ArticleNumbers {
        let views = found.views();
        let mark = if views > 0 {
            let begin = || {
                self.articles.inc();
                Ok::<_, std::convert::Infallible>(Arc::default())
            };
            let Ok(mark) = self.marks.get_or_insert_with(article, begin);
            mark
        } else {
            // Below zero nothing goes: whoever asks for what was never read takes nobody's place.
            let Some(mark) = self.marks.get(article) else { return ArticleNumbers::of(article, found, (0, 0)) };
            mark
        };
        let numbers = lock(&mark).show(article, found, now);
        if numbers.at_least.is_some_and(|at_least| at_least > views) {
            self.lifted.inc();
        }
        numbers
    }

    /// Views that MySQL is known to have had of an article.
    pub(super) fn stored_views(&self, article: &Article) -> u64 {
        self.marks.get(article).map_or(0, |mark| lock(&mark).stored_views)
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
    use super::super::numbers::{Lack, Live};
    use super::*;

    fn all(stored_views: u64, pending_views: u64, readers: u64) -> Found {
        let live = Live { stored_views, readers, pending_views, as_of_ms: 7, lacks: None };
        Found::All { live, source: "cache", has_failed: false }
    }

    fn behind(stored_views: u64, pending_views: u64) -> Found {
        let live = Live { stored_views, readers: 1, pending_views, as_of_ms: 7, lacks: Some(Lack::Behind) };
        Found::All { live, source: "cache", has_failed: false }
    }

    fn article(id: &str) -> Article {
        Article::parse(id.as_bytes()).expect("test id")
    }

    /// Views, and at least how many if they are not known.
    fn show(shown: &Shown, id: &str, found: Found, now: Instant) -> (Option<u64>, Option<u64>) {
        let numbers = shown.show(&article(id), found, now);
        (numbers.views, numbers.at_least)
    }

    #[test]
    fn nothing_is_below_what_was_shown() {
        let (shown, now) = (Shown::new(), Instant::now());
        let show = |id, found| show(&shown, id, found, now);
        assert_eq!(show("a", all(10, 5, 4)), (Some(15), None));
        // Redis has lost what waited; then a part of it is flushed.
        assert_eq!(show("a", all(10, 0, 4)), (None, Some(15)));
        assert_eq!(show("a", all(12, 0, 3)), (None, Some(15)));
        assert_eq!(show("a", all(12, 4, 5)), (Some(16), None));
        assert_eq!(show("b", all(1, 0, 1)), (Some(1), None));
        // A part is no mark for the whole, but for other parts.
        assert_eq!(show("b", Found::Waiting { pending_views: 3 }), (None, Some(3)));
        assert_eq!(show("b", Found::Waiting { pending_views: 0 }), (None, Some(3)));
        assert_eq!(show("b", Found::Stored { views: 2 }), (None, Some(3)));
        assert_eq!(show("b", Found::Nothing), (None, Some(3)));
        assert_eq!(show("b", all(2, 1, 1)), (Some(3), None));
        let readers = |found| shown.show(&article("a"), found, now).readers;
        assert_eq!(readers(all(16, 0, 4)), Some(5), "a flush behind what another read has seen");
    }

    #[test]
    fn what_never_comes_back_is_given_up() {
        let (shown, start) = (Shown::new(), Instant::now());
        show(&shown, "a", all(10, 5, 4), start);
        assert_eq!(show(&shown, "a", all(11, 0, 4), start), (None, Some(15)));
        // While something is away nothing is lost, however long that takes.
        let later = start + 2 * CATCH_UP_MAX;
        for found in [Found::Stored { views: 11 }, Found::Waiting { pending_views: 0 }, behind(11, 0)] {
            assert_eq!(show(&shown, "a", found, later), (None, Some(15)));
        }
        assert_eq!(show(&shown, "a", all(11, 0, 4), later), (None, Some(15)));
        let given_up = later + CATCH_UP_MAX;
        assert_eq!(show(&shown, "a", all(11, 1, 4), given_up), (Some(12), None));
        assert_eq!(show(&shown, "a", all(11, 2, 4), given_up), (Some(13), None));
    }

    #[test]
    fn what_was_forgotten_may_go_back() {
        let (shown, a, now) = (Shown::new(), article("a"), Instant::now());
        assert_eq!(shown.stored_views(&a), 0);
        shown.show(&a, all(10, 5, 4), now);
        shown.show(&a, all(9, 6, 4), now);
        assert_eq!(shown.stored_views(&a), 10);
        shown.forget_all();
        assert_eq!(show(&shown, "a", all(2, 0, 1), now), (Some(2), None));
    }

    proptest::proptest! {
        #[test]
        fn any_counts_are_shown_and_none_goes_back(counts in proptest::collection::vec((proptest::option::of(0u64..), 0u64.., 0u64..), 1..8)) {
            let (marks, a, now) = (Shown::new(), article("a"), Instant::now());
            let mut before = 0;
            for (stored_views, pending_views, readers) in counts {
                let found = stored_views
                    .map_or(Found::Waiting { pending_views }, |stored| all(stored, pending_views, readers));
                let numbers = marks.show(&a, found, now);
                let views = numbers.views.or(numbers.at_least).expect("one of both is known");
                proptest::prop_assert!(views >= before && views <= crate::protocol::VIEWS_MAX);
                before = views;
            }
        }
    }

    #[test]
    fn no_more_articles_are_remembered_than_fit() {
        let (shown, now) = (Shown::new(), Instant::now());
        for number in 0..ARTICLES_MAX + 5_000 {
            shown.show(&article(&number.to_string()), all(1, 0, 1), now);
        }
        assert!(shown.marks.len() <= ARTICLES_MAX && shown.marks.len() > ARTICLES_MAX / 2, "{}", shown.marks.len());
    }
}
