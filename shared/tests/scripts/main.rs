//! Each script, on a real Redis.

mod append;
mod bases;
mod carry;
mod common;
mod follow;
mod full;
mod look;
mod reopen;
