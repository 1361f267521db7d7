//! What ingests that died have left in their journals is sent on, under their own names and numbers, until MySQL has
//! it. Nothing new is ever numbered for them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use footfall_journal::{DeadJournal, Disk, Location, adopt};
use footfall_shared::protocol::errors::{ErrorClass, Severity};
use footfall_shared::protocol::packed::{Path, Record, decode_record};
use footfall_shared::protocol::{Batch, Producer, Shard};
use footfall_shared::service::breaker::Breaker;
use footfall_shared::service::telemetry::{self, IntCounter, IntGauge, Readiness, Reason};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::blocking::Blocking;
use crate::direct::{DirectBatch, DirectLane};
use crate::graded::GradedError;
use crate::lane::{Lane, LaneRequest, Retained};
use crate::link::Link;

/// Interval between searches for journals whose ingest has died.
const PERIOD: Duration = Duration::from_secs(3);
/// Interval between looks at how far MySQL is, when Redis has everything.
const LOOK_PERIOD: Duration = Duration::from_millis(300);
/// Interval between reports of how much is left.
const REPORT_PERIOD: Duration = Duration::from_millis(500);
/// Reports are numbered from here on: above all that the dead ingest can have made itself.
const FIRST_BEAT: u64 = 1 << 48;

/// Adopts what dies, until `stop`.
pub(crate) struct Adopter {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) blocking: Blocking,
    pub(crate) readiness: Readiness,
    /// By shard.
    pub(crate) links: Vec<Link>,
    pub(crate) metrics: Metrics,
}

/// The metrics of adoption.
#[derive(Clone)]
pub(crate) struct Metrics {
    journals: IntCounter,
    damaged: IntCounter,
    torn_bytes: IntCounter,
    adopted_views: IntGauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            journals: telemetry::counter("footfall_adopted_journals_total", "Journals of dead ingests taken over."),
            damaged: telemetry::counter("footfall_adopted_damage_total", "Damaged places found in such journals."),
            torn_bytes: telemetry::counter(
                "footfall_adopted_torn_bytes_total",
                "What could not be read behind the last records of such journals, in bytes.",
            ),
            adopted_views: telemetry::gauge("footfall_adopted_views", "Views of such journals that are on their way."),
        }
    }
}

impl Adopter {
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut replays = JoinSet::new();
        loop {
            let disk = Arc::clone(&self.disk);
            match self.blocking.run(move || adopt(&disk)).await {
                Ok(lives) => {
                    for mut life in lives {
                        let Some(producer) = Producer::parse(&life.name) else { continue };
                        for journal in std::mem::take(&mut life.shards) {
                            let shard = Shard(journal.shard);
                            let Some(link) = self.links.get(usize::from(shard.0)) else {
                                error!(%producer, %shard, "the journal of a dead ingest is of a shard that does not exist");
                                continue;
                            };
                            self.metrics.journals.inc();
                            info!(%producer, %shard, "taking over the journal of an ingest that has ended");
                            let replay = Replay {
                                producer,
                                journal: Arc::new(Mutex::new(Some(journal))),
                                link: link.clone(),
                                blocking: self.blocking,
                                readiness: self.readiness.clone(),
                                metrics: self.metrics.clone(),
                            };
                            replays.spawn(replay.run());
                        }
                    }
                }
                Err(error) => warn!("it cannot be looked for journals of dead ingests: {error}"),
            }
            while replays.try_join_next().is_some() {}
            if stop.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_none() {
                return; // What is not finished is adopted again by the next one.
            }
        }
    }
}

/// One shard's journal of a dead ingest.
struct Replay {
    producer: Producer,
    /// None once it is finished.
    journal: Arc<Mutex<Option<DeadJournal>>>,
    link: Link,
    blocking: Blocking,
    readiness: Readiness,
    metrics: Metrics,
}

/// What such a journal holds.
struct Left {
    lane: Lane,
    direct: DirectLane,
    /// Views on the way through Redis.
    views: u64,
}

