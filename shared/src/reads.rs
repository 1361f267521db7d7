//! Cache-first reads: Redis answers, MySQL fills in what is not cached.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, RETRY_AFTER};
use quick_cache::sync::Cache;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::breaker::Breaker;
use crate::clock;
use crate::counter::{Article, Shard};
use crate::grading::Grade;
use crate::http::{self, Answer};
use crate::keys::Age;
use crate::queue::{Cached, Live, Queue, QueueError, Redis};
use crate::random;
use crate::store::{Store, StoreError, StoredArticle};
use crate::telemetry::{self, IntCounterVec};

/// One article's numbers, with where they come from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ArticleNumbers {
    /// Which article.
    pub article: String,
    /// Views, those that wait for MySQL included.
    pub views: u64,
    /// Readers, as of `as_of`.
    pub readers: u64,
    /// The part of `views` that MySQL does not have yet.
    pub pending: u64,
    /// Every view before this time is in MySQL and in `readers`; absent where that is not known.
    pub as_of: Option<String>,
    /// Why the numbers may be behind; absent while all is well.
    pub degraded: Option<&'static str>,
    /// `cache` or `database`.
    pub source: &'static str,
}

impl ArticleNumbers {
    /// The answer to a request with these headers: nothing new if the one who asks has these numbers already. Whoever
    /// keeps it asks again before it is used, so that nobody sees old numbers as live ones.
    fn answer(&self, headers: &HeaderMap) -> Answer {
        let keep = |answer: &mut Answer, how| answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(how));
        if self.degraded.is_some() {
            let mut answer = http::json(StatusCode::OK, self);
            keep(&mut answer, "no-store");
            return answer;
        }
        // Weak, because `as_of` goes on with every flush while the numbers stay.
        let tag = format!("W/\"{}.{}.{}\"", self.views, self.readers, self.pending);
        let is_known = headers
            .get_all(IF_NONE_MATCH)
            .iter()
            .filter_map(|known| known.to_str().ok())
            .flat_map(|known| known.split(','))
            .any(|known| known.trim() == tag);
        let mut answer =
            if is_known { http::empty(StatusCode::NOT_MODIFIED) } else { http::json(StatusCode::OK, self) };
        answer.headers_mut().insert(ETAG, HeaderValue::from_str(&tag).expect("digits and dots"));
        keep(&mut answer, "no-cache");
        answer
    }
}

/// Reads of single articles, shared by all requests of a process.
pub struct Reads {
    shards: Vec<ReadShard>,
    store: Store,
    ttl: Duration,
    /// Nobody waits longer for a store that hangs.
    patience: Duration,
    mysql: Mutex<Breaker>,
    /// Of all who miss the same article, one asks MySQL, and the others wait for what it fills in.
    turns: Vec<tokio::sync::Mutex<()>>,
    hasher: RandomState,
    /// What was answered last, for the time when neither store answers.
    last: Cache<Article, ArticleNumbers>,
    counts: HitCounts,
}

/// What is read cache-first, each counted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// The numbers of one article.
    Article,
    /// Lists of articles, and histories.
    Lists,
    /// The readers of an article.
    Readers,
    /// Users, and what they have read.
    Users,
}

impl Interface {
    const ALL: [Self; 4] = [Self::Article, Self::Lists, Self::Readers, Self::Users];

    fn name(self) -> &'static str {
        match self {
            Self::Article => "article",
            Self::Lists => "lists",
            Self::Readers => "readers",
            Self::Users => "users",
        }
    }
}

/// How often this process answered from a cache, and how often from MySQL.
#[derive(Debug, Clone)]
pub struct HitCounts {
    hits: IntCounterVec,
    misses: IntCounterVec,
}

impl Default for HitCounts {
    fn default() -> Self {
        let (hits, misses) = ("footfall_read_hits_total", "footfall_read_misses_total");
        Self {
            hits: telemetry::counters(hits, "Reads that a cache answered.", "interface"),
            misses: telemetry::counters(misses, "Reads that MySQL answered.", "interface"),
        }
    }
}

impl HitCounts {
    /// A cache has answered.
    pub fn hit(&self, interface: Interface) {
        self.hits.with_label_values(&[interface.name()]).inc();
    }

    /// MySQL was asked.
    pub fn miss(&self, interface: Interface) {
        self.misses.with_label_values(&[interface.name()]).inc();
    }

