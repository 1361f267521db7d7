//! Cache-first reads: Redis answers, MySQL fills in what is not cached.

mod counts;
mod shard;
mod shown;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, ETAG, HeaderMap, HeaderValue, RETRY_AFTER};
use tokio::time::Instant;
use tracing::{debug, warn};

use self::shard::{ReadShard, Unread, lock};
use self::shown::{Seen, Shown};
use crate::breaker::Breaker;
use crate::clock;
use crate::counter::{Article, Shard};
use crate::grading::Grade;
use crate::http::{self, Answer};
use crate::queue::{Cached, Live, Redis};
use crate::store::{Store, StoreError, StoredArticle};

pub use self::counts::{HitCounts, Interface};

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
        let mut answer = if http::is_known(headers, &tag) {
            http::empty(StatusCode::NOT_MODIFIED)
        } else {
            http::json(StatusCode::OK, self)
        };
        answer.headers_mut().insert(ETAG, HeaderValue::from_str(&tag).expect("digits and dots"));
        keep(&mut answer, "no-cache");
        answer
    }
}

/// Reads of single articles, shared by all requests of a process.
pub struct Reads {
    shards: Vec<Arc<ReadShard>>,
    store: Store,
    /// Nobody waits longer for a store that hangs.
    patience: Duration,
    mysql: Mutex<Breaker>,
    /// Of all who miss the same article, one asks MySQL, and the others wait for what it fills in.
    turns: Vec<Turn>,
    hasher: RandomState,
    shown: Shown,
    counts: HitCounts,
}

#[derive(Default)]
struct Turn {
    free: tokio::sync::Mutex<()>,
    /// Values that were filled in under it: who looked up before the last one must look again.
    filled: AtomicU64,
}

/// Times that a read is tried because a flush or a recovery came between.
const READ_TRIES: u32 = 6;
/// Articles that are read from MySQL at once, at most; two of them share a turn by chance.
const TURNS: usize = 1_024;

const NO_REDIS: &str = "redis cannot be read: views that wait there are missing";
const NO_MYSQL: &str = "mysql cannot be read: these are only the views that wait in redis";
const NO_MYSQL_LAST: &str = "mysql cannot be read: these numbers were right when they were last read";
const REDIS_FULL: &str = "redis is full: views that wait for room in it are missing";
const CATCHING_UP: &str = "redis is catching up: views shown before are not back yet";
const NO_STORE: &str = "neither redis nor mysql can be read: these numbers were right when they were last read";

/// Neither store answers, and nothing is remembered.
#[derive(Debug, thiserror::Error)]
#[error("the numbers cannot be read at the moment: {0}")]
pub struct Unreadable(String);

