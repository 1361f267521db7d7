//! Metrics, as Prometheus reads them.

use std::sync::LazyLock;

use prometheus::{GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use crate::protocol::errors::{ErrorClass, MEANINGS};

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

static ERRORS: LazyLock<IntCounterVec> =
    LazyLock::new(|| counters("footfall_errors_total", "Errors by class.", "class"));

/// Shows a counter for every class before its first error: a rate over what appears with its first count misses that one.
pub(in crate::service) fn show_error_counters() {
    for meaning in &MEANINGS {
        ERRORS.with_label_values(&[meaning.name]);
    }
}

impl ErrorClass {
    /// Counts one error of this class.
    pub fn count(self) {
        ERRORS.with_label_values(&[self.name()]).inc();
    }
}