    /// Adds what is new to the counts of all processes, once per `period`, for ever.
    pub async fn report(&self, redis: &Redis, period: Duration) {
        let mut reported = [(0, 0); Interface::ALL.len()];
        loop {
            tokio::time::sleep(period).await;
            for (interface, reported) in Interface::ALL.into_iter().zip(&mut reported) {
                let name = interface.name();
                let count = |counts: &IntCounterVec| counts.with_label_values(&[name]).get();
                let now = (count(&self.hits), count(&self.misses));
                let new = (now.0 - reported.0, now.1 - reported.1);
                if new != (0, 0) && redis.add_reads(name, new.0, new.1).await.is_ok() {
                    *reported = now;
                }
            }
        }
    }
}

struct ReadShard {
    queue: Queue,
    epoch: AtomicU64,
    version: AtomicU64,
    breaker: Mutex<Breaker>,
}

impl ReadShard {
    fn age(&self) -> Age {
        Age { epoch: self.epoch.load(Ordering::Relaxed), version: self.version.load(Ordering::Relaxed) }
    }

    fn set_age(&self, age: Age) {
        self.epoch.store(age.epoch, Ordering::Relaxed);
        self.version.store(age.version, Ordering::Relaxed);
    }
}

/// Times that a read is tried because a flush or a recovery came between.
const READ_TRIES: u32 = 6;
/// Articles that are read from MySQL at once, at most; two of them share a turn by chance.
const TURNS: usize = 1_024;
/// Of a time to live, in percent: values that were filled in together do not run out together.
const JITTER_PERCENT: u64 = 10;
/// Articles whose last answer is remembered.
const LAST_MAX: usize = 10_000;

const NO_REDIS: &str = "redis cannot be read: views that wait there are missing";
const NO_MYSQL: &str = "mysql cannot be read: these are only the views that wait in redis";
const NO_MYSQL_LAST: &str = "mysql cannot be read: these numbers were right when they were last read";
const NO_STORE: &str = "neither redis nor mysql can be read: these numbers were right when they were last read";

/// Neither store answers, and nothing is remembered.
#[derive(Debug, thiserror::Error)]
#[error("the numbers cannot be read at the moment: {0}")]
pub struct Unreadable(String);

