//! Faults on purpose, on private stores: what `cargo xtask chaos` and `footfall drill` do.
//!
//! A [`Campaign`] carries out [plans](footfall_proof::Plan) on real servers and judges them by the ledger of
//! `footfall load`, which lives outside of everything that is hurt. A [`Soak`] does little to it, but for hours, and looks
//! whether anything grows. [`stack`] starts all of Footfall, for
//! `cargo xtask up` and the tests too.

mod campaign;
mod http;
mod lab;
mod load;
pub mod packages;
mod probe;
mod report;
mod run;
mod scripts;
mod setting;
mod several;
mod shards;
mod soak;
pub mod stack;
mod usage;
mod verify;
mod world;

pub use campaign::{Campaign, Event, Outcomes};
pub use report::{failures, line, list, table, table_of_shards};
pub use run::{Measured, RunOutcome, Verdict};
pub use soak::{Soak, Soaked};

/// A seed for a campaign that was given none; short enough to be typed.
pub fn random_seed() -> u64 {
    rand::random::<u32>().into()
}
