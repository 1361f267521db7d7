//! The one reader of Redis and MySQL: makes a snapshot at a fixed pace, whatever the number of viewers.
//!
//! A total is right only if both stores are looked at in one state of the flusher: Redis first, then
//! the fence in MySQL, and again if a flush came between. While nothing is flushed, MySQL is asked once a second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use footfall_shared::clock;
use footfall_shared::counter::{Article, Shard};
use footfall_shared::grading::{Class, Grade, Level};
use footfall_shared::lifecycle::{EXIT_DEPENDENCY, Refusal};
use footfall_shared::queue::{Queue, QueueError, Redis};
use footfall_shared::reads::{Look, Reads};
use footfall_shared::store::{Fence, Fences, Store, StoreError};
use footfall_shared::telemetry::{Health, HealthState, Readiness, Reason};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::conservation::{Ledger, Unreadable};
use crate::events::{self, Event};
use crate::frame::{Backlog, Frame, HitPercent, Snapshot, Stale};
use crate::history::History;
use crate::instances::Instances;
use crate::numbers::{self, HitRate, Pending, Ranking, Rate, StoredUntil, Totals};

/// Looks at Redis and MySQL in one tick, until no flush came between.
const LOOKS_MAX: u32 = 3;
/// A fence is read again after this, even if nothing was flushed: to know whether MySQL is there, and
/// whether it was emptied. One row by its key per second: an idle site costs MySQL next to nothing.
const FENCE_AGE_MAX: Duration = Duration::from_secs(1);
/// MySQL is left alone for this long after it failed, so that waiting for it does not slow the feed.
const MYSQL_REST: Duration = Duration::from_secs(2);
/// The pace of what nobody needs to see four times a second.
const SLOW_PERIOD: Duration = Duration::from_secs(1);
/// A waiting view older than this means that flushing is behind.
pub(crate) const LAG_MS_MAX: u64 = 5_000;
/// How long the total may be inexact before it is worth a word. Until then all numbers stay as they were, together.
const PATIENCE: Duration = Duration::from_secs(3);

/// Reads both stores for all viewers.
pub struct Feed {
    redis: Redis,
    /// They follow the logs.
    reads: Arc<Reads>,
    store: Store,
    shards: Vec<ShardView>,
    /// MySQL may have been away when the process began, so it is asked here, before the first number.
    schema_is_right: bool,
    mysql_error: Option<(Instant, Class, String)>,
    redis_error: Option<String>,
    ranking: Ranking,
    /// When it was read.
    ranked_at: Option<Instant>,
    rate: Rate,
    stored_rate: Rate,
    keyspace: HitRate,
    queries: HitRate,
    interfaces: BTreeMap<String, HitRate>,
    ledger: Ledger,
    instances: Instances,
    slow_due: Instant,
    /// The last time at which the total was exact, or could not be.
    settled_at: Instant,
    /// The last time at which it was known; none before the first.
    known_at: Option<Instant>,
    /// There are at least so many views: the greatest number that was ever shown.
    least_views: u64,
    /// By how much the total was below that, when it was exact.
    missing_views: u64,
    stored_until: Arc<StoredUntil>,
    snapshot: Snapshot,
}

/// What is known of one shard.
struct ShardView {
    queue: Queue,
    /// As of the last look; none if Redis could not be read, or no recovery has opened its log.
    look: Option<Look>,
    /// How many of the views in it are in entries up to the position of the fence, if that is known.
    stored_views: Option<u64>,
    /// As of the time beside it.
    fence: Option<(Instant, Fence)>,
    /// The ranking contains no entry behind the position of this one; none while that is not known.
    ranked: Option<Fence>,
    /// The fence that was kept for others.
    shared: Option<Fence>,
    /// Whether a flusher is at work, as of the last slow look.
    is_leased: bool,
}

impl ShardView {
    /// The views that wait above what MySQL has.
    fn pending(&self) -> Option<Pending> {
        let look = self.look?;
        Some(match &self.fence {
            Some((_, fence)) => Pending::above(fence, &look, self.stored_views),
            None => Pending { views: look.pending_views, is_exact: false },
        })
    }

