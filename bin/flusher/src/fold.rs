//! Batches in the order of the log -> one flush: merge, sort. Pure.

use std::collections::BTreeMap;

use footfall_shared::protocol::{Article, Batch, Flush, Position, Producer, ProducerBatches, Row};
use footfall_shared::redis::QueueError;

/// Merges the batches of consecutive entries. Those of a producer must follow each other: else the log does not add up, and
/// nothing of it is written.
pub fn fold<'a>(log: Position, batches: impl Iterator<Item = &'a Batch>) -> Result<Flush, QueueError> {
    let mut rows: Vec<Row> = Vec::new();
    let mut hours: Vec<(Article, u32, u64)> = Vec::new();
    let mut minutes: BTreeMap<u32, u64> = BTreeMap::new();
    let mut producers: BTreeMap<Producer, ProducerBatches> = BTreeMap::new();
    for batch in batches {
        let (producer, number) = (batch.producer, batch.number);
        let (first, last) = (number, number.saturating_sub(1));
        let empty = ProducerBatches { producer, first, last, cumulative_views: 0, views: 0, repeats: 0 };
        let part = producers.entry(producer).or_insert(empty);
        if part.last.checked_add(1) != Some(number) {
            let what = format!("batch {number} of producer {producer} comes behind {}", part.last);
            return Err(QueueError::Corrupt(what));
        }
        part.last = number;
        part.cumulative_views = batch.cumulative_views;
        part.views = part.views.saturating_add(batch.numbered_views());
        part.repeats = part.repeats.saturating_add(batch.repeats);
        rows.extend_from_slice(&batch.rows);
        hours.extend(batch.articles().map(|(article, views)| (article.clone(), batch.minute / 60, views)));
        if batch.views() > 0 {
            add(minutes.entry(batch.minute).or_default(), batch.views());
        }
    }
    // Key order: every flush takes its row locks in the same order, so that flushes cannot deadlock.
    rows.sort_unstable();
    rows.dedup_by(|next, kept| {
        let same = next.article == kept.article && next.user == kept.user;
        if same {
            add(&mut kept.views, next.views);
        }
        same
    });
    hours.sort_unstable_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    hours.dedup_by(|next, kept| {
        let same = next.0 == kept.0 && next.1 == kept.1;
        if same {
            add(&mut kept.2, next.2);
        }
        same
    });
    Ok(Flush {
        first: log.first,
        last: log.tail,
        rows,
        hours,
        minutes: minutes.into_iter().collect(),
        producers: producers.into_values().collect(),
    })
}

/// Batches are let in with counts that cannot overflow by themselves; however many there are, their sums stand still then.
fn add(sum: &mut u64, views: u64) {
    *sum = sum.saturating_add(views);
}

#[cfg(test)]
mod tests {
    use super::*;
    use footfall_shared::protocol::{User, View, total};
    use proptest::prelude::*;

    fn batches(views: Vec<(u8, u8)>, size: usize) -> Vec<Batch> {
        let mut number = 0;
        let mut before = 0;
        let id = |prefix: char, n: u8| format!("{prefix}{n}");
        views
            .chunks(size)
            .map(|chunk| {
                let views = chunk.iter().map(|(article, user)| View {
                    article: Article::parse(id('a', *article).as_bytes()).expect("test id"),
                    user: User::parse(id('u', *user).as_bytes()).expect("test id"),
                    id: None,
                });
                number += 1;
                let batch = Batch::fold(Producer(1), number, before, number as u32 * 7, views.collect());
                before = batch.cumulative_views;
                batch
            })
            .collect()
    }

    proptest! {
        #[test]
        fn every_view_is_in_each_sum_once(views in prop::collection::vec((0u8..5, 0u8..5), 1..200), size in 1usize..20) {
            let total = views.len() as u64;
            let batches = batches(views, size);
            let flush = fold(Position { first: 4, tail: 5 }, batches.iter()).expect("adds up");
            prop_assert_eq!((flush.first, flush.last), (4, 5));
            prop_assert_eq!(flush.views(), total);
            prop_assert_eq!(flush.hours.iter().map(|hour| hour.2).sum::<u64>(), total);
            prop_assert_eq!(flush.minutes.iter().map(|minute| minute.1).sum::<u64>(), total);
            prop_assert_eq!(flush.producers[0].cumulative_views, total);
            prop_assert_eq!(flush.producers[0].follows((0, 0)), Some(0));
            prop_assert!(flush.rows.is_sorted_by(|a, b| (&a.article, &a.user) < (&b.article, &b.user)));
            prop_assert!(flush.hours.is_sorted_by(|a, b| (a.1, &a.0) < (b.1, &b.0)));
        }
    }

    proptest! {
        #[test]
        fn any_counts_are_folded_or_refused(counts in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()), 1..6)) {
            let batches = counts.into_iter().map(|(number, cumulative_views, repeats, views)| {
                let article = Article::parse(b"a").expect("test id");
                let rows = vec![Row { article, user: User::parse(b"u").expect("test id"), views }];
                Batch { producer: Producer(1), number, cumulative_views, minute: 0, repeats, rows, ids: vec![] }
            });
            let batches: Vec<Batch> = batches.collect();
            let views = total(batches.iter().map(Batch::views));
            if let Ok(flush) = fold(Position { first: 1, tail: 1 }, batches.iter()) {
                prop_assert_eq!(flush.views(), views);
                let _ = flush.producers[0].follows((0, 0));
            }
        }
    }

    #[test]
    fn batches_that_do_not_follow_each_other_are_refused() {
        let log = Position { first: 4, tail: 6 };
        let good = batches(vec![(1, 1), (1, 2), (2, 1)], 1);
        assert!(fold(log, good.iter()).is_ok());
        assert!(fold(log, [&good[0], &good[2]].into_iter()).is_err(), "a hole");
        assert!(fold(log, [&good[0], &good[0]].into_iter()).is_err(), "a repeat");
        assert!(fold(log, [&good[1], &good[0]].into_iter()).is_err(), "the wrong order");
    }
}
