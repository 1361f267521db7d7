//! Limits per address how many views, and how many new articles, are counted per time. They are needed because nothing
//! deletes by itself what a client makes MySQL keep.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use footfall_shared::protocol::View;
use footfall_shared::service::config;
use footfall_shared::service::limit::Limit;
use footfall_shared::service::telemetry::{self, IntGauge};
use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::request::{Reason, Rejection};

/// Seconds' worth of views that may come at once.
const VIEWS_BURST_S: u32 = 10;

/// The limits that are on.
pub struct Budgets {
    views: Option<Limit>,
    articles: Option<(Limit, Seen)>,
}

impl Budgets {
    /// As configured; none if all limits are off.
    #[must_use]
    pub fn new(config: &config::Ingest) -> Option<Self> {
        let views = config.views_per_second.map(|per_second| {
            let per_second = per_second.get();
            Limit::new("views", f64::from(per_second), per_second * VIEWS_BURST_S)
        });
        let articles = config.new_articles_per_minute.map(|per_minute| {
            let per_minute = per_minute.get();
            (Limit::new("new_articles", f64::from(per_minute) / 60.0, per_minute), Seen::default())
        });
        (views.is_some() || articles.is_some()).then_some(Self { views, articles })
    }

    /// Charges these views to the budget of this address, if it has one. A request is taken as a whole or not
    /// at all; one that brings too many new articles has used up its views, as if it had been taken.
    pub(crate) fn take(&self, client: Option<IpAddr>, views: &[View], now: Instant) -> Result<(), Rejection> {
        if let (Some(limit), Some(client)) = (&self.views, client) {
            take(limit, client, views.len(), "views", now)?;
        }
        if let Some((limit, seen)) = &self.articles {
            let new = seen.lacks(views);
            if let (Some(client), false) = (client, new.is_empty()) {
                take(limit, client, new.len(), "new articles", now)?;
            }
            seen.add(new);
        }
        Ok(())
    }
}

fn take(limit: &Limit, client: IpAddr, count: usize, what: &str, now: Instant) -> Result<(), Rejection> {
    let burst = limit.burst();
    let Some(count) = u32::try_from(count).ok().filter(|count| *count <= burst) else {
        let message = format!("{count} {what} in one request: one address may send {burst} at once");
        return Err(Rejection::new(Reason::TooLarge, message));
    };
    limit.take(client, count, now).map_err(|wait| {
        // Rounded up to whole seconds, so that a client that waits for them is not too early.
        let wait_s = wait.saturating_add(Duration::from_nanos(999_999_999)).as_secs();
        let message = format!("too many {what} from the address {client}: send them again in {wait_s} s");
        Rejection::new(Reason::TooOften { wait_s }, message)
    })
}

/// Articles that were viewed lately, by their hash. It need not be exact: one that was forgotten costs the next reader's
/// address one new article, and the most that is forgotten are those that were viewed once. Whoever sends articles that
/// nobody reads cannot push out those that are read.
struct Seen {
    articles: Cache<u64, ()>,
    /// Keyed at random, so that nobody can construct articles whose hashes collide with those of others.
    hasher: RandomState,
    remembered: IntGauge,
}

/// They take about 5 MB.
const SEEN_MAX: usize = 100_000;

impl Default for Seen {
    fn default() -> Self {
        let help = "Articles that are remembered as not new, for `ingest.new_articles_per_minute`.";
        Self {
            articles: Cache::new(SEEN_MAX),
            hasher: RandomState::new(),
            remembered: telemetry::gauge("footfall_seen_articles", help),
        }
    }
}

impl Seen {
    /// Those of the articles that are new, each once.
    fn lacks(&self, views: &[View]) -> Vec<u64> {
        let hashes = views.iter().map(|view| self.hasher.hash_one(view.article.as_bytes()));
        let mut new: Vec<u64> = hashes.filter(|hash| self.articles.get(hash).is_none()).collect();
        new.sort_unstable();
        new.dedup();
        new
    }