    /// Whether MySQL must be asked before its numbers and those of Redis can be added up.
    fn is_fence_due(&self) -> bool {
        let Some((read_at, _)) = &self.fence else {
            return true;
        };
        let flushed = self.pending().is_some_and(|pending| !pending.is_exact);
        flushed || read_at.elapsed() > FENCE_AGE_MAX
    }

    fn backlog(&self) -> Backlog {
        let look = self.look;
        Backlog {
            shard: self.queue.shard().0,
            epoch: look.map(|look| look.age.epoch),
            position: look.map(|look| look.position.tail),
            pending_views: look.map(|look| look.pending_views),
            log_entries: look.map(|look| look.position.entries()),
            lag_ms: look.map(|look| look.lag_ms),
        }
    }

    /// Whether the ranking contains all that is flushed.
    fn is_ranked(&self) -> bool {
        let [fence, ranked] = [self.fence.map(|(_, fence)| fence), self.ranked];
        fence
            .zip(ranked)
            .is_some_and(|(fence, ranked)| (fence.epoch, fence.position) <= (ranked.epoch, ranked.position))
    }
}

impl Feed {
    /// A feed that has read nothing yet. It tells up to when MySQL has everything.
    #[must_use]
    pub fn new(redis: Redis, reads: Arc<Reads>, store: Store, shards: u16, stored_until: Arc<StoredUntil>) -> Self {
        let now = Instant::now();
        let shards = Shard::all(shards).map(|shard| ShardView {
            queue: redis.shard(shard),
            look: None,
            stored_views: None,
            fence: None,
            ranked: None,
            shared: None,
            is_leased: false,
        });
        Self {
            shards: shards.collect(),
            redis,
            reads,
            store,
            schema_is_right: false,
            mysql_error: None,
            redis_error: None,
            ranking: Ranking::default(),
            ranked_at: None,
            rate: Rate::default(),
            stored_rate: Rate::default(),
            keyspace: HitRate::default(),
            queries: HitRate::default(),
            interfaces: BTreeMap::new(),
            ledger: Ledger::new(),
            instances: Instances::default(),
            slow_due: now,
            settled_at: now,
            known_at: None,
            least_views: 0,
            missing_views: 0,
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
                self.tables_differ()
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
        if !self.schema_is_right && self.mysql_may_be_asked() {
            match self.store.check_schema(self.shards_count()).await {
                Ok(()) => self.schema_is_right = true,
                Err(StoreError::Schema(sentence)) => {
                    return Err(Refusal { code: EXIT_DEPENDENCY, sentence });
                }
                Err(error) => self.mysql_failed(&error),
            }
        }
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
        if !is_due || !self.mysql_may_be_read() {
            return;
        }
        match self.store.top_articles(numbers::CANDIDATES).await {
            Ok(candidates) => self.ranking.set(candidates),
            Err(error) => return self.mysql_failed(&error),
        }
        self.snapshot.top_as_of = Some(clock::rfc3339(clock::unix_ms()));
        self.ranked_at = Some(Instant::now());
        for shard in 0..self.shards.len() {
            // Read after the ranking: no entry behind its position can be in it.
            let is_known = self.read_fence(shard).await;
            let view = &mut self.shards[shard];
            view.ranked = view.fence.filter(|_| is_known).map(|(_, fence)| fence);
        }
    }

    async fn look_at_redis(&mut self) -> Result<(), QueueError> {
        for shard in 0..self.shards.len() {
            for _ in 0..LOOKS_MAX {
                let view = &mut self.shards[shard];
                view.look = self.reads.follow(view.queue.shard()).await?;
                view.stored_views = None;
                if !view.is_fence_due() || !self.read_fence(shard).await {
                    break;
                }
            }
            self.share_fence(shard).await?;
        }

        if self.slow_due <= Instant::now() {
            for view in &mut self.shards {
                view.is_leased = view.queue.lease_holder().await?.is_some();
            }
            let (hits, misses) = self.redis.keyspace_hits().await?;
            self.snapshot.redis_hits = self.keyspace.add(Instant::now(), hits, misses);
            let (now, mut all) = (Instant::now(), (0, 0));
            for (interface, (hits, misses)) in self.redis.reads().await? {
                all = (u64::saturating_add(all.0, hits), u64::saturating_add(all.1, misses));
                let hits = self.interfaces.entry(interface.clone()).or_default().add(now, hits, misses);
                self.snapshot.interface_hits.insert(interface, hits);
            }
            self.snapshot.query_hits = self.queries.add(now, all.0, all.1);
            let reports = self.redis.presence().await?;
            for silent in self.instances.look(now, reports) {
                self.redis.forget_presence(&silent).await?;
            }
            self.keep_books().await?;
            self.slow_due = Instant::now() + SLOW_PERIOD;
        }
        Ok(())
    }

    async fn keep_books(&mut self) -> Result<(), QueueError> {
        if !self.mysql_may_be_read() {
            return Ok(());
        }
        match self.ledger.look(self.shards.iter().map(|view| &view.queue), &self.store).await {
            Ok(()) => {}
            Err(Unreadable::Redis(error)) => return Err(error),
            Err(Unreadable::MySql(error)) => self.mysql_failed(&error),
        }
        Ok(())
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

    fn shards_count(&self) -> u16 {
        u16::try_from(self.shards.len()).expect("there is one for each number below a u16")
    }

    fn mysql_may_be_asked(&self) -> bool {
        self.mysql_error.as_ref().is_none_or(|(failed_at, ..)| failed_at.elapsed() >= MYSQL_REST)
    }

    fn mysql_may_be_read(&self) -> bool {
        self.schema_is_right && self.mysql_may_be_asked()
    }

    /// Whether MySQL answered.
    async fn read_fence(&mut self, shard: usize) -> bool {
        if !self.mysql_may_be_read() {
            return false;
        }
        let fence = match self.store.fence(self.shards[shard].queue.shard()).await {
            Ok(fence) => fence,
            Err(error) => {
                self.mysql_failed(&error);
                return false;
            }
        };
        if self.mysql_error.take().is_some() {
            info!("mysql answers again");
        }
        let view = &mut self.shards[shard];
        view.stored_views =
            view.look.and_then(|look| self.reads.views_up_to(view.queue.shard(), &look, fence.position));
        let before = view.fence.replace((Instant::now(), fence));
        if before.is_some_and(|(_, before)| numbers::is_reset(&before, &fence)) {
            warn!("the numbers in mysql went back: it was emptied or restored; showing what it has now");
            self.forget_what_was_shown();
        }
        true
    }

    fn forget_what_was_shown(&mut self) {
        self.least_views = 0;
        self.missing_views = 0;
        self.known_at = None;
        self.rate = Rate::default();
        self.stored_rate = Rate::default();
        let text = "The numbers in MySQL went back: it was emptied or restored.";
        events::add(&mut self.snapshot.events, [Event::new(HealthState::Degraded, text)]);
        self.ranking = Ranking::default();
        self.ranked_at = None;
    }

    fn mysql_failed(&mut self, error: &StoreError) {
        if self.mysql_error.is_none() {
            warn!("mysql cannot be read: {error}");
        }
        self.mysql_error = Some((Instant::now(), error.class(), error.to_string()));
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
        let found = |view: &ShardView| (view.fence.map(|(_, fence)| fence), view.look.zip(view.pending()));
        let totals = Totals::of(self.shards.iter().map(found));
        let is_whole = self.shards.iter().all(|view| view.look.is_some_and(|look| look.is_whole));
        let is_readable = self.redis_error.is_none() && self.is_redis_current();
        let is_mysql_readable = self.mysql_error.is_none() && totals.is_stored_known;
        if totals.is_exact {
            self.missing_views = self.least_views.saturating_sub(totals.views());
        }
        if totals.is_exact || !is_readable || self.mysql_error.is_some() {
            self.settled_at = now;
        }
        // Views that Redis lost come back from ingest, and a page that counts down and up again would say that views were
        // lost and others made up: nobody is told of fewer than before.
        self.least_views = self.least_views.max(totals.views());
        let is_known = totals.is_exact && !totals.is_behind && self.missing_views == 0;
        // A flush that is not acknowledged yet, which usually is over at the next look.
        let is_passing = is_readable
            && is_mysql_readable
            && !totals.is_behind
            && self.missing_views == 0
            && self.known_at.is_some_and(|at| now - at <= PATIENCE);
        let snapshot = &mut self.snapshot;
        if is_known || !is_passing {
            let if_redis = |number: u64| is_readable.then_some(number);
            // Where no flush was missed, MySQL has what it had.
            let if_mysql = |number: u64| (is_mysql_readable || totals.is_exact).then_some(number);
            snapshot.views = is_known.then_some(totals.views());
            snapshot.at_least = (!is_known).then_some(self.least_views);
            snapshot.pending_views = if_redis(totals.pending_views);
            snapshot.log_entries = if_redis(totals.log_entries);
            snapshot.lag_ms = if_redis(totals.lag_ms);
            snapshot.stored_views = if_mysql(totals.stored_views);
            snapshot.readers = if_mysql(totals.readers);
            snapshot.reader_pairs = if_mysql(totals.reader_pairs);
            snapshot.articles = if_mysql(totals.articles);
            snapshot.views_per_second = if is_known { self.rate.add(now, totals.views()) } else { None };
            // What goes to MySQL past Redis is not the flushers' doing.
            snapshot.stored_views_per_second =
                if is_mysql_readable && is_readable { self.stored_rate.add(now, totals.stored_views) } else { None };
        }
        if is_known {
            let unix_ms = clock::unix_ms();
            snapshot.as_of = Some(clock::rfc3339(unix_ms));
            self.known_at = Some(now);
            self.stored_until.set(unix_ms.saturating_sub(totals.lag_ms));
        }
        let pending = self.ranking.articles().map(|article| (article.clone(), self.pending_of(article))).collect();
        self.snapshot.top = self.ranking.top(&pending, is_whole && (is_known || is_passing));
        let snapshot = &mut self.snapshot;
        snapshot.shards = self.shards.iter().map(ShardView::backlog).collect();
        snapshot.conservation = self.ledger.books(is_readable && self.mysql_error.is_none());
        if self.redis_error.is_some() {
            self.instances.missed(now);
            self.forget_hit_rates();
        }
        self.snapshot.instances = self.instances.show(now, self.redis_error.is_none());
        self.snapshot.redis = self.redis_health();
        self.snapshot.mysql = self.mysql_health();
        self.snapshot.flusher = self.flusher_health();
        let since = self.snapshot.stale.take().map(|stale| stale.since);
        self.snapshot.stale = self.why_stale().map(|(code, level, reason)| Stale {
            code,
            level,
            reason,
            since: since.unwrap_or_else(|| clock::rfc3339(clock::unix_ms())),
        });
    }

    /// What the stores have said last, if they cannot be read.
    fn why_unreadable(&self) -> Option<String> {
        let mysql = self.mysql_error.as_ref().map(|(.., error)| error.as_str());
        let said: Vec<&str> = self.redis_error.as_deref().into_iter().chain(mysql).collect();
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// They are counted in Redis.
    fn forget_hit_rates(&mut self) {
        self.redis.forget_hits();
        let all = [&mut self.keyspace, &mut self.queries].into_iter().chain(self.interfaces.values_mut());
        all.for_each(HitRate::missed);
        self.snapshot.redis_hits = HitPercent::default();
        self.snapshot.query_hits = HitPercent::default();
        self.snapshot.interface_hits.clear();
        self.slow_due = Instant::now();
    }

    /// Keeps the fence in Redis, where a dashboard finds it that is started while MySQL is away; or finds it there.
    async fn share_fence(&mut self, shard: usize) -> Result<(), QueueError> {
        let view = &mut self.shards[shard];
        match view.fence {
            Some((_, fence)) if self.mysql_error.is_none() && view.shared != Some(fence) => {
                // Refused by a Redis that is full, it is missed by nobody who can be helped.
                let kept = view.queue.keep_fence(&fence).await;
                view.shared = kept.is_ok().then_some(fence);
            }
            None if self.mysql_error.is_some() => {
                view.fence = view.queue.kept_fence().await?.map(|fence| (Instant::now(), fence));
            }
            _ => {}
        }
        Ok(())
    }

    fn is_redis_current(&self) -> bool {
        self.shards.iter().all(|view| view.look.is_some())
    }

    fn redis_health(&self) -> Health {
        match &self.redis_error {
            Some(error) => Health::because(HealthState::Down, error),
            None if self.is_redis_current() => Health::OK,
            None => Health::because(HealthState::Degraded, "being recovered"),
        }
    }

    fn mysql_health(&self) -> Health {
        match &self.mysql_error {
            Some((.., error)) => Health::because(HealthState::Down, error),
            None => Health::OK,
        }
    }

    /// What of the tables is not as this build needs them.
    fn tables_differ(&self) -> Option<&String> {
        self.mysql_error.as_ref().filter(|(_, class, _)| *class == Class::DbSchema).map(|(.., what)| what)
    }

    fn flusher_health(&self) -> Health {
        if self.redis_error.is_some() || !self.is_redis_current() {
            return Health::because(HealthState::Unknown, "cannot be seen without Redis");
        }
        // A flusher takes the lease only for a flush: without work there is none, and all is well.
        let is_late = |view: &&ShardView| view.look.is_some_and(|look| look.lag_ms > LAG_MS_MAX);
        let lag_ms = self.shards.iter().filter_map(|view| Some(view.look?.lag_ms)).max();
        let seconds = lag_ms.unwrap_or(0) / 1_000;
        if !self.shards.iter().any(|view| is_late(&view)) {
            Health::OK
        } else if self.mysql_error.is_some() {
            Health::because(
                HealthState::Degraded,
                format!("waits for MySQL; the oldest view has waited for {seconds} s"),
            )
        } else if self.shards.iter().filter(is_late).all(|view| view.is_leased) {
            Health::because(HealthState::Degraded, format!("is behind; the oldest view has waited for {seconds} s"))
        } else {
            Health::because(HealthState::Down, format!("is not at work; the oldest view has waited for {seconds} s"))
        }
    }

    /// Why the numbers may be behind: a code, a level and a sentence, of the gravest reason only.
    fn why_stale(&self) -> Option<(&'static str, HealthState, String)> {
        let (down, degraded) = (HealthState::Down, HealthState::Degraded);
        if self.redis_error.is_some() {
            return Some(("redis_down", down, "Redis cannot be read: how many views there are is not known.".into()));
        }
        if !self.is_redis_current() {
            let reason = match self.mysql_error {
                None => "Redis is being recovered: views that wait there are not in the numbers yet.",
                Some(_) => "Redis waits to be recovered, which needs MySQL, and MySQL cannot be read.",
            };
            return Some(("recovering", down, reason.into()));
        }
        if self.tables_differ().is_some() {
            let reason = "The tables in MySQL are not as they should be: views are still counted, readers and articles are those \
                          of its last answer.";
            return Some(("schema", degraded, reason.into()));
        }
        if self.mysql_error.is_some() {
            let reason =
                "MySQL cannot be read: views are still counted, readers and articles are those of its last answer.";
            return Some(("mysql_down", degraded, reason.into()));
        }
        // Between COMMIT and ACK the total is too low for a moment: only what lasts is worth a word.
        if self.settled_at.elapsed() > PATIENCE {
            let is_store_older = self.shards.iter().any(|view| {
                let (Some((_, fence)), Some(look)) = (&view.fence, &view.look) else {
                    return false;
                };
                numbers::is_store_older(fence, look)
            });
            return Some(if is_store_older {
                ("mysql_older", down, "MySQL is older than Redis: it lacks views that it had before.".into())
            } else {
                (
                    "unsettled",
                    degraded,
                    "A flush was not acknowledged to Redis: some waiting views are not in the numbers.".into(),
                )
            });
        }
        let missing = self.missing_views;
        if missing > 0 {
            let reason = format!("Catching up: {missing} views shown before are not back in Redis yet.");
            return Some(("catching_up", down, reason));
        }
        self.shards.iter().any(|view| view.look.is_some_and(|look| look.is_behind)).then(|| {
            ("journalled", degraded, "Some views wait in journals: those in Redis and MySQL are only a part.".into())
        })
    }
}
