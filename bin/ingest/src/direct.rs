//! The way of one producer's batches into MySQL directly: which one is next, and what MySQL's answer means. Pure. Used
//! by the ingest that lives, and for what one that died has left in its journal.

use std::collections::VecDeque;
use std::sync::Arc;

use footfall_journal::Location;
use footfall_shared::mysql::StoreError;
use footfall_shared::protocol::errors::{ErrorClass, Grade};
use footfall_shared::protocol::{Batch, Direct, Producer};

/// A batch that MySQL is not known to have.
#[derive(Debug)]
pub(crate) struct DirectBatch {
    pub(crate) number: u64,
    /// Views of the producer on this path up to and including it.
    pub(crate) cumulative_views: u64,
    /// Where the journal has it.
    pub(crate) location: Option<Location>,
    /// None if only the journal has it, or nobody.
    pub(crate) batch: Option<Arc<Batch>>,
}

impl DirectBatch {
    /// A batch that is not in memory.
    pub(crate) fn kept(number: u64, cumulative_views: u64, location: Option<Location>) -> Self {
        Self { number, cumulative_views, location, batch: None }
    }
}

/// Why MySQL has not taken a batch.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectError {
    #[error("MySQL has batch {last} as the last before direct batch {number}: was it restored?")]
    Behind { last: u64, number: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Grade for DirectError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Behind { .. } => ErrorClass::DbBehind,
            Self::Store(error) => error.class(),
        }
    }
}

/// The batches of one producer that go to MySQL directly. They go one by one, in order.
pub(crate) struct DirectLane {
    producer: Producer,
    batches: VecDeque<DirectBatch>,
    /// The last batch that MySQL is known to have had, and the views up to and including the last that is not kept here.
    stored: (u64, u64),
}

impl DirectLane {
    /// The lane of a producer that has kept `batches`, in order, with `views_before` before them. MySQL once had what
    /// came before, up to the batch `stored`.
    pub(crate) fn new(producer: Producer, batches: VecDeque<DirectBatch>, views_before: u64, stored: u64) -> Self {
        Self { producer, batches, stored: (stored, views_before) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Number of the newest batch, and the views up to and including it.
    pub(crate) fn newest(&self) -> (u64, u64) {
        self.batches.back().map_or(self.stored, |newest| (newest.number, newest.cumulative_views))
    }

    /// Views that MySQL is not known to have.
    pub(crate) fn views(&self) -> u64 {
        self.newest().1.saturating_sub(self.stored.1)
    }

    /// What MySQL must have before it can take what is kept here: a batch, and the views up to and including it.
    pub(crate) fn kept_behind(&self) -> (u64, u64) {
        (self.batches.front().map_or(self.stored.0, |oldest| oldest.number - 1), self.stored.1)
    }

    /// Adds the next batch.
    pub(crate) fn push(&mut self, batch: Arc<Batch>, location: Option<Location>) {
        let (number, cumulative_views) = (batch.number, batch.cumulative_views);
        debug_assert_eq!(number, self.newest().0 + 1, "numbers are consecutive");
        self.batches.push_back(DirectBatch { number, cumulative_views, location, batch: Some(batch) });
    }

    /// The batch to send now; none if MySQL has everything. `read` gets a batch back from the journal, or says that it is
    /// lost.
    pub(crate) fn next(&self, read: impl FnOnce(&DirectBatch) -> Option<Batch>) -> Option<Arc<Batch>> {
        let first = self.batches.front()?;
        let lost = || Batch::lost(self.producer, first.number, first.cumulative_views);
        Some(first.batch.clone().unwrap_or_else(|| Arc::new(read(first).unwrap_or_else(lost))))
    }

    /// Takes note of MySQL's answer to the batch that was sent: where the journal had it, if that is needed no more.
    pub(crate) fn on(&mut self, answer: Result<Direct, StoreError>) -> Result<Option<Location>, DirectError> {
        let Some(first) = self.batches.front() else { return Ok(None) };
        match answer? {
            Direct::Now { .. } | Direct::Before => {
                let location = first.location;
                self.stored = (first.number, first.cumulative_views);
                self.batches.pop_front();
                Ok(location)
            }
            // MySQL has all that it once had: what is missing in between is lost.
            Direct::Behind { number: last } if (self.stored.0..first.number - 1).contains(&last) => {
                for missing in (last + 1..first.number).rev() {
                    self.batches.push_front(DirectBatch::kept(missing, self.stored.1, None));
                }
                Ok(None)
            }
            Direct::Behind { number: last } => Err(DirectError::Behind { last, number: first.number }),
        }
    }

    /// What is in memory, and where the journal has it.
    pub(crate) fn in_memory(&self) -> impl Iterator<Item = (&Arc<Batch>, Option<Location>)> {
        self.batches.iter().filter_map(|batch| Some((batch.batch.as_ref()?, batch.location)))
    }

    /// A batch was written to another place of the journal.
    pub(crate) fn moved(&mut self, number: u64, location: Location) {
        if let Some(batch) = self.batches.iter_mut().find(|batch| batch.number == number) {
            batch.location = Some(location);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{PRODUCER, batch};

    const NOW: Result<Direct, StoreError> = Ok(Direct::Now { quarantined: 0 });

    fn lane(numbers: std::ops::RangeInclusive<u64>) -> DirectLane {
        let mut lane = DirectLane::new(PRODUCER, [].into(), 0, 0);
        numbers.for_each(|number| lane.push(Arc::new(batch(number, "")), None));
        lane
    }

    fn next(lane: &DirectLane) -> Option<u64> {
        lane.next(|_| None).map(|batch| batch.number)
    }

    #[test]
    fn a_batch_stays_until_mysql_has_it() {
        let mut lane = lane(1..=2);
        let away = || StoreError::Unreachable { place: "here".into(), why: "gone".into() };
        assert!(next(&lane) == Some(1) && lane.on(Err(away())).is_err());
        assert_eq!((next(&lane), lane.views(), lane.kept_behind()), (Some(1), 2, (0, 0)));
        lane.on(NOW).expect("it is there");
        assert_eq!((next(&lane), lane.views(), lane.kept_behind()), (Some(2), 1, (1, 1)));
        // The answer to the first try was lost.
        lane.on(Ok(Direct::Before)).expect("it was there");
        assert_eq!((next(&lane), lane.newest(), lane.kept_behind()), (None, (2, 2), (2, 2)));
    }

    #[test]
    fn a_mysql_that_has_forgotten_a_batch_gets_no_more() {
        let mut lane = lane(1..=3);
        lane.on(NOW).expect("it is there");
        lane.on(NOW).expect("it is there");
        let error = lane.on(Ok(Direct::Behind { number: 1 })).expect_err("it had two");
        assert_eq!((error.class(), next(&lane)), (ErrorClass::DbBehind, Some(3)));
    }

    /// A journal that lost the batches 3 and 4; MySQL had 2 when the oldest record was written.
    #[test]
    fn what_a_journal_has_lost_is_made_up_for() {
        let batches = [5, 6].map(|number| DirectBatch::kept(number, number, None));
        let mut lane = DirectLane::new(PRODUCER, batches.into(), 4, 2);
        assert!(lane.next(|_| Some(batch(5, ""))).is_some_and(|read| read.views() == 1));
        assert!(lane.next(|_| None).is_some_and(|lost| lost.views() == 0 && lost.cumulative_views == 5));
        lane.on(Ok(Direct::Behind { number: 2 })).expect("it has all that it once had");
        for number in 3..=6 {
            assert_eq!(next(&lane), Some(number));
            lane.on(NOW).expect("it is there");
        }
        assert!(lane.is_empty());
    }
}
