//! What the world looks like between two steps. All numbers are small, so that states are.

use std::fmt;

/// Producers, at most.
pub const PRODUCERS: usize = 2;
/// Batches of a producer on one path, at most.
pub const NUMBERS: usize = 2;
/// Servers that hold, or come back with, a data set of the shard.
pub const SERVERS: usize = 2;
/// Epochs that a request can carry, at most.
pub const EPOCHS: u8 = 4;
/// Room for generations: none is numbered higher within the bounds.
pub const GENERATIONS: usize = 10;

/// How often each batch is in something: a bag, so that a batch counted twice is seen. Two bits each.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Batches(u8);

impl Batches {
    fn shift(producer: usize, number: u8) -> usize {
        2 * (NUMBERS * producer + usize::from(number) - 1)
    }

    /// How often a batch is in it; 3 stands for more, too.
    #[must_use]
    pub fn count(self, producer: usize, number: u8) -> u8 {
        self.0 >> Self::shift(producer, number) & 3
    }

    /// Adds a batch once.
    pub fn add(&mut self, producer: usize, number: u8) {
        if self.count(producer, number) < 3 {
            self.0 += 1 << Self::shift(producer, number);
        }
    }

    /// Adds everything that is in `other`.
    pub fn add_all(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        for (producer, number) in batches() {
            for _ in 0..other.count(producer, number) {
                self.add(producer, number);
            }
        }
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its views: every batch holds one.
    #[must_use]
    pub fn views(self) -> u8 {
        if self.is_empty() { 0 } else { batches().map(|(producer, number)| self.count(producer, number)).sum() }
    }

    /// Numbers of a producer in it, ascending.
    pub fn numbers(self, producer: usize) -> impl DoubleEndedIterator<Item = u8> {
        (1..=NUMBERS as u8).filter(move |&number| self.count(producer, number) > 0)
    }
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let present = batches().filter(|&(producer, number)| self.count(producer, number) > 0);
        f.debug_set()
            .entries(present.map(|(producer, number)| format!("p{producer}.{number}x{}", self.count(producer, number))))
            .finish()
    }
}

/// Every (producer, number) of a path.
pub fn batches() -> impl Iterator<Item = (usize, u8)> {
    (0..PRODUCERS).flat_map(|producer| (1..=NUMBERS as u8).map(move |number| (producer, number)))
}

/// A set of numbers up to 8.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Numbers(u8);

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
        (1..=8).filter(move |&number| self.contains(number))
    }
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// One Redis server with its data set of the shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server {
    /// This life of the server: `master_replid`.
    pub life: u8,
    /// meta: epoch; 0 if there is no data set.
    pub epoch: u8,
    /// meta: the life of a server in which a recovery opened the data set.
    pub incarnation: u8,
    /// meta: the open generation.
    pub open: u8,
    /// meta: the first generation that is not acknowledged.
    pub first: u8,
    /// meta: version of the cached values.
    pub version: u8,
    /// producers: the last number of each that is registered.
    pub producers: [Option<u8>; PRODUCERS],
    /// The batches of every generation, the open one included.
    pub logs: [Batches; GENERATIONS],
    /// The article's cached views, as of MySQL generation `first - 1`.
    pub cached: Option<u8>,
}

impl Server {
    /// Whether there is a data set.
    #[must_use]
    pub fn has_data(&self) -> bool {
        self.epoch > 0
    }

    /// Whether there is a data set that was opened in this life of the server.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.has_data() && self.incarnation == self.life
    }

    /// What waits in generations above `generation`.
    #[must_use]
    pub fn pending_above(&self, generation: u8) -> Batches {
        let mut pending = Batches::default();
        for generation in self.first.max(generation + 1)..=self.open {
            let log = self.logs[usize::from(generation)];
            if !log.is_empty() {
                pending.add_all(log);
            }
        }
        pending
    }
}

