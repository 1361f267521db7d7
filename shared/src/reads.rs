//! Cache-first reads: Redis answers, MySQL fills in what is not cached.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::debug;

use crate::clock;
use crate::counter::{Article, Shard};
use crate::queue::{Cached, Live, Queue, QueueError, Redis};
use crate::store::{Store, StoreError};
use crate::telemetry::{self, IntCounter};

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

/// Reads of single articles, shared by all requests of a process.
pub struct Reads {
    queues: Vec<Queue>,
    redis: Redis,
    store: Store,
    ttl: Duration,
    epochs: Vec<AtomicU64>,
    hits: IntCounter,
    misses: IntCounter,
}

/// Times that a read is tried because a flush or a recovery came between.
const READ_TRIES: u32 = 5;

impl Reads {
    /// Reads from these stores; connects when needed.
    #[must_use]
    pub fn new(redis: Redis, store: Store, shards: u16, ttl: Duration) -> Self {
        Self {
            queues: Shard::all(shards).map(|shard| redis.shard(shard)).collect(),
            redis,
            store,
            ttl,
            epochs: Shard::all(shards).map(|_| AtomicU64::new(0)).collect(),
            hits: telemetry::counter(
                "footfall_article_read_hits_total",
                "Reads of an article that the cache answered.",
            ),
            misses: telemetry::counter(
                "footfall_article_read_misses_total",
                "Reads of an article that MySQL answered.",
            ),
        }
    }

    /// The numbers of one article; an article that was never read has zeros.
    pub async fn article(&self, article: &Article) -> Result<ArticleNumbers, StoreError> {
        let (live, source) = match self.cached(article).await {
            Ok(found) => found,
            Err(CachedError::Store(error)) => return Err(error),
            Err(CachedError::Queue(error)) => {
                debug!("read from the database, because: {error}");
                return self.stored(article).await;
            }
        };
        Ok(ArticleNumbers {
            article: article.to_string(),
            views: live.stored_views + live.pending_views,
            readers: live.readers,
            pending: live.pending_views,
            as_of: Some(clock::rfc3339(live.as_of_ms)),
            degraded: None,
            source,
        })
    }

    async fn cached(&self, article: &Article) -> Result<(Live, &'static str), CachedError> {
        let shard = Shard::of(article, u16::try_from(self.queues.len()).expect("there are at most u16::MAX shards"));
        let (queue, known_epoch) = (&self.queues[usize::from(shard.0)], &self.epochs[usize::from(shard.0)]);
        let (mut is_renewed, mut is_counted) = (false, false);
        for _ in 0..READ_TRIES {
            let epoch = known_epoch.load(Ordering::Relaxed);
            let first = match queue.read(epoch, article, self.ttl).await {
                Ok(Cached::Hit(live)) => {
                    if !is_counted {
                        self.hits.inc();
                    }
                    return Ok((live, "cache"));
                }
                Ok(Cached::Miss { first }) => first,
                Err(QueueError::Epoch) if !is_renewed => {
                    is_renewed = true;
                    if let Some(data) = queue.state().await?.data.filter(|data| data.is_current) {
                        known_epoch.store(data.epoch, Ordering::Relaxed);
                        continue;
                    }
                    return Err(QueueError::Epoch.into());
                }
                Err(error) => return Err(error.into()),
            };
            if !is_counted {
                is_counted = true;
                self.misses.inc();
            }
            let stored = self.store.article(shard, article).await.map_err(CachedError::Store)?;
            if stored.epoch != epoch {
                // This Redis was overtaken: what waits in it may be in MySQL already.
                return Err(QueueError::Epoch.into());
            }
            let value = (stored.generation, stored.views, stored.readers);
            match queue.fill(epoch, article, self.ttl, first, value).await {
                Ok(Some(live)) => return Ok((live, "database")),
                Ok(None) | Err(QueueError::Epoch) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(QueueError::Epoch.into())
    }

    /// What MySQL has, when Redis cannot be asked.
    async fn stored(&self, article: &Article) -> Result<ArticleNumbers, StoreError> {
        let shard = Shard::of(article, u16::try_from(self.queues.len()).expect("there are at most u16::MAX shards"));
        let stored = self.store.article(shard, article).await?;
        Ok(ArticleNumbers {
            article: article.to_string(),
            views: stored.views,
            readers: stored.readers,
            pending: 0,
            as_of: None,
            degraded: Some("redis cannot be read: views that wait there are missing"),
            source: "database",
        })
    }

    /// Adds this process's hits and misses to the shared counts, once per `period`, for ever.
    pub async fn report(&self, interface: &str, period: Duration) {
        let mut reported = (0, 0);
        loop {
            tokio::time::sleep(period).await;
            let now = (self.hits.get(), self.misses.get());
            if now != reported && self.redis.add_reads(interface, now.0 - reported.0, now.1 - reported.1).await.is_ok()
            {
                reported = now;
            }
        }
    }
}

enum CachedError {
    Queue(QueueError),
    Store(StoreError),
}

impl From<QueueError> for CachedError {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}
