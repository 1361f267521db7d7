//! Faults on purpose, on private stores: what `cargo xtask chaos` and `footfall drill` do.
//!
//! A [`Fault`] is something that is done to a running stack; a [`Plan`] says which are done in one run, and when; a
//! [`Campaign`] carries out plans and judges them by the ledger of `footfall load`, which lives outside of everything
//! that is hurt. [`stack`] starts all of Footfall, for `cargo xtask up` and the tests too.

mod campaign;
mod fault;
mod http;
mod lab;
mod load;
pub mod packages;
mod plan;
mod probe;
mod report;
mod run;
mod scripts;
mod setting;
pub mod stack;
mod verify;

pub use campaign::{Campaign, Event, Outcomes};
pub use fault::{Expect, Fault, all, find};
pub use lab::Scale;
pub use plan::Plan;
pub use report::{failures, line, list, table};
pub use run::{Measured, Outcome, Verdict};
pub use setting::Setting;

/// A seed for a campaign that was given none; short enough to be typed.
pub fn random_seed() -> u64 {
    rand::random::<u32>().into()
}
