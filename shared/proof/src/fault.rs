//! Everything that can be done to a world, as data.

use std::fmt;
use std::str::FromStr;

use crate::setup::Topology;
use crate::text::Fields;
use crate::values::{
    Damage, Fate, Hurt, Lag, Loss, Moment, Network, Outage, Point, Restart, SlotEnd, Store, Who, WriteMode,
};

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $name:ident $word:literal {
        $($(#[doc = $field_doc:literal])+ $field:ident: $kind:ty,)*
    })+) => {
        /// One thing that goes wrong. How long it lasts says the [`PlannedFault`](crate::PlannedFault) that it is in.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Fault {
            $($(#[doc = $doc])+ $name {
                $($(#[doc = $field_doc])+ $field: $kind,)*
            },)+
        }

        /// A word and `key=value`.
        impl fmt::Display for Fault {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name { $($field),* } => {
                        f.write_str($word)?;
                        $(write!(f, concat!(" ", stringify!($field), "={}"), $field)?;)*
                        Ok(())
                    })+
                }
            }
        }

        impl FromStr for Fault {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let (word, fields) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
                let mut fields = Fields::parse(fields)?;
                let fault = match word {
                    $($word => Self::$name { $($field: fields.take(stringify!($field))?),* },)+
                    _ => return Err(format!("{word:?} is not a fault")),
                };
                fields.end()?;
                Ok(fault)
            }
        }
    };
}

faults! {
    /// Processes are killed, and started again at the end.
    Kill "kill" {
        /// Which.
        who: Who,
    }
    /// A process is killed when it comes to a step, and started again at the end.
    KillAt "kill-at" {
        /// Which.
        who: Who,
        /// The step.
        point: Point,
        /// When in it.
        moment: Moment,
        /// What becomes of the message that is under way.
        fate: Fate,
    }
    /// A process is asked to end (SIGTERM); another one is started at the end.
    Terminate "terminate" {
        /// Which.
        who: Who,
    }
    /// Processes stand still with all their connections open.
    Pause "pause" {
        /// Which.
        who: Who,
    }
    /// A process stands still from a step on.
    PauseAt "pause-at" {
        /// Which.
        who: Who,
        /// The step.
        point: Point,
        /// When in it.
        moment: Moment,
    }
    /// Every service and both stores are restarted in order, one by one.
    RollingRestart "rolling-restart" {}
    /// A host loses its power; its ingests come back at the end.
    PowerCut "power-cut" {
        /// Which.
        host: usize,
    }
    /// The time of day jumps, for Redis and for the services; for the services until the end.
    Clocks "clocks" {
        /// By how many milliseconds.
        redis_ms: i64,
        /// By how many milliseconds.
        services_ms: i64,
    }

    /// Redis is killed, and comes back at the end.
    RedisRestart "redis-restart" {
        /// With this.
        data: Restart,
    }
    /// Redis stands still with all its connections open.
    RedisPause "redis-pause" {}
    /// Redis's `appendfsync` is this from here on, until it is restarted.
    RedisFsync "redis-fsync" {
        /// 0 for `no`, 1 for `everysec`, 2 for `always`.
        policy: u64,
    }
    /// FLUSHALL.
    FlushAll "flushall" {}
    /// A replica takes over; its clients find it one after the other.
    FailOver "fail-over" {
        /// So many writes are missing in it.
        lag_writes: u64,
        /// The last client finds it after a multiple of this.
        spread_ms: u64,
    }
    /// Processes are led to a replica of Redis, which is behind and takes no writes, while all others use the master.
    ReplicaAnswers "replica-answers" {
        /// Which.
        who: Who,
        /// So many writes are missing in it.
        lag_writes: u64,
    }
    /// The slots of all shards move to another master with all their keys; if it lasts, they are back at the end.
    SlotsMoved "slots-moved" {}
    /// Redis refuses writes.
    RedisWrites "redis-writes" {
        /// Which.
        mode: WriteMode,
    }
    /// Something in Redis is damaged.
    RedisDamage "redis-damage" {
        /// What, follows from this.
        dice: u64,
    }

    /// The master that has a shard is lost to it. At the end the server is there again.
    MasterLost "master-lost" {
        /// Whose.
        shard: u16,
        /// How.
        how: Loss,
    }
    /// The replicas of the master that has a shard fall behind, until the end.
    ReplicasBehind "replicas-behind" {
        /// Whose.
        shard: u16,
        /// How.
        how: Lag,
    }
    /// The slot of a shard moves to the next master of a cluster, and so on.
    SlotMoved "slot-moved" {
        /// Whose.
        shard: u16,
        /// How often.
        times: u64,
    }
    /// The slot of a shard begins to move to the next master of a cluster, and is left so until the end.
    SlotHalfMoved "slot-half-moved" {
        /// Whose.
        shard: u16,
        /// What becomes of it.
        end: SlotEnd,
    }
    /// A node of a cluster of MySQL is out of action, until the end.
    NodeOut "node-out" {
        /// Which.
        node: usize,
        /// How.
        how: Outage,
    }
    /// `footfall init` is run several times at once; in a cluster of MySQL at its nodes in turn.
    Inits "inits" {
        /// So often.
        count: usize,
    }

    /// MySQL is killed, and started again at the end.
    MysqlRestart "mysql-restart" {}
    /// MySQL stands still with all its connections open.
    MysqlPause "mysql-pause" {}
    /// MySQL refuses writes.
    MysqlReadOnly "mysql-read-only" {}
    /// MySQL comes back from a backup; its newest data are back at the end.
    MysqlOlder "mysql-older" {
        /// So long after the first flush that the backup does not have.
        after_ms: u64,
    }
    /// Another session takes the same locks in the opposite order.
    Deadlocks "deadlocks" {
        /// So often.
        times: u64,
    }
    /// Another session holds the shard's lock.
    LockHeld "lock-held" {
        /// For how long.
        ms: u64,
    }
    /// The sessions that are in the middle of a transaction are killed.
    SessionsKilled "sessions-killed" {}
    /// MySQL refuses the rows of some users.
    Poison "poison" {}
    /// MySQL forgets that a flush was committed, before the flusher has heard of it: the fence is put back to where it
    /// was. Nothing may live through that; it shows that the judge notices what the fence prevents.
    FenceForgotten "fence-forgotten" {}

    /// The way to a store is bad.
    Network "network" {
        /// To which.
        store: Store,
        /// For whom.
        who: Who,
        /// How.
        state: Network,
    }
    /// Single messages are hurt.
    Messages "messages" {
        /// Whose.
        who: Who,
        /// In which step.
        point: Point,
        /// How.
        hurt: Hurt,
        /// How many of each process.
        times: u64,
    }

    /// A disk of journals has no room.
    DiskFull "disk-full" {
        /// Of which host.
        host: usize,
    }
    /// Writes and fsyncs of journals fail.
    DiskFails "disk-fails" {
        /// Of which host.
        host: usize,
        /// So many of 100 writes.
        writes: u64,
        /// So many of 100 fsyncs.
        syncs: u64,
    }
    /// Journals are damaged.
    JournalDamage "journal-damage" {
        /// Of which host.
        host: usize,
        /// How.
        how: Damage,
        /// Where, follows from this.
        dice: u64,
    }
}

