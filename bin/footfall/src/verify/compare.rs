//! What the ledgers say against what the stores say, per (article, user). Pure.

use std::collections::HashMap;
use std::fmt;

use footfall_proof::Tally;
use footfall_proof::ledger::{Entry, Outcome};

/// Where a view is that is accounted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    MySql,
    Redis,
    /// Not counted, but not lost either.
    Quarantine,
}

/// Small numbers for ids, so that millions of pairs fit into memory.
#[derive(Default)]
struct Ids(HashMap<Box<str>, u32>);

impl Ids {
    fn number(&mut self, id: &str) -> u32 {
        if let Some(number) = self.0.get(id) {
            return *number;
        }
        let number = u32::try_from(self.0.len()).expect("the ids of 2^32 entries do not fit into memory");
        self.0.insert(id.into(), number);
        number
    }

    /// The ids in the order of their numbers.
    fn names(&self) -> Vec<&str> {
        let mut names = vec![""; self.0.len()];
        for (id, number) in &self.0 {
            names[*number as usize] = id;
        }
        names
    }
}

/// The pairs of all ledgers.
#[derive(Default)]
pub(super) struct Comparison {
    articles: Ids,
    users: Ids,
    pairs: HashMap<(u32, u32), Tally>,
    refused: u64,
}

impl Comparison {
    /// Adds one line of a ledger.
    pub(super) fn attempted(&mut self, entry: Entry<'_>) {
        let pair = (self.articles.number(entry.article), self.users.number(entry.user));
        // Refused views make their pair known as well: if it is counted, that is a difference.
        let counts = self.pairs.entry(pair).or_default();
        match entry.outcome {
            Outcome::Acknowledged => counts.acknowledged += 1,
            Outcome::Unknown => counts.unknown += 1,
            Outcome::Refused => self.refused += 1,
        }
    }

    /// Adds views that are accounted for. Those of articles that are in no ledger do not matter; those of users that are in none do.
    pub(super) fn counted(&mut self, article: &str, user: &str, views: u64, place: Place) {
        let Some(article) = self.articles.0.get(article) else {
            return;
        };
        let counts = self.pairs.entry((*article, self.users.number(user))).or_default();
        let sum = match place {
            Place::MySql => &mut counts.stored,
            Place::Redis => &mut counts.pending,
            Place::Quarantine => &mut counts.quarantined,
        };
        *sum = sum.saturating_add(views);
    }

    /// Forgets what is counted, for another look at the stores.
    pub(super) fn forget_counted(&mut self) {
        for counts in self.pairs.values_mut() {
            (counts.stored, counts.pending, counts.quarantined) = (0, 0, 0);
        }
    }

    /// The articles of the ledgers.
    pub(super) fn articles(&self) -> impl Iterator<Item = &str> {
        self.articles.0.keys().map(|id| &**id)
    }

    /// Sums over all pairs.
    pub(super) fn result(&self) -> Verdict {
        let mut result = Verdict { refused: self.refused, ..Verdict::default() };
        let add = |sum: &mut u64, views: u64| *sum = sum.saturating_add(views);
        for counts in self.pairs.values() {
            add(&mut result.sum.acknowledged, counts.acknowledged);
            add(&mut result.sum.unknown, counts.unknown);
            add(&mut result.sum.stored, counts.stored);
            add(&mut result.sum.pending, counts.pending);
            add(&mut result.sum.quarantined, counts.quarantined);
            add(&mut result.missing, counts.missing());
            add(&mut result.extra, counts.extra());
        }
        result
    }

    /// The first `limit` pairs that differ, in the order of their ids, and how many differ in all.
    pub(super) fn differences(&self, limit: usize) -> (Vec<Difference<'_>>, usize) {
        let (articles, users) = (self.articles.names(), self.users.names());
        let mut differences: Vec<_> = self
            .pairs
            .iter()
            .filter(|(_, counts)| counts.missing() > 0 || counts.extra() > 0)
            .map(|((article, user), counts)| Difference {
                article: articles[*article as usize],
                user: users[*user as usize],
                counts: *counts,
            })
            .collect();
        let all = differences.len();
        differences.sort_unstable_by_key(|difference| (difference.article, difference.user));
        differences.truncate(limit);
        (differences, all)
    }
}

/// What a comparison comes to, in views.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) sum: Tally,
    pub(super) refused: u64,
    /// A sum of its own: an extra view of one pair does not make up for a missing one of another.
    pub(super) missing: u64,
    pub(super) extra: u64,
}

/// A pair that differs, as a line of a table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference<'a> {
    article: &'a str,
    user: &'a str,
    counts: Tally,
}

