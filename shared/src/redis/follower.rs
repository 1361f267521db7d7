//! Follows the log of a shard: the one way to read it. A flusher takes the batches that it finds to MySQL; reads and the
//! dashboard's feed add them up per article, on top of what MySQL has.

use std::collections::VecDeque;
use std::sync::LazyLock;

use indexmap::IndexMap;

use super::errors::QueueError;
use super::follow::{Entry, Page};
use crate::protocol::{Article, Position, total};
use crate::service::telemetry::{self, IntGauge};

/// Where in the log one stands.
#[derive(Debug, Clone, Copy, Default)]
pub struct Follower {
    epoch: u64,
    cursor: u64,
    position: Position,
}

impl Follower {
    /// Begins anew, at the oldest entry of the data set that is open under `epoch`.
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// The epoch of the log.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The last entry that was taken, or trimmed before that.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// What of the log is there, as of the last page.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether it has everything that there was at the last page.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.position.first > 0 && self.cursor >= self.position.tail
    }

    /// Takes a page that was asked for with this cursor. Within an epoch nothing goes back, and nothing is left out.
    pub fn take(&mut self, page: &Page) -> Result<(), QueueError> {
        let Position { tail, first } = page.position;
        if first < self.position.first || tail < self.position.tail {
            let what = format!("the log went back from {:?} to {:?} in one epoch", self.position, page.position);
            return Err(QueueError::Corrupt(what));
        }
        let cursor = self.cursor.max(first - 1);
        if !page.entries.iter().map(|entry| entry.position).eq((cursor + 1..).take(page.entries.len())) {
            return Err(QueueError::Corrupt(format!("entries behind position {cursor} are not in order")));
        }
        self.position = page.position;
        self.cursor = cursor + page.entries.len() as u64;
        Ok(())
    }
}

static BYTES: LazyLock<IntGauge> = LazyLock::new(|| {
    telemetry::gauge("footfall_followed_bytes", "Memory for the views of the log that reads are added up from.")
});

/// Memory for what waits, per shard, about: a backlog of six million views of a hundred thousand articles takes a quarter.
/// What does not fit is not read, and numbers say that they are a part.
pub const FOLLOWED_BYTES_MAX: usize = 256 << 20;
/// Memory for an article beside its id and its counts, about.
const ARTICLE_BYTES: usize = 80;
/// A map that grows is copied at once: of many small ones each copy is short.
const PARTS: usize = 64;
/// Articles that are looked at per page for what MySQL has by now. Few, so that nobody waits.
const SWEPT_PER_PAGE: usize = 2_000;

/// Views per article in the entries that a follower has taken, by position, so that they can be added to what MySQL has
/// at any position.
#[derive(Debug)]
pub struct Pending {
    follower: Follower,
    articles: Vec<IndexMap<Article, Vec<Count>>>,
    /// Position that offsets are counted from.
    origin: u64,
    /// Per entry that is there, up to the cursor: the views that were read up to it.
    sums: VecDeque<u64>,
    /// The views that were read of what is trimmed by now.
    trimmed_views: u64,
    bytes: usize,
    /// What of it is in the metric.
    shown: usize,
    /// Part and index of the article that is looked at next, for what is trimmed.
    swept: (usize, usize),
    /// How many have not been looked at since the last trim.
    unswept: usize,
}

impl Default for Pending {
    fn default() -> Self {
        Self::new(0)
    }
}

/// Views of one article in one entry.
#[derive(Debug, Clone, Copy)]
struct Count {
    /// Position of the entry, from `origin` on.
    offset: u32,
    views: u32,
}

