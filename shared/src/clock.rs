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

/// A difference between two clocks that nobody is told of.
const DIFFERENCE_MS_MAX: u64 = 5_000;

/// What there is to say of a server whose clock showed `theirs` at some time from `asked` to now, all in milliseconds
/// since 1970 UTC; nothing if it may be right.
#[must_use]
pub fn difference(server: &str, theirs: u64, asked: u64) -> Option<String> {
    let now = unix_ms();
    let (ahead, behind) = (theirs.saturating_sub(now), asked.saturating_sub(theirs));
    let (ms, which) = if ahead > 0 { (ahead, "ahead of") } else { (behind, "behind") };
    (ms > DIFFERENCE_MS_MAX).then(|| {
        format!(
            "the clock of {server} is {} s {which} this machine's: one of them is wrong. No count is, but the hours that \
             views are shown under are taken from this one, and ages from both; keep them right, such as by NTP",
            ms / 1_000
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_wrong_only_outside_of_the_time_that_the_question_took() {
        simulate(1_000_000);
        let said = |theirs, asked| difference("Redis", theirs, asked);
        assert_eq!(said(1_005_000, 1_000_000), None);
        assert_eq!(said(995_000, 1_000_000), None);
        assert_eq!(said(400_000, 400_000), None, "the answer was long on its way");
        assert!(said(1_007_500, 1_000_000).is_some_and(|said| said.contains("7 s ahead of")));
        assert!(said(900_000, 1_000_000).is_some_and(|said| said.contains("100 s behind")));
    }
}