impl Difference<'_> {
    /// The columns' names.
    pub(super) const HEAD: &'static str =
        "    missing      extra  acknowledged  attempted      MySQL      Redis quarantine  article, user";
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { article, user, counts } = self;
        write!(f, "{:>11}{:>11}{:>14}", counts.missing(), counts.extra(), counts.acknowledged)?;
        write!(f, "{:>11}{:>11}{:>11}", counts.attempted(), counts.stored, counts.pending)?;
        write!(f, "{:>11}  {article}, {user}", counts.quarantined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One pair (a, u) with so many acknowledged, unknown and refused views, and so many in MySQL and in Redis.
    fn compared(acknowledged: u64, unknown: u64, refused: u64, mysql: u64, redis: u64) -> (u64, u64) {
        let mut comparison = Comparison::default();
        for (views, outcome) in
            [(acknowledged, Outcome::Acknowledged), (unknown, Outcome::Unknown), (refused, Outcome::Refused)]
        {
            for _ in 0..views {
                comparison.attempted(Entry { article: "a", user: "u", outcome });
            }
        }
        comparison.counted("a", "u", mysql, Place::MySql);
        comparison.counted("a", "u", redis, Place::Redis);
        let result = comparison.result();
        let differs = result.missing + result.extra > 0;
        assert_eq!(comparison.differences(9).1, usize::from(differs));
        (result.missing, result.extra)
    }

    #[test]
    fn counted_lies_between_acknowledged_and_attempted() {
        for (acknowledged, unknown, refused, mysql, redis, missing, extra) in [
            (3, 0, 0, 3, 0, 0, 0),
            (3, 0, 0, 1, 2, 0, 0), // partly still in Redis
            (3, 2, 0, 3, 0, 0, 0), // unknown, and not counted
            (3, 2, 0, 5, 0, 0, 0), // unknown, and counted
            (3, 2, 0, 2, 0, 1, 0), // an acknowledged view is missing
            (3, 2, 0, 5, 1, 0, 1), // a view is counted twice
            (0, 0, 2, 0, 0, 0, 0), // refused
            (0, 0, 2, 1, 0, 0, 1), // refused, and counted all the same
            (0, 2, 1, 2, 1, 0, 1),
        ] {
            let expected = (missing, extra);
            assert_eq!(compared(acknowledged, unknown, refused, mysql, redis), expected, "{acknowledged} {unknown}");
        }
    }

    #[test]
    fn a_pair_in_no_ledger_is_extra_if_its_article_is_in_one() {
        let mut comparison = Comparison::default();
        comparison.attempted(Entry { article: "a", user: "u", outcome: Outcome::Acknowledged });
        comparison.counted("a", "u", 1, Place::MySql);
        comparison.counted("a", "stranger", 2, Place::MySql);
        comparison.counted("another", "u", 5, Place::Redis);
        assert_eq!((comparison.result().missing, comparison.result().extra), (0, 2));
        assert_eq!(comparison.result().sum.counted(), 3);
        let (differences, _) = comparison.differences(9);
        assert_eq!((differences.len(), differences[0].user), (1, "stranger"));
    }

    #[test]
    fn extra_does_not_make_up_for_missing() {
        let mut comparison = Comparison::default();
        for user in ["u", "v"] {
            comparison.attempted(Entry { article: "a", user, outcome: Outcome::Acknowledged });
        }
        comparison.counted("a", "u", 2, Place::MySql);
        assert_eq!((comparison.result().missing, comparison.result().extra), (1, 1));
        let (differences, all) = comparison.differences(1);
        assert_eq!((differences.len(), all), (1, 2));
    }

    #[test]
    fn a_view_in_quarantine_is_neither_missing_nor_free() {
        let compared = |acknowledged, mysql, quarantine| {
            let mut comparison = Comparison::default();
            for _ in 0..acknowledged {
                comparison.attempted(Entry { article: "a", user: "u", outcome: Outcome::Acknowledged });
            }
            comparison.counted("a", "u", mysql, Place::MySql);
            comparison.counted("a", "u", quarantine, Place::Quarantine);
            (comparison.result().missing, comparison.result().extra, comparison.result().sum.counted())
        };
        assert_eq!(compared(3, 2, 1), (0, 0, 2));
        assert_eq!(compared(3, 1, 1), (1, 0, 1));
        assert_eq!(compared(3, 3, 1), (0, 1, 3)); // counted, and in quarantine as well
    }

    #[test]
    fn another_look_begins_anew() {
        let mut comparison = Comparison::default();
        comparison.attempted(Entry { article: "a", user: "u", outcome: Outcome::Acknowledged });
        comparison.counted("a", "u", 2, Place::Redis);
        comparison.forget_counted();
        comparison.counted("a", "u", 1, Place::MySql);
        assert_eq!((comparison.result().missing, comparison.result().extra), (0, 0));
    }
}