impl Pending {
    /// Begins anew.
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        let articles = vec![IndexMap::new(); PARTS];
        Self {
            follower: Follower::new(epoch),
            articles,
            origin: 0,
            sums: VecDeque::new(),
            trimmed_views: 0,
            bytes: 0,
            shown: 0,
            swept: (0, 0),
            unswept: 0,
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn follower(&self) -> &Follower {
        &self.follower
    }

    /// The bytes of entries to ask for with the next page; 0 while no more can be kept.
    #[must_use]
    pub fn wants(&self, bytes: usize) -> usize {
        if self.bytes < FOLLOWED_BYTES_MAX { bytes } else { 0 }
    }

    /// Takes the entries of a page that was asked for with this cursor. After an error it is to be begun anew.
    pub fn take(&mut self, page: &Page) -> Result<(), QueueError> {
        let added = self.add_all(page);
        if self.follower.cursor - self.origin > u64::from(u32::MAX) {
            // Once in some billions of entries. What waits is read again.
            *self = Self::new(self.follower.epoch);
        }
        self.sweep();
        self.show();
        added
    }

    fn add_all(&mut self, page: &Page) -> Result<(), QueueError> {
        if self.len() == 0 {
            self.origin = self.follower.cursor;
        }
        let oldest = self.follower.cursor + 1 - self.sums.len() as u64;
        let first = self.follower.position.first;
        self.follower.take(page)?;
        if page.position.first > first {
            // Twice, because one that is removed gives its place to another, which may have been looked at already.
            self.unswept = 2 * self.len();
        }
        let trimmed = usize::try_from(page.position.first.saturating_sub(oldest)).unwrap_or(usize::MAX);
        for sum in self.sums.drain(..trimmed.min(self.sums.len())) {
            self.trimmed_views = sum;
            self.bytes -= size_of::<u64>();
        }
        page.entries.iter().try_for_each(|entry| self.add(entry))
    }

    fn add(&mut self, entry: &Entry) -> Result<(), QueueError> {
        let Ok(offset) = u32::try_from(entry.position - self.origin) else { return Ok(()) }; // It is begun anew.
        let mut read_views = self.sums.back().copied().unwrap_or(self.trimmed_views);
        for (article, mut views) in entry.views_of_articles()? {
            read_views = read_views.saturating_add(views);
            let part = &mut self.articles[part_of(article.as_bytes())];
            let counts = match part.get_mut(article) {
                Some(counts) => counts,
                None => {
                    self.bytes += article.len() + ARTICLE_BYTES;
                    let article =
                        Article::parse(article.as_bytes()).map_err(|error| QueueError::Corrupt(error.to_string()))?;
                    part.entry(article).or_default()
                }
            };
            while views > 0 {
                let part = u32::try_from(views).unwrap_or(u32::MAX);
                counts.push(Count { offset, views: part });
                self.bytes += size_of::<Count>();
                views -= u64::from(part);
            }
        }
        self.sums.push_back(read_views);
        self.bytes += size_of::<u64>();
        Ok(())
    }

    fn show(&mut self) {
        BYTES.sub(i64::try_from(self.shown).unwrap_or(i64::MAX));
        BYTES.add(i64::try_from(self.bytes).unwrap_or(i64::MAX));
        self.shown = self.bytes;
    }

    /// Views in all entries up to `position`, those that are trimmed left out; none if these were not all read.
    #[must_use]
    pub fn views_up_to(&self, position: u64) -> Option<u64> {
        let entries = position.saturating_add(1).checked_sub(self.follower.position.first)?;
        match usize::try_from(entries).ok()?.checked_sub(1) {
            None => Some(0),
            Some(at) => self.sums.get(at).map(|sum| sum - self.trimmed_views),
        }
    }

    /// Views of an article behind `position`, as far as they were read; none if entries behind that were trimmed, which may
    /// have been of this article.
    #[must_use]
    pub fn above(&self, position: u64, article: &Article) -> Option<u64> {
        (position.saturating_add(1) >= self.follower.position.first).then(|| self.above_base(position, article))
    }

    /// Views of an article behind the position of a base that Redis has answered as valid together with the last page: if
    /// entries behind it were trimmed, they were not of this article.
    #[must_use]
    pub(crate) fn above_base(&self, position: u64, article: &Article) -> u64 {
        let position = position.max(self.follower.position.first.saturating_sub(1));
        let counts = self.articles[part_of(article.as_bytes())].get(article).map_or(&[][..], Vec::as_slice);
        let is_above = |count: &&Count| self.origin + u64::from(count.offset) > position;
        total(counts.iter().filter(is_above).map(|count| u64::from(count.views)))
    }

    /// Views of an article that may not be in MySQL, as far as they were read.
    #[must_use]
    pub fn views(&self, article: &Article) -> u64 {
        self.above_base(0, article)
    }

    /// Articles of which it holds views.
    fn len(&self) -> usize {
        self.articles.iter().map(IndexMap::len).sum()
    }

    /// Lets go of what MySQL has, some articles at a time.
    fn sweep(&mut self) {
        let trimmed = self.follower.position.first.saturating_sub(1).saturating_sub(self.origin);
        let some = SWEPT_PER_PAGE.min(self.unswept).min(self.len());
        self.unswept -= some;
        for _ in 0..some {
            // There is one left: no more are taken away than are looked at.
            while self.swept.1 >= self.articles[self.swept.0].len() {
                self.swept = ((self.swept.0 + 1) % PARTS, 0);
            }
            let part = &mut self.articles[self.swept.0];
            let Some((article, counts)) = part.get_index_mut(self.swept.1) else { return };
            let had = counts.len();
            counts.retain(|count| u64::from(count.offset) > trimmed);
            self.bytes -= (had - counts.len()) * size_of::<Count>();
            if counts.is_empty() {
                self.bytes -= article.as_bytes().len() + ARTICLE_BYTES;
                part.swap_remove_index(self.swept.1);
            } else {
                if counts.capacity() > 4 * counts.len() {
                    counts.shrink_to_fit();
                }
                self.swept.1 += 1;
            }
        }
    }
}

/// Which part an article is in. By other bits than make up its shard.
fn part_of(article: &[u8]) -> usize {
    (crc32fast::hash(article) >> 16) as usize % PARTS
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.bytes = 0;
        self.show();
    }
}

#[cfg(test)]
mod tests;
