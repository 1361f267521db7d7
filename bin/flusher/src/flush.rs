//! The way of waiting views into MySQL, in the order of the page: follow, wait for a trigger, commit, advance, trim.
//! Each step may be cut off and repeated, by this process or by another.

use std::sync::Arc;

use footfall_shared::mysql::{Fences, StoreError};
use footfall_shared::protocol::errors::{ErrorClass, Grade, Severity};
use footfall_shared::protocol::keys::CacheTag;
use footfall_shared::protocol::{Committed, Delta, Fence, Flush, Position, Producer};
use footfall_shared::redis::{Advanced, Page, Queue, QueueError};
use footfall_shared::service::config::{self, ms};
use footfall_shared::service::lifecycle::Pulse;
use footfall_shared::service::random;
use footfall_shared::service::telemetry::{Readiness, Reason};
use footfall_shared::stores::recovery::{self, RecoveryError};
use tokio::time::{Duration, Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::fold::fold;
use crate::held::Held;
use crate::metrics::Metrics;
use crate::pace::Pace;

/// Why a shard is not flushed at the moment.
#[derive(Debug, thiserror::Error)]
enum FlushError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
}

impl Grade for FlushError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Queue(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Recovery(error) => error.class(),
        }
    }
}

/// Bytes of the log that are read at once: nobody else is answered by Redis meanwhile.
const PAGE_BYTES: usize = 128 << 10;
/// Bases that are moved along at once, for the same reason.
const ADVANCED_TOGETHER: usize = 256;
/// What is looked at less often: MySQL's version of the counts while nothing is flushed, and Redis's view ids.
const SLOW_PERIOD: Duration = Duration::from_secs(1);

/// What MySQL has after a flush.
struct Stored {
    /// The log up to here.
    position: u64,
    /// See [`Fence::version`].
    version: u64,
    are_bases_advanced: bool,
}

/// So often, times the number of shards, each of them compares the tables with what they have to be: a key that is gone,
/// or one too many, makes no statement fail.
const SCHEMA_PERIOD: Duration = Duration::from_secs(10);

