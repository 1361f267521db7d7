//! A data set in the layout of the version before becomes one log. That version kept generations: a list of batches each,
//! of which one was open, with totals per article beside them.

use footfall_shared::counter::{Batch, total};
use footfall_shared::packed;

use crate::common::{Fixture, PRODUCER, SHARDS};

/// The epoch under which the version before had opened it.
const EPOCH_BEFORE: u64 = 1;

/// As that version packed it: without a checksum.
fn packed_before(batch: &Batch) -> Vec<u8> {
    let mut bytes = packed::encode(batch);
    bytes.truncate(bytes.len() - 4);
    bytes[0] = 2;
    bytes
}

/// Leaves sealed generations, the first of which has the number 1, and an open one, as the scripts of that version did.
pub(crate) fn leave(fixture: &Fixture, sealed: &[&[Batch]], open: &[Batch]) {
    let key = |name: &str| format!("footfall:{{0}}:{name}");
    let send = |words: &[&[u8]]| fixture.send(words);
    let views = |batches: &[Batch]| total(batches.iter().map(Batch::views));
    let push = |name: &str, batches: &[Batch]| {
        for batch in batches {
            send(&[b"RPUSH", key(name).as_bytes(), &packed_before(batch)]);
        }
    };
    let add = |name: &str, batches: &[Batch]| {
        for row in batches.iter().flat_map(|batch| &batch.rows) {
            send(&[b"HINCRBY", key(name).as_bytes(), row.article.as_bytes(), row.views.to_string().as_bytes()]);
        }
    };
    fixture.query(&["DEL", &key("meta"), &key("log"), &key("producers")]);
    for (number, batches) in (1u64..).zip(sealed) {
        push(&format!("log:{number}"), batches);
        let header = format!("{}:{}:{}", batches.len(), views(batches), 1_000 * number);
        fixture.query(&["HSET", &key("headers"), &number.to_string(), &header]);
        if number as usize == sealed.len() {
            add("newest", batches);
        } else {
            // Packed in a way that nobody needs to read any more.
            fixture.query(&["SET", &key(&format!("totals:{number}")), "packed"]);
            add("backlog", batches);
        }
    }
    push("log", open);
    add("totals", open);
    let opened = if open.is_empty() { 0 } else { 1_000 * (sealed.len() + 1) };
    let sealed_views: u64 = total(sealed.iter().map(|batches| views(batches)));
    let numbers = [
        ("gen", sealed.len() as u64 + 1),
        ("first", 1),
        ("views", views(open)),
        ("batches", open.len() as u64),
        ("opened", opened as u64),
        ("sealed_views", sealed_views),
        ("epoch", EPOCH_BEFORE),
        ("shards", SHARDS.into()),
        ("version", 0),
        ("rotation", 0),
        ("behind", 0),
    ];
    for (field, number) in numbers {
        fixture.query(&["HSET", &key("meta"), field, &number.to_string()]);
    }
    let incarnation = fixture.incarnation();
    fixture.query(&["HSET", &key("meta"), "incarnation", &incarnation]);
    if let Some(last) = open.last().or_else(|| sealed.last().and_then(|batches| batches.last())) {
        let said = format!("{}:{}", last.number, last.cumulative_views);
        fixture.query(&["HSET", &key("producers"), &PRODUCER.to_string(), &said]);
    }
}