impl Reads {
    /// Reads from these stores; connects when needed.
    #[must_use]
    pub fn new(redis: &Redis, store: Store, counts: HitCounts, shards: u16, ttl: Duration, patience: Duration) -> Self {
        let shard = |shard| ReadShard {
            queue: redis.shard(shard),
            epoch: AtomicU64::new(0),
            version: AtomicU64::new(0),
            breaker: Mutex::new(Breaker::new(u64::from(shard.0))),
        };
        Self {
            shards: Shard::all(shards).map(shard).collect(),
            store,
            ttl,
            patience,
            mysql: Mutex::new(Breaker::new(0)),
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::new(())).collect(),
            hasher: RandomState::new(),
            last: Cache::new(LAST_MAX),
            counts,
        }
    }

    /// The answer to a request for one article's numbers.
    pub async fn answer(&self, article: &Article, headers: &HeaderMap) -> Answer {
        match self.article(article).await {
            Ok(numbers) => numbers.answer(headers),
            Err(error) => {
                warn!("an article could not be read: {error}");
                let sentence = "neither the cache nor the database can be read at the moment";
                let mut answer = http::sentence(StatusCode::SERVICE_UNAVAILABLE, sentence);
                answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                answer
            }
        }
    }

    /// The numbers of one article; an article that was never read has zeros.
    pub async fn article(&self, article: &Article) -> Result<ArticleNumbers, Unreadable> {
        let numbers = |(stored, readers, pending), as_of: Option<u64>, degraded, source| ArticleNumbers {
            article: article.to_string(),
            views: stored + pending,
            readers,
            pending,
            as_of: as_of.map(clock::rfc3339),
            degraded,
            source,
        };
        let shards = u16::try_from(self.shards.len()).expect("there are at most u16::MAX shards");
        let number = Shard::of(article, shards);
        let shard = &self.shards[usize::from(number.0)];
        let numbers = match self.cached(shard, article).await {
            Ok((live, source)) => {
                numbers((live.stored_views, live.readers, live.pending_views), Some(live.as_of_ms), None, source)
            }
            Err(CachedError::Store { pending_views, error }) => match self.last.get(article) {
                Some(last) => ArticleNumbers { degraded: Some(NO_MYSQL_LAST), ..last },
                None if pending_views > 0 => numbers((0, 0, pending_views), None, Some(NO_MYSQL), "cache"),
                None => return Err(Unreadable(error)),
            },
            Err(CachedError::Queue(error)) => {
                debug!("read from the database, because: {error}");
                match self.stored(number, article).await {
                    Ok(stored) => numbers((stored.views, stored.readers, 0), None, Some(NO_REDIS), "database"),
                    Err(error) => match self.last.get(article) {
                        Some(last) => ArticleNumbers { degraded: Some(NO_STORE), ..last },
                        None => return Err(Unreadable(error)),
                    },
                }
            }
        };
        if numbers.degraded.is_none_or(|reason| reason == NO_REDIS) {
            self.last.insert(article.clone(), numbers.clone());
        }
        Ok(numbers)
    }

    async fn cached(&self, shard: &ReadShard, article: &Article) -> Result<(Live, &'static str), CachedError> {
        if !lock(&shard.breaker).allows(Instant::now()) {
            return Err(CachedError::Queue("it failed a moment ago".into()));
        }
        let ttl = jitter(self.ttl);
        let mut is_counted = false;
        let mut is_renewed = false;
        let mut turn = None;
        for _ in 0..READ_TRIES {
            let age = shard.age();
            let read = self.in_time(shard, shard.queue.read(age, article, ttl)).await?;
            let (first, pending_views) = match read {
                Some(Cached::Hit(live)) => {
                    if !is_counted {
                        self.counts.hit(Interface::Article);
                    }
                    return Ok((live, "cache"));
                }
                Some(Cached::Miss { first, pending_views }) => (first, pending_views),
                None => {
                    let state = self.in_time(shard, shard.queue.state()).await?;
                    match state.and_then(|state| state.data).filter(|data| data.is_current) {
                        Some(data) if !is_renewed || data.age() != age => shard.set_age(data.age()),
                        _ => return Err(CachedError::Queue("its data set was not opened yet".into())),
                    }
                    is_renewed = true;
                    continue;
                }
            };
            if turn.is_none() {
                let place = &self.turns[self.hasher.hash_one(article) as usize % TURNS];
                if let Ok(free) = place.try_lock() {
                    turn = Some(free);
                } else {
                    let waited = tokio::time::timeout(self.patience, place.lock()).await;
                    turn = Some(waited.map_err(|_| CachedError::Store {
                        pending_views,
                        error: "mysql has not answered another read of it yet".into(),
                    })?);
                    // It may have been filled in meanwhile.
                    continue;
                }
            }
            if !is_counted {
                is_counted = true;
                self.counts.miss(Interface::Article);
            }
            let stored = self
                .stored(shard.queue.shard(), article)
                .await
                .map_err(|error| CachedError::Store { pending_views, error })?;
            if stored.epoch != age.epoch {
                // This Redis was overtaken: what waits in it may be in MySQL already.
                return Err(CachedError::Queue("its data set was overtaken".into()));
            }
            let filled = self.in_time(shard, shard.queue.fill(age, article, ttl, first, &stored)).await?;
            if let Some(Some(live)) = filled {
                return Ok((live, "database"));
            }
        }
        Err(CachedError::Queue("it moved on during every try".into()))
    }

    /// One step in Redis, under the shard's breaker; none if epoch or version are not those of the data set any more.
    async fn in_time<T>(
        &self,
        shard: &ReadShard,
        step: impl Future<Output = Result<T, QueueError>>,
    ) -> Result<Option<T>, CachedError> {
        let timed_out = |_| Err(QueueError::timed_out());
        match tokio::time::timeout(self.patience, step).await.unwrap_or_else(timed_out) {
            Ok(answer) => {
                lock(&shard.breaker).succeeded();
                Ok(Some(answer))
            }
            Err(QueueError::Epoch) => Ok(None),
            Err(error) => {
                lock(&shard.breaker).failed(error.class(), Instant::now());
                Err(CachedError::Queue(error.to_string()))
            }
        }
    }

    /// What MySQL has, under its breaker.
    async fn stored(&self, shard: Shard, article: &Article) -> Result<StoredArticle, String> {
        if !lock(&self.mysql).allows(Instant::now()) {
            return Err("mysql failed a moment ago".into());
        }
        let read = tokio::time::timeout(self.patience, self.store.article(shard, article)).await;
        match read.unwrap_or_else(|_| Err(StoreError::timed_out(self.patience))) {
            Ok(stored) => {
                lock(&self.mysql).succeeded();
                Ok(stored)
            }
            Err(error) => {
                lock(&self.mysql).failed(error.class(), Instant::now());
                Err(error.to_string())
            }
        }
    }
}

enum CachedError {
    /// Redis cannot be read.
    Queue(String),
    /// The value is not cached, and MySQL cannot be read.
    Store {
        /// Views that wait in Redis.
        pending_views: u64,
        error: String,
    },
}

fn jitter(ttl: Duration) -> Duration {
    let percent = 100 - JITTER_PERCENT + random::number() % (2 * JITTER_PERCENT + 1);
    ttl * u32::try_from(percent).expect("at most 110") / 100
}

fn lock(breaker: &Mutex<Breaker>) -> MutexGuard<'_, Breaker> {
    breaker.lock().unwrap_or_else(PoisonError::into_inner)
}
