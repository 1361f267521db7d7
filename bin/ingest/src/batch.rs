//! The batcher of one shard: it folds the views that arrive while the previous batch is under way into the next one, without
//! a timer unless `ingest.linger_ms` asks for one, and sees to it that every batch has a durable home before its clients hear
//! of it.
//!
//! A batch is put on one of two paths when it is built, and stays there: through Redis, or, while Redis is away or full,
//! into MySQL directly. It is in the journal before it is first sent. Its clients are answered when Redis or MySQL has
//! it, or when neither answers in time, as soon as the journal is on the disk. Where acknowledged views have to outlive a
//! power cut, Redis's word is not enough, and the journal is brought to the disk at once.
//!
//! [`Batcher`] decides and does no I/O but to append to the journal: views and answers go in, with the time, and what is to
//! be done comes out. [`task`] carries it out.

mod build;
mod direct_path;
mod durability;
mod flight;
mod housekeeping;
pub(crate) mod metrics;
pub(crate) mod mode;
mod status;
pub(crate) mod task;
#[cfg(test)]
mod tests;
mod upstream;
mod waiters;

use std::sync::Arc;
use std::time::Duration;

use footfall_journal::{Journal, SyncJob, SyncResult};
use footfall_shared::mysql::StoreError;
use footfall_shared::protocol::packed::Path;
use footfall_shared::protocol::{Batch, Direct, Producer};
use footfall_shared::redis::QueueError;
use footfall_shared::service::config;
use tokio::time::Instant;

use crate::graded::GradedError;
use crate::ids::{IdsLimit, Rotation, ViewIds};
use crate::lane::{Lane, LaneReply, LaneRequest};

use direct_path::DirectPath;
use durability::Durability;
use flight::SUSPECT_AFTER;
use housekeeping::{Housekeeping, Report};
use metrics::{Kept, Metrics};
use mode::Health;
use upstream::Upstream;
use waiters::Waiters;

/// Batches that MySQL does not have, at most: bounds memory where the journal's limit is large and the batches small.
const RETAINED_MAX: usize = 1 << 20;

/// One shard of one life of ingest.
pub(crate) struct Batcher {
    /// Batches that go through Redis.
    upstream: Upstream,
    /// Batches that go to MySQL directly.
    direct: DirectPath,
    waiters: Waiters,
    durability: Durability,
    housekeeping: Housekeeping,
    /// No batch is built before.
    build_at: Instant,
    /// Why the last request to a store failed.
    detail: String,
    limits: config::Ingest,
    metrics: Metrics,
}

/// What is to be done next. Each comes back as an [`Event`].
pub(crate) enum Action {
    /// Tell the others of this shard, and ask Redis for its memory.
    Report(Report),
    /// In the data set of this epoch.
    Rotate(u64, Rotation),
    Redis(LaneRequest),
    Direct(Arc<Batch>),
    Sync(SyncJob),
}

/// Something has happened.
pub(crate) enum Event {
    Redis(LaneReply),
    Direct(Result<Direct, StoreError>),
    Synced(SyncResult),
    /// Memory that Redis uses, and the most that it may.
    Memory(Result<(u64, u64), QueueError>),
    /// Keys were found on another Redis server.
    Moved,
    /// Nothing follows from it.
    Done,
}

impl Batcher {
    pub(crate) fn new(
        limits: config::Ingest,
        lane: Lane,
        journal: Option<Journal>,
        ids: IdsLimit,
        metrics: Metrics,
        now: Instant,
    ) -> Self {
        let (producer, patience) = (lane.producer(), limits.journal_sync);
        let batch_max = limits.batch_views_max.saturating_add(limits.request_views_max.get()).get() as u64;
        Self {
            upstream: Upstream::new(lane, ViewIds::new(ids, batch_max), patience),
            direct: DirectPath::new(producer, patience),
            waiters: Waiters::default(),
            durability: Durability::new(journal, producer.0, metrics.damaged.clone()),
            housekeeping: Housekeeping::new(now),
            build_at: now,
            detail: String::new(),
            limits,
            metrics,
        }
    }

