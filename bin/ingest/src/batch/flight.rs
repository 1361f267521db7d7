//! One request at a time to a store, and what its ends have told about the store. Pure: time comes in.

use std::time::Duration;

use footfall_shared::protocol::errors::ErrorClass;
use footfall_shared::service::breaker::Breaker;
use tokio::time::Instant;

/// A store that has not answered for this long gets no new batches; its answer is still waited for.
pub(crate) const SUSPECT_AFTER: Duration = Duration::from_millis(500);

/// The request to a store that is under way, if one is, and the store's breaker.
pub(crate) struct Flight {
    since: Option<Instant>,
    breaker: Breaker,
    /// How long clients wait for the answer before they are helped otherwise.
    patience: Duration,
    /// What it is taken for when it does not answer.
    suspected: ErrorClass,
}

impl Flight {
    pub(crate) fn new(seed: u64, patience: Duration, suspected: ErrorClass) -> Self {
        Self { since: None, breaker: Breaker::new(seed), patience, suspected }
    }

    /// Whether a request may start now: none is under way, and the breaker allows one, be it as a probe.
    pub(crate) fn may_start(&self, now: Instant) -> bool {
        self.since.is_none() && self.breaker.allows(now)
    }

    pub(crate) fn start(&mut self, now: Instant) {
        self.since = Some(now);
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.since.is_some()
    }

    /// Whether the answer takes longer than clients shall wait for it.
    pub(crate) fn is_slow(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now >= since + self.patience)
    }

    /// The answer is there; what it means is said by `succeeded` or `failed`, or is not known.
    pub(crate) fn landed(&mut self) {
        self.since = None;
    }

    pub(crate) fn succeeded(&mut self) {
        self.breaker.succeeded();
    }

    pub(crate) fn failed(&mut self, class: ErrorClass, now: Instant) {
        self.breaker.failed(class, now);
    }

    /// Another server may be the store now.
    pub(crate) fn moved(&mut self) {
        self.breaker.moved();
    }

    /// Opens the breaker if the answer is long overdue; true if it was closed.
    pub(crate) fn suspect(&mut self, now: Instant) -> bool {
        self.since.is_some_and(|since| now >= since + SUSPECT_AFTER) && self.breaker.suspect(self.suspected)
    }

    /// Why the store gets no new batches.
    pub(crate) fn class(&self) -> Option<ErrorClass> {
        self.breaker.class()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.breaker.is_closed()
    }

    /// When something changes here without an answer.
    pub(crate) fn due(&self) -> impl Iterator<Item = Instant> + use<> {
        let overdue = self.since.map(|since| [since + self.patience, since + SUSPECT_AFTER]);
        self.breaker.rest_until().into_iter().chain(overdue.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_long_overdue_opens_the_breaker() {
        let (start, patience) = (Instant::now(), Duration::from_millis(100));
        let mut flight = Flight::new(0, patience, ErrorClass::DbDown);
        assert!(flight.may_start(start) && flight.due().next().is_none());
        flight.start(start);
        assert!(!flight.may_start(start + SUSPECT_AFTER), "one at a time");
        assert!(!flight.is_slow(start) && flight.is_slow(start + patience));
        assert_eq!(flight.due().collect::<Vec<_>>(), [start + patience, start + SUSPECT_AFTER]);
        assert!(!flight.suspect(start + patience) && flight.is_closed(), "slow is not away");
        assert!(flight.suspect(start + SUSPECT_AFTER) && !flight.suspect(start + SUSPECT_AFTER), "said once");
        assert_eq!(flight.class(), Some(ErrorClass::DbDown));
        // It was waited for all the same.
        flight.landed();
        flight.succeeded();
        assert!(flight.is_closed() && flight.may_start(start + SUSPECT_AFTER));
    }
}
