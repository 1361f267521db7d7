//! Redis: where accepted views wait until MySQL has them. Only this module and the reads in
//! [`crate::reads`] go through it; every script is one atomic step of the protocol.

mod scripts;
mod server;
mod url;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, RedisError, Value};

use crate::counter::{Article, Batch, Growth, Producer, Shard, VIEWS_MAX, shown, total};
use crate::keys::{Age, GenerationKeys, ShardKeys};
use crate::packed::{self, PackedError};
use crate::store::{Fence, Positions, Recovery, StoredArticle};

use scripts::{
    ACK, APPLY, BEHIND, FILL, LEASE, LOOK, READ, REGISTER, REOPEN, REWRITE, ROTATE, SEAL, SEALED, STATE, VERSION,
};
pub use scripts::{Script, WhenFull, scripts};
pub use server::{Answer, Redis, Server};
pub use url::{check, exposure, is_local};

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

impl QueueError {
    /// No answer came in time.
    #[must_use]
    pub fn timed_out() -> Self {
        Self::Redis(std::io::Error::from(std::io::ErrorKind::TimedOut).into())
    }
}

impl From<PackedError> for QueueError {
    fn from(error: PackedError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

type Result<T> = std::result::Result<T, QueueError>;

/// The queue of one shard. Cheap to clone.
#[derive(Clone)]
pub struct Queue {
    redis: Redis,
    keys: Arc<ShardKeys>,
    shard: Shard,
}

/// What a data set says about views, see [`Queue::books`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Books {
    /// The first generation that MySQL is not known to have.
    pub first: u64,
    /// Views that wait.
    pub pending_views: u64,
    /// The cumulative views of all producers, as they said with their last batch.
    pub accepted_views: u64,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The batch is in Redis or, if it was a repeat, was before. Its generation is at most `open`.
    Ok(Position),
    /// The open generation holds enough views: seal it, then send again.
    Full {
        /// The generation to seal.
        open: u64,
    },
    /// These views of the batch, by their position in `ids`, were counted before: leave them out, then send again.
    Seen(Vec<usize>),
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
    /// Batches in the open generation.
    pub open_batches: u64,
    /// Views in the open generation.
    pub open_views: u64,
    /// Articles touched in the open generation.
    pub open_articles: u64,
    /// Views in sealed generations.
    pub sealed_views: u64,
    /// Age of the oldest view that is not acknowledged by MySQL, in milliseconds; 0 if there is none.
    pub lag_ms: u64,
    /// How often MySQL's counts were changed by anything but a flush, as far as Redis was told.
    pub version: u64,
    /// The view ids that it remembers.
    pub ids: Remembered,
    /// Whether a part of it has become something else than what it must be.
    pub is_damaged: bool,
    /// Whether acknowledged views may be neither in it nor in MySQL, but in a journal or on their way back.
    pub is_behind: bool,
}

/// The ids of views counted lately, in two sets: one that is added to, and the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Remembered {
    /// How often the one became the other.
    pub rotation: u64,
    /// How many are in the set that is added to.
    pub added: u64,
    /// How many are in the one before.
    pub before: u64,
    /// Since when ids are remembered without a gap, in milliseconds before now; 0 if that is not known.
    pub window_ms: u64,
    /// How many were forgotten before their time, to make room.
    pub forgotten_early: u64,
}

/// What a remembered id takes of Redis's memory, in bytes: a member of 16 bytes, measured with 300,000 of them on Redis
/// 7.0 with jemalloc (85), and some more because a set grows by doubling its table.
pub const ID_BYTES: u64 = 96;

impl DataSet {
    /// Whether MySQL has all that it holds. Batches count, not views: all views of a batch may be repeats.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.open_batches == 0 && self.position.first == self.position.open
    }

    /// What its cached values belong to.
    #[must_use]
    pub fn age(&self) -> Age {
        Age { epoch: self.epoch, version: self.version }
    }

    /// Views that wait for MySQL.
    #[must_use]
    pub fn pending_views(&self) -> u64 {
        self.open_views.saturating_add(self.sealed_views)
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
    /// See [`DataSet::is_behind`]: then all this is only a part.
    pub is_behind: bool,
    /// Whether so much of Redis's memory is in use that new views do not go there, see [`MEMORY_PERCENT_MAX`].
    pub is_full: bool,
}

