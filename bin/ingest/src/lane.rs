//! The way of one producer's batches into Redis: what the next step is, and what its outcome means. Pure: the steps are
//! carried out in [`crate::link`].

use std::collections::VecDeque;
use std::sync::Arc;

use footfall_journal::Location;
use footfall_shared::protocol::errors::{ErrorClass, Grade};
use footfall_shared::protocol::packed::Packed;
use footfall_shared::protocol::{Batch, DataSet, Position, Producer};
use footfall_shared::redis::{Applied, QueueError};
use footfall_shared::stores::recovery::RecoveryError;

/// So many batches are under way at once, at most: where each costs Redis an fsync, those that arrive together share it.
const APPLIED_TOGETHER_MAX: u64 = 16;

/// A batch that MySQL may not have yet.
#[derive(Debug)]
pub(crate) struct Retained {
    pub(crate) number: u64,
    /// Views of the producer on this path up to and including it.
    pub(crate) cumulative_views: u64,
    /// Where the journal has it.
    pub(crate) location: Option<Location>,
    /// None if only the journal has it.
    pub(crate) batch: Option<Arc<Packed>>,
    /// What is sent instead: without views that the open data set has counted before.
    pub(crate) trimmed: Option<Arc<Packed>>,
    /// Memory of a batch that no journal has.
    pub(crate) bytes: usize,
    /// At least its position in the log; none while Redis has not taken it.
    pub(crate) position: Option<u64>,
}

impl Retained {
    /// Stands for a batch that was lost, with those before it, up to a batch that has `views_before`.
    pub(crate) fn lost(number: u64, views_before: u64) -> Self {
        Self::kept(number, views_before, None)
    }

    /// A batch that is not in memory.
    pub(crate) fn kept(number: u64, cumulative_views: u64, location: Option<Location>) -> Self {
        Self { number, cumulative_views, location, batch: None, trimmed: None, bytes: 0, position: None }
    }

    /// The next batch of this life.
    pub(crate) fn built(batch: Packed, location: Option<Location>) -> Self {
        let bytes = if location.is_none() { batch.memory() } else { 0 };
        let (number, cumulative_views) = (batch.number, batch.cumulative_views);
        Self { bytes, batch: Some(Arc::new(batch)), ..Self::kept(number, cumulative_views, location) }
    }

    /// Lets go of the memory, if the journal has it.
    fn unload(&mut self) {
        if self.location.is_some() {
            self.batch = None;
        }
    }
}

/// Why a shard makes no progress at the moment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaneError {
    /// The data set could not be opened.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// Redis failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// MySQL and Redis have forgotten batches that MySQL once had.
    #[error(
        "batches {} to {stored} of producer {producer} were in MySQL, and are neither there nor in Redis: was MySQL \
         restored from a backup? This shard stands still: bring MySQL forward, or run `footfall accept-restore`", last + 1
    )]
    Forgotten {
        producer: Producer,
        /// The last batch that is known.
        last: u64,
        /// The last batch that MySQL once had.
        stored: u64,
    },
}

impl Grade for LaneError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Recovery(error) => error.class(),
            Self::Queue(error) => error.class(),
            Self::Forgotten { .. } => ErrorClass::DbBehind,
        }
    }
}

/// What a lane wants done next.
#[derive(Debug)]
pub(crate) enum LaneRequest {
    /// Find out what Redis has, opening it if need be.
    Open,
    /// Send batches, in order.
    Apply {
        /// The epoch under which Redis is open.
        epoch: u64,
        /// One as a rule, more while Redis catches up.
        batches: Vec<Arc<Packed>>,
    },
    /// See how far MySQL is, and whether Redis still has what it had.
    Look,
}

/// What a step came to.
#[derive(Debug)]
pub(crate) enum LaneReply {
    /// Epoch, last batch that Redis has, position.
    Opened(Result<(u64, u64, Position), LaneError>),
    /// Numbers of the batches, in order.
    Applied(Vec<(u64, Result<Applied, QueueError>)>),
    /// None if no recovery has opened the data set.
    Looked(Result<Option<DataSet>, QueueError>),
}

