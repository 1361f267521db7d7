//! What the scripts and transactions answer, and what is made of it for the next one. The one who holds such a reply may
//! be overtaken by others before it is used.

use crate::log::{Batches, PRODUCERS};

/// What STATE answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sight {
    /// The life of the server.
    pub life: u8,
    /// The data set's epoch; 0 if there is none.
    pub epoch: u8,
    /// Position of its oldest entry.
    pub first: u8,
    /// Whether it is open in this life of the server.
    pub is_open: bool,
    /// Whether the data set did not add up and is to be set aside.
    pub discard: bool,
}

/// What NEXT_EPOCH answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// The new epoch.
    pub epoch: u8,
    /// The fence's position.
    pub position: u8,
    /// The epoch of the last flush.
    pub flush_epoch: u8,
    /// The producers' fences.
    pub producers: [u8; PRODUCERS],
}

/// What MySQL has of the article, as of a position: all entries up to there, and none behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Base {
    /// The position.
    pub position: u8,
    /// The views, and whose they are.
    pub counted: Batches,
}

/// A base on its way from MySQL into the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fill {
    /// MySQL's epoch.
    pub epoch: u8,
    /// MySQL's version.
    pub version: u8,
    /// The base.
    pub base: Base,
}
