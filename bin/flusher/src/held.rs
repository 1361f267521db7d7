//! The part of the log that a flusher has read and MySQL may not have yet: no more than one transaction takes.

use std::collections::{HashSet, VecDeque};

use footfall_shared::protocol::{Article, Batch, Position};
use footfall_shared::redis::follower::Follower;
use footfall_shared::redis::{Page, QueueError};
use tokio::time::Instant;

/// The batches that wait for a transaction.
#[derive(Debug)]
pub(crate) struct Held {
    follower: Follower,
    /// With their positions, in order and without holes. The follower's cursor may be further on.
    batches: VecDeque<(u64, Batch)>,
    views: u64,
    /// Since when the first of them is held.
    since: Option<Instant>,
    /// Why the entry behind them cannot be read, if so.
    damage: Option<QueueError>,
}

impl Held {
    pub(crate) fn new(epoch: u64) -> Self {
        Self { follower: Follower::new(epoch), batches: VecDeque::new(), views: 0, since: None, damage: None }
    }

    pub(crate) fn follower(&self) -> &Follower {
        &self.follower
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(crate) fn views(&self) -> u64 {
        self.views
    }

    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Whether at least so many articles are in it.
    pub(crate) fn has_articles(&self, most: u64) -> bool {
        let mut seen: HashSet<&Article> = HashSet::new();
        let mut articles = self.batches.iter().flat_map(|(_, batch)| &batch.rows).map(|row| &row.article);
        articles.any(|article| {
            seen.insert(article);
            seen.len() as u64 >= most
        })
    }

    /// Takes a page. What comes before a damaged entry is flushed all the same.
    pub(crate) fn take(&mut self, page: &Page, now: Instant) -> Result<(), QueueError> {
        self.follower.take(page)?;
        self.let_go_below(page.position.first);
        for entry in &page.entries {
            match entry.batch() {
                Ok(batch) if self.damage.is_none() => {
                    self.views = self.views.saturating_add(batch.views());
                    self.batches.push_back((entry.position, batch));
                }
                Ok(_) => {}
                Err(error) => drop(self.damage.get_or_insert(error)),
            }
        }
        if self.batches.is_empty() {
            self.since = None;
            return self.damage.take().map_or(Ok(()), Err);
        }
        self.since.get_or_insert(now);
        Ok(())
    }

    /// Whether there is nothing more to read, for now.
    pub(crate) fn is_all(&self) -> bool {
        self.damage.is_some() || self.follower.is_whole()
    }

    /// The first batches, of no more than so many views unless one alone has more, and the positions that they have.
    pub(crate) fn first(&self, views_max: u64) -> (Position, impl Iterator<Item = &Batch>) {
        let mut views: u64 = 0;
        let fits = |(_, batch): &&(u64, Batch)| {
            views = views.saturating_add(batch.views());
            views <= views_max
        };
        let count = self.batches.iter().take_while(fits).count().max(1).min(self.batches.len());
        let first = self.batches.front().map_or(self.follower.cursor() + 1, |(position, _)| *position);
        (Position { first, tail: first + count as u64 - 1 }, self.batches.iter().take(count).map(|(_, batch)| batch))
    }

    /// MySQL has everything up to this position.
    pub(crate) fn stored(&mut self, last: u64, now: Instant) {
        self.let_go_below(last.saturating_add(1));
        self.since = (!self.batches.is_empty()).then_some(now);
    }

    fn let_go_below(&mut self, position: u64) {
        while let Some((_, gone)) = self.batches.pop_front_if(|(at, _)| *at < position) {
            self.views = self.views.saturating_sub(gone.views());
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use footfall_shared::protocol::packed;
    use footfall_shared::protocol::{Article, Producer, User, View};
    use footfall_shared::redis::Entry;

    pub(crate) fn entry(position: u64) -> Entry {
        let view = View {
            article: Article::parse(b"a").expect("test id"),
            user: User::parse(b"u").expect("test id"),
            id: None,
        };
        let batch = Batch::fold(Producer(1), position, position - 1, 0, vec![view]);
        Entry { position, came_ms: 0, packed: packed::encode(&batch).into() }
    }

    pub(crate) fn page(first: u64, entries: Vec<Entry>) -> Page {
        let tail = entries.last().map_or(first, |entry| entry.position);
        Page { position: Position { tail, first }, entries, ..Page::default() }
    }

    /// Positions that would be flushed, and the numbers of the batches, which are equal here.
    fn held(held: &Held) -> (Position, Vec<u64>) {
        let (log, batches) = held.first(u64::MAX);
        (log, batches.map(|batch| batch.number).collect())
    }

    #[test]
    fn what_comes_before_damage_keeps_its_positions() {
        let now = Instant::now();
        let mut flusher = Held::new(1);
        let damaged = Entry { packed: b"damaged"[..].into(), ..entry(3) };
        flusher.take(&page(1, vec![entry(1), entry(2), damaged, entry(4)]), now).expect("something can be flushed");
        assert_eq!(held(&flusher), (Position { first: 1, tail: 2 }, vec![1, 2]));
        flusher.stored(2, now);
        assert!(flusher.take(&page(3, vec![]), now).is_err(), "then it is told");
    }

    #[test]
    fn what_another_has_flushed_is_let_go_of() {
        let now = Instant::now();
        let mut flusher = Held::new(1);
        flusher.take(&page(1, vec![entry(1), entry(2), entry(3)]), now).expect("adds up");
        flusher.take(&page(3, vec![entry(4), entry(5)]), now).expect("adds up");
        assert_eq!(held(&flusher), (Position { first: 3, tail: 5 }, vec![3, 4, 5]));
        flusher.take(&page(8, vec![entry(8), entry(9)]), now).expect("adds up");
        assert_eq!(held(&flusher), (Position { first: 8, tail: 9 }, vec![8, 9]));
        flusher.stored(9, now);
        assert!(flusher.is_empty());
        assert_eq!(flusher.views(), 0);
    }
}
