//! Redis, as one shard sees it: the batches that go there, the step that is under way, and what keeps Redis from taking
//! more. Pure: time comes in, and the steps are somebody else's to carry out.

use std::time::Duration;

use footfall_journal::Location;
use footfall_shared::protocol::errors::{ErrorClass, Grade};
use footfall_shared::protocol::packed::Packed;
use footfall_shared::redis::MEMORY_PERCENT_MAX;
use tokio::time::Instant;

use super::flight::Flight;
use crate::graded::GradedError;
use crate::ids::ViewIds;
use crate::lane::{Lane, LaneReply, LaneRequest, Retained};

/// When so few views wait in a full Redis, it is not them that fill it.
const FEW_VIEWS: u64 = 10_000;
/// A Redis that was full counts as full until less than this part of its memory is in use, in percent.
const MEMORY_PERCENT_FREE: u64 = 75;

pub(crate) struct Upstream {
    pub(crate) lane: Lane,
    flight: Flight,
    pub(crate) ids: ViewIds,
    /// The data set is to be looked at with the next step.
    is_look_due: bool,
    /// Whether few views wait in Redis, as of the last look.
    few_wait: bool,
}

impl Upstream {
    pub(crate) fn new(lane: Lane, ids: ViewIds, patience: Duration) -> Self {
        let flight = Flight::new(lane.producer().0, patience, ErrorClass::CacheTransient);
        Self { lane, flight, ids, is_look_due: false, few_wait: false }
    }

    /// Takes Redis for away if its answer is long overdue; true if it was not taken for that.
    pub(crate) fn suspect(&mut self, now: Instant) -> bool {
        self.flight.suspect(now)
    }

    /// The next step, if one may be started now and there is something to do. `read` gets a batch back from the journal.
    pub(crate) fn poll(&mut self, read: impl FnMut(&Retained) -> Option<Packed>, now: Instant) -> Option<LaneRequest> {
        if !self.flight.may_start(now) {
            return None;
        }
        let is_full = self.is_full();
        // A full Redis is first asked what waits in it. If that is much, nothing more goes in until the flusher has made
        // room. If it is little, somebody else fills it, and what can only go this way is tried: Redis takes all of a
        // batch or nothing.
        if is_full && !self.is_look_due && !self.few_wait && self.lane.epoch().is_some() {
            return None;
        }
        let step = if is_full && self.is_look_due { None } else { self.lane.next(read) };
        // While Redis is away somebody must ask whether it is back.
        let look = self.is_look_due || !self.flight.is_closed() && !is_full;
        let step = step.or_else(|| look.then_some(LaneRequest::Look))?;
        if matches!(step, LaneRequest::Look) {
            self.is_look_due = false;
        }
        self.flight.start(now);
        Some(step)
    }

    /// Takes note of what a step came to; answers what the journal need not keep any more.
    pub(crate) fn handle(&mut self, outcome: LaneReply, now: Instant) -> (Vec<Location>, Result<(), GradedError>) {
        self.flight.landed();
        if let LaneReply::Looked(Ok(Some(data))) = &outcome {
            self.few_wait = data.pending_views <= FEW_VIEWS;
            self.ids.looked(&data.ids, now);
        }
        let result = match self.lane.on(outcome) {
            // Answering a look does not prove that memory is free.
            Ok(()) if self.is_full() => Ok(()),
            Ok(()) => {
                self.flight.succeeded();
                Ok(())
            }
            Err(error) => {
                self.flight.failed(error.class(), now);
                Err(GradedError::of(&error))
            }
        };
        (self.lane.released(), result)
    }

    /// Takes note of the memory that Redis uses, and of the most that it may (0: as much as there is). `may_be_full`: there
    /// is another way for what a full Redis does not take.
    pub(crate) fn on_memory(
        &mut self,
        used: u64,
        max: u64,
        may_be_full: bool,
        now: Instant,
    ) -> Result<(), GradedError> {
        self.ids.limit_to(max);
        let percent = used.saturating_mul(100).checked_div(max).unwrap_or(0);
        if percent > MEMORY_PERCENT_MAX && may_be_full && self.flight.is_closed() {
            self.flight.failed(ErrorClass::CacheFull, now);
            return Err(GradedError { class: ErrorClass::CacheFull, why: format!("{used} of {max} bytes are in use") });
        }
        if percent < MEMORY_PERCENT_FREE && self.is_full() {
            self.flight.succeeded();
        }
        Ok(())
    }

    /// Keys were found on another server.
    pub(crate) fn moved(&mut self) {
        self.flight.moved();
    }

    /// Looks at the data set soon, if anything depends on it: what MySQL has is let go, what Redis lost is sent again.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.is_look_due = self.lane.retained() > 0 || self.ids.are_known() || !self.flight.is_closed();
        self.ids.tick(self.lane.epoch().is_some(), now);
    }

    /// Why Redis gets no new batches.
    pub(crate) fn class(&self) -> Option<ErrorClass> {
        self.flight.class()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.class() == Some(ErrorClass::CacheFull)
    }

    /// Whether Redis answers at all, as far as is known.
    pub(crate) fn answers(&self) -> bool {
        self.class().is_none_or(|class| class.closes_mysql() || class == ErrorClass::CacheFull)
    }

    /// Whether a batch that is built now is sent at once.
    pub(crate) fn is_idle(&self) -> bool {
        self.flight.is_closed() && self.lane.backlog() == 0 && !self.flight.is_under_way()
    }

    pub(crate) fn is_slow(&self, now: Instant) -> bool {
        self.flight.is_slow(now)
    }

    /// Whether batches wait that will not be sent soon.
    pub(crate) fn is_stuck(&self) -> bool {
        !self.flight.is_closed() || self.lane.backlog() > 1
    }

    /// Whether a batch that is built now has to wait for others, or for Redis.
    pub(crate) fn is_behind(&self) -> bool {
        !self.flight.is_closed() || self.lane.backlog() > 0
    }

    pub(crate) fn due(&self) -> impl Iterator<Item = Instant> + use<> {
        self.flight.due()
    }
}
