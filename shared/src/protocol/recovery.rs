//! What a recovery looks at, and what it decides.

use super::ids::Producer;
use super::keys::Age;
use super::positions::Position;

/// The state of a shard's data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The life of the Redis server that answered.
    pub incarnation: String,
    /// What it holds; none if it holds nothing of this shard.
    pub data: Option<DataSet>,
}

/// What a Redis server holds of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DataSet {
    /// Whether a recovery opened it in this life of the server.
    pub is_current: bool,
    /// Its epoch.
    pub epoch: u64,
    /// What of its log is there.
    pub position: Position,
    /// The open generation, if the version before has left it: then its `position` has generations up to the last that is
    /// sealed. It is made a log of when it is opened.
    pub generation_before: Option<u64>,
    /// Views that wait for MySQL.
    pub pending_views: u64,
    /// Age of the oldest view that is not acknowledged by MySQL, in milliseconds; 0 if there is none.
    pub lag_ms: u64,
    /// How often MySQL's counts were changed by anything but a flush, as far as Redis was told.
    pub version: u64,
    /// The view ids that it remembers.
    pub ids: Remembered,
    /// Whether a part of it has become something else than what it must be.
    pub is_damaged: bool,
    /// Whether acknowledged views may be neither in it nor in MySQL, but in a journal or on their way back.
    pub is_behind: bool,
}

impl DataSet {
    /// What its cached bases belong to.
    #[must_use]
    pub fn age(&self) -> Age {
        Age { epoch: self.epoch, version: self.version }
    }
}

/// The ids of views counted lately, in two sets: one that is added to, and the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Remembered {
    /// How often the one became the other.
    pub rotation: u64,
    /// How many are in the set that is added to.
    pub added: u64,
    /// How many are in the one before.
    pub before: u64,
    /// Since when ids are remembered without a gap, in milliseconds before now; 0 if that is not known.
    pub window_ms: u64,
    /// How many were forgotten before their time, to make room.
    pub forgotten_early: u64,
}

/// What a remembered id takes of Redis's memory, in bytes: a member of 16 bytes, measured with 300,000 of them on Redis
/// 7.0 with jemalloc (85), and some more because a set grows by doubling its table.
pub const ID_BYTES: u64 = 96;

/// What a recovery learns when it begins a new epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The new epoch.
    pub epoch: u64,
    /// The last position in MySQL.
    pub position: u64,
    /// The epoch under which it was flushed.
    pub flush_epoch: u64,
    /// See [`super::Fence::version`].
    pub version: u64,
    /// The last batch of every producer in MySQL, and its cumulative views.
    pub producers: Vec<(Producer, u64, u64)>,
}
