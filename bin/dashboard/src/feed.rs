//! The one reader of Redis and MySQL: makes a snapshot at a fixed pace, whatever the number of viewers.
//!
//! A total is right only if both stores are looked at in one state of the flusher: Redis first, then the fence in MySQL,
//! and again if entries were trimmed in between. While nothing is flushed, MySQL is asked once a second.
//!
//! | file | what |
//! | --- | --- |
//! | `shard` | what is known of one shard, of both stores |
//! | `mysql` | when MySQL is asked, and when it is left alone |
//! | `total` | the numbers of all shards as they are shown |
//! | `hits` | how often reads were answered from a cache |
//! | `words` | how each part does, and why numbers may be behind |

mod hits;
mod mysql;
mod shard;
mod total;
mod words;

use std::sync::Arc;
use std::time::Duration;

use footfall_shared::mysql::Store;
use footfall_shared::protocol::errors::Level;
use footfall_shared::protocol::{Article, Shard};
use footfall_shared::redis::{QueueError, Redis};
use footfall_shared::service::clock;
use footfall_shared::service::lifecycle::Refusal;
use footfall_shared::service::telemetry::{HealthState, Readiness, Reason};
use footfall_shared::stores::reads::Reads;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::hits::Hits;
use self::mysql::MySql;
use self::shard::ShardView;
use self::total::{Known, Readable, Total};
use crate::conservation::{Ledger, Unreadable};
use crate::events::{self, Event};
use crate::frame::{Frame, Snapshot, Stale};
use crate::history::History;
use crate::instances::Instances;
use crate::numbers::{Ranking, StoredUntil, Totals};

/// Looks at Redis and MySQL in one tick, until no flush came between.
const LOOKS_MAX: u32 = 3;
/// The pace of what nobody needs to see four times a second.
const SLOW_PERIOD: Duration = Duration::from_secs(1);
/// A waiting view older than this means that flushing is behind.
pub(crate) const LAG_MS_MAX: u64 = 5_000;

/// Reads both stores for all viewers.
pub struct Feed {
    redis: Redis,
    /// They follow the logs.
    reads: Arc<Reads>,
    mysql: MySql,
    redis_error: Option<String>,
    shards: Vec<ShardView>,
    ranking: Ranking,
    /// When it was read.
    ranked_at: Option<Instant>,
    total: Total,
    hits: Hits,
    ledger: Ledger,
    instances: Instances,
    slow_due: Instant,
    stored_until: Arc<StoredUntil>,
    snapshot: Snapshot,
}

impl Feed {
    /// A feed that has read nothing yet. It tells up to when MySQL has everything.
    #[must_use]
    pub fn new(redis: Redis, reads: Arc<Reads>, store: Store, shards: u16, stored_until: Arc<StoredUntil>) -> Self {
        let now = Instant::now();
        Self {
            shards: Shard::all(shards).map(|shard| ShardView::new(redis.shard(shard))).collect(),
            redis,
            reads,
            mysql: MySql::new(store),
            redis_error: None,
            ranking: Ranking::default(),
            ranked_at: None,
            total: Total::new(now),
            hits: Hits::default(),
            ledger: Ledger::new(),
            instances: Instances::default(),
            slow_due: now,
            stored_until,
            snapshot: Snapshot::before_the_first_look(clock::rfc3339(clock::unix_ms())),
        }
    }

    /// What viewers see before the feed has begun.
    #[must_use]
    pub fn first_frame(&self) -> Frame {
        Frame::first(&self.snapshot)
    }

    /// Sends a frame per period until `stop`. Fails only if the database belongs to another version.
    pub async fn run(
        mut self,
        period: Duration,
        frames: watch::Sender<Frame>,
        history: Arc<History>,
        readiness: Readiness,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_ready = false;
        loop {
            let before = self.snapshot.clone();
            let look = async {
                ticks.tick().await;
                self.look().await
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                looked = look => looked?,
            }
            let new = events::between(&before, &self.snapshot);
            events::add(&mut self.snapshot.events, new);
            history.add(Instant::now(), &self.snapshot);
            readiness.set_degraded(
                "tables",
                self.mysql
                    .tables_differ()
                    .map(|what| (Level::Critical, Reason::new("the tables are not as this build needs them", what))),
            );
            // Once: later on it is not this task that decides.
            if !is_ready && self.snapshot.as_of.is_some() {
                is_ready = true;
                readiness.set(None);
                info!("the first numbers were read");
            } else if !is_ready && let Some(why) = self.why_unreadable() {
                readiness.set(Some(Reason::new("no numbers were read yet", why)));
            }
            frames.send_modify(|frame| *frame = frame.next(&self.snapshot));
        }
    }

    /// Brings the snapshot up to date, as far as the stores answer.
    async fn look(&mut self) -> Result<(), Refusal> {
        self.mysql.check_schema(self.shards_count()).await?;
        self.rank().await;
        let looked = self.look_at_redis().await;
        if looked.is_err() {
            // What was read of it before it failed belongs to another moment than the rest.
            for view in &mut self.shards {
                view.look = None;
            }
            for shard in 0..self.shards.len() {
                // Redis may be down because all is down: say so of MySQL too.
                if self.shards[shard].is_fence_due() {
                    self.read_fence(shard).await;
                }
            }
        }
        self.redis_failed(looked.err());
        self.add_up();
        Ok(())
    }

