//! The batcher: one task per shard folds the views that arrive while the previous batch is under way
//! into the next one (no timer, no window), and keeps every batch until MySQL has it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use footfall_shared::config::{self, ms};
use footfall_shared::counter::{Batch, Producer, Shard, View};
use footfall_shared::queue::{Applied, Position, Queue, QueueError, Redis};
use footfall_shared::recovery::{self, RecoveryError};
use footfall_shared::store::Store;
use footfall_shared::telemetry::{self, IntCounter, IntGauge, Readiness};
use footfall_shared::{clock, packed};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

/// Why views were not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCounted {
    /// Too many views wait already; these were not taken.
    #[error("too many views are waiting to be counted; these were not counted: try again later")]
    Full,
    /// No durable home could be confirmed in time.
    #[error("the counters cannot be reached; these views may be counted later: a repeat may count them twice")]
    Unknown,
}

/// Views of one request on their way to a batch. The permits bound how many wait.
struct Offer {
    views: Vec<View>,
    counted: oneshot::Sender<()>,
    _permits: OwnedSemaphorePermit,
}

/// Where requests hand in their views. Cheap to clone; when all clones are gone the batchers end.
#[derive(Clone)]
pub struct Intake {
    shards: Arc<[(mpsc::UnboundedSender<Offer>, Arc<Semaphore>)]>,
    answer_timeout: Duration,
    metrics: Metrics,
}

impl Intake {
    /// Counts the views; answers when they have a durable home.
    pub async fn count(&self, views: Vec<View>) -> Result<(), NotCounted> {
        let count = views.len() as u64;
        let result = self.offer(views).await;
        match result {
            Ok(()) => {}
            Err(NotCounted::Full) => self.metrics.refused.inc_by(count),
            Err(NotCounted::Unknown) => self.metrics.unknown.inc_by(count),
        }
        result
    }

    async fn offer(&self, views: Vec<View>) -> Result<(), NotCounted> {
        let shards = u16::try_from(self.shards.len()).expect("there are at most u16::MAX shards");
        let mut by_shard: Vec<Vec<View>> = vec![];
        if shards == 1 {
            by_shard.push(views);
        } else {
            by_shard.resize_with(usize::from(shards), Vec::new);
            for view in views {
                by_shard[usize::from(Shard::of(&view.article, shards).0)].push(view);
            }
        }
        // All permits before the first view is handed in: a refused request has counted nothing.
        let mut offers = Vec::with_capacity(1);
        for (views, (sender, room)) in by_shard.into_iter().zip(&*self.shards) {
            if views.is_empty() {
                continue;
            }
            let count = u32::try_from(views.len()).map_err(|_| NotCounted::Full)?;
            let permits = Arc::clone(room).try_acquire_many_owned(count).map_err(|_| NotCounted::Full)?;
            offers.push((sender, views, permits));
        }
        let mut answers = Vec::with_capacity(offers.len());
        for (sender, views, permits) in offers {
            let (counted, answer) = oneshot::channel();
            self.metrics.waiting.add(views.len().cast_signed() as i64);
            sender.send(Offer { views, counted, _permits: permits }).map_err(|_| NotCounted::Unknown)?;
            answers.push(answer);
        }
        let all = async {
            for answer in answers {
                answer.await.map_err(|_| NotCounted::Unknown)?;
            }
            Ok(())
        };
        tokio::time::timeout(self.answer_timeout, all).await.unwrap_or(Err(NotCounted::Unknown))
    }
}

/// Starts a batcher per shard; answers the intake and the tasks, which end when every intake is dropped.
pub fn start(
    config: &config::Config,
    redis: &Redis,
    store: &Store,
    readiness: &Readiness,
) -> (Intake, tokio::task::JoinSet<()>) {
    let producer = Producer::random();
    info!(%producer, "this life of ingest");
    let metrics = Metrics::new();
    let mut tasks = tokio::task::JoinSet::new();
    let shards = Shard::all(config.shards)
        .map(|shard| {
            let (sender, offers) = mpsc::unbounded_channel();
            let room = Arc::new(Semaphore::new(config.ingest.queue_views_max));
            let batcher = Batcher {
                shards: config.shards,
                config: config.ingest.clone(),
                queue: redis.shard(shard),
                store: store.clone(),
                readiness: readiness.clone(),
                metrics: metrics.clone(),
                producer,
                epoch: None,
                number: 0,
                applied: 0,
                cumulative_views: 0,
                retained: VecDeque::new(),
                retained_bytes: 0,
            };
            readiness.set_part(&batcher.name(), Some("not opened yet".into()));
            tasks.spawn(batcher.run(offers));
            (sender, room)
        })
        .collect();
    (Intake { shards, answer_timeout: ms(config.ingest.answer_timeout_ms), metrics }, tasks)
}

