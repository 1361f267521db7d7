//! Where a new view goes: decided in this one place, from what is known of the stores and of the journal. Pure.
//!
//! A mode is a situation that lasts. Whether a store happens to be busy at this moment is no part of it: that is for
//! [`Batcher::route`](super::Batcher) to look at.

use footfall_shared::protocol::errors::Class;

/// What one shard knows of the stores and of its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Health {
    /// Whether there is room for one more batch: in the journal, or in memory if the journal is off.
    pub(crate) has_room: bool,
    pub(crate) journal: JournalHealth,
    /// Whether the data set in Redis is open under an epoch that we know.
    pub(crate) is_open: bool,
    /// Why Redis is not used; none while it works.
    pub(crate) redis: Option<Class>,
    /// How many batches Redis is not known to have. One of them is normal: the one that is under way.
    pub(crate) backlog: u64,
    /// Why MySQL is not used; none while it works, or was not asked.
    pub(crate) mysql: Option<Class>,
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
    let reason = if redis.closes_mysql() || health.mysql.is_some_and(Class::closes_mysql) {
        Reason::MysqlClosed
    } else if redis == Class::CacheFull {
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
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use super::*;

    const WELL: Health =
        Health { has_room: true, journal: JournalHealth::Works, is_open: true, redis: None, backlog: 1, mysql: None };
    const WITHOUT_JOURNAL: Health = Health { journal: JournalHealth::Off, ..WELL };
    const REDIS_AWAY: Option<Class> = Some(Class::CacheDown);
    const REDIS_FULL: Option<Class> = Some(Class::CacheFull);
    const MYSQL_AWAY: Option<Class> = Some(Class::DbDown);
    /// MySQL is older than what it once confirmed. Whoever opens the data set in Redis finds that out.
    const MYSQL_OLDER: Option<Class> = Some(Class::DbBehind);

    /// The promise table, as far as it says where a new view goes: a row's failure, what ingest knows then, and the mode.
    const PROMISED: [(&str, Health, Mode); 19] = [
        ("a flusher is killed, stands still, or several run at once", WELL, Mode::Redis),
        ("a flusher is killed, stands still, or several run at once", WITHOUT_JOURNAL, Mode::Redis),
        (
            "Redis is killed, or comes back older or empty; ingest lives",
            Health { is_open: false, ..WELL },
            Mode::Opening,
        ),
        (
            "Redis is killed, or comes back older or empty; ingest lives",
            Health { backlog: 9, ..WELL },
            Mode::CatchingUp,
        ),
        ("an ingest is killed", WELL, Mode::Redis),
        ("Redis is away or full", Health { redis: REDIS_AWAY, ..WELL }, Mode::Direct(Reason::RedisAway)),
        ("Redis is away or full", Health { redis: REDIS_FULL, ..WELL }, Mode::Direct(Reason::RedisFull)),
        ("Redis is away or full", Health { redis: REDIS_AWAY, ..WITHOUT_JOURNAL }, Mode::Direct(Reason::RedisAway)),
        ("Redis is away or full", Health { redis: REDIS_FULL, ..WITHOUT_JOURNAL }, Mode::Direct(Reason::RedisFull)),
        ("MySQL is away, or read-only", Health { mysql: MYSQL_AWAY, ..WELL }, Mode::Redis),
        ("MySQL is away, or read-only", Health { mysql: MYSQL_AWAY, ..WITHOUT_JOURNAL }, Mode::Redis),
        (
            "both are away",
            Health { redis: REDIS_AWAY, mysql: MYSQL_AWAY, ..WELL },
            Mode::JournalOnly(Reason::RedisAway),
        ),
        (
            "both are away",
            Health { redis: REDIS_FULL, mysql: MYSQL_AWAY, ..WELL },
            Mode::JournalOnly(Reason::RedisFull),
        ),
        (
            "both are away",
            Health { redis: REDIS_AWAY, mysql: MYSQL_AWAY, ..WITHOUT_JOURNAL },
            Mode::Unavailable(Reason::RedisAway),
        ),
        ("the journal's disk is full", Health { has_room: false, ..WELL }, Mode::Full),
        ("MySQL refuses a row", WELL, Mode::Redis),
        (
            "MySQL is restored from an older backup",
            Health { redis: MYSQL_OLDER, ..WELL },
            Mode::JournalOnly(Reason::MysqlClosed),
        ),
        (
            "MySQL is restored from an older backup",
            Health { redis: REDIS_AWAY, mysql: MYSQL_OLDER, ..WELL },
            Mode::JournalOnly(Reason::MysqlClosed),
        ),
        (
            "MySQL is restored from an older backup",
            Health { redis: MYSQL_OLDER, ..WITHOUT_JOURNAL },
            Mode::Unavailable(Reason::MysqlClosed),
        ),
    ];

    /// The other rows: they are about views that were acknowledged before.
    const ABOUT_OLD_VIEWS: [&str; 3] = [
        "every process is killed at once",
        "all ingests are killed **and** Redis loses its data",
        "the journal's disk loses or damages records **and** Redis loses its data",
    ];

    #[test]
    fn each_promise_has_its_mode() {
        for (failure, health, expected) in PROMISED {
            assert_eq!(mode(&health), expected, "{failure}: {health:?}");
        }
    }

    /// What the promise table calls the place where a view is kept.
    fn home(mode: Mode) -> &'static str {
        match mode {
            Mode::Opening | Mode::Redis | Mode::CatchingUp => "Redis",
            Mode::Direct(_) => "MySQL directly",
            Mode::JournalOnly(_) => "journal",
            Mode::Unavailable(_) | Mode::Full => "503",
        }
    }

    /// The rows of the promise table, wherever in the documents it stands: failure -> what is lost, by column.
    fn promises() -> BTreeMap<String, Vec<String>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let documents = fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("an entry").path());
        let documents = documents.chain([root.join("README.md")]);
        let texts = documents.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
        let texts = texts.map(|path| fs::read_to_string(path).expect("text"));
        let begin = "| failure | journal, `always` |";
        let text = texts.into_iter().find(|text| text.contains(begin)).expect("a document has the promise table");
        let rows = text.lines().skip_while(|line| !line.starts_with(begin)).skip(2);
        rows.map_while(|line| {
            let mut cells = line.strip_prefix("| ")?.split('|').map(|cell| cell.trim().to_owned());
            Some((cells.next()?, cells.collect()))
        })
        .collect()
    }

    #[test]
    fn the_documents_promise_the_same() {
        let promises = promises();
        for failure in promises.keys() {
            let is_known = PROMISED.iter().any(|(known, ..)| known == failure) || ABOUT_OLD_VIEWS.contains(&&**failure);
            assert!(is_known, "which mode is this? {failure}");
        }
        for (failure, health, mode) in PROMISED {
            let cells = promises.get(failure).unwrap_or_else(|| panic!("the promise table has no row `{failure}`"));
            let columns = if health.journal == JournalHealth::Off { 2..4 } else { 0..2 };
            for cell in &cells[columns] {
                if let Some(place) = cell.strip_prefix("none lost: ") {
                    assert_eq!(home(mode), place, "{failure}: {mode:?}");
                }
            }
        }
    }

    /// The journal's failures change what is acknowledged and what is shown, not where views go.
    #[test]
    fn room_comes_first_and_a_failing_disk_changes_nothing() {
        for (_, health, expected) in PROMISED {
            assert_eq!(mode(&Health { has_room: false, ..health }), Mode::Full);
            if health.journal == JournalHealth::Works {
                assert_eq!(mode(&Health { journal: JournalHealth::Fails, ..health }), expected);
            }
        }
    }
}
