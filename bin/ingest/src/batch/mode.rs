//! Where a new view goes: decided in this one place, from what is known of the stores and of the journal. Pure.
//!
//! A mode is a situation that lasts. Whether a store happens to be busy at this moment is no part of it: that is for
//! [`Batcher::route`](super::Batcher) to look at.

use footfall_shared::protocol::errors::ErrorClass;

/// What one shard knows of the stores and of its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Health {
    /// Whether there is room for one more batch: in the journal, or in memory if the journal is off.
    pub(crate) has_room: bool,
    pub(crate) journal: JournalHealth,
    /// Whether the data set in Redis is open under an epoch that we know.
    pub(crate) is_open: bool,
    /// Why Redis is not used; none while it works.
    pub(crate) redis: Option<ErrorClass>,
    /// How many batches Redis is not known to have. One of them is normal: the one that is under way.
    pub(crate) backlog: u64,
    /// Why MySQL is not used; none while it works, or was not asked.
    pub(crate) mysql: Option<ErrorClass>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JournalHealth {
    Off,
    Works,
    Fails,
}

/// Where new views go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// To Redis, as soon as its data set is open.
    Opening,
    /// To Redis.
    Redis,
    /// To the journal first and then to Redis, because batches before them are still on their way there.
    CatchingUp,
    /// To MySQL, without Redis.
    Direct(Reason),
    /// To the journal, until there is a store again.
    JournalOnly(Reason),
    /// Nowhere: there is neither a store nor a journal. Clients wait, and get 503 when their time is up.
    Unavailable(Reason),
    /// Nowhere: there is no room. Clients get 503 at once.
    Full,
}

/// Why new views cannot go to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    RedisAway,
    RedisFull,
    /// Nothing may be written to MySQL, on whichever path, until a person has acted.
    MysqlClosed,
}

/// Where new views go, given what is known.
pub(crate) fn mode(health: &Health) -> Mode {
    if !health.has_room {
        return Mode::Full;
    }
    let Some(redis) = health.redis else {
        return match health {
            Health { backlog: 2.., .. } => Mode::CatchingUp,
            Health { is_open: false, .. } => Mode::Opening,
            _ => Mode::Redis,
        };
    };
    let reason = if redis.closes_mysql() || health.mysql.is_some_and(ErrorClass::closes_mysql) {
        Reason::MysqlClosed
    } else if redis == ErrorClass::CacheFull {
        Reason::RedisFull
    } else {
        Reason::RedisAway
    };
    match health {
        // A full Redis is like one that is away. MySQL says by itself whether it is what keeps Redis full.
        Health { mysql: None, .. } if reason != Reason::MysqlClosed => Mode::Direct(reason),
        Health { journal: JournalHealth::Off, .. } => Mode::Unavailable(reason),
        _ => Mode::JournalOnly(reason),
    }
}

#[cfg(test)]
mod tests;