impl Live {
    /// Views in both stores.
    #[must_use]
    pub fn views(&self) -> u64 {
        shown(self.stored_views.saturating_add(self.pending_views))
    }
}

/// The one field of the hash that holds what MySQL's fence was.
const FENCE_FIELD: &str = "fence";

/// When this part of its memory is in use Redis is full: the rest is for what leads to a flush.
pub const MEMORY_PERCENT_MAX: u64 = 80;

/// The answer of a cache look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cached {
    /// The value.
    Hit(Live),
    /// Its time to live is over, so MySQL is to be asked; should that fail, this is still right.
    Old {
        /// As of a miss.
        first: u64,
        /// The value.
        live: Live,
    },
    /// Not cached; `first` goes into [`Queue::fill`].
    Miss {
        /// The first generation not acknowledged at the time of the look-up.
        first: u64,
        /// Views that wait in Redis, some of which MySQL may have by now.
        pending_views: u64,
    },
}

impl Redis {
    /// The queue of one shard.
    #[must_use]
    pub fn shard(&self, shard: Shard) -> Queue {
        Queue { redis: self.clone(), keys: Arc::new(ShardKeys::new(shard)), shard }
    }
}

impl Queue {
    /// The server that it is in.
    #[must_use]
    pub fn redis(&self) -> &Redis {
        &self.redis
    }

    /// Which shard this is.
    #[must_use]
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// Runs a script; answers its first word and the rest. `EPOCH` becomes an error.
    async fn call(&self, script: &'static Script, call: Cmd) -> Result<(String, Reply)> {
        let reply = self.redis.server.script(script, call).await?;
        let mut reply: Vec<Value> = redis::from_redis_value(reply).map_err(RedisError::from)?;
        if reply.is_empty() {
            return Err(QueueError::Corrupt("a script answered nothing".into()));
        }
        let word = redis::from_redis_value::<String>(reply.remove(0)).map_err(RedisError::from)?;
        match word.as_str() {
            "EPOCH" => Err(QueueError::Epoch),
            "DAMAGED" => {
                let reply = Reply(reply);
                Err(QueueError::Corrupt(format!("the parts of generation {} contradict each other", reply.number(0)?)))
            }
            _ => Ok((word, Reply(reply))),
        }
    }

    /// The state of the data set, open or not.
    pub async fn state(&self) -> Result<State> {
        let (all, open) = (&self.keys, &self.keys.open);
        let keys = [
            &*all.meta,
            &open.totals,
            &all.headers,
            &open.log,
            &all.producers,
            &all.backlog,
            &all.newest,
            &all.ids,
            &all.ids_before,
        ];
        let (word, reply) = self.call(&STATE, STATE.call(keys)).await?;
        let incarnation = reply.text(0)?;
        let data = if word == "NONE" {
            None
        } else {
            // A number that nobody can have counted to is damage like any other: the data set can still be set aside.
            let mut is_damaged = reply.number(11)? == 1;
            let mut count = |at| {
                let count = reply.number(at).ok().filter(|count| *count <= VIEWS_MAX);
                is_damaged |= count.is_none();
                count.unwrap_or(0)
            };
            let (open_views, sealed_views, open_articles) = (count(4), count(5), count(6));
            let (lag_ms, open_batches) = (count(7), count(8));
            Some(DataSet {
                is_current: word == "CURRENT",
                epoch: reply.number(1)?,
                position: reply.position(2)?,
                open_views,
                sealed_views,
                open_articles,
                lag_ms,
                open_batches,
                version: reply.number(9)?,
                is_damaged,
                is_behind: reply.number(12)? == 1,
                ids: Remembered {
                    rotation: reply.number(10)?,
                    added: reply.number(13)?,
                    before: reply.number(14)?,
                    window_ms: reply.number(15)?,
                    forgotten_early: reply.number(16)?,
                },
            })
        };
        Ok(State { incarnation, data })
    }

    /// Admits a producer; answers the number of its last batch in this data set.
    pub async fn register(&self, epoch: u64, producer: Producer, shards: u16) -> Result<(u64, Position)> {
        let mut call = REGISTER.call([&*self.keys.meta, &self.keys.producers]);
        call.arg(epoch).arg(producer.to_string()).arg(shards);
        let (word, reply) = self.call(&REGISTER, call).await?;
        match word.as_str() {
            "SHARDS" => Err(QueueError::Shards(reply.text(0)?)),
            _ => Ok((reply.number(0)?, reply.position(1)?)),
        }
    }