impl Fault {
    /// Whether a stack on stores of several servers can do it: there is no proxy, and the store that it means is a single one.
    #[must_use]
    pub fn suits(&self, topology: Topology) -> bool {
        match self {
            Self::Kill { .. } | Self::Terminate { .. } | Self::Pause { .. } | Self::Inits { .. } => true,
            Self::MasterLost { .. } | Self::ReplicasBehind { .. } => topology != Topology::Galera,
            Self::SlotMoved { .. } | Self::SlotHalfMoved { .. } => topology == Topology::Cluster,
            Self::NodeOut { .. } => topology == Topology::Galera,
            Self::RedisRestart { .. } | Self::RedisPause {} | Self::RedisFsync { .. } | Self::FlushAll {} => {
                topology == Topology::Galera
            }
            Self::MysqlRestart {} | Self::MysqlPause {} | Self::MysqlReadOnly {} => topology != Topology::Galera,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_as_it_was_written() {
        for fault in [
            Fault::FlushAll {},
            Fault::Kill { who: Who::Ingest(1) },
            Fault::KillAt { who: Who::Flushers, point: Point::Commit, moment: Moment::Reply, fate: Fate::Lost },
            Fault::RedisRestart { data: Restart::WithoutTail(7) },
            Fault::ReplicaAnswers { who: Who::Flusher(1), lag_writes: 20 },
            Fault::SlotsMoved {},
            Fault::Clocks { redis_ms: -5, services_ms: 8 },
            Fault::MasterLost { shard: 3, how: Loss::Hung },
            Fault::SlotHalfMoved { shard: 0, end: SlotEnd::TakenBack },
            Fault::NodeOut { node: 2, how: Outage::Behind },
            Fault::Network {
                store: Store::MySql,
                who: Who::All,
                state: Network { lost_request: 15, slow_ms: 20, ..Network::default() },
            },
            Fault::Messages { who: Who::Ingests, point: Point::Apply, hurt: Hurt::CutRequest(500), times: 3 },
        ] {
            assert_eq!(fault.to_string().parse(), Ok(fault), "{fault}");
        }
        let text = "kill-at who=flushers point=commit moment=reply fate=lost";
        assert_eq!(text.parse::<Fault>().map(|fault| fault.to_string()).as_deref(), Ok(text));
    }

    #[test]
    fn what_is_no_fault_is_refused_with_the_reason() {
        for (text, why) in [
            ("explode", "is not a fault"),
            ("kill", "who= is missing"),
            ("kill who=nobody", "is none of all"),
            ("kill who=ingest:x", "is not a number"),
            ("flushall who=all", "is not known here"),
            ("kill all", "is not key=value"),
        ] {
            let error = text.parse::<Fault>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
