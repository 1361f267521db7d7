//! What the dashboard's feed sees of the log. It follows together with the reads of single articles: here nobody reads any.

use std::sync::Arc;
use std::time::{Duration, Instant};

use footfall_shared::mysql::Store;
use footfall_shared::protocol::packed::Packed;
use footfall_shared::protocol::{Batch, Position, Shard, User, View};
use footfall_shared::service::config;
use footfall_shared::stores::reads::{HitCounts, LogStatus, Reads};

use crate::common::{EPOCH, Fixture, IDS_MAX, PRODUCER, SHARDS, article, recovery};

/// Its MySQL is away: a look needs none.
async fn reads(fixture: &Fixture) -> Arc<Reads> {
    let url = "mysql://nobody@127.0.0.1:1/nothing".parse().expect("a URL");
    let store = Store::new(&config::Database { url, ..Default::default() }).await.expect("connects when needed");
    let config = config::Reads::default();
    Arc::new(Reads::new(&fixture.redis, Arc::new(store), HitCounts::default(), &config, SHARDS, Duration::from_secs(5)))
}

/// Once Redis answers: after a restart the connection is made anew first.
async fn answer(reads: &Reads) -> Option<LogStatus> {
    let began = Instant::now();
    loop {
        match reads.follow(Shard(0)).await {
            Ok(look) => return look,
            Err(error) if began.elapsed() > Duration::from_secs(10) => panic!("{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn look(reads: &Reads) -> LogStatus {
    answer(reads).await.expect("its log is open")
}

#[tokio::test]
async fn between_commit_and_ack_what_waits_is_known_from_the_entries() {
    let fixture = Fixture::open().await;
    let reads = reads(&fixture).await;
    fixture.append(&["a", "b", "a", "a"]).await;
    let first = look(&reads).await;
    assert_eq!((first.position, first.pending_views), (Position { tail: 4, first: 1 }, 4));
    assert!(first.is_whole && !first.is_behind);
    let up_to = |look: &LogStatus, position| reads.views_up_to(Shard(0), look, position);
    assert_eq!([0, 1, 3, 4, 5].map(|position| up_to(&first, position)), [Some(0), Some(1), Some(3), Some(4), None]);
    let waiting = |id, position| reads.waiting(&article(id), EPOCH, position);
    assert_eq!([0, 1, 3, 4].map(|position| waiting("a", position)), [3, 2, 1, 0]);
    assert_eq!((waiting("b", 0), waiting("c", 0)), (1, 0));
    assert_eq!(reads.waiting(&article("a"), EPOCH + 1, 0), 0, "positions of another epoch are not compared with these");

    fixture.queue.ack(EPOCH, 2, 0, true).await.expect("ack");
    fixture.append(&["a"]).await;
    let second = look(&reads).await;
    assert_eq!((second.position, second.pending_views), (Position { tail: 5, first: 3 }, 3));
    assert_eq!([1, 2, 3, 5].map(|position| up_to(&second, position)), [None, Some(0), Some(1), Some(3)]);
    assert_eq!(up_to(&first, 3), None, "some of the entries that it has found are trimmed by now");
    assert_eq!([0, 3].map(|position| waiting("a", position)), [3, 2]);
}

#[tokio::test]
async fn a_log_that_is_opened_anew_is_followed_from_its_beginning() {
    let mut fixture = Fixture::open().await;
    let reads = reads(&fixture).await;
    fixture.append(&["a", "b"]).await;
    let before = look(&reads).await;
    assert_eq!((before.tag.epoch, reads.views_up_to(Shard(0), &before, 1)), (EPOCH, Some(1)));
    fixture.restart();
    assert_eq!(answer(&reads).await, None, "no recovery has opened it");
    let state = fixture.queue.state().await.expect("state");
    fixture.queue.reopen(&state, &recovery(EPOCH + 1), SHARDS, false).await.expect("open").expect("nobody else");
    let opened = look(&reads).await;
    assert_eq!((opened.tag.epoch, opened.pending_views, opened.is_whole), (EPOCH + 1, 2, true));
    assert_eq!(opened.position.first, before.position.first);
    assert_eq!(reads.views_up_to(Shard(0), &before, 1), None, "it was found in another epoch");
    assert_eq!(reads.waiting(&article("a"), EPOCH + 1, 0), 1);
    fixture.query(&["FLUSHALL"]);
    assert_eq!(answer(&reads).await, None);
}

#[tokio::test]
async fn of_a_long_log_the_sum_is_known_at_once_and_the_rest_is_read_meanwhile() {
    const BATCHES: u64 = 1_500;
    let fixture = Fixture::open().await;
    let user = User::parse(b"u").expect("test id");
    for number in 1..=BATCHES {
        let view = |at| View { article: article(&format!("article-{at:04}")), user: user.clone(), id: None };
        let batch = Batch::fold(PRODUCER, number, 1_000 * (number - 1), 0, (0..1_000).map(view).collect());
        fixture.queue.apply(EPOCH, &Packed::new(batch), IDS_MAX).await.expect("apply");
    }
    let reads = reads(&fixture).await;
    let first = look(&reads).await;
    assert_eq!((first.pending_views, first.is_whole), (1_000 * BATCHES, false));
    assert_eq!(reads.views_up_to(Shard(0), &first, 1), Some(1_000), "MySQL takes the oldest entries first");
    assert_eq!(reads.views_up_to(Shard(0), &first, BATCHES), None);
    let waiting = || reads.waiting(&article("article-0007"), EPOCH, 0);
    assert!(waiting() < BATCHES);
    let began = Instant::now();
    while waiting() < BATCHES {
        assert!(began.elapsed() < Duration::from_secs(20), "{} views were read", waiting());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(look(&reads).await.is_whole);
}