    /// Appends a batch once, whatever the number of calls. If more than `ids_max` view ids would be added between two
    /// rotations, they are rotated before their time.
    pub async fn apply(&self, epoch: u64, batch: &Batch, generation_views_max: u64, ids_max: u64) -> Result<Applied> {
        let open = &self.keys.open;
        let mut call = APPLY.call([
            &*self.keys.meta,
            &self.keys.producers,
            &open.totals,
            &open.log,
            &self.keys.ids,
            &self.keys.ids_before,
        ]);
        call.arg(epoch)
            .arg(batch.producer.to_string())
            .arg(batch.number)
            .arg(generation_views_max)
            .arg(batch.views())
            .arg(batch.cumulative_views)
            .arg(packed::encode(batch))
            .arg(ids_max)
            .arg(batch.articles().count());
        for (article, views) in batch.articles() {
            call.arg(article.as_bytes()).arg(views);
        }
        for view in &batch.ids {
            call.arg(&view.hash()).arg(view.id.as_bytes());
        }
        let (word, reply) = self.call(&APPLY, call).await?;
        Ok(match word.as_str() {
            "FULL" => Applied::Full { open: reply.number(0)? },
            "BEHIND" => Applied::Behind,
            "SEEN" => Applied::Seen(reply.positions()?),
            _ => Applied::Ok(reply.position(0)?),
        })
    }

    /// Forgets the view ids of the period before the last one, if `rotation` still is what the data set says; `is_early`
    /// if that is to make room.
    pub async fn rotate_ids(&self, epoch: u64, rotation: u64, is_early: bool) -> Result<()> {
        let mut call = ROTATE.call([&*self.keys.meta, &self.keys.ids, &self.keys.ids_before]);
        call.arg(epoch).arg(rotation).arg(u8::from(is_early));
        self.call(&ROTATE, call).await.map(drop)
    }

    /// Tells the others how many views an ingest has acknowledged that only its journal holds. `beat` grows each time:
    /// so others see that it lives. `stored` is the last batch that MySQL has, and its cumulative views, of each path.
    /// With `is_behind`, readers are told for a while that the numbers of this shard are a part.
    pub async fn report(
        &self,
        producer: Producer,
        beat: u64,
        journalled: u64,
        stored: [(u64, u64); 2],
        is_behind: bool,
    ) -> Result<()> {
        let [(number, views), (direct, direct_views)] = stored;
        if is_behind {
            self.call(&BEHIND, BEHIND.call([&*self.keys.meta])).await?;
        }
        let producer = producer.to_string();
        let (report, stored) = (format!("{beat}:{journalled}"), format!("{number}:{views}:{direct}:{direct_views}"));
        self.redis.note([(&self.keys.reports, &producer, &report), (&self.keys.stored, &producer, &stored)]).await
    }

    /// Takes the report of an ingest back that has ended.
    pub async fn forget_report(&self, producer: Producer) -> Result<()> {
        let mut pipeline = redis::pipe();
        pipeline.hdel(&self.keys.reports, producer.to_string()).ignore();
        pipeline.hdel(&self.keys.stored, producer.to_string()).ignore();
        Ok(self.redis.commands(pipeline).await?)
    }

    /// The last report of each ingest: producer, beat, journalled views.
    pub async fn reports(&self) -> Result<Vec<(String, u64, u64)>> {
        let mut pipeline = redis::pipe();
        pipeline.hgetall(&self.keys.reports);
        let (reports,): (BTreeMap<String, String>,) = self.redis.commands(pipeline).await?;
        let parse = |(producer, report): (String, String)| {
            let (beat, journalled) = report.split_once(':')?;
            Some((producer, beat.parse().ok()?, journalled.parse().ok()?))
        };
        Ok(reports.into_iter().filter_map(parse).collect())
    }

    /// Commands that only read, at one moment.
    async fn at_once<T: FromRedisValue>(&self, commands: redis::Pipeline) -> Result<T> {
        let words: Vec<Vec<&[u8]>> = commands
            .cmd_iter()
            .map(|command| {
                let word = |word| if let redis::Arg::Simple(word) = word { Some(word) } else { None };
                command.args_iter().filter_map(word).collect()
            })
            .collect();
        let mut call = LOOK.call(words.iter().map(|words| std::str::from_utf8(words[1]).expect("our keys are text")));
        for words in &words {
            call.arg(words[0]).arg(words.len() - 2).arg(&words[2..]);
        }
        Ok(from_value(self.redis.server.script(&LOOK, call).await?)?)
    }

