//! The batcher: one task per shard folds the views that arrive while the previous batch is under way into the next one
//! (no timer, no window), and sees to it that every batch has a durable home before its clients hear of it.
//!
//! A batch is put on one of two paths when it is built, and stays there: through Redis, or, while Redis is away or full,
//! into MySQL directly. It is in the journal before it is first sent. Its clients are answered when Redis or MySQL has
//! it, or when neither answers in time, as soon as the journal is on the disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use footfall_journal::{AppendError, Journal, Location, SyncResult};
use footfall_shared::mysql::StoreError;
use footfall_shared::protocol::errors::{Class, Grade, Level};
use footfall_shared::protocol::packed::{Packed, Path, decode_record, encode_record};
use footfall_shared::protocol::{Batch, DataSet, Direct, ID_BYTES, Remembered, Shard, View, total};
use footfall_shared::redis::{MEMORY_PERCENT_MAX, Queue, QueueError};
use footfall_shared::service::breaker::Breaker;
use footfall_shared::service::config;
use footfall_shared::service::telemetry::{self, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Readiness, Reason};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::blocking::Blocking;
use crate::intake::{Client, NotCounted, Offer};
use crate::lane::{Lane, Link, Obstacle, Outcome, Retained, Step};

/// The pace of what needs no hurry: what MySQL has is let go, what Redis lost is sent again.
const TICK: Duration = Duration::from_millis(500);
/// A store that has not answered for so long gets no new batches; it is still waited for.
const SUSPECT_AFTER: Duration = Duration::from_millis(500);
/// Batches that MySQL does not have, at most: bounds memory where the journal's limit is large and the batches small.
const RETAINED_MAX: usize = 1 << 20;
/// While Redis takes nothing or is caught up with, batches are not built more often than this: few large ones are sent
/// sooner, and need less room until then.
const CATCH_UP_PACE: Duration = Duration::from_millis(10);
/// So few views that wait in Redis are not what fills it.
const LITTLE_VIEWS: u64 = 10_000;
/// A view id is remembered for one to two of these.
pub const ID_PERIOD: Duration = Duration::from_secs(600);
/// A Redis that was full is not any more when less than this part of its memory is in use, in percent.
const MEMORY_PERCENT_FREE: u64 = 75;
/// View ids take this part of Redis's memory at most, in percent, whatever is configured.
const IDS_MEMORY_PERCENT_MAX: u64 = 25;

