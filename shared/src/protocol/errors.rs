//! Every error in one of a few classes: what it means, how bad it is, and so what is done about it. An error says itself
//! which class it is in, where it is defined; [`MEANINGS`] says what follows from that.

use std::io;

/// How severe an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It passes by itself, and nobody notices.
    Info,
    /// Everything is counted, but more slowly, or with one store less.
    Degraded,
    /// Somebody must act.
    Critical,
}

/// What kind of error it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorClass {
    /// Redis is busy, or did not answer in time. Whether it acted is not known.
    CacheTransient,
    /// Redis cannot be reached.
    CacheDown,
    /// Redis answers, and takes no writes: not the master any more, or its disk fails.
    CacheReadOnly,
    /// Redis has no memory left. It says so before it writes anything.
    CacheFull,
    /// What Redis holds does not add up.
    CacheCorrupt,
    /// Deadlock, lock time-out: nothing was written.
    DbTransient,
    /// MySQL cannot be reached, takes no writes, or did not answer in time.
    DbDown,
    /// MySQL refuses a row.
    DbPoison,
    /// The tables are not as this build needs them, or may not be used.
    DbSchema,
    /// MySQL refuses for a reason that is in none of our lists. It may pass, and it may be about a row.
    DbUnknown,
    /// MySQL lacks what it once confirmed.
    DbBehind,
    /// The disk has no room left.
    DiskFull,
    /// The disk fails.
    DiskFailing,
}

/// What one class of errors means.
#[derive(Debug)]
pub struct Meaning {
    /// Which one.
    pub class: ErrorClass,
    /// Its name in metrics.
    pub name: &'static str,
    /// How severe it is.
    pub severity: Severity,
    /// What is done about it.
    pub action: &'static str,
    /// What the client sees of it.
    pub client: &'static str,
}

const fn meaning(
    class: ErrorClass,
    name: &'static str,
    severity: Severity,
    action: &'static str,
    client: &'static str,
) -> Meaning {
    Meaning { class, name, severity, action, client }
}

/// All classes, in the order of [`ErrorClass`].
pub const MEANINGS: [Meaning; 13] = [
    meaning(
        ErrorClass::CacheTransient,
        "cache_transient",
        Severity::Info,
        "the same batch number again, 3 tries, then as `cache_down`",
        "latency",
    ),
    meaning(
        ErrorClass::CacheDown,
        "cache_down",
        Severity::Degraded,
        "breaker; new batches go to MySQL directly, unknown ones wait in the journal",
        "204",
    ),
    meaning(ErrorClass::CacheReadOnly, "cache_read_only", Severity::Degraded, "as `cache_down`", "204"),
    meaning(
        ErrorClass::CacheFull,
        "cache_full",
        Severity::Degraded,
        "new batches go to MySQL directly, those with ids wait in the journal until there is room",
        "204, then 503",
    ),
    meaning(
        ErrorClass::CacheCorrupt,
        "cache_corrupt",
        Severity::Critical,
        "the data set is set aside, ingest sends again what MySQL lacks; never guess",
        "204",
    ),
    meaning(
        ErrorClass::DbTransient,
        "db_transient",
        Severity::Info,
        "roll back, the whole transaction again: 3 times at once, then after pauses",
        "nothing",
    ),
    meaning(ErrorClass::DbDown, "db_down", Severity::Degraded, "Redis accumulates", "204; cold reads say `degraded`"),
    meaning(
        ErrorClass::DbPoison,
        "db_poison",
        Severity::Degraded,
        "bisect, quarantine in the same transaction",
        "nothing",
    ),
    meaning(
        ErrorClass::DbSchema,
        "db_schema",
        Severity::Critical,
        "nothing is written until the tables are as this build needs them; Redis accumulates",
        "204; cold reads say `degraded`",
    ),
    meaning(
        ErrorClass::DbUnknown,
        "db_unknown",
        Severity::Degraded,
        "the whole transaction again, 4 tries, then as `db_poison`",
        "nothing",
    ),
    meaning(
        ErrorClass::DbBehind,
        "db_behind",
        Severity::Critical,
        "the shard stands still: MySQL is older than what it once confirmed",
        "204, then 503",
    ),
    meaning(
        ErrorClass::DiskFull,
        "disk_full",
        Severity::Critical,
        "nothing is acknowledged that only the disk would hold",
        "503",
    ),
    meaning(ErrorClass::DiskFailing, "disk_failing", Severity::Critical, "as `disk_full`", "503"),
];

const _: () = assert!(ErrorClass::DiskFailing as usize + 1 == MEANINGS.len(), "a class has no row");

impl ErrorClass {
    /// What it means.
    #[must_use]
    pub fn meaning(self) -> &'static Meaning {
        &MEANINGS[self as usize]
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(self) -> Severity {
        self.meaning().severity
    }

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.meaning().name
    }

    /// MySQL must not be written to, neither through Redis nor directly, until a person has acted.
    #[must_use]
    pub fn closes_mysql(self) -> bool {
        matches!(self, Self::DbSchema | Self::DbBehind)
    }

    /// Whether a row may be what MySQL refuses: then it is looked for, after a while.
    #[must_use]
    pub(crate) fn may_be_a_row(self) -> bool {
        matches!(self, Self::DbPoison | Self::DbUnknown)
    }
}

/// An error that can be graded.
pub trait Grade {
    /// Its class.
    fn class(&self) -> ErrorClass;
}

impl Grade for io::Error {
    fn class(&self) -> ErrorClass {
        match self.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                ErrorClass::DiskFull
            }
            _ => ErrorClass::DiskFailing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_row() {
        println!("| class | severity | what is done | what the client sees |\n| --- | --- | --- | --- |");
        for (at, Meaning { class, name, severity, action, client }) in MEANINGS.iter().enumerate() {
            println!("| `{name}` | {severity:?} | {action} | {client} |");
            assert_eq!(*class as usize, at, "{name} stands in the place of another");
            assert_eq!(MEANINGS.iter().filter(|other| other.name == *name).count(), 1, "{name} is there twice");
        }
    }

    #[test]
    fn disk_errors_are_graded() {
        assert_eq!(io::Error::from(io::ErrorKind::StorageFull).class(), ErrorClass::DiskFull);
        assert_eq!(io::Error::other("I/O").class(), ErrorClass::DiskFailing);
    }
}