    fn add(&self, new: Vec<u64>) {
        if new.is_empty() {
            return;
        }
        for hash in new {
            self.articles.insert(hash, ());
        }
        self.remembered.set(i64::try_from(self.articles.len()).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use footfall_shared::protocol::{Article, User};

    use super::*;

    fn budgets(views_per_second: u32, new_articles_per_minute: u32) -> Budgets {
        let config = config::Ingest {
            views_per_second: NonZero::new(views_per_second),
            new_articles_per_minute: NonZero::new(new_articles_per_minute),
            ..config::Ingest::default()
        };
        Budgets::new(&config).expect("limits")
    }

    fn client(number: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, number]))
    }

    /// One view of each of these articles.
    fn views(articles: std::ops::Range<u32>) -> Vec<View> {
        let view = |number: u32| View {
            article: Article::parse(format!("a{number}").as_bytes()).expect("test id"),
            user: User::parse(b"u").expect("test id"),
            id: None,
        };
        articles.map(view).collect()
    }

    #[test]
    fn off_is_nothing_at_all() {
        assert!(Budgets::new(&config::Ingest::default()).is_none());
    }

    #[test]
    fn views_are_taken_as_a_whole_and_from_their_address() {
        let budgets = budgets(50, 0);
        let now = Instant::now();
        let take = |of, count, at| budgets.take(client(of), &views(0..count), at);
        assert_eq!(take(1, 450, now), Ok(()), "ten seconds' worth at once");
        let rejection = take(1, 100, now).expect_err("50 are left");
        assert_eq!((rejection.reason, rejection.reason.status().as_u16()), (Reason::TooOften { wait_s: 1 }, 429));
        assert_eq!(rejection.message, "too many views from the address 192.0.2.1: send them again in 1 s");
        assert_eq!(take(1, 50, now), Ok(()), "the rejected ones have taken nothing");
        assert_eq!(take(1, 1, now).expect_err("none is left").reason, Reason::TooOften { wait_s: 1 }, "not in 0 s");
        assert_eq!(take(2, 1, now), Ok(()), "another one");
        assert_eq!(take(1, 50, now + Duration::from_secs(1)), Ok(()), "a second later");
        // Never, however long it waits: that is another mistake.
        assert_eq!(take(3, 501, now).expect_err("too many").reason, Reason::TooLarge);
        for _ in 0..100 {
            assert_eq!(budgets.take(None, &views(0..1_000), now), Ok(()), "whoever sends for all has no limit");
        }
    }

    #[test]
    fn an_article_is_new_once() {
        let budgets = budgets(0, 60);
        let now = Instant::now();
        let take = |of, articles, at| budgets.take(client(of), &views(articles), at);
        let twice = [views(0..50), views(0..50)].concat();
        assert_eq!(budgets.take(client(1), &twice, now), Ok(()), "each once");
        for _ in 0..100 {
            assert_eq!(take(1, 0..50, now), Ok(()), "known by now");
        }
        assert_eq!(take(1, 40..60, now), Ok(()), "ten new ones");
        assert_eq!(take(1, 55..62, now).expect_err("two new ones").reason, Reason::TooOften { wait_s: 2 });
        assert_eq!(take(1, 60..62, now).expect_err("still new").reason, Reason::TooOften { wait_s: 2 });
        assert_eq!(take(1, 60..61, now + Duration::from_secs(1)), Ok(()), "one more has come");
        assert_eq!(take(2, 61..62, now), Ok(()), "another address");
        assert_eq!(take(3, 1_000..1_061, now).expect_err("too many").reason, Reason::TooLarge);
        // What comes from a site's own server is known from then on.
        assert_eq!(budgets.take(None, &views(2_000..3_000), now), Ok(()));
        assert_eq!(take(1, 2_000..3_000, now + Duration::from_secs(1)), Ok(()));
    }

    #[test]
    fn articles_are_remembered_within_a_bound_and_those_that_are_read_longest() {
        let seen = Seen::default();
        seen.add(seen.lacks(&views(0..1_000)));
        let mut forgotten = 0;
        for flood in 1..400 {
            seen.add(seen.lacks(&views(flood * 1_000..(flood + 1) * 1_000)));
            forgotten += seen.lacks(&views(0..1_000)).len();
        }
        assert!((1_000..=SEEN_MAX).contains(&seen.articles.len()), "{}", seen.articles.len());
        assert_eq!(usize::try_from(seen.remembered.get()), Ok(seen.articles.len()), "and shown");
        assert_eq!(forgotten, 0, "400,000 articles that nobody reads push out none that is read");
    }
}