/// MySQL, as committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct MySql {
    /// footfall_shard_fence: the epoch.
    pub epoch: u8,
    /// footfall_shard_fence: the last generation flushed.
    pub generation: u8,
    /// footfall_shard_fence: the epoch of the last flush.
    pub flush_epoch: u8,
    /// footfall_shard_fence: version of the cached values.
    pub version: u8,
    /// footfall_producer_fence: last batch of each producer on the Redis path.
    pub producers: [u8; PRODUCERS],
    /// footfall_direct_fence: last batch of each producer on the direct path.
    pub direct: [u8; PRODUCERS],
    /// What was counted on the Redis path.
    pub counted: Batches,
    /// What was counted on the direct path.
    pub counted_directly: Batches,
    /// footfall_article_readers: whether the one reader has a row.
    pub has_row: bool,
    /// footfall_articles.readers.
    pub readers: u8,
}

impl MySql {
    /// footfall_articles.views.
    #[must_use]
    pub fn views(&self) -> u8 {
        self.counted.views() + self.counted_directly.views()
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
    /// At least the generation of each batch that Redis is known to have, under this epoch; 0 if it is not.
    pub marks: [u8; NUMBERS],
    /// A reply on its way to the sender: OK for the next batch, with this open generation; 0 if none.
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
    /// Between two looks.
    #[default]
    Idle,
    /// About to seal.
    Looked {
        /// The data set's epoch.
        epoch: u8,
        /// Its open generation.
        open: u8,
    },
    /// About to read.
    Sealed {
        /// The data set's epoch.
        epoch: u8,
        /// What to read.
        generation: u8,
    },
    /// About to begin its transaction.
    Read {
        /// The data set's epoch.
        epoch: u8,
        /// What was read.
        generation: u8,
        /// What it holds.
        batches: Batches,
    },
    /// In its transaction, holding the fence row.
    Writing {
        /// The data set's epoch.
        epoch: u8,
        /// What is written.
        generation: u8,
        /// What it holds.
        batches: Batches,
        /// Whether the reader had no row.
        is_new: bool,
    },
    /// About to acknowledge.
    Committed {
        /// The data set's epoch.
        epoch: u8,
        /// What MySQL has.
        generation: u8,
        /// The views in it, if this very flush added them.
        growth: Option<u8>,
    },
}

/// What STATE answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sight {
    /// The life of the server.
    pub life: u8,
    /// The data set's epoch; 0 if there is none.
    pub epoch: u8,
    /// Its first generation that is not acknowledged.
    pub first: u8,
    /// Its open generation.
    pub open: u8,
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
    /// The fence's generation.
    pub generation: u8,
    /// The epoch of the last flush.
    pub flush_epoch: u8,
    /// The producers' fences.
    pub producers: [u8; PRODUCERS],
}

/// Where a recoverer is. What it knows may be out of date.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Recoverer {
    /// Between two looks.
    #[default]
    Idle,
    /// About to read the fence.
    Saw(Sight),
    /// About to begin the epoch after `epoch`.
    Compared {
        /// The data set.
        sight: Sight,
        /// The fence's epoch.
        epoch: u8,
    },
    /// About to reopen.
    Begun {
        /// The data set.
        sight: Sight,
        /// What MySQL said.
        ticket: Ticket,
    },
    /// Only where the order is wrong: reopened, and about to begin the epoch after `epoch`.
    Reopened {
        /// The fence's epoch.
        epoch: u8,
    },
}

/// A value on its way from MySQL into the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fill {
    /// MySQL's epoch.
    pub epoch: u8,
    /// MySQL's generation.
    pub generation: u8,
    /// MySQL's version.
    pub version: u8,
    /// The article's views.
    pub views: u8,
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
pub struct Faults {
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
    /// The reader's value.
    pub fill: Option<Fill>,
    /// Faults to come.
    pub faults: Faults,
    /// For the properties only: the highest epoch and generation that MySQL ever had.
    pub highest: (u8, u8),
    /// For the properties only: MySQL went back.
    pub was_restored: bool,
    /// For the properties only: somebody found what must not be, and stopped.
    pub alarm: bool,
    /// For the properties only: a reader was answered a wrong number by a valid data set.
    pub wrong_answer: bool,
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
                    Recoverer::Idle | Recoverer::Reopened { .. } => false,
                })
        };
        (1..).find(|&life| !is_known(life)).expect("few lives are known at a time")
    }
}
