//! Redis: where accepted views wait until MySQL has them. Only this module and the reads in
//! [`crate::reads`] go through it; every script is one atomic step of the protocol.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, FromRedisValue, RedisError, Script, ServerErrorKind, Value};
use tokio::sync::Mutex;

use crate::counter::{Article, Batch, Growth, Producer, Shard};
use crate::keys::{self, GenerationKeys, ShardKeys};
use crate::packed::{self, PackedError};
use crate::store::Recovery;

/// What a call of the queue can fail with.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The data set is not open under the epoch that the caller knows: recover, then try again.
    #[error("redis holds a data set that no recovery has opened under this epoch")]
    Epoch,
    /// Redis did not answer, or refused. Whether the command took effect is not known.
    #[error("redis: {0}")]
    Redis(#[from] RedisError),
    /// What Redis holds does not add up. Never guessed around.
    #[error("redis holds damaged data: {0}")]
    Corrupt(String),
    /// The producers and the data set disagree about the number of shards.
    #[error("redis was set up with {0} shards, not with the configured number: set `shards` to {0}")]
    Shards(String),
}

impl From<PackedError> for QueueError {
    fn from(error: PackedError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

type Result<T> = std::result::Result<T, QueueError>;

macro_rules! script {
    ($flags:literal, $($file:literal),+) => {
        LazyLock::new(|| Script::new(concat!("#!lua flags=", $flags, "\n", $(include_str!(concat!("lua/", $file, ".lua"))),+)))
    };
}

// `#!lua` makes Redis refuse a script that may write, before it has written anything, when memory is full. What leads to
// a flush, and so to free memory, and what reads must still run then.
static APPLY: LazyLock<Script> = script!("", "guard", "epoch", "apply");
static REGISTER: LazyLock<Script> = script!("", "guard", "epoch", "register");
static SEAL: LazyLock<Script> = script!("allow-oom", "guard", "epoch", "seal");
static ACK: LazyLock<Script> = script!("allow-oom", "guard", "epoch", "ack");
static REOPEN: LazyLock<Script> = script!("allow-oom", "guard", "reopen");
static STATE: LazyLock<Script> = script!("no-writes", "guard", "state");
static LEASE: LazyLock<Script> = script!("allow-oom", "lease");
static READ: LazyLock<Script> = script!("allow-oom", "guard", "epoch", "read");
static FILL: LazyLock<Script> = script!("allow-oom", "guard", "epoch", "fill");

/// One Redis server, reached over one connection that is made when needed and made again after an
/// error that leaves its state unknown.
#[derive(Clone)]
pub struct Redis {
    client: Client,
    timeout: Duration,
    connection: Arc<Mutex<Option<MultiplexedConnection>>>,
}

impl Redis {
    /// Checks the URL; connects later.
    pub fn new(url: &str, timeout: Duration) -> std::result::Result<Self, RedisError> {
        Ok(Self { client: Client::open(url)?, timeout, connection: Arc::default() })
    }

    async fn connection(&self) -> std::result::Result<MultiplexedConnection, RedisError> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = &*slot {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(slot.insert(connection).clone())
    }

    async fn query<T: FromRedisValue>(&self, query: Query<'_>) -> std::result::Result<T, RedisError> {
        let mut connection = tokio::time::timeout(self.timeout, self.connection())
            .await
            .map_err(|_| RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))??;
        let result = match query {
            Query::Script(script, keys, arguments) => {
                let mut invocation = script.prepare_invoke();
                for key in keys {
                    invocation.key(key);
                }
                for argument in arguments {
                    invocation.arg(argument);
                }
                invocation.invoke_async(&mut connection).await
            }
            Query::Pipeline(pipeline) => pipeline.query_async(&mut connection).await,
        };
        if result.as_ref().is_err_and(must_reconnect) {
            *self.connection.lock().await = None;
        }
        result
    }

    /// Redis's own counts of key look-ups that hit and that missed, since it started.
    pub async fn keyspace_hits(&self) -> Result<(u64, u64)> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("INFO").arg("stats");
        let (info,): (redis::InfoDict,) = self.query(Query::Pipeline(&pipeline)).await?;
        Ok((info.get("keyspace_hits").unwrap_or(0), info.get("keyspace_misses").unwrap_or(0)))
    }

    /// Adds to the shared counts of cache-first reads of one interface.
    pub async fn add_reads(&self, interface: &str, hits: u64, misses: u64) -> Result<()> {
        let mut pipeline = redis::pipe();
        pipeline
            .hincr(keys::READS, format!("{interface}:hits"), hits)
            .ignore()
            .hincr(keys::READS, format!("{interface}:misses"), misses)
            .ignore();
        Ok(self.query(Query::Pipeline(&pipeline)).await?)
    }

