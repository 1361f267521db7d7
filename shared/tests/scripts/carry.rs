//! A data set in the layout of the version before becomes one log. That version kept generations: a list of batches each,
//! of which one was open, with totals per article beside them.

use footfall_shared::protocol::packed::{self, Packed};
use footfall_shared::protocol::{Batch, Position, Recovery, total};
use footfall_shared::redis::{Applied, Entry};

use crate::common::{ALL, Fixture, IDS_MAX, META, PRODUCER, SHARDS, batch, recovery};

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
    let views = |batches: &[Batch]| total(batches.iter().map(Batch::views));
    let push = |name: &str, batches: &[Batch]| {
        for batch in batches {
            fixture.query(&[&b"RPUSH"[..], key(name).as_bytes(), &packed_before(batch)]);
        }
    };
    let add = |name: &str, batches: &[Batch]| {
        for row in batches.iter().flat_map(|batch| &batch.rows) {
            fixture.query(&["HINCRBY", &key(name), row.article.as_str(), &row.views.to_string()]);
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

fn at(position: u64) -> Recovery {
    Recovery { position, flush_epoch: EPOCH_BEFORE, ..recovery(EPOCH_BEFORE + 1) }
}

/// Carries it over and opens it; answers positions and batches.
async fn open(fixture: &Fixture, recovery: &Recovery) -> (Position, Vec<(u64, Batch)>) {
    let queue = &fixture.queue;
    let state = queue.state().await.expect("state");
    let state = queue.carry(state, recovery).await.expect("carry").expect("nobody else is there");
    assert_eq!(queue.state().await.expect("state").data.expect("a log").position, state.data.expect("a log").position);
    assert_eq!(queue.reopen(&state, recovery, SHARDS, false).await.expect("reopen"), Some(false));
    let page = queue.follow(recovery.epoch, 0, ALL, None).await.expect("follow");
    let entries = page.entries.iter().map(|entry| (entry.position, entry.batch().expect("whole"))).collect();
    assert_eq!(page.pending_views, page.entries.len() as u64, "a view in each");
    (page.position, entries)
}

#[tokio::test]
async fn generations_become_the_same_batches_in_the_same_order_without_those_that_mysql_has() {
    let b = |number| batch(number, "a");
    // Of generations 1 to 3, and 4, which is open.
    let (sealed, opened) = ([&[b(1), b(2)][..], &[b(3)][..], &[b(4), b(5)][..]], [b(6), b(7)]);
    // MySQL has the generations up to there, and the first batch of the log has this number then.
    for (position, first) in [(0, 1), (1, 3), (2, 4), (3, 6), (4, 8), (6, 8)] {
        for has_open in [true, false] {
            let fixture = Fixture::empty();
            leave(&fixture, &sealed, if has_open { &opened } else { &[] });
            let numbers = first..=if has_open { 7 } else { 5 };
            let state = fixture.queue.state().await.expect("state").data.expect("it holds something");
            assert_eq!((state.generation_before, state.is_current), (Some(4), false));
            let (log, batches) = open(&fixture, &at(position)).await;
            let expected: Vec<(u64, Batch)> = (position + 1..).zip(numbers.map(b)).collect();
            assert_eq!(log, Position { first: position + 1, tail: position + expected.len() as u64 });
            assert_eq!(batches, expected, "MySQL has {position}");
            let mut left = fixture.query(&["KEYS", "footfall:*"]);
            left.sort_unstable();
            let expected: &[&str] =
                if expected.is_empty() { &["meta", "producers"] } else { &["log", "meta", "producers"] };
            assert_eq!(left, expected.iter().map(|name| format!("footfall:{{0}}:{name}")).collect::<Vec<_>>());
            assert_eq!(fixture.query(&["HEXISTS", META, "gen"]), ["0"]);
        }
    }
}

#[tokio::test]
async fn what_was_carried_goes_on_as_a_log() {
    let fixture = Fixture::empty();
    leave(&fixture, &[&[batch(1, "a")], &[batch(2, "b"), batch(3, "c")]], &[batch(4, "d")]);
    let recovery = Recovery { producers: vec![(PRODUCER, 1, 1)], ..at(1) };
    let (log, _) = open(&fixture, &recovery).await;
    assert_eq!(log, Position { first: 2, tail: 4 });
    let (queue, epoch) = (&fixture.queue, recovery.epoch);
    // Its generation came before the others: that is what lag is shown by.
    let page = queue.follow(epoch, 0, ALL, None).await.expect("follow");
    assert_eq!(page.entries.iter().map(|entry| entry.came_ms).collect::<Vec<_>>(), [2_000, 2_000, 3_000]);
    assert_eq!(page.stored_until_ms, 2_000);
    assert_eq!(queue.register(epoch, PRODUCER, SHARDS).await.expect("register").0, 4);
    let applied = queue.apply(epoch, &Packed::new(batch(5, "e")), IDS_MAX).await.expect("apply");
    assert_eq!(applied, Applied::Ok(Position { first: 2, tail: 5 }));
    for (last, views_left) in [(3, 2), (4, 1), (5, 0)] {
        queue.ack(epoch, last, 0, true).await.expect("ack");
        assert_eq!(queue.follow(epoch, 0, ALL, None).await.expect("follow").pending_views, views_left, "{last}");
    }
}

#[tokio::test]
async fn an_overtaken_data_set_is_carried_whole_and_set_aside() {
    let fixture = Fixture::empty();
    leave(&fixture, &[&[batch(1, "a")], &[batch(2, "b")]], &[batch(3, "c")]);
    let recovery = Recovery { position: 9, flush_epoch: EPOCH_BEFORE + 1, ..recovery(EPOCH_BEFORE + 2) };
    let queue = &fixture.queue;
    let state = queue.carry(queue.state().await.expect("state"), &recovery).await.expect("carry").expect("unchanged");
    assert_eq!(queue.reopen(&state, &recovery, SHARDS, false).await.expect("reopen"), Some(true));
    let log = queue.aside_log(recovery.epoch, 1, 0).await.expect("aside");
    let batches = log.iter().map(|record| Entry::parse(0, record).expect("an entry").batch().expect("whole"));
    assert!(batches.eq([batch(1, "a"), batch(2, "b"), batch(3, "c")]));
    let page = queue.follow(recovery.epoch, 0, ALL, None).await.expect("follow");
    assert_eq!((page.position, page.entries.len()), (Position { first: 10, tail: 9 }, 0));
}

#[tokio::test]
async fn what_has_changed_since_it_was_looked_at_is_not_carried() {
    let fixture = Fixture::empty();
    leave(&fixture, &[&[batch(1, "a")]], &[batch(2, "b")]);
    let queue = &fixture.queue;
    for (field, value) in [("gen", "3"), ("first", "2"), ("epoch", "2")] {
        let state = queue.state().await.expect("state");
        let was = fixture.query(&["HGET", META, field]).concat();
        fixture.query(&["HSET", META, field, value]);
        let before = fixture.content();
        assert_eq!(queue.carry(state, &at(0)).await.expect("carry"), None, "{field}");
        assert_eq!(fixture.content(), before, "{field}");
        fixture.query(&["HSET", META, field, &was]);
    }
    // Carried once it is a log, and is not carried again.
    let state = queue.state().await.expect("state");
    let carried = queue.carry(state.clone(), &at(0)).await.expect("carry");
    assert!(carried.is_some());
    let before = fixture.content();
    assert_eq!(queue.carry(state, &at(0)).await.expect("carry"), None);
    assert_eq!(fixture.content(), before);
}