    /// Whether every client has its answer.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiters.is_empty()
    }

    pub(crate) fn into_journal(self) -> Option<Journal> {
        self.durability.into_journal()
    }

    // ---- What to do next

    /// One thing that can be done now, beside all that is under way: one step in Redis, one transaction, one fsync.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Action> {
        if self.housekeeping.is_due(now)
            && let Some(report) = self.tick(now)
        {
            return Some(Action::Report(report));
        }
        if self.upstream.suspect(now) {
            self.detail = format!("no answer of Redis within {SUSPECT_AFTER:?}");
        }
        if self.direct.suspect(now) {
            self.detail = format!("no answer of MySQL within {SUSPECT_AFTER:?}");
        }
        if let Some(rotation) = self.upstream.ids.poll()
            && let Some(epoch) = self.upstream.lane.epoch()
        {
            return Some(Action::Rotate(epoch, rotation));
        }
        if let Some(step) = self.upstream.poll(|retained| self.durability.read(retained), now) {
            return Some(Action::Redis(step));
        }
        if let Some(batch) = self.direct.poll(now) {
            return Some(Action::Direct(batch));
        }
        let is_stuck = |path| match path {
            Path::Redis => self.upstream.is_stuck(),
            Path::Direct => self.direct.is_stuck(),
        };
        let is_wanted = self.waiters.need_disk(self.sync_patience(), is_stuck, now);
        self.durability.poll(&self.waiters, is_wanted, now).map(Action::Sync)
    }

    /// When to ask again, if nothing happens before.
    pub(crate) fn wake_at(&self, now: Instant) -> Instant {
        let waiting = self.waiters.oldest().map(|since| since + self.sync_patience());
        let due = self.upstream.due().chain(self.direct.due()).chain(self.durability.due());
        let due = due.chain(waiting).chain([self.build_at]).filter(|at| *at > now);
        due.fold(self.housekeeping.due(), Instant::min)
    }

    /// How long a batch may wait for a store before the disk is to vouch for it.
    fn sync_patience(&self) -> Duration {
        match self.limits.durability {
            config::Durability::Process => self.limits.journal_sync,
            config::Durability::Power => Duration::ZERO,
        }
    }

    fn tick(&mut self, now: Instant) -> Option<Report> {
        self.upstream.tick(now);
        self.durability.tick(now);
        if self.durability.may_write_again(now) {
            self.write_again(now);
        }
        if !self.upstream.answers() {
            self.metrics.forget_memory();
            return None;
        }
        let stored = [self.upstream.lane.kept_behind(), self.direct.lane.kept_behind()];
        Some(self.housekeeping.report(self.journalled_views(), stored))
    }

    pub(crate) fn health(&self) -> Health {
        let lane = &self.upstream.lane;
        let has_room = self.durability.has_room();
        let has_room = has_room.unwrap_or_else(|| lane.retained_bytes() < self.limits.retained_bytes_max.get());
        Health {
            has_room: has_room && lane.retained() < RETAINED_MAX,
            journal: self.durability.health(),
            is_open: lane.epoch().is_some(),
            redis: self.upstream.class(),
            backlog: lane.backlog(),
            mysql: self.direct.class(),
        }
    }

    // ---- Something has happened

    pub(crate) fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Redis(outcome) => self.on_redis(outcome, now),
            Event::Direct(answer) => self.on_direct(answer, now),
            Event::Synced(result) => self.on_synced(result, now),
            Event::Memory(memory) => self.on_memory(memory, now),
            Event::Moved => self.upstream.moved(),
            Event::Done => {}
        }
    }

    fn on_redis(&mut self, outcome: LaneReply, now: Instant) {
        let (stored, result) = self.upstream.handle(outcome, now);
        if let Err(error) = result {
            self.metrics.failures.inc();
            self.failed(error);
        }
        self.durability.release(stored);
        let safe = match self.limits.durability {
            config::Durability::Process => self.upstream.lane.applied(),
            // Redis may have what is behind that in its memory only.
            config::Durability::Power => self.upstream.lane.stored(),
        };
        self.waiters.stored(Path::Redis, safe);
    }

    fn on_direct(&mut self, answer: Result<Direct, StoreError>, now: Instant) {
        match self.direct.handle(answer, now) {
            Ok(location) => {
                self.durability.release(location);
                self.waiters.stored(Path::Direct, self.direct.stored());
            }
            Err(error) => {
                self.metrics.failures.inc();
                self.failed(error);
            }
        }
    }

    fn on_synced(&mut self, result: SyncResult, now: Instant) {
        match self.durability.synced(result, now) {
            Ok(to) => {
                self.metrics.syncs.inc();
                let lane = &mut self.upstream.lane;
                self.waiters.synced(to, |path, number| match path {
                    // It may wait for Redis for long, and needs no memory meanwhile.
                    Path::Redis => lane.unload(number),
                    Path::Direct => {}
                });
            }
            Err(error) => {
                self.failed(error);
                self.write_again(now);
            }
        }
    }

    fn write_again(&mut self, now: Instant) {
        let lane = &mut self.upstream.lane;
        if let Err(error) = self.durability.write_again(lane, &mut self.direct.lane, &mut self.waiters, now) {
            self.failed(error);
        }
    }

    fn on_memory(&mut self, memory: Result<(u64, u64), QueueError>, now: Instant) {
        let Ok((used, max)) = memory else { return }; // The next step says what is wrong.
        self.metrics.show_memory(used, max);
        if let Err(error) = self.upstream.on_memory(used, max, self.durability.has_room().is_some(), now) {
            self.failed(error);
        }
    }

    fn failed(&mut self, error: GradedError) {
        error.class.count();
        self.detail = error.why;
    }

    // ---- What others see

    /// Views that were acknowledged and that only the journal holds.
    fn journalled_views(&self) -> u64 {
        let kept = self.upstream.lane.backlog_views().saturating_add(self.direct.lane.views());
        kept.saturating_sub(self.waiters.views())
    }

    pub(crate) fn kept(&self) -> Kept {
        Kept {
            retained_batches: self.upstream.lane.retained(),
            retained_bytes: self.upstream.lane.retained_bytes(),
            journal_bytes: self.durability.bytes(),
            journalled_views: self.journalled_views(),
        }
    }

    pub(crate) fn producer(&self) -> Producer {
        self.upstream.lane.producer()
    }

    pub(crate) fn epoch(&self) -> Option<u64> {
        self.upstream.lane.epoch()
    }

    /// Why the last request to a store failed, for the operator.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}
