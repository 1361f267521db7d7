//! A batch is appended once, and only where all before it are.

use std::time::Duration;

use footfall_shared::protocol::keys::CacheTag;
use footfall_shared::protocol::packed::Packed;
use footfall_shared::protocol::{Batch, Delta, Position, Producer, StoredArticle};
use footfall_shared::redis::{Applied, QueueError};

use crate::common::{ALL, EPOCH, Fixture, IDS_MAX, LOG, META, PRODUCER, SHARDS, TAG, TTL, article, batch};

async fn apply(fixture: &Fixture, batch: Batch) -> Applied {
    fixture.queue.apply(EPOCH, &Packed::new(batch), IDS_MAX).await.expect("apply")
}

#[tokio::test]
async fn a_batch_is_taken_once_however_often_it_is_sent() {
    let fixture = Fixture::open().await;
    for number in 1..=3 {
        let ok = Applied::Ok(Position { first: 1, tail: number });
        assert_eq!(apply(&fixture, batch(number, "a")).await, ok);
        let before = fixture.content();
        for repeated in 1..=number {
            assert_eq!(apply(&fixture, batch(repeated, "a")).await, ok, "{repeated} again, after {number}");
        }
        assert_eq!(fixture.content(), before, "a repeat changes nothing");
    }
    assert_eq!(fixture.meta(["tail", "appended", "acked"]), [3, 3, 0]);
    let page = fixture.follow(0).await;
    assert!(page.entries.iter().map(|entry| entry.batch().expect("whole").number).eq(1..=3));
}

#[tokio::test]
async fn a_batch_behind_a_gap_or_of_an_unknown_producer_is_refused() {
    let fixture = Fixture::open().await;
    fixture.append(&["a"]).await;
    let before = fixture.content();
    assert_eq!(apply(&fixture, batch(3, "a")).await, Applied::Behind);
    assert_eq!(apply(&fixture, Batch { producer: Producer(8), ..batch(1, "a") }).await, Applied::Behind);
    assert_eq!(fixture.content(), before, "nothing of it was written");
}

#[tokio::test]
async fn each_producer_has_numbers_of_its_own() {
    let fixture = Fixture::open().await;
    fixture.append(&["a", "b"]).await;
    assert_eq!(fixture.queue.register(EPOCH, Producer(8), SHARDS).await.expect("register").0, 0);
    let third = apply(&fixture, Batch { producer: Producer(8), ..batch(1, "a") }).await;
    assert_eq!(third, Applied::Ok(Position { first: 1, tail: 3 }));
    // One that is known keeps its number.
    assert_eq!(fixture.queue.register(EPOCH, PRODUCER, SHARDS).await.expect("register").0, 2);
    let other = fixture.queue.register(EPOCH, PRODUCER, SHARDS + 1).await;
    assert!(matches!(other, Err(QueueError::Shards(_))), "{other:?}");
}

#[tokio::test]
async fn a_log_of_another_length_than_its_positions_say_takes_nothing() {
    let fixture = Fixture::open().await;
    fixture.append(&["a", "b"]).await;
    fixture.query(&["LPOP", LOG]);
    let applied = fixture.queue.apply(EPOCH, &Packed::new(batch(3, "a")), IDS_MAX).await;
    assert!(matches!(applied, Err(QueueError::Corrupt(_))), "{applied:?}");
    assert_eq!(fixture.meta(["tail", "appended"]), [2, 2]);
    assert_eq!(fixture.queue.register(EPOCH, PRODUCER, SHARDS).await.expect("register").0, 2, "it was not taken");
}

/// Everything that is for a data set opened under an epoch, in this life of the server.
async fn all_are_refused(fixture: &Fixture, tag: CacheTag, why: &str) {
    let (queue, epoch) = (&fixture.queue, tag.epoch);
    let before = fixture.content();
    let is_epoch = |result: Result<(), QueueError>| matches!(result, Err(QueueError::Epoch));
    let stored = StoredArticle { epoch, position: 9, version: 0, shard_views: 0, views: 1, readers: 1 };
    let deltas = [Delta { article: article("a"), views: 1, readers: 1 }];
    let flush = Position { first: 1, tail: 1 };
    let packed = Packed::new(batch(2, "a"));
    assert!(is_epoch(queue.apply(epoch, &packed, IDS_MAX).await.map(drop)), "apply, {why}");
    assert!(is_epoch(queue.register(epoch, Producer(8), SHARDS).await.map(drop)), "register, {why}");
    assert!(is_epoch(queue.rotate_ids(epoch, 0, false).await), "rotate, {why}");
    assert!(is_epoch(queue.follow(epoch, 0, ALL, None).await.map(drop)), "follow, {why}");
    assert!(is_epoch(queue.fill(tag, &article("a"), TTL, &stored).await.map(drop)), "fill, {why}");
    assert!(is_epoch(queue.advance(tag, flush, &deltas, TTL).await.map(drop)), "advance, {why}");
    assert!(is_epoch(queue.ack(epoch, 1, 0, true).await.map(drop)), "ack, {why}");
    assert!(is_epoch(queue.raise_version(CacheTag { version: 9, ..tag }).await), "version, {why}");
    assert_eq!(fixture.content(), before, "nothing was changed, {why}");
}

#[tokio::test]
async fn nothing_is_done_under_another_epoch_or_in_another_life_of_the_server() {
    let mut fixture = Fixture::open().await;
    fixture.append(&["a"]).await;
    for epoch in [EPOCH - 1, EPOCH + 1] {
        all_are_refused(&fixture, CacheTag { epoch, version: 0 }, "another epoch").await;
    }
    let before = fixture.incarnation();
    fixture.restart();
    assert_ne!(fixture.incarnation(), before);
    assert_eq!(fixture.meta(["epoch", "tail"]), [EPOCH, 1], "it is all there");
    all_are_refused(&fixture, TAG, "another incarnation").await;
    fixture.query(&["DEL", META]);
    all_are_refused(&fixture, TAG, "no meta").await;
}

#[tokio::test]
async fn a_word_that_acknowledged_views_are_elsewhere_ends_by_itself() {
    let fixture = Fixture::open().await;
    let is_behind = async || fixture.follow(0).await.is_behind;
    assert!(!is_behind().await, "before the first epoch there was nothing");
    fixture.queue.report(PRODUCER, 1, 1, [(0, 0); 2], true).await.expect("report");
    assert!(is_behind().await);
    tokio::time::sleep(Duration::from_millis(5_100)).await;
    assert!(!is_behind().await);
}
