//! The way of pending views into MySQL, in the order of the page: look, seal, read, commit, acknowledge.
//! Each step may be cut off and repeated, by this process or by another.

use std::sync::Arc;

use footfall_shared::config::{self, ms};
use footfall_shared::counter::{Growth, Producer, Row, Shard, total};
use footfall_shared::grading::{Class, Grade, Level};
use footfall_shared::keys::Age;
use footfall_shared::lifecycle::Pulse;
use footfall_shared::queue::{DataSet, Position, Queue, QueueError, Sealed};
use footfall_shared::random;
use footfall_shared::recovery::{self, RecoveryError};
use footfall_shared::store::{Committed, Fence, Fences, Flush, StoreError};
use footfall_shared::telemetry::{self, GaugeVec, Histogram, IntCounter, IntGaugeVec, Readiness, Reason};
use tokio::time::{Duration, Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::fold::{self, Mismatch};

/// Why a shard is not flushed at the moment.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
}

impl Grade for Obstacle {
    fn class(&self) -> Class {
        match self {
            Self::Queue(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Recovery(error) => error.class(),
            Self::Mismatch(_) => Class::CacheCorrupt,
        }
    }
}

/// The metrics of all shards.
#[derive(Clone)]
pub struct Metrics {
    transactions: IntCounter,
    views: IntCounter,
    rows: IntCounter,
    repeats: IntCounter,
    fenced: IntCounter,
    failures: IntCounter,
    discarded: IntCounter,
    quarantined: IntCounter,
    seconds: Histogram,
    pending: IntGaugeVec,
    generations: IntGaugeVec,
    lag: GaugeVec,
    ids: IntGaugeVec,
    ids_window: GaugeVec,
    ids_early: IntGaugeVec,
}

impl Metrics {
    /// Registers them.
    #[must_use]
    pub fn new() -> Self {
        Self {
            transactions: telemetry::counter(
                "footfall_flush_transactions_total",
                "Transactions that moved views to MySQL.",
            ),
            views: telemetry::counter("footfall_flush_views_total", "Views moved to MySQL."),
            rows: telemetry::counter("footfall_flush_rows_total", "Reader rows written to MySQL."),
            repeats: telemetry::counter("footfall_flush_repeats_total", "Flushes that the fence knew already."),
            fenced: telemetry::counter("footfall_flush_fenced_total", "Flushes refused because the epoch was over."),
            failures: telemetry::counter("footfall_flush_failures_total", "Tries to flush that failed."),
            discarded: telemetry::counter(
                "footfall_discarded_data_sets_total",
                "Redis data sets that did not add up and were set aside.",
            ),
            quarantined: telemetry::counter("footfall_quarantined_views_total", "Views put into quarantine."),
            seconds: telemetry::seconds("footfall_flush_seconds", "Duration of a flush transaction."),
            pending: telemetry::gauges("footfall_pending_views", "Views in Redis that MySQL does not have.", "shard"),
            generations: telemetry::gauges("footfall_sealed_generations", "Sealed generations that wait.", "shard"),
            lag: telemetry::gauges_of_seconds("footfall_flush_lag_seconds", "Age of the oldest pending view.", "shard"),
            ids: telemetry::gauges("footfall_view_ids", "View ids that Redis remembers.", "shard"),
            ids_window: telemetry::gauges_of_seconds(
                "footfall_view_ids_window_seconds",
                "Since when Redis remembers all view ids: a repeat of an older view counts again. 0 if that is not known.",
                "shard",
            ),
            ids_early: telemetry::gauges(
                "footfall_view_ids_forgotten_early",
                "View ids that Redis forgot before their time, because there were too many, since its data began.",
                "shard",
            ),
        }
    }
}

impl Metrics {
    /// Redis cannot be read, or was not opened: what waits in it is not known.
    fn forget(&self, shard: Shard) {
        let shard = shard.to_string();
        // They may not be there yet.
        let _ = self.pending.remove_label_values(&[&shard]);
        let _ = self.generations.remove_label_values(&[&shard]);
        let _ = self.lag.remove_label_values(&[&shard]);
    }

