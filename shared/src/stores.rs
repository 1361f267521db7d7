//! What needs both stores.

pub mod books;
mod check;
pub mod reads;
pub mod recovery;

pub use check::check;