/// The batches of one producer that go through Redis.
pub(crate) struct Lane {
    producer: Producer,
    /// The epoch under which Redis is open; none: open it first.
    epoch: Option<u64>,
    /// Number of the last batch that Redis is known to have, in the current epoch.
    applied: u64,
    /// Views up to and including that batch.
    applied_views: u64,
    /// I3: every batch, in order and without holes, until a reply's `first` passes its position.
    retained: VecDeque<Retained>,
    /// Memory of those that no journal has.
    retained_bytes: usize,
    /// The newest batch, and the views up to and including it.
    newest: (u64, u64),
    /// What MySQL has, for the journal to let go of.
    released: Vec<Location>,
    /// The last batch that MySQL is known to have, and the views up to and including the last that is not kept any more.
    stored: (u64, u64),
}

impl Lane {
    /// The lane of a producer that has kept `retained`, with `views_before` before that. MySQL once had what came before,
    /// up to the batch `stored`; what is missing behind it was lost.
    pub(crate) fn new(producer: Producer, retained: VecDeque<Retained>, views_before: u64, stored: u64) -> Self {
        let newest = retained.back().map_or((0, views_before), |last| (last.number, last.cumulative_views));
        Self {
            producer,
            epoch: None,
            applied: 0,
            applied_views: views_before,
            retained,
            retained_bytes: 0,
            newest,
            released: vec![],
            stored: (stored, views_before),
        }
    }

    pub(crate) fn producer(&self) -> Producer {
        self.producer
    }

    /// Number of the newest batch, and the views up to and including it.
    pub(crate) fn newest(&self) -> (u64, u64) {
        self.newest
    }

    /// Number of the last batch that Redis is known to have.
    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    /// Batches that Redis is not known to have.
    pub(crate) fn backlog(&self) -> u64 {
        self.newest.0.saturating_sub(self.applied)
    }

    /// Views that Redis is not known to have.
    pub(crate) fn backlog_views(&self) -> u64 {
        self.newest.1.saturating_sub(self.applied_views)
    }

    /// Batches that MySQL is not known to have.
    pub(crate) fn retained(&self) -> usize {
        self.retained.len()
    }

    /// Number of the last batch that MySQL is known to have.
    pub(crate) fn stored(&self) -> u64 {
        self.stored.0
    }

    /// What MySQL must have before it can take what is kept here: a batch, and the views up to and including it.
    pub(crate) fn kept_behind(&self) -> (u64, u64) {
        (self.retained.front().map_or(self.stored.0, |oldest| oldest.number - 1), self.stored.1)
    }

    /// Memory of retained batches that no journal has.
    pub(crate) fn retained_bytes(&self) -> usize {
        self.retained_bytes
    }

    /// The epoch under which Redis is open, as far as is known.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// Adds the next batch.
    pub(crate) fn push(&mut self, batch: Retained) {
        debug_assert_eq!(batch.number, self.newest.0 + 1, "numbers are consecutive");
        self.newest = (batch.number, batch.cumulative_views);
        self.retained_bytes += batch.bytes;
        self.retained.push_back(batch);
    }

