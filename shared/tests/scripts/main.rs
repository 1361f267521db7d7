//! Each script, on a real Redis.

mod carry;
mod common;
mod full;
