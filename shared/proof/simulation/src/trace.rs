//! What has happened: a hash of everything, so that two runs can be compared; lines for a person to read; and what
//! must never happen.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// What has happened in one run.
pub struct Trace {
    start: Instant,
    state: Mutex<State>,
}

struct State {
    hash: u64,
    events: u64,
    /// Only kept when somebody will read them.
    lines: Option<Vec<String>>,
    violations: Vec<String>,
}

impl Trace {
    /// A trace that begins now; with lines only if they are wanted.
    #[must_use]
    pub fn new(with_lines: bool) -> Self {
        let lines = with_lines.then(Vec::new);
        let state = State { hash: 0xcbf2_9ce4_8422_2325, events: 0, lines, violations: vec![] };
        Self { start: Instant::now(), state: Mutex::new(state) }
    }

    /// Simulated time since the beginning, in milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Notes an event. The numbers go into the hash; the text is made only if somebody will read it.
    pub fn note(&self, what: &'static str, numbers: &[u64], text: impl FnOnce() -> String) {
        let now = self.now_ms();
        let mut state = self.lock();
        let bytes = what.bytes().map(u64::from).chain([now]).chain(numbers.iter().copied());
        state.hash = bytes.fold(state.hash, |hash, word| (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(5));
        state.events += 1;
        if let Some(lines) = &mut state.lines {
            lines.push(format!("{:>7}.{:03} {what:<10} {}", now / 1000, now % 1000, text()));
        }
    }

    /// Notes what must never happen.
    pub fn violation(&self, what: String) {
        self.note("VIOLATION", &[], || what.clone());
        self.lock().violations.push(what);
    }

    /// Everything that must never happen and did.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// Whether anything happened that must never happen.
    #[must_use]
    pub fn has_violations(&self) -> bool {
        !self.lock().violations.is_empty()
    }

    /// The hash of all events so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.lock().hash
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.lock().events
    }

    /// The lines, if they were wanted.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
