//! Logs of overtaken or damaged histories, which a recovery has set aside in Redis: what they hold and what of it is
//! counted nowhere. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use footfall_shared::protocol::packed::PackedError;
use footfall_shared::protocol::{Batch, Producer, Shard, User};

/// Names one log: `aside:<shard>:<epoch>:<first position>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AsideId {
    pub(crate) shard: Shard,
    /// The epoch that the recovery began which set it aside.
    pub(crate) epoch: u64,
    /// The position of its first entry. The version before has set aside generations, and this was the number of one.
    pub(crate) first: u64,
}

impl fmt::Display for AsideId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "aside:{}:{}:{}", self.shard, self.epoch, self.first)
    }
}

impl FromStr for AsideId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut fields = text.strip_prefix("aside:")?.split(':');
            let (shard, epoch, first) = (fields.next()?, fields.next()?, fields.next()?);
            let id = Self { shard: Shard(shard.parse().ok()?), epoch: epoch.parse().ok()?, first: first.parse().ok()? };
            fields.next().is_none().then_some(id)
        };
        parse().ok_or_else(|| format!("{text} is not aside:<shard>:<epoch>:<first>"))
    }
}

/// The number of the last batch of each producer that MySQL or the current data set has, and its cumulative views.
pub(crate) type Had = BTreeMap<Producer, (u64, u64)>;

/// Takes the higher position of each producer.
pub(crate) fn merge(had: &mut Had, others: impl IntoIterator<Item = (Producer, (u64, u64))>) {
    for (producer, position) in others {
        let known = had.entry(producer).or_default();
        *known = position.max(*known);
    }
}

/// How a batch stands to what is had of its producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It is counted, or will be.
    Had,
    /// It is the next one.
    Next,
    /// Batches between what is had and this one are missing: those after this number.
    Gap(u64),
    /// Its cumulative views are not those of the batch before it and its own.
    Contradiction,
}

/// How `batch` stands to what is had.
pub(crate) fn fit(batch: &Batch, had: &Had) -> Fit {
    let (number, views) = had.get(&batch.producer).copied().unwrap_or_default();
    if batch.number <= number {
        Fit::Had
    } else if Some(batch.number) != number.checked_add(1) {
        Fit::Gap(number)
    } else if batch.cumulative_views != views.saturating_add(batch.numbered_views()) {
        // The flusher would find views lost, or more than there can be, and stand still.
        Fit::Contradiction
    } else {
        Fit::Next
    }
}

/// What a log comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) batches: u64,
    /// Batches that cannot be read.
    pub(crate) damaged: u64,
    /// Views in the batches that can be read.
    pub(crate) views: u64,
    /// Batches that neither MySQL nor the current data set has, and their views.
    pub(crate) missing_batches: u64,
    pub(crate) missing_views: u64,
}

impl Summary {
    /// Takes the next batch of the log.
    pub(crate) fn add(&mut self, batch: &Result<Batch, PackedError>, had: &Had) {
        self.batches += 1;
        let Ok(batch) = batch else {
            self.damaged += 1;
            return;
        };
        self.views = self.views.saturating_add(batch.views());
        if fit(batch, had) != Fit::Had {
            self.missing_batches += 1;
            self.missing_views = self.missing_views.saturating_add(batch.views());
        }
    }
}

/// The batch with `user` replaced, by another name for each article; none if the user is not in it. Number and counts
/// stay: they are what makes a replay exact.
pub(crate) fn without_user(batch: &Batch, user: &User, mut name: impl FnMut() -> User) -> Option<Batch> {
    if batch.rows.iter().all(|row| row.user != *user) {
        return None;
    }
    let mut renamed = batch.clone();
    for row in renamed.rows.iter_mut().filter(|row| row.user == *user) {
        row.user = name();
    }
    renamed.rows.sort_unstable();
    Some(renamed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use footfall_shared::protocol::packed;
    use footfall_shared::protocol::{Article, View};

    fn user(name: &str) -> User {
        User::parse(name.as_bytes()).expect("test id")
    }

    fn batch(number: u64, views_before: u64, views: &[(&str, &str)]) -> Batch {
        let view = |(article, reader): &(&str, &str)| View {
            article: Article::parse(article.as_bytes()).expect("test id"),
            user: user(reader),
            id: None,
        };
        Batch::fold(Producer(1), number, views_before, 0, views.iter().map(view).collect())
    }

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let id = AsideId { shard: Shard(3), epoch: 7, first: 12 };
        assert_eq!(id.to_string(), "aside:3:7:12");
        assert_eq!("aside:3:7:12".parse(), Ok(id));
        for wrong in ["aside:3:7", "aside:3:7:12:1", "3:7:12", "aside:x:7:12", "aside:70000:1:1"] {
            assert!(wrong.parse::<AsideId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_number_says_whether_a_batch_is_had() {
        let had = Had::from([(Producer(1), (4, 10))]);
        assert_eq!(fit(&batch(4, 9, &[("a", "u")]), &had), Fit::Had);
        assert_eq!(fit(&batch(5, 10, &[("a", "u")]), &had), Fit::Next);
        assert_eq!(fit(&batch(5, 11, &[("a", "u")]), &had), Fit::Contradiction);
        assert_eq!(fit(&batch(6, 11, &[("a", "u")]), &had), Fit::Gap(4));
        assert_eq!(fit(&batch(1, 0, &[("a", "u")]), &Had::new()), Fit::Next);
    }

    #[test]
    fn a_summary_counts_what_is_missing_and_what_is_damaged() {
        let had = Had::from([(Producer(1), (4, 10))]);
        let mut summary = Summary::default();
        summary.add(&Ok(batch(4, 8, &[("a", "u"), ("a", "v")])), &had);
        summary.add(&Ok(batch(5, 10, &[("a", "u")])), &had);
        summary.add(&packed::decode(b"?"), &had);
        assert_eq!(summary, Summary { batches: 3, damaged: 1, views: 3, missing_batches: 1, missing_views: 1 });
    }

    #[test]
    fn the_higher_position_counts() {
        let mut had = Had::from([(Producer(1), (4, 10))]);
        merge(&mut had, [(Producer(1), (3, 7)), (Producer(2), (1, 1))]);
        merge(&mut had, [(Producer(1), (5, 12))]);
        assert_eq!(had, Had::from([(Producer(1), (5, 12)), (Producer(2), (1, 1))]));
    }

    #[test]
    fn a_reader_is_renamed_and_nothing_else_changes() {
        let before = batch(2, 5, &[("a", "u"), ("a", "v"), ("b", "u"), ("b", "u")]);
        let mut names = ["z", "a"].into_iter();
        let after = without_user(&before, &user("u"), || user(names.next().expect("two rows"))).expect("it is in it");
        let rows: Vec<_> = after.rows.iter().map(|row| (row.article.as_str(), row.user.as_str(), row.views)).collect();
        assert_eq!(rows, [("a", "v", 1), ("a", "z", 1), ("b", "a", 2)]);
        assert_eq!(Batch { rows: before.rows.clone(), ..after }, before);
        assert_eq!(without_user(&before, &user("w"), || user("x")), None);
        // Packed and read again it is the same, as Redis keeps it.
        let again = without_user(&before, &user("u"), || user("x")).expect("it is in it");
        assert_eq!(packed::decode(&packed::encode(&again)), Ok(again));
    }
}
