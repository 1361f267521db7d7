//! The only place that asks for the time of day. Nothing is ever decided by it: it labels batches with their minute,
//! readers without a name with their day, and answers with the age of numbers. Deadlines use the monotonic clock.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

thread_local! {
    static SIMULATED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From here on this thread is told this time of day, in milliseconds since 1970 UTC, for a simulation.
pub fn simulate(unix_ms: u64) {
    SIMULATED.set(Some(unix_ms));
}

/// Milliseconds since 1970 UTC.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn unix_ms() -> u64 {
    if let Some(unix_ms) = SIMULATED.get() {
        return unix_ms;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Minutes since 1970 UTC.
#[must_use]
pub fn unix_minute() -> u32 {
    u32::try_from(unix_ms() / 60_000).unwrap_or(u32::MAX)
}

/// A time as RFC 3339 in UTC with milliseconds, for people and for JSON.
#[must_use]
pub fn rfc3339(unix_ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(unix_ms)).to_string()
}