    /// Reads the ranking again if something was flushed since, at most once per period.
    async fn rank(&mut self) {
        let flushed = !self.shards.iter().all(ShardView::is_ranked);
        let is_due = self.ranked_at.is_none_or(|at| flushed && at.elapsed() >= SLOW_PERIOD);
        if !is_due {
            return;
        }
        let Some(candidates) = self.mysql.top_articles().await else { return };
        self.ranking.set(candidates);
        self.snapshot.top_as_of = Some(clock::rfc3339(clock::unix_ms()));
        self.ranked_at = Some(Instant::now());
        for shard in 0..self.shards.len() {
            // Read after the ranking: no entry behind its position can be in it.
            let is_known = self.read_fence(shard).await;
            let view = &mut self.shards[shard];
            view.ranked = view.fence().filter(|_| is_known);
        }
    }

    async fn look_at_redis(&mut self) -> Result<(), QueueError> {
        for shard in 0..self.shards.len() {
            for _ in 0..LOOKS_MAX {
                let view = &mut self.shards[shard];
                view.look(&self.reads).await?;
                if !view.is_fence_due() || !self.read_fence(shard).await {
                    break;
                }
            }
            let is_mysql_away = self.mysql.error().is_some();
            self.shards[shard].share_fence(is_mysql_away).await?;
        }
        if self.slow_due <= Instant::now() {
            self.look_at_the_rest().await?;
            self.slow_due = Instant::now() + SLOW_PERIOD;
        }
        Ok(())
    }

    async fn look_at_the_rest(&mut self) -> Result<(), QueueError> {
        for view in &mut self.shards {
            view.is_leased = view.queue.lease_holder().await?.is_some();
        }
        self.hits.look(&self.redis, &mut self.snapshot).await?;
        let reports = self.redis.presence().await?;
        for silent in self.instances.look(Instant::now(), reports) {
            self.redis.forget_presence(&silent).await?;
        }
        let Some(store) = self.mysql.readable() else { return Ok(()) };
        match self.ledger.look(self.shards.iter().map(|view| &view.queue), store).await {
            Ok(()) => {}
            Err(Unreadable::Redis(error)) => return Err(error),
            Err(Unreadable::MySql(error)) => self.mysql.failed(&error),
        }
        Ok(())
    }

    /// Whether MySQL answered.
    async fn read_fence(&mut self, shard: usize) -> bool {
        let view = &mut self.shards[shard];
        let Some(fence) = self.mysql.fence(view.queue.shard()).await else { return false };
        if view.set_fence(fence, &self.reads) {
            warn!("the numbers in mysql went back: it was emptied or restored; showing what it has now");
            self.total.forget();
            let text = "The numbers in MySQL went back: it was emptied or restored.";
            events::add(&mut self.snapshot.events, [Event::new(HealthState::Degraded, text)]);
            self.ranking = Ranking::default();
            self.ranked_at = None;
        }
        true
    }

    fn redis_failed(&mut self, error: Option<QueueError>) {
        match (&error, &self.redis_error) {
            (Some(error), None) => warn!("redis cannot be read: {error}"),
            (None, Some(_)) => info!("redis answers again"),
            _ => {}
        }
        self.redis_error = error.map(|error| error.to_string());
    }

    /// Makes the snapshot of what is known now.
    fn add_up(&mut self) {
        let now = Instant::now();
        let found = |view: &ShardView| (view.fence(), view.look.zip(view.pending()));
        let totals = Totals::of(self.shards.iter().map(found));
        let can = Readable {
            redis: self.redis_error.is_none() && self.is_redis_current(),
            mysql: self.mysql.error().is_none(),
        };
        let known = self.total.show(now, &totals, can, &mut self.snapshot);
        if known == Known::All {
            self.stored_until.set(clock::unix_ms().saturating_sub(totals.lag_ms));
        }
        // While a long log is being read, it is not known yet whose views wait in it.
        let is_read = self.shards.iter().all(|view| view.look.is_some_and(|look| look.is_whole));
        let pending = self.ranking.articles().map(|article| (article.clone(), self.pending_of(article))).collect();
        self.snapshot.top = self.ranking.top(&pending, is_read && known != Known::Part);
        self.snapshot.shards = self.shards.iter().map(ShardView::backlog).collect();
        self.snapshot.conservation = self.ledger.books(can.redis && can.mysql);
        if self.redis_error.is_some() {
            self.instances.missed(now);
            self.hits.missed(&self.redis, &mut self.snapshot);
            self.slow_due = now;
        }
        self.snapshot.instances = self.instances.show(now, self.redis_error.is_none());
        self.snapshot.redis = self.redis_health();
        self.snapshot.mysql = self.mysql.health();
        self.snapshot.flusher = self.flusher_health();
        let since = self.snapshot.stale.take().map(|stale| stale.since);
        self.snapshot.stale = self.why_stale().map(|(code, level, reason)| Stale {
            code,
            level,
            reason,
            since: since.unwrap_or_else(|| clock::rfc3339(clock::unix_ms())),
        });
    }

    /// Views of a ranked article that wait, left out where they could be in the ranking already: rather too few for a
    /// moment than one view twice.
    fn pending_of(&self, article: &Article) -> u64 {
        let view = &self.shards[usize::from(Shard::of(article, self.shards_count()).0)];
        match (view.look, view.ranked) {
            (Some(look), Some(ranked)) if look.age.epoch == ranked.epoch => {
                self.reads.waiting(article, ranked.epoch, ranked.position)
            }
            _ => 0,
        }
    }

    fn is_redis_current(&self) -> bool {
        self.shards.iter().all(|view| view.look.is_some())
    }

    fn shards_count(&self) -> u16 {
        u16::try_from(self.shards.len()).expect("there is one for each number below a u16")
    }
}
