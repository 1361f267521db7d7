//! How large a world is tried. No single one holds everything: each is about one part of the protocol, and complete.

use std::fmt;

use crate::log::PRODUCERS;
use crate::state::FaultBudget;

/// How many of everything there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// What it is about.
    pub name: &'static str,
    /// Batches on the Redis path, by producer.
    pub batches: [u8; PRODUCERS],
    /// Batches on the direct path, by producer.
    pub direct: [u8; PRODUCERS],
    /// Servers; the second one is empty at first.
    pub servers: usize,
    /// Flushers.
    pub flushers: usize,
    /// Recoverers.
    pub recoverers: usize,
    /// Epochs; the first one is open at first.
    pub epochs: u8,
    /// Readers.
    pub readers: usize,
    /// Whether building a batch and the fsync of a journal are steps. Else everything is in the journals, and so
    /// acknowledged, from the start: no step can tell a batch that is not built yet from one that is not sent yet.
    pub journal: bool,
    /// Whether the first server has taken all batches already.
    pub loaded: bool,
    /// Whether the second server is a replica of the first, which requests may reach as well.
    pub replica: bool,
    /// Faults.
    pub faults: FaultBudget,
}

const NO_FAULTS: FaultBudget =
    FaultBudget { copies: 0, wipes: 0, discards: 0, kills: 0, power_losses: 0, restores: 0, fail_overs: 0, moves: 0 };

const SMALLEST: Bounds = Bounds {
    name: "",
    batches: [1, 0],
    direct: [0, 0],
    servers: 2,
    flushers: 1,
    recoverers: 1,
    epochs: 2,
    readers: 0,
    journal: false,
    loaded: false,
    replica: false,
    faults: NO_FAULTS,
};

impl Bounds {
    /// One Redis, that loses its data or comes back with them; two producers.
    pub const ONE_SERVER: Self = Self {
        name: "one Redis",
        batches: [2, 1],
        servers: 1,
        epochs: 3,
        faults: FaultBudget { copies: 1, wipes: 1, ..NO_FAULTS },
        ..SMALLEST
    };
    /// An older copy takes over, and the newer one goes on answering.
    pub const STALE_COPY: Self =
        Self { name: "stale copy", batches: [2, 0], faults: FaultBudget { copies: 1, ..NO_FAULTS }, ..SMALLEST };
    /// There and back again: an empty server, the old one, the other one.
    pub const FLIP: Self = Self { name: "there and back", batches: [2, 0], epochs: 3, ..SMALLEST };
    /// Flushers in each other's way.
    pub const TWO_FLUSHERS: Self = Self {
        name: "two flushers",
        batches: [2, 0],
        flushers: 2,
        faults: FaultBudget { copies: 1, ..NO_FAULTS },
        ..SMALLEST
    };
    /// Several entries in a transaction, and some of them in another flusher's.
    pub const LONG_FLUSH: Self = Self {
        name: "long flushes",
        batches: [3, 0],
        servers: 1,
        flushers: 2,
        faults: FaultBudget { wipes: 1, ..NO_FAULTS },
        ..SMALLEST
    };
    /// Recoverers in each other's way; FLUSHALL.
    pub const TWO_RECOVERERS: Self = Self {
        name: "two recoverers",
        recoverers: 2,
        epochs: 3,
        faults: FaultBudget { wipes: 1, ..NO_FAULTS },
        ..SMALLEST
    };
    /// A data set is discarded.
    pub const DISCARD: Self = Self {
        name: "discard",
        batches: [2, 0],
        epochs: 3,
        servers: 1,
        flushers: 2,
        faults: FaultBudget { copies: 1, discards: 1, ..NO_FAULTS },
        ..SMALLEST
    };
    /// Producers whose batches may be in another order in another log.
    pub const TWO_PRODUCERS: Self = Self { name: "two producers", batches: [1, 1], ..SMALLEST };
    /// Both paths, and an ingest process that is killed.
    pub const ADOPTION: Self = Self {
        name: "direct path, adoption",
        direct: [1, 0],
        journal: true,
        faults: FaultBudget { kills: 1, ..NO_FAULTS },
        ..SMALLEST
    };
    /// The journal when the host loses power.
    pub const POWER: Self = Self {
        name: "journal, lost power",
        batches: [2, 0],
        direct: [1, 0],
        servers: 1,
        journal: true,
        faults: FaultBudget { kills: 1, power_losses: 1, ..NO_FAULTS },
        ..SMALLEST
    };
    /// Cached bases, with direct transactions.
    pub const READS: Self = Self { name: "reads, direct path", direct: [1, 0], readers: 1, ..SMALLEST };
    /// Cached bases, with several flushes and a restart.
    pub const READS_AND_RESTART: Self = Self {
        name: "reads, restart",
        batches: [2, 0],
        direct: [1, 0],
        servers: 1,
        readers: 1,
        faults: FaultBudget { copies: 1, ..NO_FAULTS },
        ..SMALLEST
    };
    /// Cached bases, and the log in another order on an overtaken server.
    pub const READS_OVERTAKEN: Self =
        Self { name: "reads, overtaken server", batches: [1, 1], readers: 1, loaded: true, ..SMALLEST };
    /// Readers in each other's way.
    pub const TWO_READERS: Self = Self {
        name: "two readers",
        batches: [2, 0],
        servers: 1,
        readers: 2,
        faults: FaultBudget { copies: 1, ..NO_FAULTS },
        ..SMALLEST
    };
    /// MySQL goes back behind what Redis has forgotten.
    pub const RESTORED: Self = Self {
        name: "MySQL went back",
        batches: [2, 0],
        servers: 1,
        faults: FaultBudget { copies: 1, discards: 1, restores: 1, ..NO_FAULTS },
        ..SMALLEST
    };
    /// The same, with a producer that notices nothing.
    pub const RESTORED_TWO_PRODUCERS: Self = Self {
        name: "MySQL went back, two producers",
        batches: [1, 1],
        servers: 1,
        faults: FaultBudget { restores: 1, ..NO_FAULTS },
        ..SMALLEST
    };
    /// MySQL goes back, and with it Redis: an epoch begins twice.
    pub const BOTH_RESTORED: Self = Self {
        name: "MySQL and Redis went back",
        batches: [1, 1],
        servers: 1,
        flushers: 2,
        faults: FaultBudget { wipes: 2, restores: 1, ..NO_FAULTS },
        ..SMALLEST
    };
    /// A replica is asked by mistake, and takes over.
    pub const REPLICA: Self = Self {
        name: "a replica answers",
        batches: [2, 1],
        epochs: 3,
        replica: true,
        faults: FaultBudget { fail_overs: 1, ..NO_FAULTS },
        ..SMALLEST
    };
    /// The shard's slot moves to another master, and back to the one where it was, in the same life.
    pub const SLOT: Self = Self {
        name: "a slot moves there and back",
        batches: [2, 1],
        epochs: 4,
        faults: FaultBudget { moves: 2, ..NO_FAULTS },
        ..SMALLEST
    };

