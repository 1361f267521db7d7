//! What needs both stores.

mod check;
pub mod reads;
pub mod recovery;

pub use check::check;