    /// Makes the values that were cached under an older version invisible.
    pub async fn raise_version(&self, age: Age) -> Result<()> {
        let mut call = VERSION.call([&*self.keys.meta]);
        call.arg(age.epoch).arg(age.version);
        self.call(&VERSION, call).await.map(drop)
    }

    /// The cumulative views of all producers, as they said with their last batch in this data set.
    pub async fn accepted_views(&self) -> Result<u64> {
        let mut pipeline = redis::pipe();
        pipeline.hvals(&self.keys.producers);
        let (positions,): (Vec<String>,) = self.redis.commands(pipeline).await?;
        let views = |position: &String| position.split_once(':').and_then(|(_, views)| views.parse::<u64>().ok());
        Ok(total(positions.iter().filter_map(views)))
    }

    /// What it says about all views that it was ever given, in one atomic look; none if it holds nothing of this shard.
    pub async fn books(&self) -> Result<Option<Books>> {
        let mut pipeline = redis::pipe();
        let fields = ["first", "views", "sealed_views"];
        pipeline.cmd("HMGET").arg(&self.keys.meta).arg(&fields).hvals(&self.keys.producers);
        type Fields = (Option<u64>, Option<u64>, Option<u64>);
        let ((first, open, sealed), positions): (Fields, Vec<String>) = self.at_once(pipeline).await?;
        let views = |position: &String| position.split_once(':').and_then(|(_, views)| views.parse::<u64>().ok());
        let accepted_views = total(positions.iter().filter_map(views));
        Ok(first.zip(open).zip(sealed).map(|((first, open_views), sealed_views)| Books {
            first,
            pending_views: open_views.saturating_add(sealed_views),
            accepted_views,
        }))
    }

    /// Keeps what MySQL has, for whoever cannot ask it.
    pub async fn keep_fence(&self, fence: &Fence) -> Result<()> {
        let Fence { epoch, position, flush_epoch, version, views, readers, users, articles } = fence;
        let text = format!("{epoch}:{position}:{flush_epoch}:{version}:{views}:{readers}:{users}:{articles}");
        self.redis.note([(&self.keys.fence, FENCE_FIELD, &text)]).await
    }

    /// What was kept last.
    pub async fn kept_fence(&self) -> Result<Option<Fence>> {
        let mut pipeline = redis::pipe();
        pipeline.hget(&self.keys.fence, FENCE_FIELD);
        let (text,): (Option<String>,) = self.redis.commands(pipeline).await?;
        let numbers: Vec<u64> =
            text.iter().flat_map(|text| text.split(':')).map_while(|part| part.parse().ok()).collect();
        let [epoch, position, flush_epoch, version, views, readers, users, articles] = numbers[..] else {
            return Ok(None);
        };
        Ok(Some(Fence { epoch, position, flush_epoch, version, views, readers, users, articles }))
    }

    /// Seals generation `open` if it still is the open one and holds anything.
    pub async fn seal(&self, epoch: u64, open: u64) -> Result<Position> {
        let (from, to) = (&self.keys.open, self.keys.sealed(open));
        let mut call = SEAL.call([
            &*self.keys.meta,
            &from.totals,
            &from.log,
            &self.keys.headers,
            &self.keys.backlog,
            &self.keys.newest,
            &self.keys.sealed(open.saturating_sub(1)).totals,
            &to.log,
        ]);
        call.arg(epoch).arg(open);
        let (_, reply) = self.call(&SEAL, call).await?;
        reply.position(0)
    }