    /// All batches that are kept, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Retained> {
        self.retained.iter()
    }

    /// A batch is on the disk: it needs no memory until it is sent.
    pub(crate) fn unload(&mut self, number: u64) {
        if let Some(retained) = self.get_mut(number) {
            retained.unload();
        }
    }

    /// A batch was written to another place of the journal.
    pub(crate) fn moved(&mut self, number: u64, location: Location) {
        if let Some(retained) = self.get_mut(number) {
            retained.location = Some(location);
        }
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Retained> {
        let oldest = self.retained.front()?.number;
        self.retained.get_mut(usize::try_from(number.checked_sub(oldest)?).ok()?)
    }

    /// What MySQL has since the last call: the journal need not keep it.
    pub(crate) fn released(&mut self) -> Vec<Location> {
        std::mem::take(&mut self.released)
    }

    /// The next step; none if Redis has everything. `read` gets a batch back from the journal, or says that it is lost.
    pub(crate) fn next(&mut self, mut read: impl FnMut(&Retained) -> Option<Packed>) -> Option<LaneRequest> {
        let Some(epoch) = self.epoch else { return Some(LaneRequest::Open) };
        let (producer, applied) = (self.producer, self.applied);
        let batches: Vec<Arc<Packed>> = (applied + 1..=applied + APPLIED_TOGETHER_MAX)
            .map_while(|number| {
                let retained = self.get_mut(number)?;
                if retained.batch.is_none() {
                    let lost = || Packed::new(Batch::lost(producer, number, retained.cumulative_views));
                    retained.batch = Some(Arc::new(read(retained).unwrap_or_else(lost)));
                }
                retained.trimmed.as_ref().or(retained.batch.as_ref()).map(Arc::clone)
            })
            .collect();
        (!batches.is_empty()).then_some(LaneRequest::Apply { epoch, batches })
    }

    /// Takes note of what a step came to.
    pub(crate) fn on(&mut self, outcome: LaneReply) -> Result<(), LaneError> {
        match outcome {
            LaneReply::Opened(opened) => self.opened(opened?)?,
            LaneReply::Applied(batches) => {
                for (number, applied) in batches {
                    if !self.on_applied(number, applied)? {
                        break;
                    }
                }
            }
            LaneReply::Looked(looked) => match self.unless_closed(looked)?.flatten() {
                Some(data) if Some(data.epoch) == self.epoch => self.forget(data.position),
                _ => self.epoch = None,
            },
        }
        Ok(())
    }

    /// Takes note of what became of a batch; false if Redis has not taken it, so that those behind it were refused.
    fn on_applied(&mut self, number: u64, applied: Result<Applied, QueueError>) -> Result<bool, LaneError> {
        let Some(applied) = self.unless_closed(applied)? else { return Ok(false) };
        match applied {
            Applied::Ok(position) => {
                self.applied = number;
                if let Some(retained) = self.get_mut(number) {
                    retained.position = Some(position.tail);
                    retained.trimmed = None;
                    retained.unload();
                    self.applied_views = retained.cumulative_views;
                }
                self.forget(position);
                return Ok(true);
            }
            Applied::Seen(counted_before) => {
                if let Some(Retained { batch, trimmed, .. }) = self.get_mut(number)
                    && let Some(sent) = trimmed.as_deref().or(batch.as_deref())
                {
                    let rest = sent.without(&counted_before).map_err(QueueError::from)?;
                    *trimmed = Some(Arc::new(rest));
                }
            }
            Applied::Behind => self.epoch = None,
        }
        Ok(false)
    }

    /// A data set that is not open under our epoch has to be opened; other errors stay errors.
    fn unless_closed<T>(&mut self, result: Result<T, QueueError>) -> Result<Option<T>, LaneError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(QueueError::Epoch) => {
                self.epoch = None;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn opened(&mut self, (epoch, last, position): (u64, u64, Position)) -> Result<(), LaneError> {
        let (stored, stored_views) = self.stored;
        let kept_from = self.retained.front().map_or(self.newest.0 + 1, |oldest| oldest.number);
        if last < stored && last + 1 < kept_from {
            return Err(LaneError::Forgotten { producer: self.producer, last, stored });
        }
        for number in (last + 1..kept_from).rev() {
            self.retained.push_front(Retained::lost(number, stored_views));
        }
        self.epoch = Some(epoch);
        self.applied = last;
        for batch in &mut self.retained {
            // An older data set may hold it at another position than the reply of the time said.
            batch.position = (batch.number <= last).then_some(position.tail);
            // What was left out as a repeat may not be one in this data set.
            batch.trimmed = None;
        }
        self.applied_views = self.get_mut(last).map_or(stored_views, |batch| batch.cumulative_views);
        self.forget(position);
        Ok(())
    }

    /// Lets go of what MySQL has.
    fn forget(&mut self, position: Position) {
        while let Some(oldest) = self.retained.front()
            && oldest.position.is_some_and(|at| at < position.first)
        {
            self.released.extend(oldest.location);
            self.stored = (oldest.number, oldest.cumulative_views);
            self.retained_bytes -= oldest.bytes;
            self.retained.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
