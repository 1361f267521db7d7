//! The journal of one shard: every batch is appended to it before it is sent anywhere, and it is brought to the disk
//! when clients wait for that, with one fsync at a time. Time comes in; the fsync itself is somebody else's to run.

use footfall_journal::{AppendError, Journal, Location, SyncJob, SyncResult};
use footfall_shared::protocol::Batch;
use footfall_shared::protocol::errors::{ErrorClass, Grade};
use footfall_shared::protocol::packed::{Packed, Path, decode_record, encode_record};
use footfall_shared::service::breaker::Breaker;
use footfall_shared::service::telemetry::IntCounter;
use tokio::time::Instant;
use tracing::error;

use super::mode::JournalHealth;
use super::waiters::Waiters;
use crate::direct::DirectLane;
use crate::graded::GradedError;
use crate::lane::{Lane, Retained};

pub(crate) struct Durability {
    /// None if it is off.
    journal: Option<Journal>,
    breaker: Breaker,
    /// An fsync is under way, of everything up to this batch. The inner none: of batches that nobody waits for.
    syncing: Option<Option<Location>>,
    /// Old places of records that were written again, kept until the new ones are on the disk.
    replaced: Vec<Location>,
    /// There are records that still have to be written again, as soon as the disk takes them.
    is_doubtful: bool,
    /// Counts batches that the journal could not give back.
    damaged: IntCounter,
}

impl Durability {
    pub(crate) fn new(journal: Option<Journal>, seed: u64, damaged: IntCounter) -> Self {
        let breaker = Breaker::new(seed);
        Self { journal, breaker, syncing: None, replaced: vec![], is_doubtful: false, damaged }
    }

    pub(crate) fn into_journal(self) -> Option<Journal> {
        self.journal
    }

    pub(crate) fn health(&self) -> JournalHealth {
        match (&self.journal, self.breaker.is_closed()) {
            (_, false) => JournalHealth::Fails,
            (Some(_), true) => JournalHealth::Works,
            (None, true) => JournalHealth::Off,
        }
    }

    /// Whether the journal has room for one more batch; none if it is off.
    pub(crate) fn has_room(&self) -> Option<bool> {
        self.journal.as_ref().map(Journal::has_room)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.journal.as_ref().map_or(0, Journal::bytes)
    }

    /// Whether a batch that has no other home than the journal may be built now. Only one fsync after the other: the
    /// batches that arrive meanwhile share the next one.
    pub(crate) fn takes_alone(&self, now: Instant) -> bool {
        self.has_room() == Some(true) && self.breaker.allows(now) && self.syncing.is_none()
    }

    /// Puts a batch into the journal, if it is on; only then it may be sent.
    pub(crate) fn append(
        &mut self,
        path: Path,
        stored: u64,
        batch: &Packed,
        now: Instant,
    ) -> Result<Option<Location>, AppendError> {
        let Some(journal) = &mut self.journal else { return Ok(None) };
        let appended = journal.append(&encode_record(path, stored, batch), now.into_std());
        match &appended {
            // It has room again. That it can be brought to the disk is known only from an fsync.
            Ok(_) if self.breaker.class() == Some(ErrorClass::DiskFull) => drop(self.breaker.succeeded()),
            Ok(_) => {}
            Err(error) => drop(self.breaker.failed(class_of(error), now)),
        }
        appended.map(Some)
    }

    /// A batch that is not in memory any more; none if the journal cannot give it back.
    pub(crate) fn read(&self, retained: &Retained) -> Option<Packed> {
        let payload =
            retained.location.and_then(|location| self.journal.as_ref()?.read(location).ok()).unwrap_or_default();
        let batch = decode_record(&payload).ok().map(|record| record.batch);
        if batch.is_none() {
            self.damaged.inc();
            let number = retained.number;
            error!(number, "a batch cannot be read back from the journal: its views are lost");
        }
        batch
    }

    /// MySQL has these: the journal need not keep them.
    pub(crate) fn release(&mut self, stored: impl IntoIterator<Item = Location>) {
        if let Some(journal) = &mut self.journal {
            stored.into_iter().for_each(|location| journal.release(location));
        }
    }

    /// An fsync, if one may be started now and is wanted.
    pub(crate) fn poll(&mut self, waiters: &Waiters, is_wanted: bool, now: Instant) -> Option<SyncJob> {
        // After a failure the disk is tried although nobody waits: how else would it be known that it works again?
        let is_wanted = is_wanted || !self.breaker.is_closed() || !self.replaced.is_empty();
        if self.syncing.is_some() || !is_wanted || !self.breaker.allows(now) {
            return None;
        }
        let job = self.journal.as_ref()?.sync()?;
        // Everything that was appended up to here is part of the job.
        self.syncing = Some(waiters.journalled_to());
        Some(job)
    }