impl Left {
    /// Views that only the journal holds.
    fn journalled_views(&self) -> u64 {
        self.lane.backlog_views().saturating_add(self.direct.views())
    }

    /// What MySQL must have before it can take what is left, of each path.
    fn kept_behind(&self) -> [(u64, u64); 2] {
        [self.lane.kept_behind(), self.direct.kept_behind()]
    }
}

impl Replay {
    async fn run(self) {
        let part = format!("journal of {}, shard {}", self.producer, self.link.queue.shard());
        let mut breaker = Breaker::new(self.producer.0);
        let mut shown = None;
        let mut left = None;
        let (mut beat, mut report_at) = (FIRST_BEAT, Instant::now());
        loop {
            let result = self.step(&mut left).await;
            let now = Instant::now();
            if let Some(left) = &left
                && now >= report_at
                && breaker.class().is_none_or(|class| class.closes_mysql() || class == ErrorClass::CacheFull)
            {
                (beat, report_at) = (beat + 1, now + REPORT_PERIOD);
                // If one is missed, the next makes up for it.
                let (journalled, stored) = (left.journalled_views(), left.kept_behind());
                let _ = self.link.queue.report(self.producer, beat, journalled, stored, journalled > 0).await;
            }
            match result {
                Ok(true) => {
                    self.readiness.set_degraded(&part, None);
                    info!(producer = %self.producer, "the journal of the dead ingest is in MySQL");
                    return;
                }
                Ok(false) => {
                    breaker.succeeded();
                }
                Err(GradedError { class, why }) => {
                    class.count();
                    breaker.failed(class, now);
                    if shown != Some(class) && !breaker.is_closed() {
                        shown = Some(class);
                        self.readiness.set_degraded(
                            &part,
                            Some((
                                class.severity().max(Severity::Degraded),
                                Reason::new("what a dead ingest has left behind waits", &why),
                            )),
                        );
                        match class.severity() {
                            Severity::Critical => error!("{part}: {why}"),
                            _ => warn!("{part} has to wait: {why}"),
                        }
                    }
                }
            }
            if let Some(until) = breaker.rest_until() {
                tokio::time::sleep_until(until).await;
            }
        }
    }

    /// One step towards MySQL having everything; true when it has.
    async fn step(&self, left: &mut Option<Left>) -> Result<bool, GradedError> {
        let Some(left) = left else {
            *left = Some(self.read().await.map_err(|error| GradedError::of(&error))?);
            return Ok(false);
        };
        if let Some(batch) = left.direct.next(|batch| self.direct_batch(batch)) {
            let stored = self.link.commit(&batch).await;
            // The journal goes as a whole, at the end.
            left.direct.on(stored).map_err(|error| GradedError::of(&error))?;
            return Ok(false);
        }
        if left.lane.retained() > 0 {
            let next = self.lane_step(&mut left.lane);
            let is_look = matches!(next, LaneRequest::Look);
            let outcome = self.link.clone().perform(self.producer, next).await;
            left.lane.on(outcome).map_err(|error| GradedError::of(&error))?;
            if is_look {
                tokio::time::sleep(LOOK_PERIOD).await;
            }
            return Ok(false);
        }
        let journal = self.lock().take();
        if let Some(journal) = journal {
            self.blocking.run(move || journal.finished()).await.map_err(|error| GradedError::of(&error))?;
        }
        let _ = self.link.queue.forget_report(self.producer).await; // Only a number on the dashboard.
        self.metrics.adopted_views.sub(i64::try_from(left.views).unwrap_or(i64::MAX));
        Ok(true)
    }

    /// The lane's next step; a look if Redis has everything.
    fn lane_step(&self, lane: &mut Lane) -> LaneRequest {
        let journal = self.lock();
        let read = |retained: &Retained| {
            let payload = journal.as_ref()?.read(retained.location?).ok()?;
            Some(decode_record(&payload).ok()?.batch)
        };
        lane.next(read).unwrap_or(LaneRequest::Look)
    }

