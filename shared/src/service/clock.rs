//! The only place that asks for the time of day. Nothing is ever decided by it: it labels batches with their minute,
//! readers without a name with their day, and answers with the age of numbers. Deadlines use the monotonic clock.
//!
//! A clock may say anything: after a battery died it stands at 1970, and Linux lets itself be set to any time from there to
//! the year 2232. What leaves this place lies between 1970 and 9999 whatever the system says; whoever counts back from it
//! uses [`last`].

use std::cell::Cell;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::service::finding::Finding;

/// The last millisecond of the year 9999, behind which RFC 3339 has no form; its minute still fits into 32 bits.
const UNIX_MS_MAX: u64 = 253_402_300_799_999;

thread_local! {
    static SIMULATED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From here on this thread is told this time of day, in milliseconds since 1970 UTC, for a simulation.
pub fn simulate(unix_ms: u64) {
    SIMULATED.set(Some(unix_ms));
}

/// Milliseconds since 1970 UTC; at the nearest end of the years 1970 to 9999 if the clock stands outside of them.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn unix_ms() -> u64 {
    SIMULATED.get().unwrap_or_else(|| since_1970_ms(SystemTime::now())).min(UNIX_MS_MAX)
}

fn since_1970_ms(time: SystemTime) -> u64 {
    // An error is a time before 1970.
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Minutes since 1970 UTC.
#[must_use]
pub fn unix_minute() -> u32 {
    u32::try_from(unix_ms() / 60_000).unwrap_or(u32::MAX)
}

/// The last `count` of the spans (minutes, hours) that are numbered from 1970 on, up to and with the span `now`. Before 1970
/// there is none.
#[must_use]
pub fn last(count: u32, now: u32) -> RangeInclusive<u32> {
    now.saturating_sub(count.saturating_sub(1))..=now
}

/// A time as RFC 3339 in UTC with milliseconds, for people and for JSON. What is later than the year 9999 is its end.
#[must_use]
pub fn rfc3339(unix_ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(unix_ms.min(UNIX_MS_MAX))).to_string()
}

/// A difference between two clocks that nobody is told of.
const DIFFERENCE_MS_MAX: u64 = 5_000;

/// What there is to say of a server whose clock showed `theirs` at some time from `asked` to now, all in milliseconds
/// since 1970 UTC; nothing if it may be right.
#[must_use]
pub fn difference(server: &str, theirs: u64, asked: u64) -> Option<Finding> {
    let now = unix_ms();
    let (ahead, behind) = (theirs.saturating_sub(now), asked.saturating_sub(theirs));
    let (ms, which) = if ahead > 0 { (ahead, "ahead of") } else { (behind, "behind") };
    (ms > DIFFERENCE_MS_MAX).then(|| {
        let what = format!(
            "the clock of {server} is {} s {which} this machine's: one of them is wrong. No count is, but the hours that \
             views are shown under are taken from this one, and ages from both",
            ms / 1_000
        );
        Finding::degraded(what, "keep them right, such as by NTP")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_clock_may_stand_anywhere() {
        let ends =
            [Duration::ZERO, Duration::from_millis(1), Duration::from_secs(1 << 40), Duration::from_secs(1 << 62)];
        for far in ends {
            assert_eq!(since_1970_ms(UNIX_EPOCH - far), 0);
            simulate(since_1970_ms(UNIX_EPOCH + far));
            assert!(unix_ms() <= UNIX_MS_MAX);
        }
        simulate(u64::MAX);
        assert_eq!((rfc3339(unix_ms()).as_str(), unix_minute()), ("9999-12-31T23:59:59.999Z", 4_223_371_679));
        assert_eq!(rfc3339(u64::MAX), rfc3339(unix_ms()));
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
    }

    proptest! {
        #[test]
        fn the_last_spans_end_now_and_none_is_before_1970(count: u32, now: u32) {
            let last = last(count, now);
            prop_assert_eq!(*last.end(), now);
            prop_assert!(*last.start() <= now && now - *last.start() < count.max(1));
            prop_assert!(*last.start() == 0 || now - *last.start() == count.max(1) - 1, "all of them, if there are so many");
        }

        #[test]
        fn every_time_has_a_form(unix_ms: u64) {
            prop_assert_eq!(rfc3339(unix_ms).len(), "1970-01-01T00:00:00.000Z".len());
        }
    }

    #[test]
    fn a_clock_is_wrong_only_outside_of_the_time_that_the_question_took() {
        simulate(1_000_000);
        let said = |theirs, asked| difference("Redis", theirs, asked).map(|found| found.what);
        assert_eq!(said(1_005_000, 1_000_000), None);
        assert_eq!(said(995_000, 1_000_000), None);
        assert_eq!(said(400_000, 400_000), None, "the answer was long on its way");
        assert!(said(1_007_500, 1_000_000).is_some_and(|said| said.contains("7 s ahead of")));
        assert!(said(900_000, 1_000_000).is_some_and(|said| said.contains("100 s behind")));
    }
}
