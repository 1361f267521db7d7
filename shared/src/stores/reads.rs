//! Cache-first reads: Redis answers, MySQL fills in what is not cached.

mod counts;
mod look;
mod numbers;
mod shard;
mod shown;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::header::HeaderMap;
use tokio::time::Instant;
use tracing::debug;

use self::numbers::Found;
use self::shard::{Cached, ReadShard, Unread, lock};
use self::shown::Shown;
use crate::mysql::{Fences, StoreError};
use crate::protocol::errors::Grade;
use crate::protocol::{Article, Shard, StoredArticle};
use crate::redis::Redis;
use crate::service::breaker::Breaker;
use crate::service::config;
use crate::service::http::HttpResponse;
use crate::service::random;

pub use self::counts::{HitCounts, Interface};
pub use self::look::LogStatus;
pub use self::numbers::ArticleNumbers;

/// Reads of single articles, shared by all requests of a process.
pub struct Reads {
    shards: Vec<Arc<ReadShard>>,
    store: Arc<dyn Fences>,
    /// Nobody waits longer for a store that hangs.
    patience: Duration,
    mysql: Mutex<Breaker>,
    /// Of all who miss the same article, one asks MySQL, and the others wait for what it fills in.
    turns: Vec<Turn>,
    /// Which articles share a turn is not to be guessed from outside.
    secret: u64,
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

impl Reads {
    /// Reads from these stores; connects when needed.
    #[must_use]
    pub fn new(
        redis: &Redis,
        store: Arc<dyn Fences>,
        counts: HitCounts,
        config: &config::Reads,
        shards: u16,
        patience: Duration,
    ) -> Self {
        let lives = (config.ttl, config.warm_ttl.unwrap_or_default());
        Self {
            shards: Shard::all(shards)
                .map(|shard| Arc::new(ReadShard::new(redis.shard(shard), lives, patience)))
                .collect(),
            store,
            patience,
            mysql: Mutex::new(Breaker::new(0)),
            turns: (0..TURNS).map(|_| Turn::default()).collect(),
            secret: random::number(),
            shown: Shown::new(),
            counts,
        }
    }

    /// The answer to a request for one article's numbers.
    pub async fn answer(&self, article: &Article, headers: &HeaderMap) -> HttpResponse {
        self.article(article).await.answer(headers)
    }

    /// The numbers of one article; an article that was never read has zeros. What is not known is none, see
    /// [`ArticleNumbers`]. Nothing is below what was shown before, unless MySQL has lost it.
    pub async fn article(&self, article: &Article) -> ArticleNumbers {
        let shard = self.shard_of(article);
        let found = match self.cached(shard, article).await {
            Ok(found) => found,
            Err(Unread(error)) => {
                debug!("read from the database, because: {error}");
                match self.stored(shard, article).await {
                    Ok(StoredArticle { views, .. }) => Found::Stored { views },
                    Err(error) => {
                        debug!("nor could the database be read: {error}");
                        Found::Nothing
                    }
                }
            }
        };
        self.shown.show(article, found, Instant::now())
    }

    fn shard_of(&self, article: &Article) -> &Arc<ReadShard> {
        let shards = u16::try_from(self.shards.len()).expect("there are at most u16::MAX shards");
        &self.shards[usize::from(Shard::of(article, shards).0)]
    }

    fn turn_of(&self, article: &Article) -> &Turn {
        let mut hasher = DefaultHasher::new();
        (self.secret, article).hash(&mut hasher);
        &self.turns[hasher.finish() as usize % TURNS]
    }

    /// What Redis has, with what it lacks from MySQL, if that can be read.
    async fn cached(&self, shard: &Arc<ReadShard>, article: &Article) -> Result<Found, Unread> {
        let mut is_asked = false;
        let mut renewed = None;
        let place = self.turn_of(article);
        let mut turn = None;
        for _ in 0..READ_TRIES {
            let filled = place.filled.load(Ordering::Relaxed);
            let Some((age, cached)) = shard.look_up(article).await? else {
                let state = shard.in_time(shard.queue.state()).await?;
                match state.and_then(|state| state.data).filter(|data| data.is_current) {
                    Some(data) if renewed != Some(data.tag()) => {
                        shard.set_tag(data.tag());
                        renewed = Some(data.tag());
                    }
                    _ => return Err(Unread("its data set was not opened yet".into())),
                }
                continue;
            };
            let without_mysql = match cached {
                Cached::Hit(live) => {
                    if !is_asked {
                        self.counts.hit(Interface::Article);
                    }
                    return Ok(Found::All { live, source: "cache", has_failed: false });
                }
                Cached::Old(live) => Found::All { live, source: "cache", has_failed: true },
                Cached::Miss { pending_views } => Found::Waiting { pending_views },
            };
            if turn.is_none() {
                if let Ok(free) = place.free.try_lock() {
                    turn = Some(free);
                } else if let Ok(free) = tokio::time::timeout(self.patience, place.free.lock()).await {
                    turn = Some(free);
                } else {
                    debug!("mysql has not answered another read of it yet");
                    return Ok(without_mysql);
                }
                if place.filled.load(Ordering::Relaxed) != filled {
                    continue;
                }
            }
            is_asked = true;
            let stored = match self.stored(shard, article).await {
                Ok(stored) => stored,
                Err(error) => {
                    debug!("read without the database, because: {error}");
                    return Ok(without_mysql);
                }
            };
            if stored.epoch != age.epoch {
                // This Redis was overtaken: what waits in it may be in MySQL already.
                return Err(Unread("its data set was overtaken".into()));
            }
            let life = shard.life(stored.views);
            let filled = shard.in_time(shard.queue.fill(age, article, life, &stored)).await?;
            if filled == Some(true)
                && let Some(live) = shard.on_top(article, &stored)
            {
                place.filled.fetch_add(1, Ordering::Relaxed);
                return Ok(Found::All { live, source: "database", has_failed: false });
            }
        }
        Err(Unread("it moved on during every try".into()))
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
