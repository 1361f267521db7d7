//! What the processes of Footfall share: the words of the protocol, the queue in Redis, the store in
//! MySQL, and how a process is configured, lives, and is watched.

// They panic when nobody reads, or a disk is full.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod bots;
pub mod breaker;
pub mod clock;
pub mod config;
pub mod contain;
pub mod counter;
pub mod follower;
pub mod grading;
pub mod http;
pub mod keys;
pub mod lifecycle;
pub mod limit;
pub mod logs;
pub mod origins;
pub mod packed;
pub mod paths;
pub mod presence;
pub mod proxies;
mod proxy_header;
pub mod queue;
pub mod random;
pub mod reads;
pub mod recovery;
pub mod store;
pub mod telemetry;
