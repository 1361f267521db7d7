//! The admin server of every process: `/metrics`, `/livez` and `/readyz`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use prometheus::{Encoder, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::service::http;
use crate::service::paths::{LIVEZ, READYZ};
use crate::service::proxies::Proxies;
use crate::service::telemetry::Readiness;

/// More than all that ever ask a process how it does.
const CONNECTIONS_MAX: usize = 64;
const METRICS: &str = "/metrics";

/// Serves `/metrics`, `/livez` and `/readyz`.
pub async fn serve(listener: TcpListener, readiness: Readiness, stop: CancellationToken) -> anyhow::Result<()> {
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

fn metrics() -> http::HttpResponse {
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

impl Readiness {
    /// The answer of `/readyz` on a port for everybody: what kind of trouble there is, and not where the stores are and
    /// what they say.
    #[must_use]
    pub fn answer(&self) -> http::HttpResponse {
        self.answer_for(true)
    }

    fn answer_for(&self, is_for_everybody: bool) -> http::HttpResponse {
        match self.reason(is_for_everybody) {
            None => match self.worst(is_for_everybody) {
                None => http::sentence(StatusCode::OK, "ready"),
                Some(what) => http::sentence(StatusCode::OK, &format!("ready, but degraded: {what}")),
            },
            Some(reason) => http::sentence(StatusCode::SERVICE_UNAVAILABLE, &format!("not ready: {reason}")),
        }
    }
}