    /// Hits and misses of the cache-first reads of all processes, all interfaces together.
    pub async fn reads(&self) -> Result<(u64, u64)> {
        let mut pipeline = redis::pipe();
        pipeline.hgetall(keys::READS);
        let (counts,): (BTreeMap<String, u64>,) = self.query(Query::Pipeline(&pipeline)).await?;
        let sum = |suffix: &str| counts.iter().filter(|(name, _)| name.ends_with(suffix)).map(|(_, count)| count).sum();
        Ok((sum(":hits"), sum(":misses")))
    }

    /// Deletes every key of Footfall and nothing else; answers how many. For `footfall clean`.
    pub async fn delete_everything(&self) -> Result<u64> {
        let mut cursor = 0u64;
        let mut deleted = 0;
        loop {
            let mut scan = redis::pipe();
            scan.cmd("SCAN").arg(cursor).arg("MATCH").arg(keys::ALL).arg("COUNT").arg(1000);
            let ((next, names),): ((u64, Vec<String>),) = self.query(Query::Pipeline(&scan)).await?;
            if !names.is_empty() {
                let mut unlink = redis::pipe();
                unlink.unlink(&names);
                let (count,): (u64,) = self.query(Query::Pipeline(&unlink)).await?;
                deleted += count;
            }
            if next == 0 {
                return Ok(deleted);
            }
            cursor = next;
        }
    }

    /// The queue of one shard.
    #[must_use]
    pub fn shard(&self, shard: Shard) -> Queue {
        Queue { redis: self.clone(), keys: Arc::new(ShardKeys::new(shard)), shard }
    }
}

enum Query<'a> {
    Script(&'a Script, Vec<&'a str>, Vec<Vec<u8>>),
    Pipeline(&'a redis::Pipeline),
}

/// A time-out does not cancel the command, and a server that became read-only is not the master any
/// more: a new connection is the way out of both.
fn must_reconnect(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_unrecoverable_error()
        || matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown))
}

/// The queue of one shard. Cheap to clone.
#[derive(Clone)]
pub struct Queue {
    redis: Redis,
    keys: Arc<ShardKeys>,
    shard: Shard,
}

/// Which generations a shard has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The open generation.
    pub open: u64,
    /// The first generation that MySQL is not known to have; all before it are forgotten.
    pub first: u64,
}

/// What APPLY did with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The batch is in Redis or, if it was a repeat, was before. Its generation is at most `open`.
    Ok(Position),
    /// The open generation holds enough views: seal it, then send again.
    Full {
        /// The generation to seal.
        open: u64,
    },
    /// The data set does not know the producer, or lacks batches before this one: register, and send those first.
    Behind,
}

/// The state of a shard's data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The life of the Redis server that answered.
    pub incarnation: String,
    /// What it holds; none if it holds nothing of this shard.
    pub data: Option<DataSet>,
}

/// What a Redis server holds of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataSet {
    /// Whether a recovery opened it in this life of the server.
    pub is_current: bool,
    /// Its epoch.
    pub epoch: u64,
    /// Its generations.
    pub position: Position,
    /// Views in the open generation.
    pub open_views: u64,
    /// Articles touched in the open generation.
    pub open_articles: u64,
    /// Views in sealed generations.
    pub sealed_views: u64,
    /// Age of the oldest view that is not acknowledged by MySQL, in milliseconds; 0 if there is none.
    pub lag_ms: u64,
}

impl DataSet {
    /// Views that wait for MySQL.
    #[must_use]
    pub fn pending_views(&self) -> u64 {
        self.open_views + self.sealed_views
    }
}

/// A sealed generation as read back. Immutable in Redis (I7).
#[derive(Debug, Clone)]
pub struct Sealed {
    /// Its number.
    pub generation: u64,
    /// Its batches, in the order of their arrival.
    pub batches: Vec<Batch>,
    /// Views per article as Redis counted them, to be compared with the batches.
    pub totals: BTreeMap<Vec<u8>, u64>,
    /// Articles in `dirty`.
    pub dirty: Vec<Vec<u8>>,
    /// Batches and views as the header says; none if the header is missing.
    pub header: Option<(u64, u64)>,
}

/// A cached value with what waits on top of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// Views in MySQL.
    pub stored_views: u64,
    /// Readers in MySQL.
    pub readers: u64,
    /// Views that wait in Redis.
    pub pending_views: u64,
    /// Everything before this time is in `stored_views` and `readers`; milliseconds since 1970.
    pub as_of_ms: u64,
}

