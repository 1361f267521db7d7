//! How far a shard is: in the log, and in MySQL.

use std::collections::BTreeMap;

use super::flush::Committed;
use super::ids::Producer;

/// What of the log is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Position of the newest entry; `first - 1` if there is none.
    pub tail: u64,
    /// Position of the oldest one: MySQL has all before it.
    pub first: u64,
}

impl Position {
    /// Entries in it.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.tail.saturating_add(1).saturating_sub(self.first)
    }
}

/// The last batch of each producer, and its cumulative views.
pub type Positions = BTreeMap<Producer, (u64, u64)>;

/// The position of a shard in MySQL, and its running totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fence {
    /// The current epoch; only data sets opened under it may flush.
    pub epoch: u64,
    /// The last position in MySQL.
    pub position: u64,
    /// The epoch under which `position` was flushed.
    pub flush_epoch: u64,
    /// Grows whenever the counts change by anything but a flush: values cached before are not valid any more.
    pub version: u64,
    /// Views in MySQL.
    pub views: u64,
    /// (article, user) pairs in MySQL.
    pub readers: u64,
    /// Users that were first seen in this shard.
    pub users: u64,
    /// Articles in MySQL.
    pub articles: u64,
}

impl Fence {
    /// Why a flush that begins with position `first`, of a data set that was opened under `epoch`, must not be written;
    /// none if it must (I5, I6).
    #[must_use]
    pub fn refuses(&self, epoch: u64, first: u64) -> Option<Committed> {
        if self.epoch != epoch {
            Some(Committed::Fenced { epoch: self.epoch })
        } else if self.position >= first {
            Some(Committed::Before { position: self.position, version: self.version })
        } else if first - self.position != 1 {
            Some(Committed::Hole { position: self.position })
        } else {
            None
        }
    }
}

/// One article's row, with the position up to which it is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredArticle {
    /// The current epoch.
    pub epoch: u64,
    /// The last position in MySQL.
    pub position: u64,
    /// See [`Fence::version`].
    pub version: u64,
    /// Views of all articles of its shard in MySQL.
    pub shard_views: u64,
    /// Views in MySQL, as they are shown: Redis's scripts reckon with them.
    pub views: u64,
    /// Readers in MySQL.
    pub readers: u64,
}
