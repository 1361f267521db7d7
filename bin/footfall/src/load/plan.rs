//! What is sent and when. Pure: everything follows from the seed and the number of the view.

use std::fmt::Write;
use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

/// The views of one run. They are numbered from 0, and any of them can be asked for at any time: this is how the
/// connections agree on who sends what, and how the ledger names a view without carrying its ids around.
pub(crate) struct Plan {
    /// Names the articles too, so that two runs do not write to the same ones.
    pub(crate) seed: u64,
    /// Views in all.
    pub(crate) views: u64,
    /// Views in one request, at most.
    pub(crate) batch: u64,
    /// Views per second; none for as fast as possible.
    rate: Option<f64>,
    articles: Zipf<f64>,
    users: u64,
}

impl Plan {
    /// `articles` and `users` are at least 1, `rate` is positive.
    pub(crate) fn new(seed: u64, views: u64, batch: u64, rate: Option<f64>, articles: u64, users: u64) -> Self {
        let articles = Zipf::new(articles as f64, 1.0).expect("there is at least one article");
        Self { seed, views, batch, rate, articles, users }
    }

    /// The views of request number `request`; none behind the last one.
    pub(crate) fn request(&self, request: u64) -> Option<Range<u64>> {
        let first = request.checked_mul(self.batch).filter(|first| *first < self.views)?;
        Some(first..self.views.min(first + self.batch))
    }

    /// When view `view` is due, counted from the start; none if whenever a connection is free.
    pub(crate) fn due(&self, view: u64) -> Option<Duration> {
        self.rate.map(|rate| Duration::from_secs_f64(view as f64 / rate))
    }

    /// Writes the ids of view `view` over those in `ids`.
    pub(crate) fn write_ids(&self, view: u64, ids: &mut Ids) {
        let mut random = StdRng::seed_from_u64(self.seed.wrapping_add(view));
        let article = self.articles.sample(&mut random);
        let user = random.random_range(1..=self.users);
        ids.article.clear();
        ids.user.clear();
        let infallible = "writing to a string does not fail";
        write!(ids.article, "load-{:x}-{article}", self.seed).expect(infallible);
        write!(ids.user, "u{user}").expect(infallible);
    }
}

/// The ids of a view; kept to be written over.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ids {
    pub(crate) article: String,
    pub(crate) user: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(plan: &Plan, view: u64) -> Ids {
        let mut ids = Ids::default();
        plan.write_ids(view, &mut ids);
        ids
    }

    #[test]
    fn the_same_seed_makes_the_same_views() {
        let (plan, again) = (Plan::new(255, 100, 1, None, 50, 50), Plan::new(255, 7, 3, Some(9.0), 50, 50));
        assert!((0..100).all(|view| ids(&plan, view) == ids(&again, view)));
        assert!(ids(&plan, 0).article.starts_with("load-ff-"));
    }

    #[test]
    fn articles_follow_zipf_within_their_bounds() {
        const VIEWS: u64 = 20_000;
        let plan = Plan::new(1, VIEWS, 1, None, 100, 10);
        let mut views = std::collections::BTreeMap::<u64, u64>::new();
        for view in 0..VIEWS {
            let ids = ids(&plan, view);
            let article = ids.article.strip_prefix("load-1-").expect("prefix").parse().expect("number");
            let user: u64 = ids.user.strip_prefix('u').expect("prefix").parse().expect("number");
            assert!((1..=100).contains(&article) && (1..=10).contains(&user), "{ids:?}");
            *views.entry(article).or_default() += 1;
        }
        // With exponent 1 the first article gets 1/H(100) of all views, H(100) = 5.187, and the tenth a tenth of that.
        let share = |article| views[&article] as f64 / VIEWS as f64;
        assert!((0.18..0.21).contains(&share(1)), "{}", share(1));
        assert!((0.015..0.024).contains(&share(10)), "{}", share(10));
    }

    #[test]
    fn one_article_and_one_user_are_enough() {
        let plan = Plan::new(0, 10, 1, None, 1, 1);
        let only = Ids { article: "load-0-1".into(), user: "u1".into() };
        assert!((0..10).all(|view| ids(&plan, view) == only));
    }

    #[test]
    fn requests_cover_all_views_once() {
        let plan = Plan::new(0, 10, 4, None, 1, 1);
        let requests: Vec<_> = (0..).map_while(|request| plan.request(request)).collect();
        assert_eq!(requests, [0..4, 4..8, 8..10]);
        assert_eq!(plan.request(u64::MAX), None);
    }

    #[test]
    fn a_rate_sets_due_times_that_do_not_drift() {
        let plan = Plan::new(0, 10_000_000, 1, Some(3.0), 1, 1);
        assert_eq!(plan.due(0), Some(Duration::ZERO));
        assert_eq!(plan.due(1), Some(Duration::from_secs_f64(1.0 / 3.0)));
        assert_eq!(plan.due(9_000_000), Some(Duration::from_secs(3_000_000)));
        assert_eq!(Plan::new(0, 1, 1, None, 1, 1).due(0), None);
    }
}
