//! MySQL, as one shard of a living ingest sees it: the batches that go there directly, and the transaction that is under
//! way. Pure: time comes in, and the transaction is somebody else's to run.

use std::sync::Arc;
use std::time::Duration;

use footfall_journal::Location;
use footfall_shared::mysql::StoreError;
use footfall_shared::protocol::errors::{ErrorClass, Grade};
use footfall_shared::protocol::{Batch, Direct, Producer};
use tokio::time::Instant;

use super::flight::Flight;
use crate::direct::DirectLane;
use crate::graded::GradedError;

pub(crate) struct DirectPath {
    pub(crate) lane: DirectLane,
    flight: Flight,
}

impl DirectPath {
    pub(crate) fn new(producer: Producer, patience: Duration) -> Self {
        let lane = DirectLane::new(producer, [].into(), 0, 0);
        Self { lane, flight: Flight::new(producer.0, patience, ErrorClass::DbDown) }
    }

    /// Takes MySQL for away if its answer is long overdue; true if it was not taken for that.
    pub(crate) fn suspect(&mut self, now: Instant) -> bool {
        self.flight.suspect(now)
    }

    /// The batch to send, if one may be sent now.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Arc<Batch>> {
        if !self.flight.may_start(now) {
            return None;
        }
        // What this life has built stays in memory until MySQL has it: nothing has to be read.
        let batch = self.lane.next(|_| None)?;
        self.flight.start(now);
        Some(batch)
    }

    /// Takes note of MySQL's answer; tells what the journal need not keep any more.
    pub(crate) fn handle(
        &mut self,
        answer: Result<Direct, StoreError>,
        now: Instant,
    ) -> Result<Option<Location>, GradedError> {
        self.flight.landed();
        match self.lane.on(answer) {
            Ok(location) => {
                self.flight.succeeded();
                Ok(location)
            }
            Err(error) => {
                self.flight.failed(error.class(), now);
                Err(GradedError::of(&error))
            }
        }
    }

    /// Number of the last batch that MySQL has.
    pub(crate) fn stored(&self) -> u64 {
        self.lane.kept_behind().0
    }

    /// Why MySQL gets no new batches.
    pub(crate) fn class(&self) -> Option<ErrorClass> {
        self.flight.class()
    }

    /// Whether a batch that is built now is sent at once. While MySQL is away its first batch is still here.
    pub(crate) fn is_idle(&self) -> bool {
        self.lane.is_empty()
    }

    pub(crate) fn is_slow(&self, now: Instant) -> bool {
        self.flight.is_slow(now)
    }

    /// Whether batches wait that will not be sent soon.
    pub(crate) fn is_stuck(&self) -> bool {
        !self.flight.is_closed()
    }

    pub(crate) fn due(&self) -> impl Iterator<Item = Instant> + use<> {
        self.flight.due()
    }
}