/// The answer of a cache look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cached {
    /// The value.
    Hit(Live),
    /// Not cached; `first` goes into [`Queue::fill`].
    Miss {
        /// The first generation not acknowledged at the time of the look-up.
        first: u64,
    },
}

impl Queue {
    /// Which shard this is.
    #[must_use]
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// Runs a script; answers its first word and the rest. `EPOCH` becomes an error.
    async fn call(&self, script: &Script, keys: Vec<&str>, arguments: Vec<Vec<u8>>) -> Result<(String, Reply)> {
        let mut reply: Vec<Value> = self.redis.query(Query::Script(script, keys, arguments)).await?;
        if reply.is_empty() {
            return Err(QueueError::Corrupt("a script answered nothing".into()));
        }
        let word = redis::from_redis_value::<String>(reply.remove(0)).map_err(RedisError::from)?;
        match word.as_str() {
            "EPOCH" => Err(QueueError::Epoch),
            _ => Ok((word, Reply(reply))),
        }
    }

    /// The state of the data set, open or not.
    pub async fn state(&self) -> Result<State> {
        let keys = vec![&*self.keys.meta, &self.keys.open.dirty, &self.keys.headers];
        let (word, reply) = self.call(&STATE, keys, vec![]).await?;
        let incarnation = reply.text(0)?;
        let data = if word == "NONE" {
            None
        } else {
            Some(DataSet {
                is_current: word == "CURRENT",
                epoch: reply.number(1)?,
                position: Position { open: reply.number(2)?, first: reply.number(3)? },
                open_views: reply.number(4)?,
                sealed_views: reply.number(5)?,
                open_articles: reply.number(6)?,
                lag_ms: reply.number(7)?,
            })
        };
        Ok(State { incarnation, data })
    }

    /// Admits a producer; answers the number of its last batch in this data set.
    pub async fn register(&self, epoch: u64, producer: Producer, shards: u16) -> Result<(u64, Position)> {
        let keys = vec![&*self.keys.meta, &self.keys.producers];
        let arguments = vec![text(epoch), text(producer), text(shards)];
        let (word, reply) = self.call(&REGISTER, keys, arguments).await?;
        match word.as_str() {
            "SHARDS" => Err(QueueError::Shards(reply.text(0)?)),
            _ => Ok((reply.number(0)?, reply.position(1)?)),
        }
    }

    /// Appends a batch once, whatever the number of calls.
    pub async fn apply(&self, epoch: u64, batch: &Batch, packed: &[u8], generation_views_max: u64) -> Result<Applied> {
        let open = &self.keys.open;
        let keys = vec![&*self.keys.meta, &self.keys.producers, &open.dirty, &open.totals, &open.log];
        let mut arguments = vec![
            text(epoch),
            text(batch.producer),
            text(batch.number),
            text(generation_views_max),
            text(batch.views()),
            packed.to_vec(),
        ];
        for (article, views) in batch.articles() {
            arguments.push(article.as_bytes().to_vec());
            arguments.push(text(views));
        }
        let (word, reply) = self.call(&APPLY, keys, arguments).await?;
        Ok(match word.as_str() {
            "FULL" => Applied::Full { open: reply.number(0)? },
            "BEHIND" => Applied::Behind,
            _ => Applied::Ok(reply.position(0)?),
        })
    }

    /// Seals generation `open` if it still is the open one and holds anything.
    pub async fn seal(&self, epoch: u64, open: u64) -> Result<Position> {
        let (from, to) = (&self.keys.open, self.keys.sealed(open));
        let keys = vec![
            &*self.keys.meta,
            &from.dirty,
            &from.totals,
            &from.log,
            &self.keys.headers,
            &self.keys.backlog,
            &to.dirty,
            &to.totals,
            &to.log,
        ];
        let (_, reply) = self.call(&SEAL, keys, vec![text(epoch), text(open)]).await?;
        reply.position(0)
    }