    /// The views of each generation in the range as its header says; none where there is no header.
    pub async fn sealed_views(&self, generations: std::ops::Range<u64>) -> Result<Vec<Option<u64>>> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HMGET").arg(&self.keys.headers).arg(generations.collect::<Vec<_>>());
        let (headers,): (Vec<Option<String>>,) = self.redis.commands(pipeline).await?;
        Ok(headers.iter().map(|header| Some(header_of(header.as_deref()?)?.1)).collect())
    }

    /// Reads a sealed generation of the data set that is open under `epoch`.
    pub async fn sealed(&self, epoch: u64, generation: u64) -> Result<Sealed> {
        let of = self.keys.sealed(generation);
        let mut call = SEALED.call([&*self.keys.meta, &self.keys.headers, &of.totals, &of.log, &self.keys.newest]);
        call.arg(epoch).arg(generation);
        let (_, reply) = self.call(&SEALED, call).await?;
        let [header, log, totals] = <[Value; 3]>::try_from(reply.0)
            .map_err(|_| QueueError::Corrupt("a script answered less than a generation".into()))?;
        let totals = match totals {
            Value::BulkString(text) => unpacked(&text),
            newest => from_value(newest)?,
        };
        sealed_of(generation, (from_value(log)?, totals, from_value(header).map(Some)?))
    }

    /// Reads a sealed generation of whatever data set there is, open or not, for `footfall verify`.
    pub async fn peek_sealed(&self, generation: u64) -> Result<Sealed> {
        let keys = self.keys.sealed(generation);
        let mut pipeline = redis::pipe();
        pipeline
            .lrange(&keys.log, 0, -1)
            .get(&keys.totals)
            .hget(&self.keys.headers, generation)
            .hget(&self.keys.meta, "gen")
            .hgetall(&self.keys.newest);
        type Found = (Vec<Vec<u8>>, Option<Vec<u8>>, Option<String>, Option<u64>, BTreeMap<Vec<u8>, u64>);
        let (log, totals, header, open, newest): Found = self.at_once(pipeline).await?;
        let is_newest = open == Some(generation + 1) && !newest.is_empty();
        let totals = if is_newest { newest } else { unpacked(&totals.unwrap_or_default()) };
        sealed_of(generation, (log, totals, header))
    }

    /// The batches of the open generation, for `footfall verify`.
    pub async fn open_batches(&self) -> Result<Vec<Batch>> {
        let mut pipeline = redis::pipe();
        pipeline.lrange(&self.keys.open.log, 0, -1);
        let (log,): (Vec<Vec<u8>>,) = self.redis.commands(pipeline).await?;
        Ok(log.iter().map(|packed| packed::decode(packed)).collect::<std::result::Result<_, _>>()?)
    }

    /// Forgets the generations `first..=last`, which MySQL has, with `growth` in them; `version` is that of MySQL. Cached
    /// values of articles in them live on for at least `warm`, and are kept for as long again.
    /// Answers none if other generations were acknowledged meanwhile, or the version moved: look again.
    pub async fn ack(
        &self,
        age: Age,
        version: u64,
        first: u64,
        last: u64,
        growth: &[Growth],
        warm: Duration,
    ) -> Result<Option<Position>> {
        let sealed: Vec<GenerationKeys> = (first..=last).map(|generation| self.keys.sealed(generation)).collect();
        let live: Vec<String> = growth.iter().map(|part| self.keys.live(age, &part.article)).collect();
        let mut keys = vec![&*self.keys.meta, &self.keys.headers, &self.keys.backlog, &self.keys.newest];
        for generation in &sealed {
            keys.extend([&*generation.totals, &generation.log]);
        }
        keys.extend(live.iter().map(String::as_str));
        let views = total(growth.iter().map(|part| part.views));
        let mut call = ACK.call(keys);
        call.arg(age.epoch).arg(age.version).arg(version).arg(first).arg(last).arg(views).arg(2 * warm.as_millis());
        for part in growth {
            call.arg(part.article.as_bytes()).arg(part.views);
            match part.readers {
                Some(readers) => call.arg(readers),
                None => call.arg(""),
            };
        }
        let (word, reply) = self.call(&ACK, call).await?;
        if word == "MOVED" { Ok(None) } else { reply.position(0).map(Some) }
    }

    /// Opens the data set of `state` under the epoch of `recovery`; with `discard` whatever it holds is set aside.
    /// Answers how many generations of an overtaken or damaged history were set aside, or none if the server or its
    /// data changed meanwhile.
    pub async fn reopen(&self, state: &State, recovery: &Recovery, shards: u16, discard: bool) -> Result<Option<u64>> {
        let keep = !discard && state.data.is_some_and(|data| data.epoch >= recovery.flush_epoch);
        let open = &self.keys.open;
        let mut keys = vec![
            self.keys.meta.clone(),
            self.keys.producers.clone(),
            self.keys.headers.clone(),
            self.keys.backlog.clone(),
            self.keys.ids.clone(),
            self.keys.ids_before.clone(),
            open.totals.clone(),
            open.log.clone(),
            self.keys.newest.clone(),
        ];
        if let Some(DataSet { position, .. }) = state.data {
            for generation in position.first..=position.open {
                let GenerationKeys { totals, log } = self.keys.sealed(generation);
                keys.extend([totals, log, self.keys.aside(recovery.epoch, generation)]);
            }
        }
        let mut call = REOPEN.call(keys.iter().map(String::as_str));
        call.arg(recovery.epoch).arg(&state.incarnation);
        match state.data {
            Some(DataSet { epoch, position, .. }) => call.arg((epoch, position.first, position.open)),
            None => call.arg(("", "", "")),
        };
        call.arg(recovery.position).arg(u8::from(keep)).arg(shards).arg(recovery.version);
        for (producer, number, views) in &recovery.producers {
            call.arg((producer.to_string(), format!("{number}:{views}")));
        }
        let (word, reply) = self.call(&REOPEN, call).await?;
        if word == "MOVED" { Ok(None) } else { reply.number(0).map(Some) }
    }

    fn keys_of_a_read(&self) -> Vec<&str> {
        let all = &self.keys;
        vec![&all.meta, &all.headers, &all.backlog, &all.newest, &all.open.totals]
    }

    /// Looks articles up in the cache. Each that is there lives for at least the time given with it, and is kept for
    /// `kept` beyond that.
    pub async fn read(&self, age: Age, articles: &[(&Article, Duration)], kept: Duration) -> Result<Vec<Cached>> {
        let live: Vec<String> = articles.iter().map(|(article, _)| self.keys.live(age, article)).collect();
        let mut keys = self.keys_of_a_read();
        keys.extend(live.iter().map(String::as_str));
        let mut call = READ.call(keys);
        call.arg(age.epoch).arg(age.version).arg(kept.as_millis());
        for (article, ttl) in articles {
            call.arg(article.as_bytes()).arg(ttl.as_millis());
        }
        let (_, reply) = self.call(&READ, call).await?;
        let (first, as_of_ms, is_behind) = (reply.number(0)?, reply.number(1)?, reply.number(2)? == 1);
        let is_full = reply.number(3)? > MEMORY_PERCENT_MAX;
        (0..articles.len())
            .map(|article| {
                let at = 4 + 4 * article;
                let pending_views = reply.number(at)?;
                let Some(stored_views) = reply.optional(at + 1)? else {
                    return Ok(Cached::Miss { first, pending_views });
                };
                let readers = reply.number(at + 2)?;
                let live = Live { stored_views, readers, pending_views, as_of_ms, is_behind, is_full };
                let is_fresh = reply.number(at + 3)? == 1;
                Ok(if is_fresh { Cached::Hit(live) } else { Cached::Old { first, live } })
            })
            .collect()
    }

    /// Offers a value that MySQL had, after a look-up that answered `first`; it stays for `ttl` in all.
    /// Answers none if Redis has forgotten generations that the value lacks: read again.
    pub async fn fill(
        &self,
        age: Age,
        article: &Article,
        ttl: Duration,
        first: u64,
        stored: &StoredArticle,
    ) -> Result<Option<Live>> {
        let live = self.keys.live(age, article);
        let committed: Vec<String> =
            (first..=stored.position).map(|generation| self.keys.sealed(generation).totals).collect();
        let mut keys = self.keys_of_a_read();
        keys.push(&live);
        keys.extend(committed.iter().map(String::as_str));
        let mut call = FILL.call(keys);
        call.arg(age.epoch)
            .arg(article.as_bytes())
            .arg(ttl.as_millis())
            .arg(age.version)
            .arg(stored.position)
            .arg(stored.views)
            .arg(stored.readers)
            .arg(stored.version);
        let (word, reply) = self.call(&FILL, call).await?;
        if word == "MOVED" {
            return Ok(None);
        }
        let (pending_views, as_of_ms, is_behind) = (reply.number(0)?, reply.number(1)?, reply.number(2)? == 1);
        let is_full = reply.number(3)? > MEMORY_PERCENT_MAX;
        let StoredArticle { views: stored_views, readers, .. } = *stored;
        Ok(Some(Live { stored_views, readers, pending_views, as_of_ms, is_behind, is_full }))
    }

    /// Takes or renews the advisory lease of this shard for `holder`; false if another has it.
    pub async fn lease(&self, holder: &str, duration: Duration) -> Result<bool> {
        let mut call = LEASE.call([&*self.keys.lease]);
        call.arg(holder).arg(duration.as_millis());
        let held = self.redis.server.script(&LEASE, call).await?;
        Ok(held == Value::Int(1))
    }

    /// Gives the advisory lease back, if `holder` has it.
    pub async fn release(&self, holder: &str) -> Result<()> {
        let mut call = LEASE.call([&*self.keys.lease]);
        call.arg(holder).arg(0);
        self.redis.server.script(&LEASE, call).await?;
        Ok(())
    }

    /// Who holds the advisory lease.
    pub async fn lease_holder(&self) -> Result<Option<String>> {
        let mut pipeline = redis::pipe();
        pipeline.get(&self.keys.lease);
        let (owner,): (Option<String>,) = self.redis.commands(pipeline).await?;
        Ok(owner)
    }

    /// Views of each article that wait in Redis, for lists. Not one atomic look with MySQL.
    pub async fn pending(&self, articles: &[Article]) -> Result<Vec<u64>> {
        if articles.is_empty() {
            return Ok(vec![]);
        }
        let names: Vec<&[u8]> = articles.iter().map(Article::as_bytes).collect();
        let mut pipeline = redis::pipe();
        for key in [&self.keys.backlog, &self.keys.newest, &self.keys.open.totals] {
            pipeline.cmd("HMGET").arg(key).arg(&names);
        }
        let parts: Vec<Vec<Option<u64>>> = self.at_once(pipeline).await?;
        let views = |at| total(parts.iter().filter_map(|part| part.get(at).copied().flatten()));
        Ok((0..articles.len()).map(views).collect())
    }
}

