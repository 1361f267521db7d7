//! One shard of Redis, as reads see it. Look-ups are gathered: while one script is under way, all articles that are asked
//! for wait for the next one, so that many readers cost hardly more than one. Nobody joins a script that was sent before
//! he asked: it might not have seen a view that he knows of.
//!
//! Each script also brings the entries of the log that came since the last one: an article has as many views as its base,
//! and those of the entries behind the base's position.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::look::LogStatus;
use super::numbers::{Lack, Live};
use crate::protocol::errors::Grade;
use crate::protocol::keys::CacheTag;
use crate::protocol::{Article, StoredArticle};
use crate::redis::follower::Pending;
use crate::redis::{Bases, Page, Queue, QueueError};
use crate::service::breaker::Breaker;
use crate::service::random;
use crate::service::telemetry::{self, IntGauge};

/// Articles in one script, at most: nobody else is answered by Redis meanwhile.
const TOGETHER_MAX: usize = 256;
/// Bytes of the log in one script: a long one is read piece by piece, and nobody waits for long.
const PAGE_BYTES: usize = 64 << 10;
/// For how long whoever asks waits while a long log is read. The views of a moment take less.
const FOLLOW_MAX: Duration = Duration::from_millis(20);
/// Look-ups that wait, at most: more than there are connections.
const WAITING_MAX: usize = 1 << 16;
/// Of a time to live, in percent: values that were filled in together do not run out together.
const JITTER_PERCENT: u64 = 10;

static WAITING: LazyLock<IntGauge> =
    LazyLock::new(|| telemetry::gauge("footfall_waiting_lookups", "Look-ups that wait for the next script in Redis."));

/// Redis cannot be read.
#[derive(Debug, Clone)]
pub(super) struct Unread(pub(super) String);

impl From<QueueError> for Unread {
    fn from(error: QueueError) -> Self {
        Self(error.to_string())
    }
}

/// The answer of a cache look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cached {
    /// All that there is.
    Hit(Live),
    /// Its time to live is over, so MySQL is to be asked; should that fail, this is still right.
    Old(Live),
    /// Not cached.
    Miss {
        /// Views that wait in Redis, some of which MySQL may have by now.
        pending_views: u64,
    },
}

/// What was found, and under which age; none if the data set has another age by now.
pub(super) type Found = Result<Option<(CacheTag, Cached)>, Unread>;

pub(super) struct ReadShard {
    pub(super) queue: Queue,
    /// Views that MySQL had when it was last asked.
    pub(super) stored_views: AtomicU64,
    ttl: Duration,
    /// For how long a value is kept beyond that, should MySQL be away.
    kept: Duration,
    /// Nobody waits longer for a Redis that hangs.
    patience: Duration,
    log: Mutex<Log>,
    /// Of two scripts at once, one would read the same entries for nothing.
    turn: tokio::sync::Mutex<()>,
    breaker: Mutex<Breaker>,
    look_ups: Mutex<LookUps>,
}

/// What is known of the log.
#[derive(Default)]
struct Log {
    tag: CacheTag,
    pending: Pending,
    stored_until_ms: u64,
    /// Why what is known is a part, whatever the article.
    lacks: Option<Lack>,
}

impl Log {
    fn take(&mut self, page: &Page) -> Result<(), QueueError> {
        self.pending.take(page)?;
        self.stored_until_ms = page.stored_until_ms;
        self.lacks = match () {
            () if page.is_behind => Some(Lack::Behind),
            () if page.is_full => Some(Lack::RedisFull),
            () if !self.pending.follower().is_whole() => Some(Lack::Following),
            () => None,
        };
        Ok(())
    }

    fn live(&self, stored_views: u64, readers: u64, pending_views: u64) -> Live {
        Live { stored_views, readers, pending_views, as_of_ms: self.stored_until_ms, lacks: self.lacks }
    }
}

#[derive(Default)]
struct LookUps {
    /// Whether somebody takes care of those that wait.
    is_under_way: bool,
    waiting: Vec<(Article, oneshot::Sender<Found>)>,
}

