//! Footfall's own code in a world that fails: the batchers, the adopters, the flushers and the reads of the real programs, with
//! their real scripts, on a Redis, a MySQL and disks that exist in memory only, lose requests and answers, restart with
//! older data, run full, fall silent, lie damaged and lose power, on a clock that stands still unless all wait.
//!
//! Everything that happens follows from a [plan](footfall_proof::Plan) and its seed, so that what went wrong once can be
//! looked at again. The plan is a random one, or one of the drill, which had real servers. At the end all faults are
//! taken away, and what clients were told is compared with what MySQL holds.
//!
//! What may be lost is computed from what has happened: a batch whose record no journal has any more,
//! because the power was cut before the record was on the disk, or because the disk damaged it, or because there was no
//! journal and the process died; *and* that Redis does not have either, because it lost data since. Nothing is ever
//! allowed to be counted twice, but for one thing: Redis alone remembers view ids, so a client that repeats a view
//! with an id may be counted again if Redis lost data after the first try.
//!
//! Somebody reads numbers all the time: what is shown as the whole must be what both stores hold, as seen from outside,
//! and a cached base that is served must be what MySQL had at its position (I8). Some worlds begin with what the version
//! before has left, while one of its ingests still sends.
//!
//! Not simulated: SQL (transactions are atomic here; what they decide is the real code), the interleaving of threads,
//! and HTTP.

pub mod before;
pub mod books;
pub mod clients;
pub mod disk;
pub mod judge;
pub mod keyspace;
pub mod lua;
pub mod mutants;
pub mod mysql;
pub mod processes;
pub mod readers;
pub mod redis;
pub mod run;
pub mod stage;
pub mod storm;
pub mod trace;
pub mod world;

pub use mutants::Mutant;
pub use run::{Report, run, run_plan};
pub use storm::storm;