/// What a data set holds at one moment, but for its sealed generations, which never change.
#[derive(Debug, Clone, Default)]
pub struct Moment {
    /// Its generations; none if it holds nothing of this shard.
    pub position: Option<Position>,
    /// The batches of the open generation.
    pub open: Vec<Batch>,
    /// The last batch of every producer that it knows, and its cumulative views.
    pub producers: Positions,
}

/// For the operator's tool: `footfall verify`, `quarantine` and `erase`.
impl Queue {
    /// One atomic look: what it holds of a producer is in the open generation, in a sealed one, or in MySQL.
    pub async fn moment(&self) -> Result<Moment> {
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("HMGET")
            .arg(&self.keys.meta)
            .arg(&["gen", "first"])
            .lrange(&self.keys.open.log, 0, -1)
            .hgetall(&self.keys.producers);
        type Found = ((Option<u64>, Option<u64>), Vec<Vec<u8>>, BTreeMap<String, String>);
        let ((open, first), log, producers): Found = self.at_once(pipeline).await?;
        let parse = |(producer, position): (String, String)| {
            let (number, views) = position.split_once(':')?;
            Some((Producer::parse(&producer)?, (number.parse().ok()?, views.parse().ok()?)))
        };
        Ok(Moment {
            position: open.zip(first).map(|(open, first)| Position { open, first }),
            open: log.iter().map(|packed| packed::decode(packed)).collect::<std::result::Result<_, _>>()?,
            producers: producers.into_iter().filter_map(parse).collect(),
        })
    }

