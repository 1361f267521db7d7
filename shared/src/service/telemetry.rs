//! What a process tells of itself: metrics, and whether it can do its work.

mod health;
mod metrics;

pub use health::{Health, HealthState, Readiness, Reason};
pub use metrics::{counter, counters, gauge, gauges, gauges_of_seconds, seconds, show_error_counters};
pub use prometheus::{GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