impl ReadShard {
    pub(super) fn new(queue: Queue, (ttl, kept): (Duration, Duration), patience: Duration) -> Self {
        let seed = u64::from(queue.shard().0);
        Self {
            queue,
            stored_views: AtomicU64::new(0),
            ttl,
            kept,
            patience,
            log: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            breaker: Mutex::new(Breaker::new(seed)),
            look_ups: Mutex::default(),
        }
    }

    pub(super) fn set_tag(&self, tag: CacheTag) {
        let mut log = lock(&self.log);
        if log.pending.follower().epoch() != tag.epoch {
            log.pending = Pending::new(tag.epoch);
        }
        log.tag = tag;
    }

    /// What an article has of which MySQL has so much; none if entries behind that were trimmed: read again.
    pub(super) fn on_top(&self, article: &Article, stored: &StoredArticle) -> Option<Live> {
        let log = lock(&self.log);
        let pending_views = log.pending.above(stored.position, article)?;
        Some(log.live(stored.views, stored.readers, pending_views))
    }

    /// For how long a value of so many views that is filled in now stays in Redis.
    pub(super) fn life(&self, views: u64) -> Duration {
        self.ttl() + if views > 0 { self.kept } else { Duration::ZERO }
    }

    /// How long a value lives.
    fn ttl(&self) -> Duration {
        let percent = 100 - JITTER_PERCENT + random::number() % (2 * JITTER_PERCENT + 1);
        self.ttl * u32::try_from(percent).expect("at most 110") / 100
    }

    /// Looks an article up.
    pub(super) async fn look_up(self: &Arc<Self>, article: &Article) -> Found {
        let (answer, answered) = oneshot::channel();
        {
            let mut look_ups = lock(&self.look_ups);
            if look_ups.waiting.len() >= WAITING_MAX {
                return Err(Unread("too many look-ups wait".into()));
            }
            look_ups.waiting.push((article.clone(), answer));
        }
        self.begin();
        answered.await.unwrap_or_else(|_| Err(Unread("this process ends".into())))
    }

    /// Sees to it that somebody takes care of those that wait, and reads the log. Not the one who asks: he may go away, and
    /// the others wait.
    fn begin(self: &Arc<Self>) {
        if !std::mem::replace(&mut lock(&self.look_ups).is_under_way, true) {
            tokio::spawn(Arc::clone(self).look_all_up());
        }
    }

    /// One script after the other until nobody waits, and the log is read or cannot be.
    async fn look_all_up(self: Arc<Self>) {
        let mut is_failed = false;
        loop {
            let mut asked = {
                let mut look_ups = lock(&self.look_ups);
                let together = look_ups.waiting.len().min(TOGETHER_MAX);
                let asked: Vec<_> = look_ups.waiting.drain(..together).collect();
                WAITING.set(look_ups.waiting.len().try_into().unwrap_or(i64::MAX));
                if asked.is_empty() && (is_failed || !self.goes_on_reading()) {
                    look_ups.is_under_way = false;
                    return;
                }
                asked
            };
            asked.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            let by_article: Vec<_> = asked.chunk_by(|(a, _), (b, _)| a == b).collect();
            let articles: Vec<_> = by_article.iter().map(|same| (&same[0].0, self.ttl())).collect();
            let began = Instant::now();
            let found = loop {
                if !lock(&self.breaker).allows(Instant::now()) {
                    break Err(Unread("it failed a moment ago".into()));
                }
                let found = self.look_at(&articles).await.map_err(Unread::from);
                // Who asks would rather wait a moment than hear of a part.
                let goes_on = !asked.is_empty() && matches!(found, Ok(Some(_))) && self.goes_on_reading();
                if !goes_on || began.elapsed() >= FOLLOW_MAX {
                    break found;
                }
            };
            is_failed = !matches!(found, Ok(Some(_)));
            let mut answers = Vec::with_capacity(asked.len());
            for (at, same) in by_article.iter().enumerate() {
                let answer = match &found {
                    Ok(Some((look, found))) => Ok(Some((look.tag, found[at]))),
                    Ok(None) => Ok(None),
                    Err(error) => Err(error.clone()),
                };
                answers.extend(same.iter().map(|_| answer.clone()));
            }
            for ((_, waits), answer) in asked.into_iter().zip(answers) {
                let _ = waits.send(answer); // Who has gone needs none.
            }
        }
    }