    fn show(&self, shard: Shard, data: &DataSet) {
        let shard = shard.to_string();
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.pending.with_label_values(&[&shard]).set(whole(data.pending_views()));
        self.generations.with_label_values(&[&shard]).set(whole(data.position.open - data.position.first));
        self.lag.with_label_values(&[&shard]).set(data.lag_ms as f64 / 1_000.0);
        self.ids.with_label_values(&[&shard]).set(whole(data.ids.added + data.ids.before));
        self.ids_window.with_label_values(&[&shard]).set(data.ids.window_ms as f64 / 1_000.0);
        self.ids_early.with_label_values(&[&shard]).set(whole(data.ids.forgotten_early));
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Small generations in one transaction, at most: bounds what is read before the size in views does.
const TRANSACTION_GENERATIONS_MAX: u64 = 100;
/// While nothing is flushed, MySQL is asked this often whether its counts were changed by anything else.
const VERSION_PERIOD: Duration = Duration::from_secs(1);

/// So often, times the number of shards, each of them compares the tables with what they have to be: a key that is gone,
/// or one too many, makes no statement fail.
const SCHEMA_PERIOD: Duration = Duration::from_secs(10);

/// Flushes one shard.
pub struct Flusher {
    config: config::Flusher,
    /// See [`config::Reads::warm_ttl_ms`].
    warm: Duration,
    shards: u16,
    queue: Queue,
    store: Arc<dyn Fences>,
    readiness: Readiness,
    metrics: Metrics,
    /// It beats each time that a store has answered, or failed to: an outage is not what a restart would mend.
    pulse: Pulse,
    /// Names this process in the lease.
    holder: String,
    /// The open generation that was first seen with views in it, and when.
    waiting: Option<(u64, Instant)>,
    /// Whether the last look ended at an obstacle.
    is_obstructed: bool,
    /// The epoch of the data set that is being flushed.
    flushing: Option<u64>,
    /// When MySQL last said what version its counts have.
    version_seen: Option<Instant>,
    /// When the tables were last found to be right.
    schema_seen: Option<Instant>,
}

impl Flusher {
    /// A flusher of the queue's shard.
    #[must_use]
    pub fn new(
        config: &config::Config,
        queue: Queue,
        store: Arc<dyn Fences>,
        readiness: Readiness,
        metrics: Metrics,
        pulse: Pulse,
    ) -> Self {
        Self {
            config: config.flusher.clone(),
            warm: config.reads.warm_ttl_ms,
            shards: config.shards,
            queue,
            store,
            readiness,
            metrics,
            pulse,
            holder: Producer::random().to_string(),
            waiting: None,
            is_obstructed: false,
            flushing: None,
            version_seen: None,
            schema_seen: None,
        }
    }

    /// Flushes whenever a trigger says so, until `stop`; then once more whatever is there.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut poll = tokio::time::interval(self.config.poll_ms);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pause = self.config.poll_ms;
        while stop.run_until_cancelled(poll.tick()).await.is_some() {
            self.pulse.beat();
            if self.turn(false).await {
                pause = self.config.poll_ms;
            } else {
                let spread = (random::number() % 100) as f64 / 100.0;
                stop.run_until_cancelled(tokio::time::sleep(pause.mul_f64(0.5 + spread))).await;
                pause = (pause * 2).min(ms(1_000));
            }
        }
        self.turn(true).await;
        let _ = self.queue.release(&self.holder).await; // Would run out by itself.
    }

    /// One look at the shard; false if something stands in the way.
    async fn turn(&mut self, flush_all: bool) -> bool {
        let part = format!("shard {}", self.queue.shard());
        let result = self.look(flush_all).await;
        self.is_obstructed = result.is_err();
        match result {
            Ok(()) => {
                if self.readiness.set_part(&part, None) {
                    info!(shard = %self.queue.shard(), "flushing");
                }
                true
            }
            Err(obstacle) => {
                self.metrics.failures.inc();
                let class = obstacle.class();
                class.count();
                // Logged when it begins and when it ends, not each time.
                if self.readiness.set_part(&part, Some(Reason::new("it cannot flush", &obstacle))) {
                    match class.level() {
                        Level::Critical => error!(shard = %self.queue.shard(), class = class.name(), "{obstacle}"),
                        _ => warn!(shard = %self.queue.shard(), class = class.name(), "{obstacle}; trying again"),
                    }
                }
                if let (Class::CacheCorrupt, Some(epoch)) = (class, self.flushing.take()) {
                    self.discard(epoch).await;
                }
                false
            }
        }
    }

    /// Never guess: what does not add up is set aside, and ingest sends again whatever MySQL does not have.
    async fn discard(&mut self, epoch: u64) {
        match recovery::discard(&self.queue, &*self.store, self.shards, epoch).await {
            Ok(epoch) => {
                self.metrics.discarded.inc();
                error!(shard = %self.queue.shard(), epoch, "the data set was set aside; ingest sends its views again");
            }
            Err(error) => warn!(shard = %self.queue.shard(), "the data set cannot be set aside yet: {error}"),
        }
    }

    async fn look(&mut self, flush_all: bool) -> Result<(), Obstacle> {
        let state = self.queue.state().await.inspect_err(|_| self.metrics.forget(self.queue.shard()))?;
        let Some(data) = state.data.filter(|data| data.is_current && !data.is_damaged) else {
            self.metrics.forget(self.queue.shard());
            recovery::open(&self.queue, &*self.store, self.shards).await?;
            return Ok(());
        };
        self.metrics.show(self.queue.shard(), &data);
        self.flushing = Some(data.epoch);
        if self.schema_seen.is_none_or(|seen| seen.elapsed() >= SCHEMA_PERIOD * u32::from(self.shards)) {
            self.schema_seen = None;
            self.store.check_schema(self.shards).await?;
            self.schema_seen = Some(Instant::now());
        }
        if !self.is_due(&data) && !flush_all {
            return self.compare_versions(data.age()).await;
        }
        // While MySQL is away one sealed generation waits, and the open one takes the rest.
        let seal = data.open_batches > 0 && (!self.is_obstructed || data.position.first == data.position.open);
        match self.flush(data.age(), data.position, seal).await {
            Err(Obstacle::Queue(QueueError::Epoch)) => Ok(()), // The next look opens it.
            result => result,
        }
    }

    /// The triggers: enough updates, enough articles, or waited long enough. What is sealed is always due.
    fn is_due(&mut self, data: &DataSet) -> bool {
        if data.position.first < data.position.open {
            return true;
        }
        if data.open_batches == 0 {
            self.waiting = None;
            return false;
        }
        let since = match self.waiting {
            Some((generation, since)) if generation == data.position.open => since,
            _ => self.waiting.insert((data.position.open, Instant::now())).1,
        };
        data.open_views >= self.config.updates
            || data.open_articles >= self.config.articles
            || since.elapsed() >= self.config.timeout_ms
    }

    /// Tells Redis when MySQL's counts were changed by anything but a flush: its cached values are behind then.
    async fn compare_versions(&mut self, age: Age) -> Result<(), Obstacle> {
        if self.version_seen.is_some_and(|seen| seen.elapsed() < VERSION_PERIOD) {
            return Ok(());
        }
        let Fence { epoch, version, .. } = self.store.fence(self.queue.shard()).await?;
        self.version_seen = Some(Instant::now());
        if epoch == age.epoch && version > age.version {
            self.raise_version(Age { version, ..age }).await?;
        }
        Ok(())
    }

    async fn raise_version(&self, age: Age) -> Result<(), Obstacle> {
        match self.queue.raise_version(age).await {
            Err(QueueError::Epoch) => Ok(()), // Whoever opens it takes the version along.
            result => Ok(result?),
        }
    }

    /// Moves everything that is pending into MySQL, in as many transactions as its size asks for.
    async fn flush(&mut self, age: Age, mut position: Position, seal: bool) -> Result<(), Obstacle> {
        let epoch = age.epoch;
        if !self.has_lease().await? {
            return Ok(());
        }
        if seal {
            position = self.queue.seal(epoch, position.open).await?;
        }
        while position.first < position.open {
            let Some(sealed) = self.read(epoch, position).await? else { return Ok(()) };
            let flush = match fold::fold(&sealed) {
                Err(mismatch) if mismatch.generation > position.first => {
                    let good = sealed.iter().take_while(|sealed| sealed.generation < mismatch.generation).count();
                    fold::fold(&sealed[..good])?
                }
                result => result?,
            };
            let started = Instant::now();
            self.pulse.beat();
            let committed = self.store.commit(self.queue.shard(), epoch, &flush).await?;
            self.pulse.beat();
            self.metrics.seconds.observe(started.elapsed().as_secs_f64());
            let acknowledged = match committed {
                Committed::Now { growth, version, quarantined } => {
                    self.metrics.transactions.inc();
                    self.metrics.views.inc_by(flush.views());
                    self.metrics.rows.inc_by(flush.rows.len() as u64);
                    self.version_seen = Some(Instant::now());
                    let mut growth = growth;
                    if quarantined > 0 {
                        self.metrics.quarantined.inc_by(quarantined);
                        warn!(
                            shard = %self.queue.shard(), views = quarantined, class = Class::DbPoison.name(),
                            "views could not be counted and are in quarantine: see `footfall quarantine list`"
                        );
                        Class::DbPoison.count();
                        // What was left out must leave Redis's sums as well.
                        growth = unknown_growth(&flush);
                    }
                    self.queue.ack(age, version, flush.first, flush.last, &growth, self.warm).await?
                }
                Committed::Before { position: generation, version } => {
                    self.metrics.repeats.inc();
                    let last = generation.min(flush.last);
                    let stored = usize::try_from(last - flush.first + 1).expect("a part of what was read into memory");
                    let growth = unknown_growth(&fold::fold(&sealed[..stored])?);
                    self.queue.ack(age, version, flush.first, last, &growth, self.warm).await?
                }
                Committed::Gap { producer } => {
                    let what = format!("the batches of producer {producer} in it do not follow those in MySQL");
                    return Err(QueueError::Corrupt(format!("generation {}: {what}", flush.first)).into());
                }
                Committed::Fenced { epoch: current } => {
                    // MySQL is in an epoch that this data set was not opened under: open it again.
                    self.metrics.fenced.inc();
                    warn!(shard = %self.queue.shard(), epoch, current, "fenced");
                    recovery::open(&self.queue, &*self.store, self.shards).await?;
                    return Ok(());
                }
                Committed::Hole { position: generation } => {
                    let (stored, known) = ((epoch, generation), (epoch, flush.first - 1));
                    return Err(RecoveryError::StoreIsOlder { shard: self.queue.shard().0, stored, known }.into());
                }
            };
            let Some(next) = acknowledged else { return Ok(()) }; // Another flusher was faster: look again.
            position = next;
            if position.first < position.open && !self.has_lease().await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads sealed generations from the first on, as many as fit one transaction. None if they were acknowledged or set
    /// aside meanwhile.
    async fn read(&self, epoch: u64, position: Position) -> Result<Option<Vec<Sealed>>, Obstacle> {
        let candidates = position.first..position.open.min(position.first + TRANSACTION_GENERATIONS_MAX);
        let sizes = self.queue.sealed_views(candidates.clone()).await?;
        let mut sealed: Vec<Sealed> = Vec::new();
        let mut views: u64 = 0;
        for (generation, size) in candidates.zip(sizes) {
            let size = size.unwrap_or(0);
            if !sealed.is_empty() && views.saturating_add(size) > self.config.transaction_views_max {
                break;
            }
            self.pulse.beat();
            match self.queue.sealed(epoch, generation).await {
                Ok(next) if next.header.is_some() => sealed.push(next),
                // What comes before a damaged generation is flushed all the same.
                Ok(_) | Err(QueueError::Corrupt(_)) if !sealed.is_empty() => break,
                Ok(_) => {
                    let data = self.queue.state().await?.data;
                    let is_unchanged =
                        data.is_some_and(|data| data.epoch == epoch && data.position.first == position.first);
                    let what = "it has no header";
                    return if is_unchanged { Err(Mismatch { generation, what }.into()) } else { Ok(None) };
                }
                Err(error) => return Err(error.into()),
            }
            views = views.saturating_add(size);
        }
        Ok(Some(sealed))
    }

    /// Takes or renews the lease. It only keeps flushers from doing the same work twice.
    async fn has_lease(&self) -> Result<bool, Obstacle> {
        if self.config.lease_ms.is_zero() {
            return Ok(true);
        }
        Ok(self.queue.lease(&self.holder, self.config.lease_ms).await?)
    }
}

/// What a flush added, when it is not known which of its readers were new.
fn unknown_growth(flush: &Flush) -> Vec<Growth> {
    let growth = |rows: &[Row]| Growth {
        article: rows[0].article.clone(),
        views: total(rows.iter().map(|row| row.views)),
        readers: None,
    };
    flush.articles().map(growth).collect()
}
