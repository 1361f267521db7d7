//! The journal of one shard of a living process.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Disk;
use crate::life::{Life, LifeFolder};
use crate::segment::{self, HEADER_BYTES, Location, SegmentId};
use crate::sync::{SyncJob, SyncResult, SyncedFile};

/// How much a journal may take of the disk, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// All segment files of the journal together, the spare included, in bytes. Needs room for two segments to have a
    /// spare at all.
    pub bytes_max: u64,
    /// The size of a segment in bytes, between 4 KiB and 4 GiB. A payload that does not fit has a segment of its own.
    pub segment_bytes: u64,
    /// After this time a segment that holds released records is not appended to any more, so that they leave the disk
    /// when the rest of it is released.
    pub segment_age_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { bytes_max: 1 << 30, segment_bytes: 8 << 20, segment_age_max: Duration::from_secs(10) }
    }
}

/// Why a payload was not appended.
#[derive(Debug)]
pub enum AppendError {
    /// The journal is as big as it may be, or the disk is full. Nothing was written: try later.
    Full,
    /// The disk failed. Whether the payload will be found is not known.
    Failed(io::Error),
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendError::Full => f.write_str("the journal is full"),
            AppendError::Failed(_) => f.write_str("the journal cannot be written"),
        }
    }
}

impl Error for AppendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            AppendError::Full => None,
            AppendError::Failed(error) => Some(error),
        }
    }
}

impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AppendError::Full,
            _ => AppendError::Failed(error),
        }
    }
}

/// The journal of one shard. Its methods write to memory (the page cache) and to the file system's tables: they block,
/// but wait for the disk only when the kernel makes writers wait. [`SyncJob::run`] always waits for it.
///
/// The times that are passed in must not go backwards.
pub struct Journal {
    folder: Arc<LifeFolder>,
    shard: u16,
    limits: Limits,
    /// All files, by sequence number: a later record is in a later segment or further behind.
    segments: BTreeMap<u32, Segment>,
    next_sequence: u32,
    /// Where records are appended, since when.
    active: Option<(u32, Instant)>,
    /// The next active segment: space for what is on its way when the disk becomes full.
    spare: Option<u32>,
    /// The disk refused the last thing it was asked for.
    refused: bool,
    /// About the size of a big record of late. Only of records that were taken: one that never can be must not turn
    /// away all others.
    typical_bytes: u32,
}

struct Segment {
    id: SegmentId,
    bytes: u64,
    /// Where the next record goes.
    end: u32,
    /// Up to here an fsync has succeeded.
    synced: u32,
    /// An fsync failed. The kernel forgets what it could not write: whether it is on the disk is never known again.
    failed: bool,
    /// Offsets.
    unreleased: BTreeSet<u32>,
    has_released: bool,
    /// Needed for writing and syncing.
    file: Option<Arc<SyncedFile>>,
}

impl Journal {
    /// A journal without files, which come with the first append. There must be one per life and shard.
    pub fn new(life: &Life, shard: u16, limits: Limits) -> Journal {
        let segment_bytes = limits.segment_bytes.clamp(4096, u64::from(u32::MAX));
        Journal {
            folder: Arc::clone(&life.folder),
            shard,
            limits: Limits { segment_bytes, ..limits },
            segments: BTreeMap::new(),
            next_sequence: 0,
            active: None,
            spare: None,
            refused: false,
            typical_bytes: 0,
        }
    }

    /// Writes a record, which survives the end of the process from here on.
    pub fn append(&mut self, payload: &[u8], now: Instant) -> Result<Location, AppendError> {
        let record_bytes = segment::record_bytes(payload.len())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a payload of 4 GiB"))?;
        let segment = self.segment_for(record_bytes, now)?;
        let offset = segment.end;
        let location = Location { segment: segment.id.sequence, offset, length: payload.len() as u32 };
        let file = segment.file.as_ref().expect("the active segment has its file");
        let record = segment.id.encode(offset, payload);
        if let Err(error) = file.file.write_at(u64::from(offset), &record) {
            // Any part of it may be in the file, even all of it. It is not there only if its mark is not.
            let wiped = file.file.write_at(u64::from(offset), &[0; size_of::<u64>()]);
            self.refused = true;
            self.close_active();
            return Err(if wiped.is_ok() { error.into() } else { AppendError::Failed(error) });
        }
        segment.end += record_bytes;
        segment.unreleased.insert(offset);
        self.typical_bytes = record_bytes.max(self.typical_bytes - self.typical_bytes / 16);
        Ok(location)
    }

