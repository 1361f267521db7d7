//! A page of the log: in order, without a hole, and of about so many bytes. What MySQL has is trimmed.

use footfall_shared::protocol::packed::Packed;
use footfall_shared::protocol::{Batch, Position, Producer, User, View};
use footfall_shared::redis::{Page, QueueError};

use crate::common::{EPOCH, Fixture, IDS_MAX, LOG, META, PRODUCER, SHARDS, article};

fn positions(page: &Page) -> Vec<u64> {
    page.entries.iter().map(|entry| entry.position).collect()
}

/// Appends batches of so many views.
async fn append(fixture: &Fixture, sizes: impl Iterator<Item = usize>) {
    let mut views_before = 0;
    for (number, size) in (1..).zip(sizes) {
        let view = |at| View {
            article: article(&format!("an article {at}")),
            user: User::parse(format!("reader {number}").as_bytes()).expect("test id"),
            id: None,
        };
        let batch = Batch::fold(PRODUCER, number, views_before, 0, (0..size).map(view).collect());
        views_before = batch.cumulative_views;
        fixture.queue.apply(EPOCH, &Packed::new(batch), IDS_MAX).await.expect("apply");
    }
}

#[tokio::test]
async fn pages_have_all_entries_in_order_and_about_as_many_bytes_as_asked_for() {
    let fixture = Fixture::open().await;
    append(&fixture, (0..400).map(|number| 1 + number % 7 * (number % 11))).await;
    let all = fixture.follow(0).await;
    assert_eq!(positions(&all), (1..=400).collect::<Vec<_>>());
    assert_eq!(all.pending_views, all.entries.iter().map(|entry| entry.batch().expect("whole").views()).sum::<u64>());
    let numbers = all.entries.iter().map(|entry| entry.batch().expect("whole").number);
    assert!(numbers.eq(1..=400));
    for most in [1, 50, 700, 20_000] {
        let (mut cursor, mut entries) = (0, Vec::new());
        loop {
            let page = fixture.queue.follow(EPOCH, cursor, most, None).await.expect("follow");
            let Some((last, before)) = page.entries.split_last() else { break };
            let bytes: usize = before.iter().map(|entry| entry.packed.len()).sum();
            assert!(bytes < most, "{bytes} bytes before the last entry of a page of {most}");
            cursor = last.position;
            entries.extend(page.entries);
        }
        assert_eq!(entries, all.entries, "pages of {most} bytes");
    }
    assert_eq!(
        positions(&fixture.queue.follow(EPOCH, 0, 0, None).await.expect("follow")),
        [0; 0],
        "none was asked for"
    );
    for cursor in [400, 401, u64::from(u32::MAX)] {
        assert_eq!(positions(&fixture.follow(cursor).await), [0; 0], "behind {cursor}");
    }
}

#[tokio::test]
async fn a_log_that_is_shorter_than_its_positions_say_is_not_read() {
    let fixture = Fixture::open().await;
    fixture.append(&["a", "b", "c"]).await;
    fixture.query(&["RPOP", LOG]);
    let page = fixture.queue.follow(EPOCH, 0, 1_000, None).await;
    assert!(matches!(page, Err(QueueError::Corrupt(_))), "{page:?}");
}

#[tokio::test]
async fn what_mysql_has_is_trimmed_once() {
    let fixture = Fixture::open().await;
    fixture.append(&["a", "b", "c", "d"]).await;
    for (last, first) in [(2, 3), (2, 3), (1, 3), (3, 4)] {
        let position = fixture.queue.ack(EPOCH, last, 0, true).await.expect("ack");
        assert_eq!(position, Position { first, tail: 4 }, "up to {last}");
        let page = fixture.follow(0).await;
        assert_eq!((page.position, positions(&page)), (position, (first..=4).collect()));
        assert_eq!(page.pending_views, 5 - first, "views of the entries that are left");
        assert_eq!(page.stored_until_ms, page.entries[0].came_ms, "all before the oldest entry is stored");
        assert_eq!(fixture.meta(["first", "acked", "oldest"]), [first, first - 1, page.entries[0].came_ms]);
    }
    assert_eq!(fixture.queue.ack(EPOCH, 4, 0, true).await.expect("ack"), Position { first: 5, tail: 4 });
    let page = fixture.follow(0).await;
    assert_eq!((positions(&page), page.pending_views, page.stored_until_ms), (vec![], 0, page.now_ms));
    assert_eq!(fixture.query(&["EXISTS", LOG]), ["0"]);
    // It goes on from there.
    fixture.append(&["e"]).await;
    let page = fixture.follow(4).await;
    assert_eq!((positions(&page), page.stored_until_ms), (vec![5], page.entries[0].came_ms));
}

#[tokio::test]
async fn nothing_is_trimmed_that_is_not_there() {
    let fixture = Fixture::open().await;
    fixture.append(&["a", "b"]).await;
    let before = fixture.content();
    let beyond = fixture.queue.ack(EPOCH, 3, 0, true).await;
    assert!(matches!(beyond, Err(QueueError::Corrupt(_))), "{beyond:?}");
    assert_eq!(fixture.content(), before);
    // One more in the list than the positions say.
    fixture.query(&["HSET", META, "tail", "1"]);
    let beyond = fixture.queue.ack(EPOCH, 2, 0, true).await;
    assert!(matches!(beyond, Err(QueueError::Corrupt(_))), "{beyond:?}");
    assert_eq!(fixture.query(&["LLEN", LOG]), ["2"]);
}

#[tokio::test]
async fn the_tool_reads_a_log_piece_by_piece_while_it_is_trimmed() {
    let fixture = Fixture::open().await;
    append(&fixture, std::iter::repeat_n(1, 600)).await;
    let moment = fixture.queue.moment().await.expect("moment");
    let position = moment.position.expect("open");
    assert_eq!(position, Position { first: 1, tail: 600 });
    assert_eq!(moment.producers[&PRODUCER], (600, 600));
    fixture.queue.register(EPOCH, Producer(8), SHARDS).await.expect("register");
    let mut log = fixture.queue.log(position);
    let mut read: Vec<u64> = Vec::new();
    for trim in [100, 500, 500, 500] {
        read.extend(log.next().await.expect("a piece").iter().map(|entry| entry.position));
        fixture.queue.ack(EPOCH, trim, 0, true).await.expect("ack");
    }
    assert_eq!(read, (1..=600).collect::<Vec<_>>(), "none of these was trimmed before it was read");
    // What was trimmed before it was read is left out, and what is not there is no end of the log but damage.
    let mut log = fixture.queue.log(position);
    assert_eq!(log.next().await.expect("a piece").first().map(|entry| entry.position), Some(501));
    fixture.query(&["LTRIM", LOG, "0", "49"]);
    let mut log = fixture.queue.log(position);
    assert_eq!(log.next().await.expect("a piece").len(), 50);
    assert!(matches!(log.next().await, Err(QueueError::Corrupt(_))));
}