    /// What the ingests say that MySQL has of their batches, through Redis and directly.
    pub async fn said_to_be_stored(&self) -> Result<[Positions; 2]> {
        let mut pipeline = redis::pipe();
        pipeline.hgetall(&self.keys.stored);
        let (said,): (BTreeMap<String, String>,) = self.redis.commands(pipeline).await?;
        let mut positions: [Positions; 2] = Default::default();
        for (producer, text) in said {
            let numbers: Vec<u64> = text.split(':').map_while(|number| number.parse().ok()).collect();
            let Some(producer) = Producer::parse(&producer) else { continue };
            let [number, views, direct, direct_views] = numbers[..] else { continue };
            positions[0].insert(producer, (number, views));
            positions[1].insert(producer, (direct, direct_views));
        }
        Ok(positions)
    }

    /// Epoch and generation of every log that was set aside, in order.
    pub async fn aside(&self) -> Result<Vec<(u64, u64)>> {
        let mut cursor = 0u64;
        let mut found = std::collections::BTreeSet::new(); // A scan may show a key twice.
        loop {
            let mut scan = redis::pipe();
            scan.cmd("SCAN").arg(cursor).arg("MATCH").arg(self.keys.all_aside()).arg("COUNT").arg(1000);
            let ((next, names),): ((u64, Vec<String>),) = self.redis.commands(scan).await?;
            found.extend(names.iter().filter_map(|name| self.keys.aside_of(name)));
            if next == 0 {
                return Ok(found.into_iter().collect());
            }
            cursor = next;
        }
    }

