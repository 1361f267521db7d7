//! What is written to MySQL at once, and what becomes of it.

use super::batch::Row;
use super::ids::{Article, Producer};
use super::views::total;

/// The batches of one producer in a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerBatches {
    /// Whose.
    pub producer: Producer,
    /// Number of the first one.
    pub first: u64,
    /// Number of the last one; those between are all there.
    pub last: u64,
    /// Views up to and including the last one, as the producer says.
    pub cumulative_views: u64,
    /// Views in them, repeats too.
    pub views: u64,
    /// Views left out because their id was counted before.
    pub repeats: u64,
}

impl ProducerBatches {
    /// Whether these batches follow what MySQL has of the producer, `(number, cumulative views)` (I1); if so, how many
    /// views before or between them were lost: the producer numbered them and could not keep them.
    #[must_use]
    pub fn follows(&self, fenced: (u64, u64)) -> Option<u64> {
        let lost = self.cumulative_views.checked_sub(fenced.1)?.checked_sub(self.views)?;
        (Some(self.first) == fenced.0.checked_add(1)).then_some(lost)
    }
}

/// Entries of one shard's log, folded, as one transaction writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flush {
    /// First position.
    pub first: u64,
    /// Last position.
    pub last: u64,
    /// Sorted by (article, user), each pair once.
    pub rows: Vec<Row>,
    /// Views per article and hour since 1970, sorted, each pair once.
    pub hours: Vec<(Article, u32, u64)>,
    /// Views per minute since 1970, sorted.
    pub minutes: Vec<(u32, u64)>,
    /// Sorted by producer.
    pub producers: Vec<ProducerBatches>,
}

impl Flush {
    /// Views in it.
    #[must_use]
    pub fn views(&self) -> u64 {
        total(self.rows.iter().map(|row| row.views))
    }

    /// Rows per article, in article order.
    pub fn articles(&self) -> impl Iterator<Item = &[Row]> {
        self.rows.chunk_by(|a, b| a.article == b.article)
    }
}

/// What became of a flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// It is in MySQL, by this call.
    Now {
        /// What it added.
        deltas: Vec<Delta>,
        /// See [`super::Fence::version`].
        version: u64,
        /// Views that MySQL refused or that were lost: they are in quarantine instead.
        quarantined: u64,
    },
    /// MySQL already had the log up to this position, at least the flush's first.
    Before {
        /// The last position in MySQL.
        position: u64,
        /// See [`super::Fence::version`].
        version: u64,
    },
    /// The shard was opened under another epoch: this data set may not flush (I6).
    Fenced {
        /// The current epoch.
        epoch: u64,
    },
    /// MySQL lacks entries before this flush.
    Hole {
        /// The last position in MySQL.
        position: u64,
    },
    /// The batches of a producer do not follow those that MySQL has: what Redis holds does not add up.
    Gap {
        /// Whose.
        producer: Producer,
    },
}

/// What became of a batch that went to MySQL directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direct {
    /// It is in MySQL, by this call.
    Now {
        /// Views that MySQL refused or that were lost: they are in quarantine instead.
        quarantined: u64,
    },
    /// MySQL had it already.
    Before,
    /// MySQL lacks batches before it.
    Behind {
        /// The last one that it has.
        number: u64,
    },
}

/// When the views of a batch were that somebody else has counted: what is not in it is in no history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histories {
    /// Views per article and hour since 1970, sorted, each pair once.
    pub hours: Vec<(Article, u32, u64)>,
    /// Views per minute since 1970, sorted.
    pub minutes: Vec<(u32, u64)>,
}

/// What a flush added to one article; the cached value moves along with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Which article.
    pub article: Article,
    /// Views that were added.
    pub views: u64,
    /// New readers.
    pub readers: u64,
}
