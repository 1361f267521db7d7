//! A Redis of a test's own, and what is sent to it.

use std::time::Duration;

use footfall_sandbox::RedisOptions;
use footfall_shared::config::{self, SecretUrl};
use footfall_shared::counter::{Article, Batch, Producer, Shard, User, View, ViewId};
use footfall_shared::keys::Age;
use footfall_shared::packed::Packed;
use footfall_shared::queue::{Applied, Queue, QueueError, Redis};
use footfall_shared::store::Recovery;

pub(crate) const EPOCH: u64 = 1;
pub(crate) const SHARDS: u16 = 1;
pub(crate) const PRODUCER: Producer = Producer(7);
pub(crate) const IDS_MAX: u64 = 1_000;
pub(crate) const TTL: Duration = Duration::from_secs(60);
pub(crate) const AGE: Age = Age { epoch: EPOCH, version: 0 };
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

/// A view by somebody.
pub(crate) fn view_of(id: &str) -> View {
    View { article: article(id), user: User::parse(b"u").expect("test id"), id: None }
}

/// What MySQL says that has nothing yet.
pub(crate) fn recovery(epoch: u64) -> Recovery {
    Recovery { epoch, position: 0, flush_epoch: 0, version: 0, producers: vec![] }
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
        let config = config::Redis { url: SecretUrl(server.url()), ..config::Redis::default() };
        let redis = Redis::new(&config, Duration::from_secs(5)).expect("a URL");
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

    pub(crate) fn query(&self, words: &[&str]) -> Vec<String> {
        self.server.query(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// A command with bytes in it.
    pub(crate) fn send(&self, words: &[&[u8]]) {
        let client = redis::Client::open(self.server.url()).expect("a URL");
        let mut connection = client.get_connection().expect("a connection");
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.exec(&mut connection).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }

    /// The life of the server.
    pub(crate) fn incarnation(&self) -> String {
        let info = self.query(&["INFO", "replication"]).concat();
        info.lines().find_map(|line| line.strip_prefix("master_replid:")).expect("it is there").trim().to_owned()
    }

    /// A batch of one view that has an id; the batches before had one each.
    pub(crate) async fn apply(&self, number: u64, id: &str) -> Result<Applied, QueueError> {
        let batch = Packed::new(Batch::fold(PRODUCER, number, number - 1, 0, vec![view(id)]));
        self.queue.apply(EPOCH, &batch, IDS_MAX).await
    }
}
