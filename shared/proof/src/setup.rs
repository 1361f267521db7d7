//! The system that is put to the proof, and the traffic that it gets.

use std::fmt;
use std::str::FromStr;

use crate::text::{record, words};

record! {
    /// What kind of traffic is sent.
    Load {
        /// Views per second.
        rate: u64,
        /// Articles, by Zipf's law.
        articles: u64,
        /// Users, evenly.
        users: u64,
        /// Connections, spread over all ingests.
        connections: u64,
        /// Views in one request.
        batch: u64,
    }
}

impl Default for Load {
    fn default() -> Self {
        Self { rate: 2_000, articles: 500, users: 20_000, connections: 32, batch: 1 }
    }
}

record! {
    /// How a simulated system is set up.
    Settings {
        /// Shards.
        shards: u16,
        /// Masters of Redis, which share the shards.
        masters: u16,
        /// How long a master works at a batch; it takes one after the other.
        apply_ms: u64,
        /// Machines with a disk: both ingests on one, or each on its own.
        hosts: usize,
        /// Whether the ingests keep journals.
        has_journal: bool,
        /// Whether what they acknowledge is to outlive a power cut.
        outlives_power: bool,
        /// Disk space of each journal.
        journal_bytes_max: u64,
        /// The flushers' lease; 0 for none.
        lease_ms: u64,
        /// How often a flusher looks.
        poll_ms: u64,
        /// How long a view waits for its flush.
        flush_timeout_ms: u64,
        /// How long clients of Redis wait for an answer.
        redis_patience_ms: u64,
        /// How long clients of ingest wait for an answer.
        answer_timeout_ms: u64,
        /// Views in a transaction.
        transaction_views_max: u64,
        /// Views in a batch.
        batch_views_max: usize,
        /// Redis's memory for view ids.
        ids_bytes_max: u64,
        /// How long views arrive.
        traffic_ms: u64,
        /// How many requests.
        requests: u64,
        /// How many articles are read.
        articles: u64,
        /// Of 100 requests, how many have view ids.
        ids_percent: u64,
        /// Of 100 views, how many are by a user that MySQL refuses.
        poison_percent: u64,
        /// Whether the version before was here.
        is_upgrade: bool,
    }
}

impl Settings {
    /// Refuses a system in which nothing could ever happen.
    fn checked(self) -> Result<Self, String> {
        let Self { shards, masters, hosts, journal_bytes_max, poll_ms, transaction_views_max, ids_bytes_max, .. } =
            self;
        let Self { batch_views_max, traffic_ms, articles, .. } = self;
        let all = [
            shards.into(),
            masters.into(),
            journal_bytes_max,
            poll_ms,
            transaction_views_max,
            ids_bytes_max,
            traffic_ms,
            articles,
        ];
        match all.contains(&0) || hosts == 0 || batch_views_max == 0 {
            false => Ok(self),
            true => {
                Err("in a simulated setup only apply_ms, lease, timeouts, requests and percentages may be 0".to_owned())
            }
        }
    }
}

words! {
    /// Stores of several servers, one of which stands in for another.
    Topology {
        /// Redis as a master with two replicas, which three Sentinels watch; two shards.
        Sentinel "sentinel",
        /// Redis as a cluster of three masters with a replica each; four shards.
        Cluster "cluster",
        /// MySQL as a Galera cluster of three nodes; the ingests, and the flushers, are at different ones.
        Galera "galera",
    }
}

impl Topology {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sentinel, Self::Cluster, Self::Galera];
}

/// The system that is hurt. In the order in which the kinds of stack are used: those of few faults before that of most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setup {
    /// Three flushers that know nothing of each other.
    NoLeases,
    /// The journals are on a small disk of their own.
    SmallDisk,
    /// The drill can set the services' clock.
    Clock,
    /// As the usual one, on stores of several servers, with no proxies in front of them: nodes name each other to their
    /// clients.
    Several(Topology),
    /// Two ingests and two flushers with leases, `appendfsync always`.
    Usual,
    /// A simulated one, as these say.
    Simulated(Settings),
}

impl Setup {
    /// The stores of several servers, if it has such.
    #[must_use]
    pub fn topology(self) -> Option<Topology> {
        if let Self::Several(topology) = self { Some(topology) } else { None }
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeases => f.write_str("no-leases"),
            Self::SmallDisk => f.write_str("small-disk"),
            Self::Clock => f.write_str("clock"),
            Self::Usual => f.write_str("usual"),
            Self::Several(topology) => write!(f, "{topology}"),
            Self::Simulated(settings) => write!(f, "simulated {settings}"),
        }
    }
}

impl FromStr for Setup {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "no-leases" => Ok(Self::NoLeases),
            "small-disk" => Ok(Self::SmallDisk),
            "clock" => Ok(Self::Clock),
            "usual" => Ok(Self::Usual),
            _ => match text.strip_prefix("simulated ") {
                Some(settings) => settings.parse().and_then(Settings::checked).map(Self::Simulated),
                None => text.parse().map(Self::Several).map_err(|why: String| {
                    format!("{why}, and none of no-leases, small-disk, clock, usual, simulated ...")
                }),
            },
        }
    }
}