    /// The packed batches of a log that was set aside; empty if there is no such log. They may be damaged.
    pub async fn aside_log(&self, epoch: u64, generation: u64) -> Result<Vec<Vec<u8>>> {
        let mut pipeline = redis::pipe();
        pipeline.lrange(self.keys.aside(epoch, generation), 0, -1);
        let (log,): (Vec<Vec<u8>>,) = self.redis.commands(pipeline).await?;
        Ok(log)
    }

    /// Deletes a log that was set aside; false if there is no such log.
    pub async fn drop_aside(&self, epoch: u64, generation: u64) -> Result<bool> {
        let mut pipeline = redis::pipe();
        pipeline.del(self.keys.aside(epoch, generation));
        let (deleted,): (u64,) = self.redis.commands(pipeline).await?;
        Ok(deleted == 1)
    }

    /// Puts other batches in the place of some of a log that was set aside: `(position, old, new)`, all or, if one of
    /// them is not as it was, none.
    pub async fn rewrite_aside(
        &self,
        epoch: u64,
        generation: u64,
        changes: Vec<(usize, Vec<u8>, Vec<u8>)>,
    ) -> Result<bool> {
        let key = self.keys.aside(epoch, generation);
        let mut call = REWRITE.call([&*key]);
        for (position, old, new) in changes {
            call.arg(position).arg(old).arg(new);
        }
        let answer = self.redis.server.script(&REWRITE, call).await?;
        Ok(answer == Value::Int(1))
    }
}

fn from_value<T: FromRedisValue>(value: Value) -> std::result::Result<T, RedisError> {
    Ok(redis::from_redis_value(value)?)
}

/// Log, totals and header.
type Parts = (Vec<Vec<u8>>, BTreeMap<Vec<u8>, u64>, Option<String>);

fn sealed_of(generation: u64, (log, totals, header): Parts) -> Result<Sealed> {
    let header = header.as_deref().and_then(header_of);
    let batches = log.iter().map(|packed| packed::decode(packed)).collect::<std::result::Result<_, _>>()?;
    Ok(Sealed { generation, batches, totals, header })
}

/// Totals as the script `merge` packs them. What is damaged is left out: the sums will not agree.
fn unpacked(text: &[u8]) -> BTreeMap<Vec<u8>, u64> {
    let entry = |part: &[u8]| {
        let at = part.iter().position(|byte| *byte == 2)?;
        let views = std::str::from_utf8(&part[at + 1..]).ok()?.parse().ok()?;
        Some((part[..at].to_vec(), views))
    };
    text.split(|byte| *byte == 1).filter_map(entry).collect()
}

/// Batches and views of a sealed generation.
fn header_of(header: &str) -> Option<(u64, u64)> {
    let mut fields = header.split(':').map(str::parse);
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

/// The values of a script's reply behind its first word.
struct Reply(Vec<Value>);

impl Reply {
    fn number(&self, at: usize) -> Result<u64> {
        match self.0.get(at) {
            Some(Value::Int(number)) => {
                u64::try_from(*number).ok().filter(|number| *number <= VIEWS_MAX).ok_or_else(|| {
                    QueueError::Corrupt(format!("a script answered {number}, which nobody can have counted to"))
                })
            }
            other => Err(QueueError::Corrupt(format!("a script answered {other:?} instead of a number"))),
        }
    }

    fn optional(&self, at: usize) -> Result<Option<u64>> {
        if self.0.get(at) == Some(&Value::Nil) { Ok(None) } else { self.number(at).map(Some) }
    }

    fn text(&self, at: usize) -> Result<String> {
        let value = self.0.get(at).cloned().unwrap_or(Value::Nil);
        Ok(redis::from_redis_value(value).map_err(RedisError::from)?)
    }

    fn positions(&self) -> Result<Vec<usize>> {
        (0..self.0.len()).map(|at| Ok(usize::try_from(self.number(at)?).unwrap_or(usize::MAX))).collect()
    }

    fn position(&self, at: usize) -> Result<Position> {
        let (open, first) = (self.number(at)?, self.number(at + 1)?);
        if first == 0 || first > open {
            return Err(QueueError::Corrupt(format!("its generations begin at {first} and end at {open}")));
        }
        Ok(Position { open, first })
    }
}