    /// What is tried on every run.
    pub const ORDINARY: [Self; 19] = [
        Self::ONE_SERVER,
        Self::STALE_COPY,
        Self::FLIP,
        Self::TWO_FLUSHERS,
        Self::LONG_FLUSH,
        Self::TWO_RECOVERERS,
        Self::DISCARD,
        Self::TWO_PRODUCERS,
        Self::ADOPTION,
        Self::POWER,
        Self::READS,
        Self::READS_AND_RESTART,
        Self::READS_OVERTAKEN,
        Self::TWO_READERS,
        Self::RESTORED,
        Self::RESTORED_TWO_PRODUCERS,
        Self::BOTH_RESTORED,
        Self::REPLICA,
        Self::SLOT,
    ];

    /// What is tried on demand.
    pub const LARGER: [Self; 7] = [
        Self { epochs: 3, ..Self::STALE_COPY },
        Self { epochs: 3, ..Self::TWO_FLUSHERS },
        Self {
            flushers: 2,
            epochs: 2,
            faults: FaultBudget { copies: 1, wipes: 1, ..NO_FAULTS },
            ..Self::TWO_RECOVERERS
        },
        Self { faults: FaultBudget { wipes: 1, discards: 1, ..NO_FAULTS }, ..Self::TWO_RECOVERERS },
        Self { faults: FaultBudget { copies: 1, ..NO_FAULTS }, ..Self::TWO_PRODUCERS },
        Self { direct: [1, 1], ..Self::ADOPTION },
        Self { flushers: 2, ..Self::READS_AND_RESTART },
    ];

    /// Whether an epoch is begun for a reason only, which can be counted: of two masters each ends what the other has opened,
    /// and so do recoverers that do not wait for each other, as they do where there is a clock.
    pub(crate) fn counts_epochs(&self) -> bool {
        self.replica || self.faults.moves > 0
    }

    /// Whether no fault takes anything from Redis.
    pub(crate) fn redis_keeps_everything(&self) -> bool {
        self.servers == 1 && self.faults.wipes == 0
    }
}

/// The numbers, without the name.
impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batches: [a, b], direct: [c, d], servers, flushers, recoverers, epochs, .. } = self;
        let FaultBudget { copies, wipes, discards, kills, power_losses, restores, fail_overs, moves } = self.faults;
        write!(f, "batches {a}+{b}, direct {c}+{d}, Redis {servers}, flushers {flushers}, recoverers {recoverers}, ")?;
        write!(f, "epochs {epochs}")?;
        for (count, name) in [
            (self.readers as u8, "reader"),
            (copies, "copy"),
            (wipes, "FLUSHALL"),
            (discards, "discard"),
            (kills, "kill"),
            (power_losses, "power loss"),
            (restores, "restore"),
            (self.replica.into(), "replica"),
            (fail_overs, "fail-over"),
            (moves, "move"),
        ] {
            if count > 0 {
                write!(f, ", {name} {count}")?;
            }
        }
        Ok(())
    }
}
