//! Metrics and the admin server of every process.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use prometheus::{Encoder, HistogramOpts, Opts, TextEncoder};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::protocol::errors::Level;
use crate::service::http;
use crate::service::paths::{LIVEZ, READYZ};
use crate::service::proxies::Proxies;

pub use prometheus::{GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

/// Shows a metric under its name. In a simulation a process has several of a kind: all but the first stay unseen.
fn register<M: prometheus::core::Collector + Clone + 'static>(metric: prometheus::Result<M>) -> M {
    let metric = metric.expect("the names and labels are valid");
    match prometheus::register(Box::new(metric.clone())) {
        Ok(()) | Err(prometheus::Error::AlreadyReg) => metric,
        Err(error) => panic!("two metrics contradict each other: {error}"),
    }
}

/// A new counter; its name begins with `footfall_` and ends in `_total`.
#[must_use]
pub fn counter(name: &str, help: &str) -> IntCounter {
    register(IntCounter::new(name, help))
}

/// A new family of counters with one label.
#[must_use]
pub fn counters(name: &str, help: &str, label: &str) -> IntCounterVec {
    register(IntCounterVec::new(Opts::new(name, help), &[label]))
}

/// A new gauge.
#[must_use]
pub fn gauge(name: &str, help: &str) -> IntGauge {
    register(IntGauge::new(name, help))
}

/// A new family of gauges with one label.
#[must_use]
pub fn gauges(name: &str, help: &str, label: &str) -> IntGaugeVec {
    register(IntGaugeVec::new(Opts::new(name, help), &[label]))
}

/// A new family of gauges of seconds with one label; its name ends in `_seconds`.
#[must_use]
pub fn gauges_of_seconds(name: &str, help: &str, label: &str) -> GaugeVec {
    register(GaugeVec::new(Opts::new(name, help), &[label]))
}

/// A new histogram of seconds; its name ends in `_seconds`.
#[must_use]
pub fn seconds(name: &str, help: &str) -> Histogram {
    let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
}

static DEGRADED: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge("footfall_degraded_level", "The worst state of any part: 0 all is well, 1 degraded, 2 somebody must act.")
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
    degraded: BTreeMap<String, (Level, Reason)>,
    /// What somebody should know, although the process does all that it should; and until when.
    notes: BTreeMap<&'static str, Instant>,
}

/// How long a note is shown after it was made last.
const NOTE_LIFE: Duration = Duration::from_secs(600);

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
    pub fn set_degraded(&self, part: &str, state: Option<(Level, Reason)>) {
        let parts = &mut self.state().degraded;
        match state {
            Some(state) => drop(parts.insert(part.to_owned(), state)),
            None => drop(parts.remove(part)),
        }
        DEGRADED.set(match parts.values().map(|(level, _)| *level).max() {
            None | Some(Level::Info) => 0,
            Some(Level::Degraded) => 1,
            Some(Level::Critical) => 2,
        });
    }

    /// What is wrong with the part that is worst off, in words for everybody.
    #[must_use]
    pub fn degraded(&self) -> Option<String> {
        self.worst(true)
    }

    fn worst(&self, is_for_everybody: bool) -> Option<String> {
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
    fn reason(&self, is_for_everybody: bool) -> Option<String> {
        self.state().unready.iter().next().map(|(part, reason)| reason.of(part, is_for_everybody))
    }

    /// The answer of `/readyz` on a port for everybody: what kind of trouble there is, and not where the stores are and
    /// what they say.
    #[must_use]
    pub fn answer(&self) -> http::Answer {
        self.answer_for(true)
    }

    fn answer_for(&self, is_for_everybody: bool) -> http::Answer {
        match self.reason(is_for_everybody) {
            None => match self.worst(is_for_everybody) {
                None => http::sentence(StatusCode::OK, "ready"),
                Some(what) => http::sentence(StatusCode::OK, &format!("ready, but degraded: {what}")),
            },
            Some(reason) => http::sentence(StatusCode::SERVICE_UNAVAILABLE, &format!("not ready: {reason}")),
        }
    }
}

/// More than all that ever ask a process how it does.
const CONNECTIONS_MAX: usize = 64;
const METRICS: &str = "/metrics";

/// Serves `/metrics`, `/livez` and `/readyz`.
pub async fn serve_admin(listener: TcpListener, readiness: Readiness, stop: CancellationToken) -> anyhow::Result<()> {
    let is_local = listener.local_addr()?.ip().is_loopback();
    let limits = http::Limits {
        connections_max: CONNECTIONS_MAX,
        connections_per_address_max: CONNECTIONS_MAX,
        trusted_proxies: Proxies::default(),
        header_timeout: Duration::from_secs(10),
        drain: Duration::from_millis(200),
        announced_by: Arc::default(),
    };
    http::serve(listener, limits, stop, move |_, request| {
        let path = request.uri().path();
        let answer = match path {
            // Elsewhere it is asked for by whatever name the machine has there.
            _ if is_local && !http::names_us(request.headers(), None) => http::sentence(
                StatusCode::MISDIRECTED_REQUEST,
                "this is no name of this machine: ask for it by its address",
            ),
            METRICS | LIVEZ | READYZ if !http::is_read(request.method()) => {
                http::other_method(request.method(), path, http::READ)
            }
            METRICS => metrics(),
            LIVEZ => http::sentence(StatusCode::OK, "alive"),
            READYZ => readiness.answer_for(false),
            _ => http::sentence(StatusCode::NOT_FOUND, "here are /metrics, /livez and /readyz"),
        };
        async { answer }
    })
    .await
}

fn metrics() -> http::Answer {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&prometheus::gather(), &mut text) {
        Ok(()) => http::text(StatusCode::OK, "text/plain; version=0.0.4", text),
        Err(error) => {
            http::sentence(StatusCode::INTERNAL_SERVER_ERROR, &format!("metrics could not be written: {error}"))
        }
    }
}

/// Writes the addresses at which a process listens to `file`, if there is one, for whoever started it
/// with port 0. The file appears whole or not at all.
pub fn announce(file: Option<&Path>, listeners: &[(&str, &TcpListener)]) -> std::io::Result<()> {
    let Some(file) = file else { return Ok(()) };
    let mut text = String::new();
    for (name, listener) in listeners {
        text.push_str(&format!("{name}={}\n", listener.local_addr()?));
    }
    let partial = file.with_extension("partial");
    std::fs::write(&partial, text)?;
    std::fs::rename(partial, file)
}
