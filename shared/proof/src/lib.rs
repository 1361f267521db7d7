//! The vocabulary of everything that puts Footfall to the proof: the model, the simulation, the drill and `verify`.
//!
//! A [`Fault`] is data. A [`Plan`] says which faults happen when, under which load, and has a text form
//! that can be saved and given back. A [`World`], of real servers or a simulated one, carries a plan out, and [`judge`]
//! says whether what came of it is what was promised. [`Invariant`] lists what must hold at any moment.
//!
//! No dependencies: the drill, which starts real servers, and the simulation, which has the real code in one process,
//! have nothing else in common.
//!
//! [`Plan::from_str`]: std::str::FromStr::from_str

mod catalogue;
mod dice;
mod fault;
mod invariants;
mod judge;
pub mod ledger;
mod plan;
mod setup;
mod shards;
mod step;
mod text;
mod values;
mod world;

pub use catalogue::{FENCE_FORGOTTEN, Recipe, Scale, all, find, of};
pub use dice::Dice;
pub use fault::Fault;
pub use invariants::Invariant;
pub use judge::{Expect, Findings, Tally, judge};
pub use plan::Plan;
pub use setup::{Load, Settings, Setup, Topology};
pub use shards::ShardSeen;
pub use step::PlannedFault;
pub use values::{
    Damage, Fate, Hurt, Lag, Loss, Moment, Network, Outage, Point, Restart, SlotEnd, Store, Who, WriteMode,
};
pub use world::{CarriedOut, NotDone, World, carry_out};