    /// What became of the fsync: up to where there are records on the disk that somebody waits for.
    pub(crate) fn synced(&mut self, result: SyncResult, now: Instant) -> Result<Option<Location>, GradedError> {
        let to = self.syncing.take().flatten();
        let Some(journal) = &mut self.journal else { return Ok(None) };
        match journal.synced(result) {
            Ok(()) => {
                self.breaker.succeeded();
                // What was written again is on the disk now.
                self.replaced.drain(..).for_each(|old| journal.release(old));
                Ok(to)
            }
            Err(error) => {
                self.breaker.failed(error.class(), now);
                // That segment is never trusted again: what it has must be written to the next one.
                self.is_doubtful = true;
                Err(GradedError::of_journal(error.class(), &error))
            }
        }
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        if let Some(journal) = &mut self.journal {
            journal.tick(now.into_std());
        }
    }

    /// Whether records wait to be written again, and the disk may be tried.
    pub(crate) fn may_write_again(&self, now: Instant) -> bool {
        self.is_doubtful && self.breaker.allows(now)
    }

    /// Writes everything once more that the journal may not be able to give back after a failed fsync.
    pub(crate) fn write_again(
        &mut self,
        lane: &mut Lane,
        direct: &mut DirectLane,
        waiters: &mut Waiters,
        now: Instant,
    ) -> Result<(), GradedError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let is_doubtful = |location: &Location| journal.is_doubtful(*location);
        waiters.doubt(|location| is_doubtful(&location));
        let mut again: Vec<(Path, u64, Location, Vec<u8>)> = Vec::new();
        let (producer, stored, stored_direct) = (lane.producer(), lane.stored(), direct.kept_behind().0);
        for Retained { number, cumulative_views, location, batch, .. } in lane.iter() {
            let Some(old) = location.filter(is_doubtful) else { continue };
            let payload = match batch {
                Some(batch) => encode_record(Path::Redis, stored, batch),
                // Redis has it. Should it lose it too, those behind it must be able to go on without.
                None => journal.read(old).unwrap_or_else(|_| {
                    self.damaged.inc();
                    encode_record(Path::Redis, stored, &Packed::new(Batch::lost(producer, *number, *cumulative_views)))
                }),
            };
            again.push((Path::Redis, *number, old, payload));
        }
        for (batch, location) in direct.in_memory() {
            let Some(old) = location.filter(is_doubtful) else { continue };
            let packed = Packed::new(Batch::clone(batch));
            again.push((Path::Direct, batch.number, old, encode_record(Path::Direct, stored_direct, &packed)));
        }
        self.is_doubtful = false;
        for (path, number, old, payload) in again {
            let new = match journal.append(&payload, now.into_std()) {
                Ok(new) => new,
                Err(error) => {
                    self.is_doubtful = true;
                    self.breaker.failed(class_of(&error), now);
                    return Err(GradedError::of_journal(class_of(&error), &error));
                }
            };
            self.replaced.push(old);
            match path {
                Path::Redis => lane.moved(number, new),
                Path::Direct => direct.moved(number, new),
            }
            waiters.moved(path, number, new);
        }
        Ok(())
    }

    /// When the disk may be tried again.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.breaker.rest_until()
    }
}

