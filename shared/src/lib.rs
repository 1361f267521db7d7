//! What the processes of Footfall share, in rooms with arrows in one direction:
//!
//! | room | what is in it | which rooms it may use |
//! | --- | --- | --- |
//! | [`protocol`] | the words of the counting protocol: ids, batches, positions, keys, kinds of errors; pure | none |
//! | [`service`] | how a process is configured, lives, is watched, and answers over HTTP | `protocol` |
//! | [`redis`] | the log in Redis, and what is cached beside it | `protocol`, `service` |
//! | [`mysql`] | where views are counted for good | `protocol`, `service` |
//! | [`stores`] | what needs both stores: recovery, cache-first reads | all |

// They panic when nobody reads, or a disk is full.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod mysql;
pub mod protocol;
pub mod redis;
pub mod service;
pub mod stores;