    fn direct_batch(&self, batch: &DirectBatch) -> Option<Batch> {
        let payload = self.lock().as_ref()?.read(batch.location?).ok()?;
        decode_record(&payload).ok()?.batch.batch().ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<DeadJournal>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the heads of all batches, and puts a lost one in the place of each that is damaged.
    async fn read(&self) -> io::Result<Left> {
        let (journal, producer) = (Arc::clone(&self.journal), self.producer);
        let (heads, damage, torn_bytes) = self
            .blocking
            .run(move || {
                let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
                let journal = journal.as_mut().ok_or_else(|| io::Error::other("it is finished"))?;
                read_heads(journal, producer)
            })
            .await?;
        if damage > 0 {
            self.metrics.damaged.inc_by(damage);
            error!(%producer, "the journal of a dead ingest is damaged in {damage} places: what was there is lost, unless Redis or MySQL has it");
        }
        if torn_bytes > 0 {
            self.metrics.torn_bytes.inc_by(torn_bytes);
            warn!(%producer, "the journal of a dead ingest ends in {torn_bytes} bytes that cannot be read: an append that was cut off, or, if the disk damaged them, views that are lost unless Redis or MySQL has them");
        }
        let [through_redis, direct] = heads;
        let (batches, views_before, stored) = through_redis.complete(Retained::kept);
        let last = batches.back().map_or(views_before, |batch| batch.cumulative_views);
        let views = last.saturating_sub(views_before);
        self.metrics.adopted_views.add(i64::try_from(views).unwrap_or(i64::MAX));
        let lane = Lane::new(producer, batches, views_before, stored);
        let (batches, views_before, stored) = direct.complete(DirectBatch::kept);
        Ok(Left { lane, direct: DirectLane::new(producer, batches, views_before, stored), views })
    }
}

/// What was found of one path.
#[derive(Default)]
struct Heads {
    /// Number -> where, cumulative views, views before it.
    batches: BTreeMap<u64, (Location, u64, u64)>,
    stored: u64,
}

fn read_heads(journal: &mut DeadJournal, producer: Producer) -> io::Result<([Heads; 2], u64, u64)> {
    let mut heads: [Heads; 2] = Default::default();
    let mut strangers = BTreeSet::new();
    let mut unreadable = 0;
    journal.records(|location, payload| match decode_record(payload) {
        Ok(Record { path, stored, batch }) if batch.producer == producer => {
            let heads = &mut heads[usize::from(path == Path::Direct)];
            heads.stored = heads.stored.max(stored);
            // Written twice, the last one counts: the first was not known to be in the journal, and so never sent.
            heads.batches.insert(batch.number, (location, batch.cumulative_views, batch.views_before));
        }
        Ok(record) => drop(strangers.insert(record.batch.producer)),
        Err(_) => unreadable += 1,
    })?;
    if !strangers.is_empty() {
        error!(%producer, ?strangers, "the journal holds batches of others, which are left alone");
    }
    // A damaged header costs no records.
    let lost = journal.damaged.iter().filter(|damage| damage.offset > 0).count() as u64;
    Ok((heads, lost + unreadable, journal.torn_bytes))
}

impl Heads {
    /// All batches in order, with a lost one for each that is missing in between; the views before the first one; and the
    /// last batch that MySQL is known to have had.
    fn complete<T>(self, kept: fn(u64, u64, Option<Location>) -> T) -> (VecDeque<T>, u64, u64) {
        let views_before = self.batches.values().next().map_or(0, |(_, _, before)| *before);
        let mut batches = VecDeque::new();
        let mut next = None;
        for (number, (location, cumulative_views, before)) in self.batches {
            batches.extend((next.unwrap_or(number)..number).map(|missing| kept(missing, before, None)));
            batches.push_back(kept(number, cumulative_views, Some(location)));
            next = Some(number + 1);
        }
        (batches, views_before, self.stored)
    }
}