pub(crate) fn class_of(error: &AppendError) -> ErrorClass {
    match error {
        AppendError::Full => ErrorClass::DiskFull,
        AppendError::Failed(error) => error.class(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use footfall_shared::service::telemetry;

    use super::*;
    use crate::fixture::{FakeDisk, PRODUCER, SEGMENT_BYTES, batch, journal, packed, submission, view};
    use crate::intake::Acknowledgement;

    use super::super::waiters::Waiting;

    struct Shard {
        disk: FakeDisk,
        durability: Durability,
        lane: Lane,
        direct: DirectLane,
        waiters: Waiters,
    }

    impl Shard {
        fn new() -> Self {
            let disk = FakeDisk::default();
            let damaged = telemetry::counter("footfall_journal_damaged_total", "For a test.");
            Self {
                durability: Durability::new(Some(journal(&disk, 8 * SEGMENT_BYTES)), 0, damaged),
                disk,
                lane: Lane::new(PRODUCER, [].into(), 0, 0),
                direct: DirectLane::new(PRODUCER, [].into(), 0, 0),
                waiters: Waiters::default(),
            }
        }

        /// Appends a batch and has a client wait for it.
        fn append(&mut self, path: Path, number: u64, now: Instant) -> Acknowledgement {
            let batch = batch(number, "");
            let location = self.durability.append(path, 0, &packed(number), now).expect("there is room");
            match path {
                Path::Redis => self.lane.push(Retained::built(packed(number), location)),
                Path::Direct => self.direct.push(Arc::new(batch), location),
            }
            let (submission, acknowledgement) = submission(vec![view("u", "")]);
            let clients = vec![submission.client];
            self.waiters.push(Waiting { path, number, views: 1, since: now, location, clients });
            acknowledgement
        }

        fn write_again(&mut self, now: Instant) -> Result<(), GradedError> {
            self.durability.write_again(&mut self.lane, &mut self.direct, &mut self.waiters, now)
        }

        fn synced(&mut self, job: SyncJob, now: Instant) -> Result<(), GradedError> {
            let to = self.durability.synced(job.run(), now)?;
            self.waiters.synced(to, |_, _| {});
            Ok(())
        }
    }

    #[test]
    fn an_fsync_vouches_for_what_was_there_when_it_began() {
        let (mut shard, now) = (Shard::new(), Instant::now());
        assert!(shard.durability.poll(&shard.waiters, true, now).is_none(), "there is nothing to sync");
        let mut early = shard.append(Path::Redis, 1, now);
        assert!(shard.durability.poll(&shard.waiters, false, now).is_none(), "nobody wants it");
        let job = shard.durability.poll(&shard.waiters, true, now).expect("it is wanted");
        let mut late = shard.append(Path::Redis, 2, now);
        assert!(shard.durability.poll(&shard.waiters, true, now).is_none() && !shard.durability.takes_alone(now));
        shard.synced(job, now).expect("the disk works");
        assert_eq!((early.try_recv(), late.try_recv().is_ok()), (Ok(Ok(())), false));
        assert!(shard.durability.takes_alone(now));
        let job = shard.durability.poll(&shard.waiters, true, now).expect("for the late one");
        shard.synced(job, now).expect("the disk works");
        assert_eq!(late.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn what_a_failed_fsync_may_have_lost_is_written_again_before_anybody_is_answered() {
        let (mut shard, start) = (Shard::new(), Instant::now());
        let mut clients = [Path::Redis, Path::Direct].map(|path| shard.append(path, 1, start));
        shard.disk.state().sync_fails = true;
        let job = shard.durability.poll(&shard.waiters, true, start).expect("it is wanted");
        assert!(shard.synced(job, start).is_err());
        assert_eq!(shard.durability.health(), JournalHealth::Fails);
        shard.disk.state().sync_fails = false;
        shard.write_again(start).expect("there is room");
        let old = shard.durability.replaced.clone();
        assert_eq!(old.len(), 2, "both, and the old ones are kept until the new ones are safe");
        assert!(clients.each_mut().iter_mut().all(|client| client.try_recv().is_err()));
        assert!(shard.durability.poll(&shard.waiters, true, start).is_none(), "the disk is left alone for a moment");
        let later = shard.durability.due().expect("a moment");
        // Nobody needs to want it.
        let job = shard.durability.poll(&shard.waiters, false, later).expect("the disk is tried again");
        shard.synced(job, later).expect("it works");
        assert!(clients.each_mut().iter_mut().all(|client| client.try_recv() == Ok(Ok(()))));
        assert!(shard.durability.replaced.is_empty() && shard.durability.health() == JournalHealth::Works);
        let places: Vec<_> = shard.lane.iter().filter_map(|retained| retained.location).collect();
        assert!(places.iter().all(|place| !old.contains(place)), "the journal gives the new ones back");
        assert!(shard.lane.iter().all(|retained| shard.durability.read(retained) == Some(packed(1))));
    }

    #[test]
    fn what_cannot_be_written_again_is_tried_again() {
        let (mut shard, start) = (Shard::new(), Instant::now());
        let mut client = shard.append(Path::Redis, 1, start);
        shard.disk.state().sync_fails = true;
        let job = shard.durability.poll(&shard.waiters, true, start).expect("it is wanted");
        assert!(shard.synced(job, start).is_err());
        shard.disk.state().bytes_max = Some(0);
        shard.disk.state().sync_fails = false;
        // The spare segment was there before the disk was full.
        while shard.durability.append(Path::Redis, 0, &packed(9), start).is_ok() {}
        assert!(shard.write_again(start).is_err() && !shard.durability.may_write_again(start));
        shard.disk.state().bytes_max = None;
        let later = start + Duration::from_secs(2);
        assert!(shard.durability.may_write_again(later));
        shard.write_again(later).expect("there is room");
        let job = shard.durability.poll(&shard.waiters, true, later).expect("it is wanted");
        shard.synced(job, later).expect("the disk works");
        assert_eq!(client.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn a_full_journal_takes_batches_again_when_it_has_room() {
        let (mut shard, now) = (Shard::new(), Instant::now());
        let first = shard.durability.append(Path::Redis, 0, &packed(1), now).expect("room").expect("it is on");
        shard.disk.state().bytes_max = Some(0);
        while shard.durability.append(Path::Redis, 0, &packed(2), now).is_ok() {}
        assert!(shard.durability.has_room() == Some(false) && shard.durability.health() == JournalHealth::Fails);
        shard.disk.state().bytes_max = None;
        shard.durability.release([first]);
        shard.durability.tick(now);
        assert_eq!(shard.durability.has_room(), Some(true));
        shard.durability.append(Path::Redis, 0, &packed(2), now).expect("room");
        assert_eq!(shard.durability.health(), JournalHealth::Works);
    }
}