impl Reads {
    /// Reads from these stores; connects when needed.
    #[must_use]
    pub fn new(redis: &Redis, store: Store, counts: HitCounts, shards: u16, ttl: Duration, patience: Duration) -> Self {
        Self {
            shards: Shard::all(shards)
                .map(|shard| Arc::new(ReadShard::new(redis.shard(shard), ttl, patience)))
                .collect(),
            store,
            patience,
            mysql: Mutex::new(Breaker::new(0)),
            turns: (0..TURNS).map(|_| Turn::default()).collect(),
            hasher: RandomState::new(),
            shown: Shown::new(),
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

    /// The numbers of one article; an article that was never read has zeros. Views and readers are never below what was
    /// shown before, unless MySQL has lost them.
    pub async fn article(&self, article: &Article) -> Result<ArticleNumbers, Unreadable> {
        let shards = u16::try_from(self.shards.len()).expect("there are at most u16::MAX shards");
        let number = Shard::of(article, shards);
        let shard = &self.shards[usize::from(number.0)];
        let show = |seen, is_whole| self.shown.show(article, seen, is_whole, Instant::now());
        let (seen, degraded, source) = match self.cached(shard, article).await {
            Ok((live, source)) => {
                let seen = Seen {
                    stored_views: Some(live.stored_views),
                    readers: live.readers,
                    pending_views: live.pending_views,
                    as_of_ms: Some(live.as_of_ms),
                };
                let shown = show(seen, !live.is_full);
                let degraded = match live.is_full {
                    true => Some(REDIS_FULL),
                    false => (shown.views() > seen.views()).then_some(CATCHING_UP),
                };
                (shown, degraded, source)
            }
            Err(CachedError::Store { pending_views, error }) => {
                let shown = show(Seen { pending_views, ..Seen::default() }, false);
                match shown.stored_views {
                    Some(_) => (shown, Some(NO_MYSQL_LAST), "cache"),
                    None if shown.pending_views > 0 => (shown, Some(NO_MYSQL), "cache"),
                    None => return Err(Unreadable(error)),
                }
            }
            Err(CachedError::Queue(Unread(error))) => {
                debug!("read from the database, because: {error}");
                match self.stored(shard, article).await {
                    Ok(StoredArticle { views, readers, .. }) => {
                        let seen = Seen { stored_views: Some(views), readers, ..Seen::default() };
                        (show(seen, false), Some(NO_REDIS), "database")
                    }
                    Err(error) => {
                        let shown = show(Seen::default(), false);
                        if shown == Seen::default() {
                            return Err(Unreadable(error));
                        }
                        (shown, Some(NO_STORE), "cache")
                    }
                }
            }
        };
        Ok(ArticleNumbers {
            article: article.to_string(),
            views: seen.views(),
            readers: seen.readers,
            pending: seen.pending_views,
            as_of: seen.as_of_ms.map(clock::rfc3339),
            degraded,
            source,
        })
    }

    async fn cached(&self, shard: &Arc<ReadShard>, article: &Article) -> Result<(Live, &'static str), CachedError> {
        let mut is_asked = false;
        let mut renewed = None;
        let place = &self.turns[self.hasher.hash_one(article) as usize % TURNS];
        let mut turn = None;
        for _ in 0..READ_TRIES {
            let filled = place.filled.load(Ordering::Relaxed);
            let Some((age, found)) = shard.look_up(article).await? else {
                let state = shard.in_time(shard.queue.state()).await?;
                match state.and_then(|state| state.data).filter(|data| data.is_current) {
                    Some(data) if renewed != Some(data.age()) => {
                        shard.set_age(data.age());
                        renewed = Some(data.age());
                    }
                    _ => return Err(Unread("its data set was not opened yet".into()).into()),
                }
                continue;
            };
            let (first, pending_views) = match found {
                Cached::Hit(live) => {
                    if !is_asked {
                        self.counts.hit(Interface::Article);
                    }
                    return Ok((live, "cache"));
                }
                Cached::Miss { first, pending_views } => (first, pending_views),
            };
            if turn.is_none() {
                if let Ok(free) = place.free.try_lock() {
                    turn = Some(free);
                } else {
                    let waited = tokio::time::timeout(self.patience, place.free.lock()).await;
                    turn = Some(waited.map_err(|_| CachedError::Store {
                        pending_views,
                        error: "mysql has not answered another read of it yet".into(),
                    })?);
                }
                if place.filled.load(Ordering::Relaxed) != filled {
                    continue;
                }
            }
            is_asked = true;
            let stored =
                self.stored(shard, article).await.map_err(|error| CachedError::Store { pending_views, error })?;
            if stored.epoch != age.epoch {
                // This Redis was overtaken: what waits in it may be in MySQL already.
                return Err(Unread("its data set was overtaken".into()).into());
            }
            let live = shard.in_time(shard.queue.fill(age, article, shard.ttl(), first, &stored)).await?;
            if let Some(Some(live)) = live {
                place.filled.fetch_add(1, Ordering::Relaxed);
                return Ok((live, "database"));
            }
        }
        Err(Unread("it moved on during every try".into()).into())
    }

    /// What MySQL has, under its breaker.
    async fn stored(&self, shard: &ReadShard, article: &Article) -> Result<StoredArticle, String> {
        if !lock(&self.mysql).allows(Instant::now()) {
            return Err("mysql failed a moment ago".into());
        }
        self.counts.miss(Interface::Article);
        // Known before MySQL is asked: what another read learns meanwhile may be newer than this answer.
        let known = (shard.stored_views.load(Ordering::Relaxed), self.shown.stored_views(article));
        let read = tokio::time::timeout(self.patience, self.store.article(shard.queue.shard(), article)).await;
        match read.unwrap_or_else(|_| Err(StoreError::timed_out(self.patience))) {
            Ok(stored) => {
                lock(&self.mysql).succeeded();
                // It takes no view back, so it was emptied or put back to an older state: numbers begin anew.
                if stored.shard_views < known.0 || stored.views < known.1 {
                    self.shown.forget_all();
                    shard.stored_views.store(stored.shard_views, Ordering::Relaxed);
                }
                shard.stored_views.fetch_max(stored.shard_views, Ordering::Relaxed);
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
    Queue(Unread),
    /// The value is not cached, and MySQL cannot be read.
    Store {
        /// Views that wait in Redis.
        pending_views: u64,
        error: String,
    },
}

impl From<Unread> for CachedError {
    fn from(unread: Unread) -> Self {
        Self::Queue(unread)
    }
}
