//! What the tests of this crate are made of: views, clients, and a journal on a disk in memory.

use std::sync::Arc;

use footfall_journal::{Journal, Life, Limits};
use footfall_shared::protocol::packed::Packed;
use footfall_shared::protocol::{Article, Batch, Producer, User, View, ViewId};
use tokio::sync::Semaphore;

use crate::intake::{Acknowledgement, Submission};

#[path = "../../../shared/journal/tests/journal/disk.rs"]
#[expect(dead_code, reason = "the journal's own tests let it fail in more ways")]
mod disk;

pub(crate) use disk::FakeDisk;

pub(crate) const PRODUCER: Producer = Producer(7);
pub(crate) const MINUTE: u32 = 29_000_000;
/// A few batches of a few views.
pub(crate) const SEGMENT_BYTES: u64 = 4096;

/// A journal that may take so many bytes.
pub(crate) fn journal(disk: &FakeDisk, bytes_max: u64) -> Journal {
    let life = Life::begin(Arc::new(disk.clone()), &PRODUCER.to_string()).expect("nobody has that name");
    Journal::new(&life, 0, Limits { bytes_max, segment_bytes: SEGMENT_BYTES, ..Limits::default() })
}

/// A view of `a`; with an id unless that is empty.
pub(crate) fn view(user: &str, id: &str) -> View {
    View {
        article: Article::parse(b"a").expect("an id"),
        user: User::parse(user.as_bytes()).expect("an id"),
        id: (!id.is_empty()).then(|| ViewId::parse(id.as_bytes()).expect("an id")),
    }
}

/// A batch with one view, which has an id unless that is empty.
pub(crate) fn batch(number: u64, id: &str) -> Batch {
    Batch::fold(PRODUCER, number, number - 1, MINUTE, vec![view("u", id)])
}

pub(crate) fn packed(number: u64) -> Packed {
    Packed::new(batch(number, ""))
}

/// What a client hands in, and where it waits.
pub(crate) fn submission(views: Vec<View>) -> (Submission, Acknowledgement) {
    let permits = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("there is one");
    Submission::new(views, permits)
}
