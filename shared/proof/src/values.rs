//! What faults are made of: who is hit, where in the protocol, and how.

use std::fmt;
use std::str::FromStr;

use crate::text::{numbered, words};

/// Whom a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Everybody.
    All,
    /// All ingests; where one is meant, whichever comes first.
    Ingests,
    /// All flushers; where one is meant, whichever comes first.
    Flushers,
    /// One ingest, counted from 0.
    Ingest(usize),
    /// One flusher, counted from 0.
    Flusher(usize),
    /// Whoever reads numbers.
    Reader,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Ingests => f.write_str("ingests"),
            Self::Flushers => f.write_str("flushers"),
            Self::Ingest(index) => write!(f, "ingest:{index}"),
            Self::Flusher(index) => write!(f, "flusher:{index}"),
            Self::Reader => f.write_str("reader"),
        }
    }
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match numbered(text)? {
            ("all", None) => Ok(Self::All),
            ("ingests", None) => Ok(Self::Ingests),
            ("flushers", None) => Ok(Self::Flushers),
            ("reader", None) => Ok(Self::Reader),
            ("ingest", Some(index)) => Ok(Self::Ingest(index as usize)),
            ("flusher", Some(index)) => Ok(Self::Flusher(index as usize)),
            _ => Err(format!("{text:?} is none of all, ingests, flushers, reader, ingest:N, flusher:N")),
        }
    }
}

words! {
    /// A step of the protocol, named after its script or its transaction.
    Point {
        /// Ingest appends a batch to the log.
        Apply "apply",
        /// Ingest registers.
        Register "register",
        /// A data set is opened under a new epoch.
        Reopen "reopen",
        /// MySQL begins an epoch.
        NextEpoch "next-epoch",
        /// Ingest writes a batch to MySQL.
        CommitDirect "commit-direct",
        /// A flusher reads the log.
        Follow "follow",
        /// A flusher takes the lock of a shard.
        Lock "lock",
        /// A flusher commits.
        Commit "commit",
        /// A flusher moves cached bases along.
        Advance "advance",
        /// A flusher trims the log.
        Ack "ack",
        /// A flusher takes the lease.
        Lease "lease",
    }
}

words! {
    /// When in a step.
    Moment {
        /// The request is on its way.
        Request "request",
        /// The store has done it, and the reply is on its way.
        Reply "reply",
        /// The reply has arrived.
        Told "told",
    }
}

words! {
    /// What becomes of a message whose sender or receiver was killed.
    Fate {
        /// It is lost.
        Lost "lost",
        /// It arrives.
        Delivered "delivered",
    }
}

words! {
    /// One of the stores.
    Store {
        /// Redis.
        Redis "redis",
        /// MySQL or MariaDB.
        MySql "mysql",
    }
}

words! {
    /// What Redis refuses.
    WriteMode {
        /// Nothing.
        Writable "writable",
        /// Writes that need memory.
        Full "full",
        /// Writes, as a replica does.
        ReadOnly "read-only",
        /// Writes, because it cannot write its own files.
        Misconfigured "misconfigured",
    }
}

#[expect(clippy::derivable_impls, reason = "a macro makes the variants, so none of them can be marked")]
impl Default for WriteMode {
    fn default() -> Self {
        Self::Writable
    }
}

words! {
    /// What becomes of a slot that is left half moved.
    SlotEnd {
        /// The rest of its keys follow.
        Finished "finished",
        /// What has moved goes back.
        TakenBack "taken-back",
    }
}

words! {
    /// How a node of a cluster of MySQL is put out of action.
    Outage {
        /// Killed.
        Killed "killed",
        /// Told to end.
        Stopped "stopped",
        /// Stands still with all its connections open.
        Hung "hung",
        /// Takes up nothing that the others write.
        Behind "behind",
    }
}

words! {
    /// How a master of Redis is lost.
    Loss {
        /// Killed; it is started again.
        Killed "killed",
        /// Stands still with all its connections open; it goes on.
        Hung "hung",
        /// An operator has a replica take over.
        HandedOver "handed-over",
    }
}

words! {
    /// Why replicas lack what their master has written.
    Lag {
        /// They stand still.
        Hung "hung",
        /// Their master does not let them in any more.
        CutOff "cut-off",
    }
}

words! {
    /// How a journal is damaged.
    Damage {
        /// Some bits change.
        Bits "bits",
        /// The end of the last record is lost.
        TornTail "torn-tail",
    }
}