/// Flushes one shard.
pub struct Flusher {
    config: config::Flusher,
    /// See [`config::Reads::warm_ttl`].
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
    /// What was read of the log; none while it is not known to be open.
    held: Option<Held>,
    pace: Pace,
    /// When the data set was last looked at as a whole.
    state_seen: Option<Instant>,
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
            warm: config.reads.warm_ttl.unwrap_or_default(),
            shards: config.shards.get(),
            queue,
            store,
            readiness,
            metrics,
            pulse,
            holder: Producer(random::number()).to_string(),
            held: None,
            pace: Pace::new(config.flusher.clone()),
            state_seen: None,
            version_seen: None,
            schema_seen: None,
        }
    }

    /// Flushes whenever a trigger says so, until `stop`; then once more whatever is there.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut poll = tokio::time::interval(self.config.poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pause = self.config.poll;
        while stop.run_until_cancelled(poll.tick()).await.is_some() {
            self.pulse.beat();
            if self.turn(false).await {
                pause = self.config.poll;
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
        match result {
            Ok(()) => {
                if self.readiness.set_part(&part, None) {
                    info!(shard = %self.queue.shard(), "flushing");
                }
                true
            }
            Err(error) => {
                self.metrics.failures.inc();
                let class = error.class();
                class.count();
                // Logged when it begins and when it ends, not each time.
                if self.readiness.set_part(&part, Some(Reason::new("it cannot flush", &error))) {
                    match class.severity() {
                        Severity::Critical => error!(shard = %self.queue.shard(), class = class.name(), "{error}"),
                        _ => warn!(shard = %self.queue.shard(), class = class.name(), "{error}; trying again"),
                    }
                }
                if let (ErrorClass::CacheCorrupt, Some(held)) = (class, self.held.take()) {
                    self.discard(held.follower().epoch()).await;
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

    async fn look(&mut self, flush_all: bool) -> Result<(), FlushError> {
        let page = match self.follow().await {
            Err(FlushError::Queue(QueueError::Epoch)) => {
                self.metrics.forget(self.queue.shard());
                self.held = None;
                return Ok(()); // The next look opens it.
            }
            result => result.inspect_err(|_| self.metrics.forget(self.queue.shard()))?,
        };
        if self.schema_seen.is_none_or(|seen| seen.elapsed() >= SCHEMA_PERIOD * u32::from(self.shards)) {
            self.schema_seen = None;
            self.store.check_schema(self.shards).await?;
            self.schema_seen = Some(Instant::now());
        }
        let is_due = self
            .held
            .as_ref()
            .is_some_and(|held| !held.is_empty() && (flush_all || self.pace.is_due(held, Instant::now())));
        if !is_due {
            return self.compare_versions(&page).await;
        }
        match self.flush(page).await {
            Err(FlushError::Queue(QueueError::Epoch)) => {
                self.held = None;
                Ok(())
            }
            result => result,
        }
    }

    /// Reads what has come, as much as fits one transaction. Opens the data set first if need be.
    async fn follow(&mut self) -> Result<Page, FlushError> {
        if self.held.is_none() {
            self.metrics.forget(self.queue.shard());
            let epoch = recovery::open(&self.queue, &*self.store, self.shards).await?;
            (self.held, self.state_seen) = (Some(Held::new(epoch)), None);
        }
        if self.state_seen.is_none_or(|seen| seen.elapsed() >= SLOW_PERIOD) {
            let data = self.queue.state().await?.data.ok_or(QueueError::Epoch)?;
            self.state_seen = Some(Instant::now());
            self.metrics.show_ids(self.queue.shard(), &data.ids);
            if data.is_current && data.is_damaged {
                return Err(QueueError::Corrupt("its parts are not of one length".into()).into());
            }
        }
        let held = self.held.as_mut().ok_or(QueueError::Epoch)?;
        loop {
            let most = if held.views() < self.config.transaction_views_max.get() { PAGE_BYTES } else { 0 };
            let (epoch, cursor) = (held.follower().epoch(), held.follower().cursor());
            let page = self.queue.follow(epoch, cursor, most, None).await?;
            held.take(&page, Instant::now())?;
            self.pulse.beat();
            if most == 0 || held.is_all() {
                self.metrics.show(self.queue.shard(), &page, held.views());
                return Ok(page);
            }
        }
    }

    /// Tells Redis when MySQL's counts were changed by anything but a flush: its cached bases are behind then.
    async fn compare_versions(&mut self, page: &Page) -> Result<(), FlushError> {
        let epoch = self.held.as_ref().map(|held| held.follower().epoch());
        if self.version_seen.is_some_and(|seen| seen.elapsed() < SLOW_PERIOD) {
            return Ok(());
        }
        let Fence { epoch: current, version, .. } = self.store.fence(self.queue.shard()).await?;
        self.version_seen = Some(Instant::now());
        if epoch == Some(current) && version > page.version {
            match self.queue.raise_version(CacheTag { epoch: current, version }).await {
                Ok(()) | Err(QueueError::Epoch) => {} // Whoever opens it takes the version along.
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Moves everything that is held into MySQL, and what comes meanwhile as long as it fills transactions.
    async fn flush(&mut self, mut page: Page) -> Result<(), FlushError> {
        loop {
            if !self.has_lease().await? {
                return Ok(());
            }
            let Some(held) = self.held.as_ref().filter(|held| !held.is_empty()) else { return Ok(()) };
            let tag = CacheTag { epoch: held.follower().epoch(), version: page.version };
            let (log, batches) = held.first(self.config.transaction_views_max.get());
            let flush = fold(log, batches)?;
            let started = Instant::now();
            self.pulse.beat();
            let committed = self.store.commit(self.queue.shard(), tag.epoch, &flush).await?;
            self.pulse.beat();
            let took = started.elapsed();
            self.metrics.seconds.observe(took.as_secs_f64());
            let Some(stored) = self.committed(committed, tag, &flush).await? else { return Ok(()) };
            self.pace.committed(took, Instant::now());
            self.queue.ack(tag.epoch, stored.position, stored.version, stored.are_bases_advanced).await?;
            if let Some(held) = &mut self.held {
                held.stored(stored.position, Instant::now());
            }
            page = self.follow().await?;
            if self.held.as_ref().is_none_or(|held| held.views() < self.config.transaction_views_max.get()) {
                return Ok(());
            }
        }
    }

    /// Takes note of what became of a flush. None if this data set must not be flushed.
    async fn committed(
        &mut self,
        committed: Committed,
        tag: CacheTag,
        flush: &Flush,
    ) -> Result<Option<Stored>, FlushError> {
        match committed {
            Committed::Now { deltas, version, quarantined } => {
                self.metrics.transactions.inc();
                self.metrics.views.inc_by(flush.views());
                self.metrics.rows.inc_by(flush.rows.len() as u64);
                self.version_seen = Some(Instant::now());
                let mut are_bases_advanced = false;
                if quarantined > 0 {
                    self.metrics.quarantined.inc_by(quarantined);
                    warn!(
                        shard = %self.queue.shard(), views = quarantined, class = ErrorClass::DbPoison.name(),
                        "views could not be counted and are in quarantine: see `footfall quarantine list`"
                    );
                    ErrorClass::DbPoison.count();
                } else if version == tag.version {
                    are_bases_advanced = self.advance(tag, flush, &deltas).await?;
                }
                Ok(Some(Stored { position: flush.last, version, are_bases_advanced }))
            }
            Committed::Before { position, version } => {
                self.metrics.repeats.inc();
                Ok(Some(Stored { position, version, are_bases_advanced: false }))
            }
            Committed::Gap { producer } => {
                let what = format!("the batches of producer {producer} in it do not follow those in MySQL");
                Err(QueueError::Corrupt(format!("position {}: {what}", flush.first)).into())
            }
            Committed::Fenced { epoch: current } => {
                // MySQL is in an epoch that this data set was not opened under: open it again.
                self.metrics.fenced.inc();
                warn!(shard = %self.queue.shard(), epoch = tag.epoch, current, "fenced");
                self.held = None;
                Ok(None)
            }
            Committed::Hole { position } => {
                let (stored, known) = ((tag.epoch, position), (tag.epoch, flush.first - 1));
                Err(RecoveryError::StoreIsOlder { shard: self.queue.shard().0, stored, known }.into())
            }
        }
    }

    /// Moves the cached bases along, so that they stay right when the log is trimmed; false if they cannot be. They are
    /// read again from MySQL then.
    async fn advance(&self, tag: CacheTag, flush: &Flush, deltas: &[Delta]) -> Result<bool, FlushError> {
        let log = Position { first: flush.first, tail: flush.last };
        for part in deltas.chunks(ADVANCED_TOGETHER) {
            match self.queue.advance(tag, log, part, self.warm).await? {
                Advanced::Done => {}
                Advanced::NoneCached => break,
                Advanced::Moved => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Takes or renews the lease. It only keeps flushers from doing the same work twice.
    async fn has_lease(&self) -> Result<bool, FlushError> {
        match self.config.lease {
            None => Ok(true),
            Some(duration) => Ok(self.queue.lease(&self.holder, duration).await?),
        }
    }
}
