//! Whether a process can do its work, and how a part of the system does: for load balancers and for people.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::{IntGauge, IntGaugeVec};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::metrics::{gauge, gauges};
use crate::protocol::errors::Severity;

static DEGRADED: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge("footfall_degraded_level", "The worst state of any part: 0 all is well, 1 degraded, 2 somebody must act.")
});

/// With servers of several, one shard may be badly off while all others are well.
static DEGRADED_PARTS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges("footfall_degraded_part_level", "The parts that are degraded: 1 degraded, 2 somebody must act.", "part")
});

/// How a part of the system does, for people who watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// In one word.
    pub state: HealthState,
    /// In a sentence, when there is something to say.
    pub reason: Option<String>,
}

/// See [`Health`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// Works.
    Ok,
    /// Works, but is behind or on its way back.
    Degraded,
    /// Does not work.
    Down,
    /// Cannot be known now.
    Unknown,
}

impl Health {
    /// Works; of this, too, there may be something to say.
    pub const OK: Self = Self { state: HealthState::Ok, reason: None };

    /// In this state, for this reason.
    #[must_use]
    pub fn because(state: HealthState, reason: impl Into<String>) -> Self {
        Self { state, reason: Some(reason.into()) }
    }
}

/// Why something is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// For everybody: words of this program.
    kind: &'static str,
    /// For the operator: with addresses, and what others have said.
    detail: String,
}

impl Reason {
    /// A kind, and what only the operator shall read.
    #[must_use]
    pub fn new(kind: &'static str, detail: impl fmt::Display) -> Self {
        Self { kind, detail: detail.to_string() }
    }

    /// With this part of the process before it.
    fn of(&self, part: &str, is_for_everybody: bool) -> String {
        let detail = if is_for_everybody { "" } else { self.detail.as_str() };
        let said = [part, self.kind, detail].into_iter().filter(|said| !said.is_empty());
        said.collect::<Vec<_>>().join(": ")
    }
}

impl From<&'static str> for Reason {
    fn from(kind: &'static str) -> Self {
        Self { kind, detail: String::new() }
    }
}

/// Whether a process can do its work, and if not, why: each part of it that cannot, with its reason. And whether it
/// does it with less than it should have.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Reasons for not being ready.
    unready: BTreeMap<String, Reason>,
    degraded: BTreeMap<String, (Severity, Reason)>,
    /// What somebody should know, although the process does all that it should; and until when.
    notes: BTreeMap<&'static str, Instant>,
}

/// How long a note is shown after it was made last.
const NOTE_LIFE: Duration = Duration::from_secs(600);

/// As a metric shows it.
fn level(worst: Option<Severity>) -> i64 {
    match worst {
        None | Some(Severity::Info) => 0,
        Some(Severity::Degraded) => 1,
        Some(Severity::Critical) => 2,
    }
}

impl Readiness {
    /// Not ready yet, for the given reason; [`Readiness::set`] ends that.
    #[must_use]
    pub fn not_yet(reason: &'static str) -> Self {
        let readiness = Self::default();
        readiness.set(Some(reason.into()));
        readiness
    }

    /// The process is ready, or is not for the given reason. Answers whether that is a change.
    pub fn set(&self, reason: Option<Reason>) -> bool {
        self.set_part("", reason)
    }

    /// A part of the process is ready, or is not for the given reason. Answers whether that is a change.
    pub fn set_part(&self, part: &str, reason: Option<Reason>) -> bool {
        let parts = &mut self.state().unready;
        match reason {
            Some(reason) => parts.insert(part.to_owned(), reason.clone()).is_none_or(|before| before != reason),
            None => parts.remove(part).is_some(),
        }
    }

    /// A part of the process works with less than it should have, or does not any more.
    pub fn set_degraded(&self, part: &str, state: Option<(Severity, Reason)>) {
        let parts = &mut self.state().degraded;
        match state {
            Some(state) => {
                DEGRADED_PARTS.with_label_values(&[part]).set(level(Some(state.0)));
                drop(parts.insert(part.to_owned(), state));
            }
            None => {
                let _ = DEGRADED_PARTS.remove_label_values(&[part]); // It may not have been degraded.
                drop(parts.remove(part));
            }
        }
        DEGRADED.set(level(parts.values().map(|(level, _)| *level).max()));
    }

    /// What is wrong with the part that is worst off, in words for everybody.
    #[must_use]
    pub fn degraded(&self) -> Option<String> {
        self.worst(true)
    }

    pub(in crate::service) fn worst(&self, is_for_everybody: bool) -> Option<String> {
        let state = self.state();
        let worst = state.degraded.values().max_by_key(|(level, _)| *level);
        worst.map(|(_, reason)| reason.of("", is_for_everybody))
    }

    /// Something that whoever runs the system should know, from now on for ten minutes. Answers whether that is news.
    pub fn note(&self, note: &'static str) -> bool {
        let now = Instant::now();
        let before = self.state().notes.insert(note, now + NOTE_LIFE);
        before.is_none_or(|until| until <= now)
    }

    /// All in one.
    #[must_use]
    pub fn health(&self) -> Health {
        match (self.reason(false), self.worst(false)) {
            (Some(reason), _) => Health::because(HealthState::Down, reason),
            (None, Some(reason)) => Health::because(HealthState::Degraded, reason),
            (None, None) => {
                let last =
                    self.state().notes.iter().max_by_key(|(_, until)| **until).map(|(note, until)| (*note, *until));
                let note = last.filter(|(_, until)| Instant::now() < *until);
                Health { reason: note.map(|(note, _)| note.to_owned()), ..Health::OK }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first reason for not being ready, if there is one.
    pub(in crate::service) fn reason(&self, is_for_everybody: bool) -> Option<String> {
        self.state().unready.iter().next().map(|(part, reason)| reason.of(part, is_for_everybody))
    }
}
