//! A breaker: after failures a store is left alone, and asked again by one probe at a time. Pure: time comes in.

use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::errors::ErrorClass;

/// Failures in a row that may pass by themselves, before the breaker opens.
const TRANSIENT_MAX: u32 = 3;
/// The first pause, and the longest: how late the return of a store is noticed at most.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(800);

/// Whether a store may be asked.
#[derive(Debug, Clone)]
pub struct Breaker {
    /// In a row.
    failures: u32,
    /// Why it is open; none while it is closed.
    class: Option<ErrorClass>,
    /// After a failure the store is left alone until then.
    rest_until: Option<Instant>,
    pause: Duration,
    /// Spreads the probes of several processes.
    spread: u32,
}

impl Breaker {
    /// A closed breaker; `seed` spreads its probes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { failures: 0, class: None, rest_until: None, pause: PAUSE_MIN, spread: (seed % 64) as u32 }
    }

    /// Whether all is well, as far as is known.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.class.is_none()
    }

    /// Why it is open.
    #[must_use]
    pub fn class(&self) -> Option<ErrorClass> {
        self.class
    }

    /// Whether the store may be asked now: if the breaker is open, by a probe.
    #[must_use]
    pub fn allows(&self, now: Instant) -> bool {
        self.rest_until.is_none_or(|until| now >= until)
    }

    /// When the store may be asked again; none if at any time.
    #[must_use]
    pub fn rest_until(&self) -> Option<Instant> {
        self.rest_until
    }

    /// The store has answered; true if that closes the breaker.
    pub fn succeeded(&mut self) -> bool {
        self.failures = 0;
        self.rest_until = None;
        self.pause = PAUSE_MIN;
        self.class.take().is_some()
    }

    /// The store has failed; true if that opens the breaker.
    pub fn failed(&mut self, class: ErrorClass, now: Instant) -> bool {
        self.failures += 1;
        self.spread = (self.spread * 29 + 17) % 64;
        self.rest_until = Some(now + self.pause.mul_f64(0.75 + f64::from(self.spread) / 128.0));
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        let is_transient = matches!(class, ErrorClass::CacheTransient | ErrorClass::DbTransient);
        if is_transient && self.class.is_none() && self.failures < TRANSIENT_MAX {
            return false;
        }
        self.class.replace(class).is_none()
    }

    /// Another server may be behind it now: it is asked at once.
    pub fn moved(&mut self) {
        self.rest_until = None;
        self.pause = PAUSE_MIN;
    }

    /// Opens it without a failure: an answer takes too long. The store is still waited for. True if that opens it.
    pub fn suspect(&mut self, class: ErrorClass) -> bool {
        let was_closed = self.is_closed();
        self.class.get_or_insert(class);
        was_closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_probes_and_closes() {
        let start = Instant::now();
        let mut breaker = Breaker::new(7);
        assert!(!breaker.failed(ErrorClass::CacheTransient, start) && breaker.is_closed());
        assert!(!breaker.failed(ErrorClass::CacheTransient, start) && breaker.is_closed());
        assert!(breaker.failed(ErrorClass::CacheTransient, start) && !breaker.is_closed());
        let first = breaker.rest_until().expect("it failed");
        assert!(!breaker.allows(start) && breaker.allows(first));
        assert!(!breaker.failed(ErrorClass::CacheDown, first), "it was open already");
        assert!(breaker.rest_until().expect("it failed") - first > first - start, "the pause grows");
        for _ in 0..20 {
            breaker.failed(ErrorClass::CacheDown, first);
        }
        assert!(breaker.rest_until().expect("it failed") - first <= PAUSE_MAX.mul_f64(1.25));
        breaker.moved();
        assert!(
            breaker.allows(first) && !breaker.is_closed(),
            "another server may answer; whether it does is not known"
        );
        breaker.failed(ErrorClass::CacheDown, first);
        assert!(breaker.rest_until().expect("it failed") - first <= PAUSE_MIN.mul_f64(1.25), "it begins anew");
        assert!(breaker.succeeded() && breaker.is_closed() && breaker.allows(start));
        assert!(!breaker.succeeded());
        assert!(breaker.failed(ErrorClass::CacheDown, start), "what is down opens it at once");
    }
}
