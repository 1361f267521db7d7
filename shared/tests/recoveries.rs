//! Recoveries on a real Redis and a real MariaDB: however many begin together, few epochs are begun; one that was begun is
//! opened, also after others came between; and none is begun where it could not be opened.

use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use footfall_sandbox::{MariaDb, MariaDbOptions, RedisOptions};
use footfall_shared::mysql::{BYTEWISE, Fences, SCHEMA_VERSION, Store, StoreFuture, TABLES, VIEWS_OF_COUNTS};
use footfall_shared::protocol::errors::{ErrorClass, Grade};
use footfall_shared::protocol::packed::Packed;
use footfall_shared::protocol::{
    Article, Batch, Committed, Direct, Fence, Flush, Producer, Recovery, Shard, StoredArticle, User, View,
};
use footfall_shared::redis::{Applied, Queue, Redis};
use footfall_shared::service::config;
use footfall_shared::stores::recovery;

const SHARD: Shard = Shard(0);
const SHARDS: u16 = 1;
const PRODUCER: Producer = Producer(7);

fn queue_of(server: &footfall_sandbox::Redis) -> Queue {
    let config = config::Redis { url: server.url().parse().expect("a URL"), ..config::Redis::default() };
    Redis::new(&config, Duration::from_secs(5)).expect("a URL").shard(SHARD)
}

/// A Redis and a MariaDB with a shard that nobody has opened yet.
struct Fixture {
    server: footfall_sandbox::Redis,
    mariadb: MariaDb,
    dir: tempfile::TempDir,
}

impl Fixture {
    /// Redis listens on this port beside its socket, if it is not 0.
    fn begin(port: u16) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let options = RedisOptions { port, ..RedisOptions::default() };
        let server = footfall_sandbox::Redis::start(&dir.path().join("redis"), &options).expect("Redis");
        let mariadb = MariaDb::start(&dir.path().join("mariadb"), &MariaDbOptions::default()).expect("MariaDB");
        for table in &TABLES {
            mariadb.query(&table.create()).expect("created");
        }
        for view in &VIEWS_OF_COUNTS {
            mariadb.query(&view.create(BYTEWISE[0])).expect("created");
        }
        mariadb.query("INSERT INTO footfall_shard_fence (shard) VALUES (0)").expect("a fence");
        let recorded = format!(
            "INSERT INTO footfall_schema_version (one, version, shards) VALUES (1, {SCHEMA_VERSION}, {SHARDS})"
        );
        mariadb.query(&recorded).expect("recorded");
        Self { server, mariadb, dir }
    }

    async fn store(&self) -> Store {
        let url = self.mariadb.url().parse().expect("a URL");
        Store::new(&config::Database { url, ..config::Database::default() }).await.expect("a URL")
    }

    fn queue(&self) -> Queue {
        queue_of(&self.server)
    }

    async fn epoch(&self) -> u64 {
        self.store().await.fence(SHARD).await.expect("a fence").epoch
    }

    fn redis(&self, command: &[&str]) {
        self.server.query(command).expect("answered");
    }
}

