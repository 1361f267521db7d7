//! The part of the log that a flusher has read and MySQL may not have yet: no more than one transaction takes.

use std::collections::{HashSet, VecDeque};

use footfall_shared::counter::{Article, Batch};
use footfall_shared::follower::Follower;
use footfall_shared::queue::{Page, Position, QueueError};
use tokio::time::Instant;

/// The batches that wait for a transaction.
#[derive(Debug)]
pub(crate) struct Held {
    follower: Follower,
    /// In the order of their positions, the last one at the follower's cursor.
    batches: VecDeque<Batch>,
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
        let mut articles = self.batches.iter().flat_map(|batch| &batch.rows).map(|row| &row.article);
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
                    self.batches.push_back(batch);
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
        let fits = |batch: &&Batch| {
            views = views.saturating_add(batch.views());
            views <= views_max
        };
        let count = self.batches.iter().take_while(fits).count().max(1).min(self.batches.len());
        let first = self.oldest();
        (Position { first, tail: first + count as u64 - 1 }, self.batches.iter().take(count))
    }

    /// MySQL has everything up to this position.
    pub(crate) fn stored(&mut self, last: u64, now: Instant) {
        self.let_go_below(last.saturating_add(1));
        self.since = (!self.batches.is_empty()).then_some(now);
    }

    /// Position of the first batch.
    fn oldest(&self) -> u64 {
        self.newest() + 1 - self.batches.len() as u64
    }

    /// Position of the last batch.
    fn newest(&self) -> u64 {
        self.follower.cursor()
    }

    fn let_go_below(&mut self, position: u64) {
        while !self.batches.is_empty() && self.oldest() < position {
            let gone = self.batches.pop_front().map_or(0, |batch| batch.views());
            self.views = self.views.saturating_sub(gone);
        }
    }
}
