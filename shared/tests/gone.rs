//! An entry of the log that is gone is noticed before anything is read or written at a position that is not its own.

use std::time::Duration;

use footfall_sandbox::RedisOptions;
use footfall_shared::protocol::errors::{ErrorClass, Grade};
use footfall_shared::protocol::packed::Packed;
use footfall_shared::protocol::{Article, Batch, Producer, Recovery, Shard, User, View};
use footfall_shared::redis::{Queue, Redis};
use footfall_shared::service::config;

const EPOCH: u64 = 1;
const LOG: &str = "footfall:{0}:log";

async fn append(queue: &Queue, producer: u64, number: u64) -> Result<(), ErrorClass> {
    let id = "a".as_bytes();
    let view =
        View { article: Article::parse(id).expect("test id"), user: User::parse(id).expect("test id"), id: None };
    let batch = Packed::new(Batch::fold(Producer(producer), number, number - 1, 0, vec![view]));
    queue.apply(EPOCH, &batch, 1_000).await.map(drop).map_err(|error| error.class())
}

#[tokio::test]
async fn an_entry_that_is_gone_is_noticed() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let server = footfall_sandbox::Redis::start(dir.path(), &RedisOptions::default()).expect("Redis");
    let config = config::Redis { url: server.url().parse().expect("a URL"), ..config::Redis::default() };
    let queue = Redis::new(&config, Duration::from_secs(5)).expect("a URL").shard(Shard(0));
    let recovery = Recovery { epoch: EPOCH, position: 0, flush_epoch: 0, version: 0, producers: vec![] };
    let state = queue.state().await.expect("state");
    queue.reopen(&state, &recovery, 1, false).await.expect("open").expect("nobody else is there");
    for producer in [1, 2] {
        queue.register(EPOCH, Producer(producer), 1).await.expect("register");
    }
    for (producer, number) in [(1, 1), (2, 1), (1, 2)] {
        append(&queue, producer, number).await.expect("append");
    }
    server.query(&["LSET", LOG, "1", "gone"]).expect("LSET");
    server.query(&["LREM", LOG, "1", "gone"]).expect("LREM");

    // Even who reads only the first entry hears of it: what comes behind would be flushed as what is gone.
    let followed = queue.follow(EPOCH, 0, 1, None).await.map(drop).map_err(|error| error.class());
    assert_eq!(followed, Err(ErrorClass::CacheCorrupt));
    // And no batch takes its place, so that the log seems to be as long as it should be.
    for _ in 0..2 {
        assert_eq!(append(&queue, 1, 3).await, Err(ErrorClass::CacheCorrupt));
    }
    assert_eq!(server.query(&["LLEN", LOG]).expect("LLEN"), ["2"]);
    assert!(queue.state().await.expect("state").data.expect("it holds something").is_damaged);
}