/// Batches of one view each, one after the other, under whatever epoch is open. Ends when a batch is refused.
async fn append(queue: &Queue, epoch: u64) {
    let (mut number, _) = queue.register(epoch, PRODUCER, SHARDS).await.expect("registered");
    loop {
        let view = View {
            article: Article::parse(b"a").expect("test id"),
            user: User::parse(b"u").expect("test id"),
            id: None,
        };
        let batch = Batch::fold(PRODUCER, number + 1, number, 0, vec![view]);
        match queue.apply(epoch, &Packed::new(batch), 0).await {
            Ok(Applied::Ok(_)) => number += 1,
            _ => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recoveries_that_begin_together_need_few_epochs() {
    const TOGETHER: usize = 8;
    /// Longer than any of them waits before it looks again, and shorter than one gives another to open what he began.
    const A_WHILE: Duration = Duration::from_millis(200);
    let fixture = Fixture::begin(0);
    let store = fixture.store().await;
    assert_eq!(recovery::open(&fixture.queue(), &store, SHARDS).await.expect("opened"), 1);
    for round in 0..3 {
        // Somebody has begun the next epoch and died; until another is opened, batches are taken under the one before.
        let last = fixture.epoch().await;
        let begun = store.next_epoch(SHARD, last).await.expect("asked").expect("nobody else is there").epoch;
        let appends = tokio::spawn({
            let queue = fixture.queue();
            async move { append(&queue, last).await }
        });
        let mut recoveries = tokio::task::JoinSet::new();
        for _ in 0..TOGETHER {
            let store = Between { pause: A_WHILE, ..Between::new(fixture.store().await, fixture.queue()) };
            let queue = fixture.queue();
            recoveries.spawn(async move { recovery::open(&queue, &store, SHARDS).await.expect("opened") });
        }
        let opened = tokio::time::timeout(Duration::from_secs(20), recoveries.join_all()).await.expect("in time");
        appends.await.expect("ended");
        let epochs = fixture.epoch().await - begun;
        // Two whose patience ends in the same moment may both begin one.
        assert!((1..=3).contains(&epochs), "round {round}: {epochs} epochs for one death, opened as {opened:?}");
        assert!(opened.iter().all(|epoch| (begun + 1..=begun + epochs).contains(epoch)), "{opened:?}, begun {begun}");
    }
}

/// MySQL, and what happens between the begin of an epoch there and its opening in Redis.
struct Between {
    store: Store,
    queue: Queue,
    /// How long the process comes to nothing else.
    pause: Duration,
    /// Another process opens this one.
    other: Mutex<Option<Recovery>>,
    /// Another process has opened this one, between the look at Redis and the one at MySQL.
    faster: Mutex<Option<Recovery>>,
    begun: AtomicU64,
}

impl Between {
    fn new(store: Store, queue: Queue) -> Self {
        let (other, faster) = Default::default();
        Self { store, queue, pause: Duration::ZERO, other, faster, begun: AtomicU64::new(0) }
    }

    async fn open(&self, other: &Recovery) {
        let state = self.queue.state().await.expect("state");
        let state = self.queue.carry(state, other).await.expect("carried").expect("nobody else is there");
        let opened = self.queue.reopen(&state, other, SHARDS, false).await.expect("reopened");
        assert!(opened.is_some(), "the other one opens its epoch");
    }
}

impl Fences for Between {
    fn check_schema(&self, shards: u16) -> StoreFuture<'_, ()> {
        Fences::check_schema(&self.store, shards)
    }

    fn fence(&self, shard: Shard) -> StoreFuture<'_, Fence> {
        Box::pin(async move {
            let faster = self.faster.lock().expect("nobody panics with it").take();
            if let Some(faster) = faster {
                self.open(&faster).await;
            }
            Fences::fence(&self.store, shard).await
        })
    }

    fn next_epoch(&self, shard: Shard, epoch: u64) -> StoreFuture<'_, Option<Recovery>> {
        Box::pin(async move {
            let begun = Fences::next_epoch(&self.store, shard, epoch).await?;
            if begun.is_some() {
                self.begun.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(self.pause).await;
            }
            let other = self.other.lock().expect("nobody panics with it").take();
            if let Some(other) = other {
                self.open(&other).await;
            }
            Ok(begun)
        })
    }

    fn commit<'a>(&'a self, shard: Shard, epoch: u64, flush: &'a Flush) -> StoreFuture<'a, Committed> {
        Fences::commit(&self.store, shard, epoch, flush)
    }

    fn commit_direct<'a>(&'a self, shard: Shard, batch: &'a Batch) -> StoreFuture<'a, Direct> {
        Fences::commit_direct(&self.store, shard, batch)
    }

    fn article<'a>(&'a self, shard: Shard, article: &'a Article) -> StoreFuture<'a, StoredArticle> {
        Fences::article(&self.store, shard, article)
    }
}

/// Another one opens an older epoch between the look and the opening, on this data set: the epoch begun is opened at the
/// next look, instead of one more, which would end what the other has opened once more.
async fn is_opened_although_overtaken(left_in_redis: &[&str]) {
    let fixture = Fixture::begin(0);
    let store = fixture.store().await;
    if !left_in_redis.is_empty() {
        fixture.redis(left_in_redis);
    }
    let other = store.next_epoch(SHARD, 0).await.expect("asked").expect("nobody else is there");
    let between = Between { other: Mutex::new(Some(other)), ..Between::new(store, fixture.queue()) };
    let opened = recovery::open(&fixture.queue(), &between, SHARDS).await.expect("opened");
    assert_eq!((opened, between.begun.into_inner()), (2, 1), "the epoch opened, and how many were begun");
}

