//! What a recovery looks at, and what it decides.

use super::ids::Producer;
use super::keys::CacheTag;
use super::positions::{Fence, Position};

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
    pub fn tag(&self) -> CacheTag {
        CacheTag { epoch: self.epoch, version: self.version }
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

/// How far MySQL is with a shard. It never goes back, unless MySQL itself does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// See [`Fence::epoch`].
    pub epoch: u64,
    /// See [`Fence::flush_epoch`].
    pub flush_epoch: u64,
    /// See [`Fence::position`].
    pub position: u64,
    /// See [`Fence::version`].
    pub version: u64,
}

impl From<&Fence> for Progress {
    fn from(fence: &Fence) -> Self {
        let Fence { epoch, flush_epoch, position, version, .. } = *fence;
        Self { epoch, flush_epoch, position, version }
    }
}

impl From<&Recovery> for Progress {
    fn from(recovery: &Recovery) -> Self {
        let Recovery { epoch, flush_epoch, position, version, .. } = *recovery;
        Self { epoch, flush_epoch, position, version }
    }
}

/// What a recovery does with a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: it is open under this epoch.
    IsOpen(u64),
    /// Opens it under a new epoch; if it is damaged, whatever it holds is set aside.
    Reopen {
        /// Whether it does not add up.
        is_damaged: bool,
    },
    /// Leaves it to a person: MySQL does not have any more what it had, up to this epoch and position.
    Halt((u64, u64)),
}

impl State {
    /// What to do, now that MySQL is this far. The epoch `damaged` is one whose data set is known not to add up.
    /// MySQL must have been asked after Redis, so that a lower position there means that it has lost something.
    #[must_use]
    pub fn decide(&self, stored: Progress, damaged: Option<u64>) -> Decision {
        if let Some(known) = self.lacking(stored) {
            return Decision::Halt(known);
        }
        match self.usable(damaged) {
            Some(epoch) if epoch == stored.epoch => Decision::IsOpen(epoch),
            _ => Decision::Reopen {
                is_damaged: self.data.is_some_and(|data| data.is_damaged || Some(data.epoch) == damaged),
            },
        }
    }

    /// Epoch and position that this data set knows MySQL to have had, if it does not have them any more.
    #[must_use]
    pub(crate) fn lacking(&self, stored: Progress) -> Option<(u64, u64)> {
        let data = self.data?;
        let known = (data.epoch, data.position.first - 1);
        let has_forgotten = data.epoch >= stored.flush_epoch && known.1 > stored.position;
        (data.epoch > stored.epoch || has_forgotten || data.version > stored.version).then_some(known)
    }

    /// The epoch under which it is open in this life of the server, if it adds up. While MySQL is away, Redis takes views
    /// under it: should the epoch be over, the fence says so at the flush.
    #[must_use]
    pub fn usable(&self, damaged: Option<u64>) -> Option<u64> {
        let data = self.data.filter(|data| data.is_current && !data.is_damaged)?;
        (Some(data.epoch) != damaged).then_some(data.epoch)
    }

    /// Whether what it holds goes on under the epoch of this recovery: unless a flush under a later epoch than its own has
    /// been committed, its positions mean what MySQL's do.
    #[must_use]
    pub fn goes_on(&self, recovery: &Recovery) -> bool {
        self.data.is_some_and(|data| data.epoch >= recovery.flush_epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(change: impl FnOnce(&mut DataSet)) -> State {
        let mut data = DataSet {
            is_current: true,
            epoch: 3,
            position: Position { first: 6, tail: 9 },
            version: 2,
            ..DataSet::default()
        };
        change(&mut data);
        State { incarnation: "a".into(), data: Some(data) }
    }

    #[test]
    fn what_is_done_with_a_data_set_is_a_table() {
        let stored = Progress { epoch: 3, flush_epoch: 3, position: 5, version: 2 };
        let reopen = |is_damaged| Decision::Reopen { is_damaged };
        for (what, state, stored, damaged, decision) in [
            ("it is open", state(|_| ()), stored, None, Decision::IsOpen(3)),
            (
                "MySQL is ahead: nothing was trimmed yet",
                state(|_| ()),
                Progress { position: 9, ..stored },
                None,
                Decision::IsOpen(3),
            ),
            ("the server was started anew", state(|data| data.is_current = false), stored, None, reopen(false)),
            ("it is empty", State { incarnation: "a".into(), data: None }, stored, None, reopen(false)),
            ("another recovery began an epoch", state(|_| ()), Progress { epoch: 4, ..stored }, None, reopen(false)),
            ("it says that it is damaged", state(|data| data.is_damaged = true), stored, None, reopen(true)),
            ("somebody has found that it is damaged", state(|_| ()), stored, Some(3), reopen(true)),
            ("the one before was damaged", state(|_| ()), stored, Some(2), Decision::IsOpen(3)),
            (
                "MySQL has lost positions",
                state(|_| ()),
                Progress { position: 4, ..stored },
                None,
                Decision::Halt((3, 5)),
            ),
            (
                "MySQL has lost an epoch",
                state(|_| ()),
                Progress { epoch: 2, flush_epoch: 2, ..stored },
                None,
                Decision::Halt((3, 5)),
            ),
            (
                "MySQL has lost what was not a flush",
                state(|_| ()),
                Progress { version: 1, ..stored },
                None,
                Decision::Halt((3, 5)),
            ),
            (
                "the data set is of a history that was overtaken: its positions mean nothing",
                state(|data| data.epoch = 2),
                Progress { position: 1, ..stored },
                None,
                reopen(false),
            ),
        ] {
            assert_eq!(state.decide(stored, damaged), decision, "{what}");
        }
    }

    #[test]
    fn what_was_overtaken_does_not_go_on() {
        let recovery = |flush_epoch| Recovery { epoch: 4, position: 5, flush_epoch, version: 2, producers: vec![] };
        assert!(state(|_| ()).goes_on(&recovery(3)) && state(|_| ()).goes_on(&recovery(2)));
        assert!(!state(|data| data.epoch = 2).goes_on(&recovery(3)));
        assert_eq!(state(|_| ()).usable(None), Some(3), "while MySQL is away");
        assert_eq!(state(|data| data.is_current = false).usable(None), None);
    }
}