    /// Reads what of the log has come; a log that is too long for that goes on being read afterwards. None if its age is
    /// another.
    pub(super) async fn follow(self: &Arc<Self>) -> Result<Option<LogStatus>, QueueError> {
        let began = Instant::now();
        loop {
            let Some((look, _)) = self.look_at(&[]).await? else { return Ok(None) };
            let is_long = self.goes_on_reading();
            if is_long && began.elapsed() < FOLLOW_MAX {
                continue;
            }
            if is_long {
                self.begin();
            }
            return Ok(Some(look));
        }
    }

    /// See [`super::Reads::views_up_to`].
    pub(super) fn views_up_to(&self, look: &LogStatus, position: u64) -> Option<u64> {
        let log = lock(&self.log);
        let is_same = log.tag == look.tag && log.pending.follower().position().first == look.position.first;
        is_same.then(|| log.pending.views_up_to(position)).flatten()
    }

    /// See [`super::Reads::waiting`].
    pub(super) fn waiting(&self, article: &Article, epoch: u64, position: u64) -> u64 {
        let log = lock(&self.log);
        if log.tag.epoch != epoch {
            return 0;
        }
        log.pending.above_base(position, article)
    }

    /// Whether a long log is being read, and nothing stands in the way.
    fn goes_on_reading(&self) -> bool {
        let log = lock(&self.log);
        log.lacks == Some(Lack::Following) && log.pending.wants(PAGE_BYTES) > 0
    }

    /// One script: the bases of these articles, and the next entries of the log.
    async fn look_at(&self, articles: &[(&Article, Duration)]) -> Result<Option<(LogStatus, Vec<Cached>)>, QueueError> {
        let _turn = self.turn.lock().await;
        let (tag, cursor, bytes) = {
            let log = lock(&self.log);
            (log.tag, log.pending.follower().cursor(), log.pending.wants(PAGE_BYTES))
        };
        let bases = Bases { version: tag.version, articles, kept: self.kept };
        let step = self.queue.follow(tag.epoch, cursor, bytes, Some(bases));
        let Some(page) = self.in_time(step).await? else { return Ok(None) };
        let mut log = lock(&self.log);
        if (log.tag, log.pending.follower().cursor()) != (tag, cursor) {
            return Ok(None); // Another read has found another tag meanwhile: look again.
        }
        if let Err(error) = log.take(&page) {
            // Whatever was read of it, it is read again.
            log.pending = Pending::new(tag.epoch);
            return Err(error);
        }
        let cached = articles.iter().zip(&page.bases).map(|((article, _), base)| {
            let Some(base) = base else { return Cached::Miss { pending_views: log.pending.views(article) } };
            let live = log.live(base.views, base.readers, log.pending.above_base(base.position, article));
            if base.is_fresh { Cached::Hit(live) } else { Cached::Old(live) }
        });
        let look = LogStatus::of(tag, &page, log.pending.follower().is_whole());
        Ok(Some((look, cached.collect())))
    }

    /// One step in Redis, under the breaker; none if epoch or version are not those of the data set any more.
    pub(super) async fn in_time<T>(
        &self,
        step: impl Future<Output = Result<T, QueueError>>,
    ) -> Result<Option<T>, QueueError> {
        let timed_out = |_| Err(QueueError::timed_out());
        match tokio::time::timeout(self.patience, step).await.unwrap_or_else(timed_out) {
            Ok(answer) => {
                lock(&self.breaker).succeeded();
                Ok(Some(answer))
            }
            Err(QueueError::Epoch) => Ok(None),
            Err(error) => {
                lock(&self.breaker).failed(error.class(), Instant::now());
                Err(error)
            }
        }
    }
}

/// What is locked here is whole at any time.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
