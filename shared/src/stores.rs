//! What needs both stores.

pub mod reads;
pub mod recovery;
