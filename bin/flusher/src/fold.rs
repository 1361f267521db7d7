//! Sealed generations -> one flush: check, merge, sort. Pure.

use std::collections::BTreeMap;

use footfall_shared::counter::{Article, Batch, Producer, Row, total};
use footfall_shared::queue::Sealed;
use footfall_shared::store::{Flush, Part};

/// A generation whose parts contradict each other. Nothing of it is written: never guess.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("generation {generation} does not add up: {what}")]
pub struct Mismatch {
    /// Which generation.
    pub generation: u64,
    /// What contradicts what.
    pub what: &'static str,
}

/// Checks and merges consecutive generations.
pub fn fold(sealed: &[Sealed]) -> Result<Flush, Mismatch> {
    let mut rows: Vec<Row> = Vec::new();
    let mut hours: Vec<(Article, u32, u64)> = Vec::new();
    let mut minutes: BTreeMap<u32, u64> = BTreeMap::new();
    let mut producers: BTreeMap<Producer, Part> = BTreeMap::new();
    for generation in sealed {
        check(generation)?;
        for batch in &generation.batches {
            let (producer, number) = (batch.producer, batch.number);
            let (first, last) = (number, number.saturating_sub(1));
            let empty = Part { producer, first, last, cumulative_views: 0, views: 0, repeats: 0 };
            let part = producers.entry(producer).or_insert(empty);
            if part.last.checked_add(1) != Some(number) {
                let what = "the batches of a producer are not consecutive";
                return Err(Mismatch { generation: generation.generation, what });
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
        first: sealed.first().map_or(0, |generation| generation.generation),
        last: sealed.last().map_or(0, |generation| generation.generation),
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

/// Log, totals and header were written by different commands: they must agree.
fn check(sealed: &Sealed) -> Result<(), Mismatch> {
    let mismatch = |what| Err(Mismatch { generation: sealed.generation, what });
    let Some((batches, views)) = sealed.header else {
        return mismatch("it has no header");
    };
    if batches != sealed.batches.len() as u64 {
        return mismatch("the log has not as many batches as the header says");
    }
    if views != total(sealed.batches.iter().map(Batch::views)) {
        return mismatch("the log has not as many views as the header says");
    }
    let mut totals: BTreeMap<&[u8], u64> = BTreeMap::new();
    for batch in &sealed.batches {
        for (article, views) in batch.articles() {
            add(totals.entry(article.as_bytes()).or_default(), views);
        }
    }
    if !totals
        .iter()
        .map(|(article, views)| (*article, *views))
        .eq(sealed.totals.iter().map(|(article, views)| (&**article, *views)))
    {
        return mismatch("the totals are not those of the log");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use footfall_shared::counter::{User, View};
    use proptest::prelude::*;

    fn sealed(generation: u64, batches: Vec<Batch>) -> Sealed {
        let mut totals: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        for (article, views) in batches.iter().flat_map(Batch::articles) {
            *totals.entry(article.as_bytes().to_vec()).or_default() += views;
        }
        let views = batches.iter().map(Batch::views).sum();
        Sealed { generation, header: Some((batches.len() as u64, views)), batches, totals }
    }

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
        fn every_view_is_in_each_sum_once(views in prop::collection::vec((0u8..5, 0u8..5), 1..200), size in 1usize..20, at: prop::sample::Index) {
            let total = views.len() as u64;
            let mut first = batches(views, size);
            let second = first.split_off(at.index(first.len()));
            let flush = fold(&[sealed(4, first), sealed(5, second)]).expect("adds up");
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
            let totals = BTreeMap::from([(b"a".to_vec(), views)]);
            let sealed = Sealed { generation: 1, header: Some((batches.len() as u64, views)), batches, totals };
            if let Ok(flush) = fold(&[sealed]) {
                prop_assert_eq!(flush.views(), views);
                let _ = flush.producers[0].follows((0, 0));
            }
        }
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        let good = || sealed(4, batches(vec![(1, 1), (1, 2), (2, 1)], 1));
        assert!(fold(&[good()]).is_ok());
        let broken: [fn(&mut Sealed); 7] = [
            |sealed| sealed.header = None,
            |sealed| sealed.header = Some((2, 3)),
            |sealed| sealed.header = Some((3, 4)),
            |sealed| sealed.totals.extend([(b"a1".to_vec(), 1)]),
            |sealed| sealed.totals.extend([(b"a3".to_vec(), 1)]),
            |sealed| drop(sealed.totals.pop_first()),
            |sealed| sealed.batches[1].number = 5,
        ];
        for (index, damage) in broken.iter().enumerate() {
            let mut sealed = good();
            damage(&mut sealed);
            assert!(fold(&[sealed]).is_err(), "damage {index}");
        }
    }
}
