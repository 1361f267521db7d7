//! A bounded, checksummed log on disk: where batches of views survive a crash of the process that took them.
//!
//! Each life of an ingest process, named by 16 random hex digits, has a folder of its own and in it one [`Journal`] per
//! shard. A batch is appended before it is sent anywhere. One write into the page cache is enough to survive `kill -9`;
//! surviving a power cut takes an fsync, which only happens when it is asked for ([`Journal::sync`]) and then covers
//! everything that was appended before. When MySQL has a batch its record is released, and a segment file goes when
//! nothing in it is needed any more. What a dead life left behind is found by [`adopt`] and read by a living one.
//!
//! A payload is opaque here. It may be found again more than once (appended again after a failed fsync) or after its
//! release (a neighbour in its segment is still needed): whoever reads it must know it by a number of its own.
//!
//! # On disk
//!
//! ```text
//! <root>/<life>/lock                          held with flock while the life, or whoever adopted it, is alive
//! <root>/<life>/s<shard>-<sequence>.journal   a segment; all of its space is allocated, unused space is zeros
//! <root>/damaged/...                          what could not be read, kept for a person to look at
//! ```
//!
//! All numbers are little-endian; records begin at multiples of 8 bytes.
//!
//! | segment  | bytes | what                                                              |
//! |----------|-------|-------------------------------------------------------------------|
//! | 0        | 8     | `FOOTFALL`                                                        |
//! | 8        | 4     | version of the format: 1                                          |
//! | 12       | 4     | shard                                                             |
//! | 16       | 8     | life                                                              |
//! | 24       | 4     | sequence                                                          |
//! | 28       | 4     | CRC-32C of the 28 bytes before                                    |
//! | 32       |       | records                                                           |
//!
//! | record   | bytes | what                                                              |
//! |----------|-------|-------------------------------------------------------------------|
//! | 0        | 4     | mark: the header's CRC with the lowest bit set, so never zero     |
//! | 4        | 4     | length of the payload                                             |
//! | 8        | 4     | CRC-32C of mark, offset in the segment, length, payload           |
//! | 12       |       | payload, then zeros up to a multiple of 8                         |
//!
//! A record is valid only in the place it was written to: mark and CRC depend on the random name of the life, on the
//! segment and on the offset. So nobody who can choose what is in a payload can plant a record for the search behind a
//! damaged one to find, and old bytes in the wrong place are not mistaken for records.

// They panic when nobody reads, or a disk is full.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod adopt;
mod disk;
mod journal;
mod life;
mod look;
mod segment;
mod sync;

pub use adopt::{DAMAGED_BYTES_MAX, DAMAGED_FILES_MAX, DeadJournal, DeadLife, adopt};
pub use disk::{Disk, DiskFile, Folder};
pub use journal::{AppendError, Journal, Limits};
pub use life::Life;
pub use look::{LifeSeen, Look, Space};
pub use segment::{Damage, Location};
pub use sync::{SyncJob, SyncResult};
