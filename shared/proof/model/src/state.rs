//! What the actors hold between two steps, and the world. All numbers are small, so that states are.

use std::fmt;

use crate::log::{Batches, NUMBERS, PRODUCERS};
use crate::mysql::MySql;
use crate::replies::{Fill, Sight, Ticket};
use crate::server::{Follower, Server};

/// Servers that hold, or come back with, a data set of the shard.
pub const SERVERS: usize = 2;
/// Epochs that a request can carry, at most.
pub const EPOCHS: u8 = 4;

/// A set of numbers up to 12.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Numbers(u16);

impl Numbers {
    /// Whether the number is in it.
    #[must_use]
    pub fn contains(self, number: u8) -> bool {
        self.0 & 1 << (number - 1) != 0
    }

    /// Adds a number.
    pub fn insert(&mut self, number: u8) {
        self.0 |= 1 << (number - 1);
    }

    /// Takes a number out.
    pub fn remove(&mut self, number: u8) {
        self.0 &= !(1 << (number - 1));
    }

    /// Keeps what is in `other`, too.
    pub fn intersect(&mut self, other: Self) {
        self.0 &= other.0;
    }

    /// Adds what is in `other`.
    pub fn unite(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The numbers, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (1..=12).filter(move |&number| self.contains(number))
    }
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// One producer's batches on one path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Path {
    /// Number of the newest batch.
    pub built: u8,
    /// What the living process holds.
    pub retained: Numbers,
    /// What the journal holds.
    pub journal: Numbers,
    /// What of the journal would survive the loss of power.
    pub synced: Numbers,
    /// What clients were told is counted.
    pub acknowledged: Numbers,
}

impl Path {
    /// Numbers the next batch.
    pub fn build(&mut self) -> u8 {
        self.built += 1;
        self.retained.insert(self.built);
        self.built
    }

    /// MySQL has the batch: nobody needs to keep it.
    pub fn release(&mut self, number: u8) {
        self.retained.remove(number);
        self.journal.remove(number);
        self.synced.remove(number);
    }
}

/// A producer: a life of an ingest process, and whoever goes on for it after its death.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Producer {
    /// Its process is dead: an adopter sends what the journal holds, and nothing new is numbered.
    pub is_adopted: bool,
    /// Batches on the Redis path.
    pub redis: Path,
    /// Batches on the direct path.
    pub direct: Path,
    /// Epoch that the sender is registered under; 0 if none.
    pub epoch: u8,
    /// At least the position of each batch that Redis is known to have, under this epoch; 0 if it is not.
    pub marks: [u8; NUMBERS],
    /// A reply on its way to the sender: OK for the next batch, with this tail; 0 if none.
    pub reply: u8,
    /// Every APPLY sent so far, by epoch and number: any of them may be executed at any time, and again.
    pub sent: Numbers,
    /// Every direct transaction begun so far: any of them may be executed at any time, and again.
    pub sent_directly: Numbers,
}

impl Producer {
    /// The batch that the sender is at: the oldest that Redis is not known to have.
    #[must_use]
    pub fn next(&self) -> Option<u8> {
        self.redis.retained.iter().find(|&number| self.marks[usize::from(number) - 1] == 0)
    }

    /// The batch that the direct sender is at.
    #[must_use]
    pub fn next_direct(&self) -> Option<u8> {
        self.direct.retained.iter().next()
    }
}

/// Where a flusher is. What it knows may be out of date.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flusher {
    /// With no entry.
    #[default]
    Idle,
    /// With entries to write.
    Following(Follower),
    /// In its transaction, holding the fence row.
    Writing {
        /// The entries.
        follower: Follower,
        /// Those behind this position are written.
        from: u8,
        /// Whether the reader had no row.
        is_new: bool,
    },
    /// About to acknowledge.
    Committed {
        /// The data set's epoch.
        epoch: u8,
        /// Where this flush began.
        from: u8,
        /// Up to where MySQL has the log.
        last: u8,
        /// What is between, if this very flush added it.
        delta: Option<Batches>,
        /// Whether the cached bases were moved along.
        are_bases_moved: bool,
    },
}

