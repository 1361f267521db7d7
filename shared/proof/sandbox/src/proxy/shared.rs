//! What all threads of a proxy share.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Protocol;
use super::lock::lock;
use super::rules::Rules;
use super::socket::Upstream;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) upstream: Upstream,
    pub(super) protocol: Protocol,
    pub(super) counters: Counters,
    state: Mutex<State>,
    /// Told about everything that changes in `state`, in what is held, and when a connection closes.
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) replies: AtomicU64,
    pub(super) fired: AtomicU64,
    pub(super) unreadable: AtomicU64,
}

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A connection, as far as all of them are ended together.
pub(crate) trait Close: fmt::Debug + Send + Sync {
    /// Closes both sides and ends everything that waits.
    fn close(&self);
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(super) stalled_to_server: bool,
    pub(super) stalled_to_client: bool,
    pub(super) delay: Duration,
    pub(super) rules: Rules,
    /// The open ones, by number.
    pub(super) connections: BTreeMap<u64, Arc<dyn Close>>,
}

impl Shared {
    pub(super) fn new(upstream: Upstream, protocol: Protocol) -> Self {
        let (counters, state, changed) = (Counters::default(), Mutex::default(), Condvar::new());
        Self { upstream, protocol, counters, state, changed }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Changes something and wakes all who wait for a change.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        self.changed.notify_all();
        result
    }

    /// Waits until `done` returns something. Nothing is returned when `timeout` is over before; no timeout is forever.
    pub(super) fn wait<T>(&self, timeout: Option<Duration>, mut done: impl FnMut(&State) -> Option<T>) -> Option<T> {
        // A timeout that no clock can reach is forever, too.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.state();
        loop {
            if let Some(result) = done(&state) {
                return Some(result);
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return None,
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}
