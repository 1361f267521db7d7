//! Logs, metrics and the admin server of every process.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::{Method, StatusCode};
use prometheus::{Encoder, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};
use crate::http;

pub use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

/// Sends log lines to stderr.
pub fn init_logs(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(&log.level)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Human => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colour).init();
        }
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

/// A new counter; its name begins with `footfall_` and ends in `_total`.
#[must_use]
pub fn counter(name: &str, help: &str) -> IntCounter {
    prometheus::register_int_counter!(name, help).expect("each metric is registered once, under a valid name")
}

/// A new family of counters with one label.
#[must_use]
pub fn counters(name: &str, help: &str, label: &str) -> IntCounterVec {
    prometheus::register_int_counter_vec!(name, help, &[label])
        .expect("each metric is registered once, under a valid name")
}

/// A new gauge.
#[must_use]
pub fn gauge(name: &str, help: &str) -> IntGauge {
    prometheus::register_int_gauge!(name, help).expect("each metric is registered once, under a valid name")
}

/// A new histogram of seconds; its name ends in `_seconds`.
#[must_use]
pub fn seconds(name: &str, help: &str) -> Histogram {
    let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    prometheus::register_histogram!(name, help, buckets).expect("each metric is registered once, under a valid name")
}

/// Whether a process can do its work, and if not, why: each part of it that cannot, with its reason.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, String>>>);

impl Readiness {
    /// Not ready yet, for the given reason; [`Readiness::set`] ends that.
    #[must_use]
    pub fn not_yet(reason: &str) -> Self {
        let readiness = Self::default();
        readiness.set(Some(reason.to_owned()));
        readiness
    }

    /// The process is ready, or is not for the given reason. Answers whether that is a change.
    pub fn set(&self, reason: Option<String>) -> bool {
        self.set_part("", reason)
    }

    /// A part of the process is ready, or is not for the given reason. Answers whether that is a change.
    pub fn set_part(&self, part: &str, reason: Option<String>) -> bool {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match reason {
            Some(reason) => parts.insert(part.to_owned(), reason.clone()).is_none_or(|before| before != reason),
            None => parts.remove(part).is_some(),
        }
    }

    /// The first reason for not being ready, if there is one.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts
            .iter()
            .next()
            .map(|(part, reason)| if part.is_empty() { reason.clone() } else { format!("{part}: {reason}") })
    }

    /// The answer of `/readyz`.
    #[must_use]
    pub fn answer(&self) -> http::Answer {
        match self.reason() {
            None => http::sentence(StatusCode::OK, "ready"),
            Some(reason) => http::sentence(StatusCode::SERVICE_UNAVAILABLE, &format!("not ready: {reason}")),
        }
    }
}

/// Serves `/metrics`, `/livez` and `/readyz`.
pub async fn serve_admin(listener: TcpListener, readiness: Readiness, stop: CancellationToken) -> anyhow::Result<()> {
    let limits = http::Limits {
        connections_max: 64,
        header_timeout: Duration::from_secs(10),
        drain: Duration::from_millis(200),
    };
    http::serve(listener, limits, stop, move |request| {
        let answer = match (request.method(), request.uri().path()) {
            (&Method::GET, "/metrics") => metrics(),
            (&Method::GET, "/livez") => http::sentence(StatusCode::OK, "alive"),
            (&Method::GET, "/readyz") => readiness.answer(),
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