/// Where a recoverer is. What it knows may be out of date.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Recoverer {
    /// Between two looks.
    #[default]
    Idle,
    /// About to read the fence.
    Saw(Sight),
    /// About to begin the epoch after the fence's.
    Compared {
        /// The data set.
        sight: Sight,
        /// The fence's epoch.
        epoch: u8,
        /// Only where the fence is read without the lock: what it said.
        fence: Option<Ticket>,
    },
    /// About to reopen.
    Begun {
        /// The data set.
        sight: Sight,
        /// What MySQL said.
        ticket: Ticket,
    },
    /// The data set was not the one that it had seen: about to look again, with the epoch that it has begun.
    Refused(Ticket),
    /// Only where the order is wrong: reopened, and about to begin the epoch after `epoch`.
    Reopened {
        /// The fence's epoch.
        epoch: u8,
    },
}

/// A reader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reader {
    /// Its entries.
    pub follower: Follower,
    /// What it has read from MySQL after a miss.
    pub fill: Option<Fill>,
}

/// A direct transaction that has read and not yet written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Direct {
    /// Whose batch.
    pub producer: usize,
    /// Its number.
    pub number: u8,
    /// Whether the reader had no row.
    pub is_new: bool,
}

/// How many faults may still happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FaultBudget {
    /// A server comes back with its own or another's data, as they are now.
    pub copies: u8,
    /// FLUSHALL: the data are gone, the life of the server goes on.
    pub wipes: u8,
    /// A data set that does not add up and is discarded.
    pub discards: u8,
    /// An ingest process is killed.
    pub kills: u8,
    /// An ingest host loses power.
    pub power_losses: u8,
    /// MySQL goes back to its backup.
    pub restores: u8,
    /// The replica takes over from its master.
    pub fail_overs: u8,
    /// The shard's slot moves to the other master.
    pub moves: u8,
}

/// The world between two steps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// Redis. No request knows which server it will reach.
    pub servers: [Server; SERVERS],
    /// MySQL.
    pub mysql: MySql,
    /// What MySQL can go back to.
    pub backup: Option<MySql>,
    /// The producers.
    pub producers: [Producer; PRODUCERS],
    /// The flushers.
    pub flushers: [Flusher; 2],
    /// The recoverers.
    pub recoverers: [Recoverer; 2],
    /// The direct transaction that is open.
    pub direct: Option<Direct>,
    /// The readers.
    pub readers: [Reader; 2],
    /// Faults to come.
    pub faults: FaultBudget,
    /// For the properties only: the highest epoch and position that MySQL ever had.
    pub highest: (u8, u8),
    /// For the properties only: MySQL went back.
    pub was_restored: bool,
    /// For the properties only: somebody found what must not be, and stopped.
    pub alarm: bool,
    /// For the properties only: a reader was answered a wrong number.
    pub wrong_answer: bool,
    /// For the properties only, where they count epochs: those that were begun by somebody who then stopped.
    pub given_up: u8,
}

impl State {
    /// Whether a flush holds the fence row.
    #[must_use]
    pub fn is_flush_writing(&self) -> bool {
        self.flushers.iter().any(|flusher| matches!(flusher, Flusher::Writing { .. }))
    }

    /// Somebody stops. Once MySQL went back, that is as it should be.
    pub fn raise_alarm(&mut self) {
        self.alarm |= !self.was_restored;
    }

    /// The life of a server that nobody has heard of.
    #[must_use]
    pub fn fresh_life(&self) -> u8 {
        let is_known = |life: u8| {
            self.servers.iter().any(|server| server.life == life || server.incarnation == life)
                || self.recoverers.iter().any(|recoverer| match recoverer {
                    Recoverer::Saw(sight) | Recoverer::Compared { sight, .. } | Recoverer::Begun { sight, .. } => {
                        sight.life == life
                    }
                    Recoverer::Idle | Recoverer::Refused(_) | Recoverer::Reopened { .. } => false,
                })
        };
        (1..).find(|&life| !is_known(life)).expect("few lives are known at a time")
    }
}