    /// The views of each generation in the range as its header says; none where there is no header.
    pub async fn sealed_views(&self, generations: std::ops::Range<u64>) -> Result<Vec<Option<u64>>> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HMGET").arg(&self.keys.headers).arg(generations.collect::<Vec<_>>());
        let (headers,): (Vec<Option<String>>,) = self.redis.query(Query::Pipeline(&pipeline)).await?;
        Ok(headers.iter().map(|header| Some(header_of(header.as_deref()?)?.1)).collect())
    }

    /// Reads a sealed generation. Immutable, so no script is needed.
    pub async fn sealed(&self, generation: u64) -> Result<Sealed> {
        let keys = self.keys.sealed(generation);
        let mut pipeline = redis::pipe();
        pipeline
            .lrange(&keys.log, 0, -1)
            .hgetall(&keys.totals)
            .lrange(&keys.dirty, 0, -1)
            .hget(&self.keys.headers, generation);
        let (log, totals, dirty, header): (Vec<Vec<u8>>, _, _, Option<String>) =
            self.redis.query(Query::Pipeline(&pipeline)).await?;
        let header = header.as_deref().and_then(header_of);
        let batches = log.iter().map(|packed| packed::decode(packed)).collect::<std::result::Result<_, _>>()?;
        Ok(Sealed { generation, batches, totals, dirty, header })
    }

    /// The batches of the open generation, for `footfall verify`.
    pub async fn open_batches(&self) -> Result<Vec<Batch>> {
        let mut pipeline = redis::pipe();
        pipeline.lrange(&self.keys.open.log, 0, -1);
        let (log,): (Vec<Vec<u8>>,) = self.redis.query(Query::Pipeline(&pipeline)).await?;
        Ok(log.iter().map(|packed| packed::decode(packed)).collect::<std::result::Result<_, _>>()?)
    }

    /// Forgets the generations `first..=last`, which MySQL has, with `growth` in them.
    /// Answers none if other generations were acknowledged meanwhile: look again.
    pub async fn ack(&self, epoch: u64, first: u64, last: u64, growth: &[Growth]) -> Result<Option<Position>> {
        let sealed: Vec<GenerationKeys> = (first..=last).map(|generation| self.keys.sealed(generation)).collect();
        let live: Vec<String> = growth.iter().map(|part| self.keys.live(epoch, &part.article)).collect();
        let mut keys = vec![&*self.keys.meta, &self.keys.headers, &self.keys.backlog];
        for generation in &sealed {
            keys.extend([&*generation.dirty, &generation.totals, &generation.log]);
        }
        keys.extend(live.iter().map(String::as_str));
        let views: u64 = growth.iter().map(|part| part.views).sum();
        let mut arguments = vec![text(epoch), text(first), text(last), text(views)];
        for part in growth {
            arguments.push(part.article.as_bytes().to_vec());
            arguments.push(text(part.views));
            arguments.push(part.readers.map(text).unwrap_or_default());
        }
        let (word, reply) = self.call(&ACK, keys, arguments).await?;
        if word == "MOVED" { Ok(None) } else { reply.position(0).map(Some) }
    }

    /// Opens the data set of `state` under the epoch of `recovery`. Answers how many generations of
    /// an overtaken history were set aside, or none if the server or its data changed meanwhile.
    pub async fn reopen(&self, state: &State, recovery: &Recovery, shards: u16) -> Result<Option<u64>> {
        let keep = state.data.is_some_and(|data| data.epoch >= recovery.flush_epoch);
        let open = &self.keys.open;
        let mut keys = vec![
            self.keys.meta.clone(),
            self.keys.producers.clone(),
            self.keys.headers.clone(),
            self.keys.backlog.clone(),
            open.dirty.clone(),
            open.totals.clone(),
            open.log.clone(),
        ];
        let mut arguments = vec![text(recovery.epoch), text(&state.incarnation)];
        if let Some(DataSet { epoch, position, .. }) = state.data {
            arguments.extend([text(epoch), text(position.first), text(position.open)]);
            for generation in position.first..=position.open {
                let GenerationKeys { dirty, totals, log } = self.keys.sealed(generation);
                keys.extend([dirty, totals, log, self.keys.aside(recovery.epoch, generation)]);
            }
        } else {
            arguments.extend([vec![], vec![], vec![]]);
        }
        arguments.extend([text(recovery.generation), text(u8::from(keep)), text(shards)]);
        for (producer, number) in &recovery.producers {
            arguments.extend([text(producer), text(number)]);
        }
        let keys = keys.iter().map(String::as_str).collect();
        let (word, reply) = self.call(&REOPEN, keys, arguments).await?;
        if word == "MOVED" { Ok(None) } else { reply.number(0).map(Some) }
    }

    /// Looks an article up in the cache and, if it is there, keeps it for another `ttl`.
    pub async fn read(&self, epoch: u64, article: &Article, ttl: Duration) -> Result<Cached> {
        let live = self.keys.live(epoch, article);
        let keys = vec![&*self.keys.meta, &self.keys.headers, &self.keys.backlog, &self.keys.open.totals, &live];
        let arguments = vec![text(epoch), article.as_bytes().to_vec(), text(ttl.as_millis())];
        let (word, reply) = self.call(&READ, keys, arguments).await?;
        if word == "MISS" {
            return Ok(Cached::Miss { first: reply.number(0)? });
        }
        Ok(Cached::Hit(Live {
            stored_views: reply.number(0)?,
            readers: reply.number(1)?,
            pending_views: reply.number(2)?,
            as_of_ms: reply.number(3)?,
        }))
    }

    /// Offers a value that MySQL had at generation `fence`, after a look-up that answered `first`.
    /// Answers none if Redis has forgotten generations that the value lacks: read again.
    pub async fn fill(
        &self,
        epoch: u64,
        article: &Article,
        ttl: Duration,
        first: u64,
        (fence, stored_views, readers): (u64, u64, u64),
    ) -> Result<Option<Live>> {
        let live = self.keys.live(epoch, article);
        let committed: Vec<String> = (first..=fence).map(|generation| self.keys.sealed(generation).totals).collect();
        let mut keys = vec![&*self.keys.meta, &self.keys.headers, &self.keys.backlog, &self.keys.open.totals, &live];
        keys.extend(committed.iter().map(String::as_str));
        let arguments = vec![
            text(epoch),
            article.as_bytes().to_vec(),
            text(ttl.as_millis()),
            text(fence),
            text(stored_views),
            text(readers),
        ];
        let (word, reply) = self.call(&FILL, keys, arguments).await?;
        if word == "MOVED" {
            return Ok(None);
        }
        Ok(Some(Live { stored_views, readers, pending_views: reply.number(0)?, as_of_ms: reply.number(1)? }))
    }

    /// Takes or renews the advisory lease of this shard for `holder`; false if another has it.
    pub async fn lease(&self, holder: &str, duration: Duration) -> Result<bool> {
        let keys = vec![&*self.keys.lease];
        let arguments = vec![text(holder), text(duration.as_millis())];
        let held: u64 = self.redis.query(Query::Script(&LEASE, keys, arguments)).await?;
        Ok(held == 1)
    }

    /// Gives the advisory lease back, if `holder` has it.
    pub async fn release(&self, holder: &str) -> Result<()> {
        let keys = vec![&*self.keys.lease];
        Ok(self.redis.query(Query::Script(&LEASE, keys, vec![text(holder), text(0)])).await?)
    }

    /// Who holds the advisory lease.
    pub async fn lease_holder(&self) -> Result<Option<String>> {
        let mut pipeline = redis::pipe();
        pipeline.get(&self.keys.lease);
        let (owner,): (Option<String>,) = self.redis.query(Query::Pipeline(&pipeline)).await?;
        Ok(owner)
    }

    /// Views of each article that wait in Redis, for lists. Not one atomic look with MySQL.
    pub async fn pending(&self, articles: &[Article]) -> Result<Vec<u64>> {
        if articles.is_empty() {
            return Ok(vec![]);
        }
        let names: Vec<&[u8]> = articles.iter().map(Article::as_bytes).collect();
        let mut pipeline = redis::pipe();
        for key in [&self.keys.backlog, &self.keys.open.totals] {
            pipeline.cmd("HMGET").arg(key).arg(&names);
        }
        let (sealed, open): (Vec<Option<u64>>, Vec<Option<u64>>) = self.redis.query(Query::Pipeline(&pipeline)).await?;
        Ok(sealed.iter().zip(&open).map(|(a, b)| a.unwrap_or(0) + b.unwrap_or(0)).collect())
    }
}

/// Batches and views of a sealed generation.
fn header_of(header: &str) -> Option<(u64, u64)> {
    let mut fields = header.split(':').map(str::parse);
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

fn text(value: impl std::fmt::Display) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// The values of a script's reply behind its first word.
struct Reply(Vec<Value>);

impl Reply {
    fn number(&self, at: usize) -> Result<u64> {
        match self.0.get(at) {
            Some(Value::Int(number)) => {
                u64::try_from(*number).map_err(|_| QueueError::Corrupt(format!("a script answered {number}")))
            }
            other => Err(QueueError::Corrupt(format!("a script answered {other:?} instead of a number"))),
        }
    }

    fn text(&self, at: usize) -> Result<String> {
        let value = self.0.get(at).cloned().unwrap_or(Value::Nil);
        Ok(redis::from_redis_value(value).map_err(RedisError::from)?)
    }

    fn position(&self, at: usize) -> Result<Position> {
        Ok(Position { open: self.number(at)?, first: self.number(at + 1)? })
    }
}
