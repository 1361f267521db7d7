//! What Redis and the journal hold: packed batches, and records of them.

use std::sync::Arc;

use footfall_shared::protocol::packed::{Packed, Path, Record, decode, decode_record, encode, encode_record};
use footfall_shared::protocol::{Batch, VIEWS_MAX, total};
use footfall_shared::redis::Entry;

/// With the version and the checksum that make it a batch of this build, which no fuzzer would find.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = [&[3], bytes].concat();
    let crc = crc32c::crc32c(&sealed);
    sealed.extend_from_slice(&crc.to_le_bytes());
    sealed
}

pub(crate) fn batch(bytes: &[u8]) {
    check_batch(bytes);
    check_batch(&sealed(bytes));
}

fn check_batch(bytes: &[u8]) {
    let decoded = decode(bytes);
    let entry = Entry { position: 1, came_ms: 0, packed: bytes.into() };
    let views_of_articles = entry.views_of_articles();
    let Ok(batch) = decoded else { return };
    assert_bounds(&batch, bytes.len());
    assert_eq!(decode(&encode(&batch)).as_ref(), Ok(&batch), "written and read again");
    let of_articles = total(views_of_articles.expect("it is a batch").into_iter().map(|(_, views)| views));
    assert_eq!(of_articles, batch.views(), "both ways to count it");
    // As one reads it from the log.
    let entry = [b"7:9:", bytes].concat();
    let entry = Entry::parse(1, &entry).expect("an entry");
    assert_eq!((entry.came_ms, &*entry.packed), (7, bytes));
}

fn assert_bounds(batch: &Batch, bytes: usize) {
    assert!(batch.rows.len() <= bytes, "a row takes room");
    assert!((1..=VIEWS_MAX).contains(&batch.number) && batch.cumulative_views <= VIEWS_MAX, "{batch:?}");
    assert!(batch.numbered_views() <= batch.cumulative_views, "{batch:?}");
    assert!(batch.rows.iter().all(|row| row.views > 0), "{batch:?}");
}

/// The bytes as a record, and as a batch in a record.
pub(crate) fn record(bytes: &[u8]) {
    check_record(bytes);
    let Some((path, rest)) = bytes.split_first() else { return };
    // The length of the batch, then the batch, then ids.
    let Some((length, rest)) = rest.split_first() else { return };
    let (batch, ids) = rest.split_at(usize::from(*length).min(rest.len()));
    let batch = sealed(batch);
    let mut record = vec![path & 1, 0];
    let mut length = batch.len();
    while length >= 0x80 {
        record.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    record.push(length as u8);
    record.extend_from_slice(&batch);
    record.extend_from_slice(ids);
    check_record(&record);
}

fn check_record(bytes: &[u8]) {
    let Ok(record) = decode_record(bytes) else { return };
    let Record { path, stored, batch } = &record;
    assert!(*stored <= VIEWS_MAX && batch.ids.len() <= bytes.len(), "{record:?}");
    assert_eq!(decode_record(&encode_record(*path, *stored, batch)).as_ref(), Ok(&record), "written and read again");
    let unpacked = batch.batch().expect("it was read");
    assert_bounds(&unpacked, bytes.len());
    for other in [Path::Redis, Path::Direct] {
        let packed = Packed::new(unpacked.clone());
        let again = decode_record(&encode_record(other, *stored, &packed)).expect("it was written");
        assert_eq!((again.path, again.batch.batch().as_ref()), (other, Ok(&unpacked)));
    }
    // A repeat that was counted before is left out; the number stays, and so does what the producer says.
    if !batch.ids.is_empty()
        && let Ok(without) = batch.without(&[0])
    {
        assert_eq!((without.number, without.ids.len()), (batch.number, batch.ids.len() - 1));
    }
    drop(Arc::clone(&batch.bytes));
}