#[tokio::test]
async fn an_epoch_that_was_overtaken_is_opened_at_the_next_look() {
    is_opened_although_overtaken(&[]).await;
}

#[tokio::test]
async fn so_it_is_where_another_has_carried_the_data_of_the_version_before() {
    is_opened_although_overtaken(&[
        "HSET",
        "footfall:{0}:meta",
        "epoch",
        "0",
        "gen",
        "1",
        "first",
        "1",
        "version",
        "0",
    ])
    .await;
}

/// What all processes notice at the same moment, a fail-over, one of them mends: those that look a moment later begin none.
#[tokio::test]
async fn what_another_has_opened_meanwhile_is_not_opened_once_more() {
    let fixture = Fixture::begin(0);
    let store = fixture.store().await;
    let other = store.next_epoch(SHARD, 0).await.expect("asked").expect("nobody else is there");
    // As if something had been flushed under it already: it is plain that it was open.
    fixture.mariadb.query("UPDATE footfall_shard_fence SET flush_epoch = epoch").expect("flushed");
    let between = Between { faster: Mutex::new(Some(other)), ..Between::new(store, fixture.queue()) };
    let opened = recovery::open(&fixture.queue(), &between, SHARDS).await.expect("opened");
    assert_eq!((opened, between.begun.into_inner()), (1, 0), "the epoch opened, and how many were begun");
}

#[tokio::test]
async fn what_another_has_begun_a_moment_ago_is_waited_for() {
    let fixture = Fixture::begin(0);
    let other = fixture.store().await.next_epoch(SHARD, 0).await.expect("asked").expect("nobody else is there");
    let between = Between::new(fixture.store().await, fixture.queue());
    let opened = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Between::new(fixture.store().await, fixture.queue()).open(&other).await;
    };
    let queue = fixture.queue();
    let (opened, ()) = tokio::join!(recovery::open(&queue, &between, SHARDS), opened);
    assert_eq!((opened.expect("opened"), between.begun.into_inner()), (1, 0), "the epoch, and how many were begun");
}

#[tokio::test]
async fn no_epoch_is_begun_where_redis_takes_no_writes() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    let fixture = Fixture::begin(port);
    let store = fixture.store().await;
    recovery::open(&fixture.queue(), &store, SHARDS).await.expect("opened");
    let dir = fixture.dir.path().join("replica");
    std::fs::create_dir(&dir).expect("a folder");
    let replica = footfall_sandbox::Redis::start(&dir, &RedisOptions::default()).expect("Redis");
    replica.query(&["REPLICAOF", "127.0.0.1", &port.to_string()]).expect("a replica");
    let queue = queue_of(&replica);
    // Until it has the data it says that it has none, and is a replica all the same.
    for read_only in ["yes", "no"] {
        replica.query(&["CONFIG", "SET", "replica-read-only", read_only]).expect("set");
        for _ in 0..3 {
            let open = recovery::open(&queue, &store, SHARDS);
            let error =
                tokio::time::timeout(Duration::from_secs(5), open).await.expect("in time").expect_err("a replica");
            assert_eq!(error.class(), ErrorClass::CacheReadOnly, "{error}");
        }
    }
    // The master itself, when it has no replica that must be there.
    replica.query(&["REPLICAOF", "NO", "ONE"]).expect("a master again");
    fixture.redis(&["HSET", "footfall:{0}:meta", "incarnation", "another"]);
    fixture.redis(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    for _ in 0..3 {
        let error = recovery::open(&fixture.queue(), &store, SHARDS).await.expect_err("too few replicas");
        assert_eq!(error.class(), ErrorClass::CacheReadOnly, "{error}");
    }
    assert_eq!(fixture.epoch().await, 1, "no epoch was begun in vain");
    fixture.redis(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    assert_eq!(recovery::open(&fixture.queue(), &store, SHARDS).await.expect("opened"), 2);
}
