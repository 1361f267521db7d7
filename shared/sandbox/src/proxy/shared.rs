//! What all threads of a proxy share.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::rules::Rules;
use super::socket::Upstream;
use super::{Direction, Protocol};

/// Locks, also after a panic: only a rule's matcher can have panicked with a lock held, which leaves nothing half done,
/// and its test has failed by itself.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

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

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(super) stalled_to_server: bool,
    pub(super) stalled_to_client: bool,
    pub(super) delay: Duration,
    pub(super) rules: Rules,
    /// The open ones, by number.
    pub(super) connections: BTreeMap<u64, Arc<Connection>>,
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

    /// Waits until bytes that arrived then may leave in that direction. Fails when the connection closes before.
    pub(super) fn pass(&self, connection: &Connection, direction: Direction, arrived: Instant) -> io::Result<()> {
        loop {
            let delay = self
                .wait(None, |state| {
                    let stalled = match direction {
                        Direction::ToServer => state.stalled_to_server,
                        Direction::ToClient => state.stalled_to_client,
                        Direction::Both => state.stalled_to_server || state.stalled_to_client,
                    };
                    (!stalled || connection.is_closed()).then_some(state.delay)
                })
                .unwrap_or_default();
            connection.check_open()?;
            let left = delay.saturating_sub(arrived.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            // Until the delay is over, or ends, or the connection does; a stall may have come meanwhile.
            self.wait(Some(left), |state| (state.delay != delay || connection.is_closed()).then_some(()));
            connection.check_open()?;
        }
    }

    /// Waits so long. Fails when the connection closes before.
    pub(super) fn sleep(&self, connection: &Connection, duration: Duration) -> io::Result<()> {
        self.wait(Some(duration), |_| connection.is_closed().then_some(()));
        connection.check_open()
    }
}