    /// What to do for everything that was appended before and is not released to survive a power cut; `None` if there
    /// is nothing to do. The result must be handed to [`Journal::synced`]; more can be appended in the meantime.
    ///
    /// Records whose fsync failed are not tried again: that was the answer of [`Journal::synced`].
    pub fn sync(&self) -> Option<SyncJob> {
        let unsynced = |segment: &&Segment| segment.end > segment.synced && !segment.unreleased.is_empty();
        let job = |segment: &Segment| Some((segment.id.sequence, segment.end, Arc::clone(segment.file.as_ref()?)));
        let segments: Vec<_> = self.segments.values().filter(unsynced).filter_map(job).collect();
        (!segments.is_empty()).then_some(SyncJob { segments })
    }

    /// Takes note of a result.
    ///
    /// # Errors
    ///
    /// An fsync failed: of what was appended since the last success, nothing can be relied on to survive a power cut.
    /// Whatever has to must be appended again, and will be to a new segment. It is still there after a crash of the
    /// process, so that the same payload may then be found twice.
    pub fn synced(&mut self, result: SyncResult) -> Result<(), io::Error> {
        let mut first_error = None;
        for (sequence, end, result) in result.segments {
            // Without the segment nothing in it is needed any more.
            let Some(segment) = self.segments.get_mut(&sequence) else { continue };
            match result {
                Ok(()) => segment.synced = segment.synced.max(end),
                Err(error) => {
                    segment.failed = true;
                    first_error.get_or_insert(error);
                }
            }
            let is_active = self.active.is_some_and(|(active, _)| active == sequence);
            match (is_active, segment.failed) {
                (true, true) => self.close_active(),
                (true, false) => {}
                (false, _) => segment.drop_file_if_done(),
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Whether the record's fsync failed: the kernel may forget it at any time. What an earlier one had brought to the
    /// disk is safe.
    pub fn is_doubtful(&self, location: Location) -> bool {
        let segment = self.segments.get(&location.segment);
        segment.is_some_and(|segment| segment.failed && location.offset >= segment.synced)
    }

    /// The payload of a record that is not released. `InvalidData` if it is damaged.
    pub fn read(&self, location: Location) -> io::Result<Vec<u8>> {
        read_record(&*self.folder.disk, self.id(location.segment), location)
    }

    /// MySQL has it: the record is not needed any more. Does nothing if it has been released before.
    pub fn release(&mut self, location: Location) {
        let Some(segment) = self.segments.get_mut(&location.segment) else { return };
        segment.has_released |= segment.unreleased.remove(&location.offset);
        if !segment.unreleased.is_empty() {
            return;
        }
        let is_full = !segment.fits(self.typical_bytes);
        let is_active = self.active.is_some_and(|(active, _)| active == location.segment);
        match (is_active, is_full) {
            (false, _) => self.remove(location.segment),
            (true, true) => self.close_active(),
            (true, false) => {}
        }
    }

    /// Housekeeping, to be called about once a second: released records leave the disk when they are old enough, the
    /// spare is allocated when there is space again.
    pub fn tick(&mut self, now: Instant) {
        if let Some((sequence, since)) = self.active
            && now.saturating_duration_since(since) >= self.limits.segment_age_max
            && self.segments.get(&sequence).is_some_and(|segment| segment.has_released)
        {
            self.close_active();
        }
        // Only there if they could not be removed before.
        let in_use = [self.active.map(|(sequence, _)| sequence), self.spare];
        let is_left =
            |segment: &&Segment| segment.unreleased.is_empty() && !in_use.contains(&Some(segment.id.sequence));
        let left: Vec<u32> = self.segments.values().filter(is_left).map(|segment| segment.id.sequence).collect();
        for sequence in left {
            self.remove(sequence);
        }
        // A journal that is not used takes no space.
        if self.next_sequence > 0 {
            self.make_spare();
        }
    }

    /// Removes what is not needed any more, the spare included, and answers whether nothing is left. What is left, the
    /// next life adopts. A journal that is dropped without this looks as after a crash.
    pub fn end(mut self) -> bool {
        self.close_active();
        self.spare = None;
        let released = self.segments.values().filter(|segment| segment.unreleased.is_empty());
        let released: Vec<u32> = released.map(|segment| segment.id.sequence).collect();
        for sequence in released {
            self.remove(sequence);
        }
        self.segments.is_empty()
    }

    /// The size of all segment files, the spare included, in bytes.
    pub fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum()
    }

    /// How many records are not released.
    pub fn records(&self) -> usize {
        self.segments.values().map(|segment| segment.unreleased.len()).sum()
    }

    /// Whether a record of the usual size is likely to be taken. False means that new views should be refused; it turns
    /// true by itself when there is space again.
    pub fn has_room(&self) -> bool {
        let in_use = [self.active.map(|(sequence, _)| sequence), self.spare];
        let mut allocated = in_use.into_iter().flatten().filter_map(|sequence| self.segments.get(&sequence));
        allocated.any(|segment| segment.fits(self.typical_bytes))
            || !self.refused && self.is_within_bound(self.bytes_for(self.typical_bytes))
    }

    fn id(&self, sequence: u32) -> SegmentId {
        SegmentId { life: self.folder.life, shard: self.shard, sequence }
    }

    /// The active segment, or the one that takes its place, with room for a record.
    fn segment_for(&mut self, record_bytes: u32, now: Instant) -> Result<&mut Segment, AppendError> {
        let active = self.active.and_then(|(sequence, _)| self.segments.get(&sequence));
        let sequence = match active {
            Some(active) if active.fits(record_bytes) => active.id.sequence,
            _ => {
                if active.is_some_and(|active| active.unreleased.is_empty()) {
                    // Its space may be what is missing for the next one.
                    self.close_active();
                }
                let next = self.next_segment(record_bytes)?;
                // Only now: while there is no next one, the active one takes what still fits.
                self.close_active();
                self.active = Some((next, now));
                self.make_spare();
                next
            }
        };
        Ok(self.segments.get_mut(&sequence).expect("the active segment is one of them"))
    }

    /// The spare, or a new segment. Its sequence number is the highest of those with records.
    fn next_segment(&mut self, record_bytes: u32) -> Result<u32, AppendError> {
        let bytes = self.bytes_for(record_bytes);
        if bytes == self.limits.segment_bytes {
            return self.spare.take().map_or_else(|| self.create(bytes), Ok);
        }
        let sequence = self.create(bytes)?;
        // The spare's number is lower: what would be appended to it after this would be found before this.
        if let Some(spare) = self.spare.take() {
            self.remove(spare);
        }
        Ok(sequence)
    }

    /// The size of the segment that a record of this size needs.
    fn bytes_for(&self, record_bytes: u32) -> u64 {
        self.limits.segment_bytes.max(u64::from(record_bytes) + HEADER_BYTES as u64)
    }

    fn is_within_bound(&self, more_bytes: u64) -> bool {
        self.bytes() + more_bytes <= self.limits.bytes_max
    }

    fn make_spare(&mut self) {
        if self.spare.is_none() {
            // Without one the journal goes on. `has_room` tells, and `tick` tries again.
            self.spare = self.create(self.limits.segment_bytes).ok();
        }
    }

    fn create(&mut self, bytes: u64) -> Result<u32, AppendError> {
        if !self.is_within_bound(bytes) {
            return Err(AppendError::Full);
        }
        let id = self.id(self.next_sequence);
        // Also after a failure: something may be left that has the name.
        self.next_sequence += 1;
        let created = self.folder.disk.create(&id.path(), bytes);
        self.refused = created.is_err();
        let file = created?;
        let written = file.write_at(0, &id.header());
        let file = Arc::new(SyncedFile::new(file));
        self.segments.insert(id.sequence, Segment::new(id, bytes, file));
        if let Err(error) = written {
            self.refused = true;
            self.remove(id.sequence);
            return Err(error.into());
        }
        Ok(id.sequence)
    }

    /// Nothing is appended to it any more.
    fn close_active(&mut self) {
        let Some((sequence, _)) = self.active.take() else { return };
        let segment = self.segments.get_mut(&sequence).expect("the active segment is one of them");
        if segment.unreleased.is_empty() {
            self.remove(sequence);
        } else {
            segment.drop_file_if_done();
        }
    }

    fn remove(&mut self, sequence: u32) {
        match self.folder.disk.remove(&self.id(sequence).path()) {
            // It takes its space as long as it is there; `tick` tries again.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {}
            _ => drop(self.segments.remove(&sequence)),
        }
    }
}

impl Segment {
    fn new(id: SegmentId, bytes: u64, file: Arc<SyncedFile>) -> Segment {
        let begin = HEADER_BYTES as u32;
        let (unreleased, has_released, failed) = (BTreeSet::new(), false, false);
        Segment { id, bytes, end: begin, synced: begin, failed, unreleased, has_released, file: Some(file) }
    }

    fn fits(&self, record_bytes: u32) -> bool {
        u64::from(self.end) + u64::from(record_bytes) <= self.bytes
    }

    /// Of a segment that is not active: there may be many, and few files may be open.
    fn drop_file_if_done(&mut self) {
        if self.failed || self.synced == self.end {
            self.file = None;
        }
    }
}

/// Reads a record and checks that it is the one.
pub(crate) fn read_record(disk: &dyn Disk, id: SegmentId, location: Location) -> io::Result<Vec<u8>> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("damaged record in {}", id.path()));
    segment::record_bytes(location.length as usize).ok_or_else(damaged)?;
    // Without the zeros behind it: a file that is cut off there still has the whole record.
    let bytes = segment::RECORD_HEADER_BYTES + location.length as usize;
    let record = disk.read_at(&id.path(), u64::from(location.offset), bytes)?;
    let payload = id.decode(location.offset, &record).ok_or_else(damaged)?;
    if payload.len() == location.length as usize { Ok(payload.to_vec()) } else { Err(damaged()) }
}