/// One shard of one life of ingest.
pub(crate) struct Batcher {
    config: config::Ingest,
    link: Link,
    blocking: Blocking,
    readiness: Readiness,
    metrics: Metrics,
    gauges: Gauges,
    journal: Option<Journal>,
    /// Batches that go through Redis.
    lane: Lane,
    /// Batches that go to MySQL directly; only the first one is under way.
    direct: VecDeque<DirectBatch>,
    /// Number of the newest batch on the direct path, and the views up to and including it.
    direct_newest: (u64, u64),
    /// Batches whose clients wait, in the order in which the journal has them.
    unacknowledged: VecDeque<Unacknowledged>,
    work: FuturesUnordered<BoxFuture<'static, Event>>,
    /// Since when a step in Redis is under way.
    redis_since: Option<Instant>,
    redis: Breaker,
    /// Since when a transaction in MySQL is under way.
    mysql_since: Option<Instant>,
    mysql: Breaker,
    /// The journal is on its way to the disk up to here.
    syncing: Option<Option<Location>>,
    /// Records that were written again, kept until the new ones are on the disk.
    replaced: Vec<Location>,
    /// There are more that have to be, as soon as the disk takes them.
    is_doubtful: bool,
    disk: Breaker,
    /// Why the last step failed; shown as long as a breaker is open.
    obstacle: String,
    /// What was said last; nothing at first.
    shown: Option<Option<(Level, &'static str)>>,
    /// While batches for Redis only go to the disk, the next one is not built before.
    journal_at: Instant,
    tick_at: Instant,
    is_look_due: bool,
    /// Rotations of the view ids in Redis, and when they were first seen.
    rotation: Option<(u64, Instant)>,
    /// Whether so little waits in Redis that it is not what fills it, as of the last look.
    waits_little: bool,
    /// Grows with each report to the others.
    beat: u64,
    /// Whether the report before said of views that only the journal holds: those of a moment are nothing to tell readers.
    was_behind: bool,
}

struct DirectBatch {
    batch: Arc<Batch>,
    packed: Packed,
    location: Option<Location>,
}

struct Unacknowledged {
    path: Path,
    number: u64,
    views: u64,
    since: Instant,
    location: Option<Location>,
    clients: Vec<Client>,
}

enum Event {
    Redis(Outcome),
    /// MySQL's answer to the batch of this number.
    Direct(u64, Result<Direct, StoreError>),
    Synced(SyncResult),
    /// Memory that Redis uses, and the most that it may.
    Memory(Result<(u64, u64), QueueError>),
    /// Nothing follows from it.
    Done,
}

/// What a batcher is made of.
pub(crate) struct Parts {
    pub(crate) config: config::Ingest,
    pub(crate) link: Link,
    pub(crate) blocking: Blocking,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Metrics,
    pub(crate) journal: Option<Journal>,
    pub(crate) lane: Lane,
}

impl Batcher {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { config, link, blocking, readiness, metrics, journal, lane } = parts;
        let seed = lane.producer().0;
        let now = Instant::now();
        let (shard, limit) = (link.queue.shard(), journal.as_ref().map_or(0, |_| config.journal_bytes_max));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        metrics.journal_limit.with_label_values(&[&shard.to_string()]).set(limit);
        let batcher = Self {
            config,
            link,
            blocking,
            readiness,
            gauges: metrics.of(shard),
            metrics,
            journal,
            lane,
            direct: VecDeque::new(),
            direct_newest: (0, 0),
            unacknowledged: VecDeque::new(),
            work: FuturesUnordered::new(),
            redis_since: None,
            redis: Breaker::new(seed),
            mysql_since: None,
            mysql: Breaker::new(seed),
            syncing: None,
            replaced: vec![],
            is_doubtful: false,
            disk: Breaker::new(seed),
            obstacle: String::new(),
            shown: None,
            journal_at: now,
            tick_at: now,
            is_look_due: false,
            rotation: None,
            waits_little: false,
            beat: 0,
            was_behind: false,
        };
        batcher.readiness.set_part(&batcher.name(), Some("not opened yet".into()));
        batcher
    }

    fn name(&self) -> String {
        format!("shard {}", self.link.queue.shard())
    }

