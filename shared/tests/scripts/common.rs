//! A Redis of a test's own, and what is sent to it.

use std::collections::BTreeMap;
use std::time::Duration;

use footfall_sandbox::RedisOptions;
use footfall_shared::protocol::keys::CacheTag;
use footfall_shared::protocol::packed::Packed;
use footfall_shared::protocol::{Article, Batch, Producer, Recovery, Shard, User, View, ViewId};
use footfall_shared::redis::{Applied, Page, Queue, Redis};
use footfall_shared::service::config;

pub(crate) const META: &str = "footfall:{0}:meta";
pub(crate) const LOG: &str = "footfall:{0}:log";

pub(crate) const EPOCH: u64 = 1;
pub(crate) const SHARDS: u16 = 1;
pub(crate) const PRODUCER: Producer = Producer(7);
pub(crate) const IDS_MAX: u64 = 1_000;
pub(crate) const TTL: Duration = Duration::from_secs(60);
pub(crate) const TAG: CacheTag = CacheTag { epoch: EPOCH, version: 0 };
/// Bytes of a page that has room for everything.
pub(crate) const ALL: usize = 1 << 20;

pub(crate) fn article(id: &str) -> Article {
    Article::parse(id.as_bytes()).expect("test id")
}

/// A view of the article `a` that has an id.
pub(crate) fn view(id: &str) -> View {
    let user = User::parse(b"u").expect("test id");
    View { article: article("a"), user, id: Some(ViewId::parse(id.as_bytes()).expect("test id")) }
}

/// The next batch of [`PRODUCER`] after so many batches of one view each, with a view of this article.
pub(crate) fn batch(number: u64, id: &str) -> Batch {
    let view = View { article: article(id), user: User::parse(b"u").expect("test id"), id: None };
    Batch::fold(PRODUCER, number, number - 1, 0, vec![view])
}

/// What MySQL says that has nothing yet.
pub(crate) fn recovery(epoch: u64) -> Recovery {
    Recovery { epoch, position: 0, flush_epoch: 0, version: 0, producers: vec![] }
}

fn connect(server: &footfall_sandbox::Redis) -> Redis {
    let config = config::Redis { url: server.url().parse().expect("a URL"), ..config::Redis::default() };
    Redis::new(&config, Duration::from_secs(5)).expect("a URL")
}

/// A Redis, and the queue of its only shard.
pub(crate) struct Fixture {
    pub(crate) server: footfall_sandbox::Redis,
    pub(crate) redis: Redis,
    pub(crate) queue: Queue,
    _dir: tempfile::TempDir,
}

impl Fixture {
    /// With nothing in it.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let server = footfall_sandbox::Redis::start(dir.path(), &RedisOptions::default()).expect("Redis");
        let redis = connect(&server);
        let queue = redis.shard(Shard(0));
        Self { server, redis, queue, _dir: dir }
    }

    /// Open, with a producer that has sent nothing.
    pub(crate) async fn open() -> Self {
        let fixture = Self::empty();
        let state = fixture.queue.state().await.expect("state");
        fixture
            .queue
            .reopen(&state, &recovery(EPOCH), SHARDS, false)
            .await
            .expect("open")
            .expect("nobody else is there");
        fixture.queue.register(EPOCH, PRODUCER, SHARDS).await.expect("register");
        fixture
    }

    pub(crate) fn query<Word: AsRef<[u8]> + std::fmt::Debug>(&self, words: &[Word]) -> Vec<String> {
        self.server.query(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Ends it in order and starts it again: another life with the same data.
    pub(crate) fn restart(&mut self) {
        self.server.stop().expect("stop");
        self.server.restart().expect("restart");
        self.redis = connect(&self.server);
        self.queue = self.redis.shard(Shard(0));
    }

    /// Everything of Footfall's in it.
    pub(crate) fn content(&self) -> BTreeMap<String, Vec<String>> {
        self.query(&["KEYS", "footfall:*"]).into_iter().map(|key| (key.clone(), self.query(&["DUMP", &key]))).collect()
    }

    /// Fields of the shard's meta.
    pub(crate) fn meta<const N: usize>(&self, fields: [&str; N]) -> [u64; N] {
        fields.map(|field| self.query(&["HGET", META, field]).concat().parse().unwrap_or_else(|_| panic!("{field}")))
    }

    /// The life of the server.
    pub(crate) fn incarnation(&self) -> String {
        let info = self.query(&["INFO", "replication"]).concat();
        info.lines().find_map(|line| line.strip_prefix("master_replid:")).expect("it is there").trim().to_owned()
    }

    /// Appends batches of one view each, one per article.
    pub(crate) async fn append(&self, articles: &[&str]) {
        let mut number = self.queue.register(EPOCH, PRODUCER, SHARDS).await.expect("register").0;
        for id in articles {
            number += 1;
            let applied = self.queue.apply(EPOCH, &Packed::new(batch(number, id)), IDS_MAX).await;
            assert!(matches!(applied, Ok(Applied::Ok(_))), "{applied:?}");
        }
    }

    /// Everything behind a cursor.
    pub(crate) async fn follow(&self, cursor: u64) -> Page {
        self.queue.follow(EPOCH, cursor, ALL, None).await.expect("follow")
    }
}