#[derive(Clone)]
struct Metrics {
    views: IntCounter,
    refused: IntCounter,
    unknown: IntCounter,
    waiting: IntGauge,
    batches: IntCounter,
    failures: IntCounter,
    retained_batches: IntGauge,
    retained_bytes: IntGauge,
}

impl Metrics {
    fn new() -> Self {
        Self {
            views: telemetry::counter("footfall_views_accepted_total", "Views that were acknowledged."),
            refused: telemetry::counter(
                "footfall_views_refused_total",
                "Views that were not taken, because too many wait already.",
            ),
            unknown: telemetry::counter(
                "footfall_views_unacknowledged_total",
                "Views that were taken, but not acknowledged in time.",
            ),
            waiting: telemetry::gauge("footfall_waiting_views", "Views taken that are not acknowledged yet."),
            batches: telemetry::counter("footfall_batches_total", "Batches that Redis took."),
            failures: telemetry::counter("footfall_batch_failures_total", "Tries to send a batch that failed."),
            retained_batches: telemetry::gauge("footfall_retained_batches", "Batches kept until MySQL has them."),
            retained_bytes: telemetry::gauge(
                "footfall_retained_bytes",
                "Memory of the batches kept until MySQL has them.",
            ),
        }
    }
}

/// A batch that MySQL may not have yet.
struct Retained {
    number: u64,
    packed: Vec<u8>,
    /// Not needed any more once Redis has taken it; a later repeat unpacks it again.
    batch: Option<Batch>,
    /// At least the generation that holds it; none while Redis has not taken it.
    generation: Option<u64>,
}

impl Retained {
    /// Its memory, while Redis has it.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.packed.capacity()
    }
}

/// Why a shard makes no progress at the moment.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(
        "batches {} to {} of this process are neither in Redis nor in MySQL nor kept here: views are missing. \
         This shard stands still; a restart of this process goes on without them", last + 1, kept_from - 1
    )]
    Hole { last: u64, kept_from: u64 },
}

struct Batcher {
    shards: u16,
    config: config::Ingest,
    queue: Queue,
    store: Store,
    readiness: Readiness,
    metrics: Metrics,
    producer: Producer,
    /// The epoch under which Redis is open; none: open it first.
    epoch: Option<u64>,
    /// Number of the newest batch.
    number: u64,
    /// Number of the last batch that Redis is known to have, in the current epoch.
    applied: u64,
    /// Views in all batches up to `number`.
    cumulative_views: u64,
    /// I3: every batch, in order, until a reply's `first` passes its generation.
    retained: VecDeque<Retained>,
    retained_bytes: usize,
}

