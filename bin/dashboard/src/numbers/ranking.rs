//! The most viewed articles: what MySQL has, with what waits in Redis on top.

use std::collections::HashMap;

use footfall_shared::protocol::{Article, shown};
use tokio::time::Instant;

use crate::snapshot::TopArticle;

/// The most viewed articles, and what was shown of them.
#[derive(Debug, Default)]
pub(crate) struct Ranking {
    read_at: Option<Instant>,
    candidates: Vec<(Article, u64, u64)>,
    /// The greatest number shown of each article: pending views can be gone for a moment.
    marks: HashMap<Article, u64>,
}

/// Lines shown.
pub(crate) const TOP: usize = 10;
/// Lines read: the views that wait can lift an article of these into the ranking.
pub(crate) const CANDIDATES: u32 = 30;
/// Above this number, articles that are no longer ranked are forgotten.
const MARKS_MAX: usize = 1_000;

impl Ranking {
    /// Takes the articles with the most views in MySQL: article, views, readers.
    pub(crate) fn set(&mut self, now: Instant, candidates: Vec<(Article, u64, u64)>) {
        self.read_at = Some(now);
        if self.marks.len() > MARKS_MAX {
            self.marks.retain(|article, _| candidates.iter().any(|candidate| candidate.0 == *article));
        }
        self.candidates = candidates;
    }

    /// When MySQL was asked; none before the first time.
    #[must_use]
    pub(crate) fn read_at(&self) -> Option<Instant> {
        self.read_at
    }

    /// The articles whose pending views are of interest.
    pub(crate) fn articles(&self) -> impl Iterator<Item = &Article> {
        self.candidates.iter().map(|(article, _, _)| article)
    }

    /// The ranking with `pending` views on top: an article that is missing there has none, or their number is not known.
    /// `is_known`: whether no view is missing.
    pub(crate) fn top(&mut self, pending: &HashMap<Article, u64>, is_known: bool) -> Vec<TopArticle> {
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

    #[test]
    fn an_article_never_goes_back() {
        let article = |id: &str| Article::parse(id.as_bytes()).expect("test id");
        let mut ranking = Ranking::default();
        ranking.set(Instant::now(), vec![(article("a"), 10, 2), (article("b"), 9, 2)]);
        let views =
            |lines: Vec<TopArticle>| lines.into_iter().map(|line| (line.article, line.views)).collect::<Vec<_>>();
        let pending = HashMap::from([(article("b"), 5)]);
        assert_eq!(views(ranking.top(&pending, true)), [("b".into(), Some(14)), ("a".into(), Some(10))]);
        assert_eq!(views(ranking.top(&HashMap::new(), true)), [("b".into(), Some(14)), ("a".into(), Some(10))]);
        let lines = ranking.top(&HashMap::new(), false);
        assert_eq!((lines[0].at_least, lines[1].at_least), (Some(14), Some(10)));
        assert_eq!(views(lines), [("b".into(), None), ("a".into(), None)]);
    }

    #[test]
    fn what_waits_lifts_a_candidate_into_the_ranking_and_equals_are_in_order() {
        let article = |number: u32| Article::parse(format!("article-{number:02}").as_bytes()).expect("test id");
        let mut ranking = Ranking::default();
        ranking.set(Instant::now(), (0..CANDIDATES).rev().map(|number| (article(number), 10, 1)).collect());
        let lines = ranking.top(&HashMap::from([(article(29), 1)]), true);
        assert_eq!((lines.len(), lines[0].article.as_str(), lines[0].views), (TOP, "article-29", Some(11)));
        let others: Vec<&str> = lines[1..].iter().map(|line| line.article.as_str()).collect();
        assert!(others.is_sorted() && others[0] == "article-00", "{others:?}");
    }

    #[test]
    fn articles_that_are_no_longer_ranked_are_forgotten_in_the_end() {
        let article = |number: usize| Article::parse(number.to_string().as_bytes()).expect("test id");
        let mut ranking = Ranking::default();
        for number in 0..=MARKS_MAX + 1 {
            ranking.set(Instant::now(), vec![(article(number), 1, 1)]);
            ranking.top(&HashMap::new(), true);
        }
        assert!(ranking.marks.len() <= 2, "{} are remembered", ranking.marks.len());
    }
}