    /// Counts until every intake is gone and every client has its answer; gives the journal back.
    pub(crate) async fn run(mut self, mut offers: mpsc::UnboundedReceiver<Offer>) -> Option<Journal> {
        let mut is_open = true;
        while is_open || !self.unacknowledged.is_empty() {
            let now = Instant::now();
            self.start_work(now);
            self.show(now);
            let (takes, wake_at) = (is_open && self.takes(now), self.wake_at(now));
            tokio::select! {
                biased;
                Some(event) = self.work.next(), if !self.work.is_empty() => self.on(event),
                offer = offers.recv(), if takes => match offer {
                    Some(offer) => self.take(offer, &mut offers),
                    None => is_open = false,
                },
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
        self.journal
    }

    // ---- What to do next

    /// Starts everything that can be under way now: one step in Redis, one transaction, one fsync.
    fn start_work(&mut self, now: Instant) {
        if now >= self.tick_at {
            self.tick(now);
        }
        if self.redis_since.is_none() && self.redis.allows(now) {
            self.start_step(now);
        }
        if self.mysql_since.is_none()
            && self.mysql.allows(now)
            && let Some(first) = self.direct.front()
        {
            let (batch, link) = (Arc::clone(&first.batch), self.link.clone());
            self.mysql_since = Some(now);
            self.work.push(Box::pin(async move {
                let stored = link.fences.commit_direct(link.queue.shard(), &batch).await;
                Event::Direct(batch.number, stored)
            }));
        }
        if self.syncing.is_none()
            && self.is_sync_due(now)
            && let Some(job) = self.journal.as_ref().and_then(Journal::sync)
        {
            // Everything before the job is in it; an older one than any stands for "nobody waits".
            self.syncing = Some(self.unacknowledged.iter().filter_map(|batch| batch.location).max());
            let blocking = self.blocking;
            self.work.push(Box::pin(async move { Event::Synced(blocking.run(move || job.run()).await) }));
        }
    }

    fn start_step(&mut self, now: Instant) {
        let is_full = self.redis.class() == Some(Class::CacheFull);
        // Of a full Redis it is first asked what waits in it. If that is much, nothing more goes in until the flusher has
        // made room. If it is little, others fill it, and what can only go this way is tried: Redis takes a batch or none.
        if is_full && !self.is_look_due && !self.waits_little && self.lane.epoch().is_some() {
            return;
        }
        let journal = self.journal.as_ref();
        let damaged = &self.metrics.damaged;
        let step = if is_full && self.is_look_due {
            None
        } else {
            self.lane.next(|retained| {
                let payload = retained.location.and_then(|location| journal?.read(location).ok());
                let batch = payload.and_then(|payload| decode_record(&payload).ok()).map(|record| record.batch);
                if batch.is_none() {
                    damaged.inc();
                    error!(
                        number = retained.number,
                        "a batch cannot be read back from the journal: its views are lost"
                    );
                }
                batch
            })
        };
        // While Redis is away somebody must ask whether it is back.
        let look = self.is_look_due || !self.redis.is_closed() && !is_full;
        let Some(step) = step.or_else(|| look.then_some(Step::Look)) else { return };
        if matches!(step, Step::Look) {
            self.is_look_due = false;
        }
        self.redis_since = Some(now);
        let (link, producer) = (self.link.clone(), self.lane.producer());
        self.work.push(Box::pin(async move { Event::Redis(link.perform(producer, step).await) }));
    }

    /// Whether clients wait for something that only the disk can give them in time.
    fn is_sync_due(&self, now: Instant) -> bool {
        let is_due = |batch: &Unacknowledged| {
            let is_stuck = match batch.path {
                Path::Redis => !self.redis.is_closed() || self.lane.backlog() > 1,
                Path::Direct => !self.mysql.is_closed(),
            };
            batch.location.is_some() && (is_stuck || now >= batch.since + self.patience())
        };
        // After a failure the disk is tried too: how else would it be known that it works again?
        self.disk.allows(now)
            && (!self.disk.is_closed() || !self.replaced.is_empty() || self.unacknowledged.iter().any(is_due))
    }

    /// How long clients wait for Redis or MySQL before the journal is brought to the disk for them.
    fn patience(&self) -> Duration {
        self.config.journal_sync_ms
    }

    /// The path of a batch that is built now; none if it is better not to build one yet.
    fn route(&self, now: Instant) -> Option<Path> {
        let is_slow = |since: Option<Instant>| since.is_some_and(|since| now >= since + self.patience());
        // On the disk first, in Redis when it can be: one fsync after the other.
        let in_journal = self.can_journal(now) && self.syncing.is_none() && now >= self.journal_at;
        let by_journal = in_journal.then_some(Path::Redis);
        match self.redis.class() {
            None if self.lane.backlog() == 0 && self.redis_since.is_none() => Some(Path::Redis),
            None if is_slow(self.redis_since) || self.lane.backlog() > 1 => by_journal,
            None => None,
            // MySQL must not be written to.
            Some(class) if class.closes_mysql() => by_journal,
            // A full Redis is like one that is away: MySQL says by itself whether it is what keeps Redis full.
            Some(_) if now < self.journal_at => None,
            Some(_) if self.direct.is_empty() && self.mysql.allows(now) => Some(Path::Direct),
            Some(_) if !self.mysql.is_closed() || is_slow(self.mysql_since) => by_journal,
            Some(_) => None,
        }
    }

    fn can_journal(&self, now: Instant) -> bool {
        self.journal.as_ref().is_some_and(Journal::has_room) && self.disk.allows(now)
    }

    fn has_room(&self) -> bool {
        let has_room = match &self.journal {
            Some(journal) => journal.has_room(),
            None => self.lane.retained_bytes() < self.config.retained_bytes_max,
        };
        has_room && self.lane.retained() < RETAINED_MAX
    }

    /// Whether an offer can be dealt with now, if only by refusing it.
    fn takes(&self, now: Instant) -> bool {
        !self.has_room() || self.route(now).is_some()
    }

    /// When something becomes due that no event announces.
    fn wake_at(&self, now: Instant) -> Instant {
        let patience = self.patience();
        let journal_at = Some(self.journal_at);
        let rests = [&self.redis, &self.mysql, &self.disk].into_iter().filter_map(Breaker::rest_until);
        let slow = [self.redis_since, self.mysql_since].into_iter().flatten();
        let slow = slow.flat_map(|since| [since + patience, since + SUSPECT_AFTER]);
        let waiting = self.unacknowledged.front().map(|batch| batch.since + patience);
        let due = rests.chain(slow).chain(waiting).chain(journal_at).filter(|at| *at > now);
        due.chain([self.tick_at]).min().unwrap_or(self.tick_at)
    }

    /// Twice a second.
    fn tick(&mut self, now: Instant) {
        self.tick_at = now + TICK;
        self.is_look_due = self.lane.retained() > 0 || self.rotation.is_some() || !self.redis.is_closed();
        if let Some(journal) = &mut self.journal {
            journal.tick(now.into_std());
        }
        if self.is_doubtful && self.disk.allows(now) {
            self.write_again(now);
        }
        if self.redis.class().is_none_or(|class| class.closes_mysql() || class == Class::CacheFull) {
            self.beat += 1;
            let (queue, producer) = (self.link.queue.clone(), self.lane.producer());
            let (beat, journalled) = (self.beat, self.journalled_views());
            let stored = [self.lane.kept_behind(), self.direct_stored()];
            let is_behind = std::mem::replace(&mut self.was_behind, journalled > 0) && journalled > 0;
            self.work.push(Box::pin(async move {
                let memory = queue.redis().memory().await;
                // Missed once, it is made up for by the next.
                let _ = queue.report(producer, beat, journalled, stored, is_behind).await;
                Event::Memory(memory)
            }));
        } else {
            self.metrics.redis_memory.reset(); // Not known any more.
        }
        if let Some((rotation, seen)) = self.rotation
            && now >= seen + ID_PERIOD
            && let Some(epoch) = self.lane.epoch()
        {
            self.rotation = None;
            let queue = self.link.queue.clone();
            self.work.push(Box::pin(async move { rotate(queue, epoch, rotation, false).await }));
        }
    }

    // ---- Views come in

    /// Makes a batch of the offer and all others that wait, or two if they cannot go the same path.
    fn take(&mut self, offer: Offer, offers: &mut mpsc::UnboundedReceiver<Offer>) {
        let now = Instant::now();
        if !self.has_room() {
            return offer.client.answer(Err(NotCounted::Full));
        }
        let Some(path) = self.route(now) else {
            return offer.client.answer(Err(NotCounted::Full)); // `takes` has said that there is one.
        };
        if path == Path::Redis && self.redis.is_closed() && self.lane.backlog() > 0 {
            self.journal_at = now + CATCH_UP_PACE;
        }
        // Only Redis can tell whether an id was counted before.
        let path_of = |offer: &Offer| match path {
            Path::Direct if offer.views.iter().all(|view| view.id.is_none()) => Path::Direct,
            _ => Path::Redis,
        };
        let mut batches: [(Vec<View>, Vec<Client>); 2] = Default::default();
        let mut next = Some(offer);
        let mut count = 0;
        while let Some(offer) = next {
            count += offer.views.len();
            let batch = &mut batches[usize::from(path_of(&offer) == Path::Direct)];
            batch.0.extend(offer.views);
            batch.1.push(offer.client);
            next = if count < self.config.batch_views_max { offers.try_recv().ok() } else { None };
        }
        if !self.redis.is_closed() && !batches[0].0.is_empty() {
            self.journal_at = now + CATCH_UP_PACE;
        }
        for (path, (views, clients)) in [Path::Redis, Path::Direct].into_iter().zip(batches) {
            if !views.is_empty() {
                self.build(path, views, clients, now);
            }
        }
    }

    /// Number of the last batch that MySQL has of a path, as far as is known.
    fn stored(&self, path: Path) -> u64 {
        match path {
            Path::Redis => self.lane.stored(),
            Path::Direct => self.direct_stored().0,
        }
    }

    /// The last batch that MySQL has of the direct path, and the views up to and including it.
    fn direct_stored(&self) -> (u64, u64) {
        let first = self.direct.front().map(|first| &first.batch);
        first.map_or(self.direct_newest, |first| (first.number - 1, first.views_before()))
    }

    fn build(&mut self, path: Path, views: Vec<View>, clients: Vec<Client>, now: Instant) {
        let count = views.len() as u64;
        let (number, views_before) = match path {
            Path::Redis => self.lane.newest(),
            Path::Direct => self.direct_newest,
        };
        let stored = self.stored(path);
        let minute = footfall_shared::service::clock::unix_minute();
        let batch = Batch::fold(self.lane.producer(), number + 1, views_before, minute, views);
        let direct = (path == Path::Direct).then(|| Arc::new(batch.clone()));
        let batch = Packed::new(batch);
        let location = match self
            .journal
            .as_mut()
            .map(|journal| journal.append(&encode_record(path, stored, &batch), now.into_std()))
        {
            None => None,
            Some(Ok(location)) => {
                if self.disk.class() == Some(Class::DiskFull) {
                    self.disk.succeeded();
                }
                Some(location)
            }
            // Nothing was sent, so the number is free again.
            Some(Err(error)) => {
                let answer = match &error {
                    AppendError::Full => NotCounted::Full,
                    AppendError::Failed(_) => NotCounted::Unknown,
                };
                self.disk_failed(class_of(&error), &error.to_string(), now);
                return clients.into_iter().for_each(|client| client.answer(Err(answer)));
            }
        };
        self.metrics.batches.with_label_values(&[name_of(path)]).inc();
        let unacknowledged = Unacknowledged { path, number: batch.number, views: count, since: now, location, clients };
        self.unacknowledged.push_back(unacknowledged);
        match direct {
            None => {
                self.lane.push(Retained {
                    number: batch.number,
                    cumulative_views: batch.cumulative_views,
                    location,
                    bytes: if location.is_none() { batch.memory() } else { 0 },
                    batch: Some(Arc::new(batch)),
                    trimmed: None,
                    position: None,
                });
            }
            Some(unpacked) => {
                self.direct_newest = (batch.number, batch.cumulative_views);
                self.direct.push_back(DirectBatch { batch: unpacked, packed: batch, location });
            }
        }
    }

    // ---- Something has happened

    fn on(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Redis(outcome) => self.on_redis(outcome, now),
            Event::Direct(number, result) => self.on_direct(number, result, now),
            Event::Synced(result) => self.on_synced(result, now),
            Event::Memory(memory) => self.on_memory(memory, now),
            Event::Done => {}
        }
    }

    fn on_redis(&mut self, outcome: Outcome, now: Instant) {
        self.redis_since = None;
        if let Outcome::Looked(Ok(Some(data))) = &outcome {
            self.looked(data, now);
        }
        match self.lane.on(outcome) {
            // That it answers a look does not mean that it has room again.
            Ok(()) if self.redis.class() == Some(Class::CacheFull) => {}
            Ok(()) => drop(self.redis.succeeded()),
            Err(obstacle) => self.redis_failed(&obstacle, now),
        }
        let released = self.lane.released();
        if let Some(journal) = &mut self.journal {
            released.into_iter().for_each(|location| journal.release(location));
        }
        let applied = self.lane.applied();
        self.acknowledge(|batch| batch.path == Path::Redis && batch.number <= applied);
    }

    /// What a look at the data set says of its view ids, and of what fills it.
    fn looked(&mut self, data: &DataSet, now: Instant) {
        self.waits_little = data.pending_views <= LITTLE_VIEWS;
        let Remembered { rotation, added, before, .. } = data.ids;
        if self.rotation.is_none_or(|(known, _)| known != rotation) {
            self.rotation = Some((rotation, now));
        }
        // `apply` sees to that by itself, unless it is refused, or there is less memory now than before. One batch may be
        // more than there is room for.
        let batch_max = self.config.batch_views_max.saturating_add(self.config.request_views_max) as u64;
        let most = self.link.ids_max.load(Ordering::Relaxed).max(batch_max);
        if added.max(before) > most
            && let Some(epoch) = self.lane.epoch()
        {
            let queue = self.link.queue.clone();
            self.work.push(Box::pin(async move { rotate(queue, epoch, rotation, true).await }));
        }
    }

    fn redis_failed(&mut self, obstacle: &Obstacle, now: Instant) {
        let class = obstacle.class();
        class.count();
        self.metrics.failures.inc();
        self.redis.failed(class, now);
        self.obstacle = obstacle.to_string();
    }

    fn on_direct(&mut self, number: u64, result: Result<Direct, StoreError>, now: Instant) {
        self.mysql_since = None;
        match result {
            Ok(stored @ (Direct::Now { .. } | Direct::Before)) => {
                warn_of_quarantine(stored, self.link.queue.shard());
                self.mysql.succeeded();
                let stored = self.direct.pop_front();
                if let (Some(journal), Some(location)) = (&mut self.journal, stored.and_then(|batch| batch.location)) {
                    journal.release(location);
                }
                self.acknowledge(|batch| batch.path == Path::Direct && batch.number <= number);
            }
            Ok(Direct::Behind { number: last }) => {
                Class::DbBehind.count();
                self.mysql.failed(Class::DbBehind, now);
                self.obstacle =
                    format!("MySQL has batch {last} as the last before direct batch {number}: was it restored?");
            }
            Err(error) => {
                let class = error.class();
                class.count();
                self.metrics.failures.inc();
                self.mysql.failed(class, now);
                self.obstacle = error.to_string();
            }
        }
    }

    fn on_synced(&mut self, result: SyncResult, now: Instant) {
        let Some(synced) = self.syncing.take() else { return };
        let Some(journal) = &mut self.journal else { return };
        match journal.synced(result) {
            Ok(()) => {
                self.disk.succeeded();
                self.metrics.syncs.inc();
                // What was written again is on the disk now.
                self.replaced.drain(..).for_each(|old| journal.release(old));
                // What waits there needs no memory.
                let waits = |batch: &&Unacknowledged| {
                    batch.path == Path::Redis && batch.location.is_some() && batch.location <= synced
                };
                for batch in self.unacknowledged.iter().filter(waits) {
                    if let Some(retained) = self.lane.get_mut(batch.number) {
                        retained.unload();
                    }
                }
                self.acknowledge(|batch| batch.location.is_some() && batch.location <= synced);
            }
            Err(error) => {
                // That segment is never trusted again: what clients wait for is written to the next one.
                self.disk_failed(error.class(), &error.to_string(), now);
                self.write_again(now);
            }
        }
    }

    /// Writes everything once more that the journal may not be able to give back.
    fn write_again(&mut self, now: Instant) {
        let [stored, stored_direct] = [Path::Redis, Path::Direct].map(|path| self.stored(path));
        let Some(journal) = &mut self.journal else { return };
        let is_doubtful = |location: &Location| journal.is_doubtful(*location);
        for waiting in &mut self.unacknowledged {
            waiting.location = waiting.location.filter(|location| !is_doubtful(location));
        }
        let mut again: Vec<(Path, u64, Location, Vec<u8>)> = Vec::new();
        let producer = self.lane.producer();
        for Retained { number, cumulative_views, location, batch, .. } in self.lane.iter_mut() {
            let Some(old) = location.filter(is_doubtful) else { continue };
            let payload = match batch {
                Some(batch) => encode_record(Path::Redis, stored, batch),
                // Redis has it. Should it lose it too, those behind it must be able to go on without.
                None => journal.read(old).unwrap_or_else(|_| {
                    self.metrics.damaged.inc();
                    encode_record(Path::Redis, stored, &Packed::new(Batch::lost(producer, *number, *cumulative_views)))
                }),
            };
            again.push((Path::Redis, *number, old, payload));
        }
        for DirectBatch { batch, packed, location } in &self.direct {
            let Some(old) = location.filter(is_doubtful) else { continue };
            again.push((Path::Direct, batch.number, old, encode_record(Path::Direct, stored_direct, packed)));
        }
        self.is_doubtful = false;
        for (path, number, old, payload) in again {
            let new = match journal.append(&payload, now.into_std()) {
                Ok(new) => new,
                Err(error) => {
                    self.is_doubtful = true;
                    return self.disk_failed(class_of(&error), &error.to_string(), now);
                }
            };
            self.replaced.push(old);
            let location = match path {
                Path::Redis => self.lane.get_mut(number).map(|retained| &mut retained.location),
                Path::Direct => {
                    let mut direct = self.direct.iter_mut();
                    direct.find(|direct| direct.batch.number == number).map(|direct| &mut direct.location)
                }
            };
            location.into_iter().for_each(|location| *location = Some(new));
            let mut waiting = self.unacknowledged.iter_mut();
            if let Some(waiting) = waiting.find(|batch| batch.path == path && batch.number == number) {
                waiting.location = Some(new);
            }
        }
    }

    fn on_memory(&mut self, memory: Result<(u64, u64), QueueError>, now: Instant) {
        let Ok((used, max)) = memory else { return }; // The next step says what is wrong.
        for (kind, bytes) in [("used", used), ("limit", max)] {
            self.metrics.redis_memory.with_label_values(&[kind]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        self.link.ids_max.store(ids_max(self.config.ids_bytes_max, self.link.shards, max), Ordering::Relaxed);
        let percent = used.saturating_mul(100).checked_div(max).unwrap_or(0); // Without a limit it is never full.
        if percent > MEMORY_PERCENT_MAX && self.journal.is_some() && self.redis.is_closed() {
            Class::CacheFull.count();
            self.redis.failed(Class::CacheFull, now);
            self.obstacle = format!("{used} of {max} bytes are in use");
        } else if percent < MEMORY_PERCENT_FREE && self.redis.class() == Some(Class::CacheFull) {
            self.redis.succeeded();
        }
    }

    fn disk_failed(&mut self, class: Class, why: &str, now: Instant) {
        class.count();
        self.disk.failed(class, now);
        self.obstacle = format!("journal: {why}");
    }

    /// Answers the clients of the batches that have a durable home now.
    fn acknowledge(&mut self, is_durable: impl Fn(&Unacknowledged) -> bool) {
        self.unacknowledged.retain_mut(|batch| {
            let is_durable = is_durable(batch);
            if is_durable {
                for client in std::mem::take(&mut batch.clients) {
                    client.answer(Ok(()));
                }
            }
            !is_durable
        });
    }

    // ---- What others see

    /// Views that were acknowledged and that only the journal holds.
    fn journalled_views(&self) -> u64 {
        let waiting = total(self.unacknowledged.iter().map(|batch| batch.views));
        let direct = total(self.direct.iter().map(|direct| direct.batch.views()));
        self.lane.backlog_views().saturating_add(direct).saturating_sub(waiting)
    }

    /// Keeps readiness, degradation and metrics true; logs a change of level once.
    fn show(&mut self, now: Instant) {
        for (since, breaker, class) in [
            (self.redis_since, &mut self.redis, Class::CacheTransient),
            (self.mysql_since, &mut self.mysql, Class::DbDown),
        ] {
            if since.is_some_and(|since| now >= since + SUSPECT_AFTER) {
                breaker.suspect(class);
            }
        }
        let part = self.name();
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let Gauges { retained_batches, retained_bytes, journal_bytes, journalled_views } = &self.gauges;
        retained_batches.set(whole(self.lane.retained() as u64));
        retained_bytes.set(whole(self.lane.retained_bytes() as u64));
        journal_bytes.set(whole(self.journal.as_ref().map_or(0, Journal::bytes)));
        journalled_views.set(whole(self.journalled_views()));
        let journals = self.journal.is_some();
        let (ready, state) = match (self.redis.class(), self.mysql.class(), self.disk.class()) {
            _ if !self.has_room() => (false, Some((Level::Critical, "there is no room for more views"))),
            (redis, _, Some(_)) => (redis.is_none(), Some((Level::Critical, "the journal cannot be written"))),
            (None, ..) if self.lane.epoch().is_none() => return,
            (None, ..) => (true, None),
            (Some(redis), mysql, _) if redis.closes_mysql() || mysql.is_some_and(Class::closes_mysql) => {
                (journals, Some((Level::Critical, "this shard stands still, views wait in the journal")))
            }
            (Some(Class::CacheFull), None, _) => {
                (true, Some((Level::Degraded, "redis is full, views go to MySQL directly, those with an id wait")))
            }
            (Some(Class::CacheFull), Some(_), _) if journals => {
                (true, Some((Level::Critical, "redis is full and MySQL is away, views wait in the journal")))
            }
            (Some(_), None, _) => (true, Some((Level::Degraded, "redis is away, views go to MySQL directly"))),
            (Some(_), Some(_), _) if journals => {
                (true, Some((Level::Critical, "redis and MySQL are away, views wait in the journal")))
            }
            (Some(_), Some(_), _) => (false, Some((Level::Critical, "redis and MySQL are away"))),
        };
        let why = state.map(|(level, what)| (level, Reason::new(what, &self.obstacle)));
        self.readiness.set_part(&part, why.clone().map(|(_, reason)| reason).filter(|_| !ready));
        if why.is_some() {
            self.readiness.set_degraded(&part, why.clone());
        }
        if self.shown.as_ref() == Some(&state) {
            return;
        }
        let shard = self.link.queue.shard();
        match &state {
            None => info!(%shard, epoch = self.lane.epoch(), "counting"),
            Some((Level::Critical, what)) => error!(%shard, "{what}: {}", self.obstacle),
            Some((_, what)) => warn!(%shard, "{what}: {}", self.obstacle),
        }
        self.readiness.set_degraded(&part, why);
        self.shown = Some(state);
    }
}

/// Says so if MySQL has refused views.
pub(crate) fn warn_of_quarantine(stored: Direct, shard: Shard) {
    if let Direct::Now { quarantined: views @ 1.. } = stored {
        Class::DbPoison.count();
        warn!(
            %shard, views, class = Class::DbPoison.name(),
            "views could not be counted and are in quarantine: see `footfall quarantine list`"
        );
    }
}

/// Forgets the view ids of the period before the last one.
async fn rotate(queue: Queue, epoch: u64, rotation: u64, is_early: bool) -> Event {
    if let Err(error) = queue.rotate_ids(epoch, rotation, is_early).await {
        warn!("view ids are remembered for longer than they need be: {error}");
    }
    Event::Done
}

/// How many view ids may be added to a shard between two rotations, so that those of two periods, of all shards, take no
/// more than the bytes that are given for them, nor than a part of Redis's memory (0: all that there is).
pub(crate) fn ids_max(ids_bytes_max: u64, shards: u16, memory: u64) -> u64 {
    let part = if memory == 0 { u64::MAX } else { memory / 100 * IDS_MEMORY_PERCENT_MAX };
    (ids_bytes_max.min(part) / ID_BYTES / 2 / u64::from(shards.max(1))).max(1)
}

fn class_of(error: &AppendError) -> Class {
    match error {
        AppendError::Full => Class::DiskFull,
        AppendError::Failed(error) => error.class(),
    }
}

fn name_of(path: Path) -> &'static str {
    match path {
        Path::Redis => "redis",
        Path::Direct => "direct",
    }
}

/// The metrics of all shards.
#[derive(Clone)]
pub(crate) struct Metrics {
    batches: IntCounterVec,
    failures: IntCounter,
    syncs: IntCounter,
    damaged: IntCounter,
    retained_batches: IntGaugeVec,
    retained_bytes: IntGaugeVec,
    journal_bytes: IntGaugeVec,
    journal_limit: IntGaugeVec,
    journalled_views: IntGaugeVec,
    redis_memory: IntGaugeVec,
}

/// What is shown of one shard.
struct Gauges {
    retained_batches: IntGauge,
    retained_bytes: IntGauge,
    journal_bytes: IntGauge,
    journalled_views: IntGauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let of_shards = |name, help| telemetry::gauges(name, help, "shard");
        Self {
            batches: telemetry::counters("footfall_batches_total", "Batches built, by path.", "path"),
            failures: telemetry::counter("footfall_batch_failures_total", "Tries to store a batch that failed."),
            syncs: telemetry::counter(
                "footfall_journal_syncs_total",
                "Times that the journal was brought to the disk.",
            ),
            damaged: telemetry::counter(
                "footfall_journal_damaged_total",
                "Batches that the journal could not give back.",
            ),
            retained_batches: of_shards("footfall_retained_batches", "Batches kept until MySQL has them."),
            retained_bytes: of_shards("footfall_retained_bytes", "Memory of batches kept without a journal."),
            journal_bytes: of_shards("footfall_journal_bytes", "Disk space of the journal."),
            journal_limit: of_shards("footfall_journal_limit_bytes", "Most disk space that the journal may take."),
            journalled_views: of_shards("footfall_journalled_views", "Acknowledged views that only the journal holds."),
            redis_memory: telemetry::gauges(
                "footfall_redis_memory_bytes",
                "Memory that Redis has in use (`used`), and the most that it may (`limit`, 0 for none).",
                "kind",
            ),
        }
    }

    fn of(&self, shard: Shard) -> Gauges {
        let shard = shard.to_string();
        let of = |gauges: &IntGaugeVec| gauges.with_label_values(&[&shard]);
        Gauges {
            retained_batches: of(&self.retained_batches),
            retained_bytes: of(&self.retained_bytes),
            journal_bytes: of(&self.journal_bytes),
            journalled_views: of(&self.journalled_views),
        }
    }
}