/// What a Redis that was killed comes back with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Everything.
    Whole,
    /// Nothing.
    Empty,
    /// Everything but the last writes, as many as this.
    WithoutTail(u64),
    /// Everything but the last bytes of its append-only file, as many as this.
    Truncated(u64),
    /// A copy from this part of the run so far, in percent.
    OldCopy(u64),
    /// A copy that is this many milliseconds old.
    Older(u64),
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("whole"),
            Self::Empty => f.write_str("empty"),
            Self::WithoutTail(writes) => write!(f, "without-tail:{writes}"),
            Self::Truncated(bytes) => write!(f, "truncated:{bytes}"),
            Self::OldCopy(percent) => write!(f, "old-copy:{percent}"),
            Self::Older(ms) => write!(f, "older:{ms}"),
        }
    }
}

impl FromStr for Restart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match numbered(text)? {
            ("whole", None) => Ok(Self::Whole),
            ("empty", None) => Ok(Self::Empty),
            ("without-tail", Some(writes)) => Ok(Self::WithoutTail(writes)),
            ("truncated", Some(bytes)) => Ok(Self::Truncated(bytes)),
            ("old-copy", Some(percent)) => Ok(Self::OldCopy(percent)),
            ("older", Some(ms)) => Ok(Self::Older(ms)),
            _ => Err(format!("{text:?} is no way for Redis to come back")),
        }
    }
}

/// How the way between a client and a store is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Network {
    /// Connections are refused.
    pub refused: bool,
    /// Nothing arrives and nobody says so.
    pub silent: bool,
    /// So many of 100 requests get lost.
    pub lost_request: u64,
    /// So many of 100 answers get lost: what was asked for is done.
    pub lost_answer: u64,
    /// So many of 100 requests arrive after the client has given up.
    pub late: u64,
    /// Longest additional time under way, in milliseconds.
    pub slow_ms: u64,
}

impl Network {
    /// Nothing is wrong with it.
    pub const CALM: Self = Self { refused: false, silent: false, lost_request: 0, lost_answer: 0, late: 0, slow_ms: 0 };
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { refused, silent, lost_request, lost_answer, late, slow_ms } = *self;
        let mut parts = Vec::new();
        parts.extend(refused.then(|| "refused".to_owned()));
        parts.extend(silent.then(|| "silent".to_owned()));
        for (name, number) in
            [("lost-request", lost_request), ("lost-answer", lost_answer), ("late", late), ("slow", slow_ms)]
        {
            parts.extend((number > 0).then(|| format!("{name}:{number}")));
        }
        f.write_str(if parts.is_empty() { "calm".to_owned() } else { parts.join(",") }.as_str())
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut network = Self::default();
        for part in text.split(',') {
            match numbered(part)? {
                ("calm", None) => {}
                ("refused", None) => network.refused = true,
                ("silent", None) => network.silent = true,
                ("lost-request", Some(percent)) => network.lost_request = percent,
                ("lost-answer", Some(percent)) => network.lost_answer = percent,
                ("late", Some(percent)) => network.late = percent,
                ("slow", Some(ms)) => network.slow_ms = ms,
                _ => return Err(format!("{part:?} is nothing that a network does")),
            }
        }
        Ok(network)
    }
}

/// What happens to a single message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hurt {
    /// The request is lost, and with it the connection.
    DropRequest,
    /// The request is executed, and the connection breaks before the reply.
    DropReply,
    /// So much of the request, in thousandths, arrives before the connection breaks.
    CutRequest(u64),
    /// So many bytes of the reply arrive before the connection breaks.
    CutReply(u64),
}

impl fmt::Display for Hurt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DropRequest => f.write_str("drop-request"),
            Self::DropReply => f.write_str("drop-reply"),
            Self::CutRequest(thousandths) => write!(f, "cut-request:{thousandths}"),
            Self::CutReply(bytes) => write!(f, "cut-reply:{bytes}"),
        }
    }
}

impl FromStr for Hurt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match numbered(text)? {
            ("drop-request", None) => Ok(Self::DropRequest),
            ("drop-reply", None) => Ok(Self::DropReply),
            ("cut-request", Some(thousandths)) => Ok(Self::CutRequest(thousandths)),
            ("cut-reply", Some(bytes)) => Ok(Self::CutReply(bytes)),
            _ => Err(format!("{text:?} is nothing that happens to a message")),
        }
    }
}
