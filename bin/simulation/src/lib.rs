//! Footfall's own code in a world that fails: the batchers, the adopters and the flushers of the real programs, with
//! their real scripts, on a Redis, a MySQL and disks that exist in memory only, lose requests and answers, restart with
//! older data, run full, fall silent, lie damaged and lose power, on a clock that stands still unless all wait.
//!
//! Everything that happens follows from a seed, so that what went wrong once can be looked at again. At the end all
//! faults are taken away, and an oracle compares what clients were told with what MySQL holds.
//!
//! What the oracle allows to be lost it computes from what has happened: a batch whose record no journal has any more,
//! because the power was cut before the record was on the disk, or because the disk damaged it, or because there was no
//! journal and the process died; *and* that Redis does not have either, because it lost data since. Nothing is ever
//! allowed to be counted twice, but for one thing: Redis alone remembers view ids, so a client that repeats a view
//! with an id may be counted again if Redis lost data after the first try.
//!
//! Not simulated: SQL (transactions are atomic here; what they decide is the real code), the interleaving of threads,
//! HTTP, and reads.

pub mod books;
pub mod clients;
pub mod dice;
pub mod disk;
pub mod keyspace;
pub mod lua;
pub mod mutants;
pub mod mysql;
pub mod oracle;
pub mod plan;
pub mod processes;
pub mod redis;
pub mod run;
pub mod stage;
pub mod trace;

pub use mutants::Mutant;
pub use run::{Report, run};
