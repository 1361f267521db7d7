//! What a process reports about itself: metrics, and whether it can do its work.

mod health;
mod metrics;

pub use health::{Health, HealthState, Readiness, Reason};
pub(in crate::service) use metrics::show_error_counters;
pub use metrics::{counter, counters, gauge, gauges, gauges_of_seconds, seconds};
pub use prometheus::{GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