impl Batcher {
    async fn run(mut self, mut offers: mpsc::UnboundedReceiver<Offer>) {
        self.catch_up().await;
        let mut tick = tokio::time::interval(ms(500));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let has_room = self.retained_bytes < self.config.retained_bytes_max;
            tokio::select! {
                biased;
                offer = offers.recv(), if has_room => {
                    let Some(offer) = offer else { return };
                    self.send(offer, &mut offers).await;
                }
                // Without traffic too, what MySQL has is let go and what Redis lost is sent again.
                _ = tick.tick(), if !self.retained.is_empty() => self.look().await,
            }
        }
    }

    /// Sends the offer, and all others that wait, as one batch.
    async fn send(&mut self, offer: Offer, offers: &mut mpsc::UnboundedReceiver<Offer>) {
        let Offer { mut views, counted, _permits } = offer;
        let mut waiting = vec![(counted, _permits)];
        while views.len() < self.config.batch_views_max
            && let Ok(offer) = offers.try_recv()
        {
            views.extend(offer.views);
            waiting.push((offer.counted, offer._permits));
        }
        let count = views.len() as u64;
        self.number += 1;
        let batch = Batch::fold(self.producer, self.number, self.cumulative_views, clock::unix_minute(), views);
        self.cumulative_views = batch.cumulative_views;
        let packed = packed::encode(&batch);
        let retained = Retained { number: self.number, packed, batch: Some(batch), generation: None };
        self.retained_bytes += retained.bytes();
        self.metrics.retained_batches.inc();
        self.metrics.retained_bytes.add(retained.bytes().cast_signed() as i64);
        self.retained.push_back(retained);

        self.catch_up().await;
        self.metrics.batches.inc();
        self.metrics.views.inc_by(count);
        self.metrics.waiting.sub(count.cast_signed());
        for (counted, _permits) in waiting {
            let _ = counted.send(()); // The client may have gone; its views are counted all the same.
        }
    }

    /// Goes on until Redis has every retained batch, however long that takes.
    async fn catch_up(&mut self) {
        let mut pause = ms(5);
        loop {
            match self.step().await {
                Ok(true) => {
                    if self.readiness.set_part(&self.name(), None) {
                        info!(shard = %self.queue.shard(), epoch = self.epoch, "counting");
                    }
                    return;
                }
                Ok(false) => {}
                Err(obstacle) => {
                    self.metrics.failures.inc();
                    // Logged when it begins and when it ends, not each time.
                    if self.readiness.set_part(&self.name(), Some(obstacle.to_string())) {
                        match obstacle {
                            Obstacle::Hole { .. } | Obstacle::Recovery(RecoveryError::StoreIsOlder { .. }) => {
                                error!("{obstacle}");
                            }
                            _ => warn!("{obstacle}; trying again"),
                        }
                    }
                    // Spread, so that several processes do not recover the same shard at once.
                    let spread = getrandom::u32().unwrap_or(0) % 50;
                    tokio::time::sleep(pause.mul_f64(f64::from(spread) / 50.0 + 0.5)).await;
                    pause = (pause * 2).min(ms(500));
                }
            }
        }
    }

    fn name(&self) -> String {
        format!("shard {}", self.queue.shard())
    }

    /// One step towards Redis having every retained batch; true when it has.
    async fn step(&mut self) -> Result<bool, Obstacle> {
        let Some(epoch) = self.epoch else {
            self.open().await?;
            return Ok(false);
        };
        let next = self.applied + 1;
        // The numbers in `retained` are consecutive.
        let oldest = self.retained.front().map_or(next, |oldest| oldest.number);
        let index = usize::try_from(next - oldest.min(next)).unwrap_or(usize::MAX);
        if index >= self.retained.len() {
            return Ok(true);
        }
        let retained = &self.retained[index];
        let unpacked;
        let batch = match &retained.batch {
            Some(batch) => batch,
            None => {
                unpacked = packed::decode(&retained.packed).map_err(QueueError::from)?;
                &unpacked
            }
        };
        match self.queue.apply(epoch, batch, &retained.packed, self.config.generation_views_max).await {
            Ok(Applied::Ok(position)) => {
                self.applied = next;
                self.retained[index].generation = Some(position.open);
                self.retained[index].batch = None;
                self.forget(position);
            }
            Ok(Applied::Full { open }) => match self.queue.seal(epoch, open).await {
                Ok(_) => {}
                Err(QueueError::Epoch) => self.epoch = None,
                Err(error) => return Err(error.into()),
            },
            Ok(Applied::Behind) | Err(QueueError::Epoch) => self.epoch = None,
            Err(error) => return Err(error.into()),
        }
        Ok(false)
    }

    /// Opens Redis and finds out which batches it has.
    async fn open(&mut self) -> Result<(), Obstacle> {
        let epoch = recovery::open(&self.queue, &self.store, self.shards).await?;
        let (last, position) = self.queue.register(epoch, self.producer, self.shards).await?;
        let kept_from = self.retained.front().map_or(self.number + 1, |oldest| oldest.number);
        if last + 1 < kept_from {
            return Err(Obstacle::Hole { last, kept_from });
        }
        self.epoch = Some(epoch);
        self.applied = last;
        for batch in &mut self.retained {
            // An older data set may hold it in another generation than the reply of the time said.
            batch.generation = (batch.number <= last).then_some(position.open);
        }
        self.forget(position);
        Ok(())
    }

    /// Asks how far MySQL is, and whether Redis still has what it had.
    async fn look(&mut self) {
        // A failed look says nothing: APPLY looks at the epoch itself.
        let Ok(state) = self.queue.state().await else { return };
        match state.data.filter(|data| data.is_current && Some(data.epoch) == self.epoch) {
            Some(mut data) => {
                if data.pending_views() == 0 {
                    // MySQL has all that there is. The open generation is empty, so it will not be sealed and passed
                    // by itself, but a recovery may have noted batches under its number.
                    data.position.first = data.position.open + 1;
                }
                self.forget(data.position);
            }
            None => self.epoch = None,
        }
        if self.epoch.is_none() {
            self.catch_up().await;
        }
    }

    /// Lets go of what MySQL has.
    fn forget(&mut self, position: Position) {
        while let Some(oldest) = self.retained.front()
            && oldest.generation.is_some_and(|generation| generation < position.first)
        {
            self.retained_bytes -= oldest.bytes();
            self.metrics.retained_batches.dec();
            self.metrics.retained_bytes.sub(oldest.bytes().cast_signed() as i64);
            self.retained.pop_front();
        }
    }
}
