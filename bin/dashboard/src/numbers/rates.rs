//! How fast a number grows, and how often a cache was hit.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::snapshot::HitPercent;

/// By how much a number increases per second, over a sliding window.
#[derive(Debug, Default)]
pub(crate) struct Rate(VecDeque<(Instant, u64)>);

/// Long enough that natural batches do not make the number jump, short enough to see a change at once.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// A rate over a shorter time would say more about single batches than about the traffic.
const RATE_WINDOW_MIN: Duration = Duration::from_secs(1);

impl Rate {
    /// Takes the current number; returns its increase per second, once the window is long enough.
    pub(crate) fn add(&mut self, now: Instant, value: u64) -> Option<f64> {
        self.0.push_back((now, value));
        // One sample beyond the window stays: after a pause, the increase is spread over the whole pause.
        while self.0.len() > 2 && now - self.0[1].0 >= RATE_WINDOW {
            self.0.pop_front();
        }
        let (since, first) = self.0[0];
        let span = now - since;
        (span >= RATE_WINDOW_MIN).then(|| {
            let delta = value.saturating_sub(first) as f64;
            (delta / span.as_secs_f64() * 10.0).round() / 10.0
        })
    }
}

/// Turns two ever-growing counters into a hit rate.
#[derive(Debug, Default)]
pub(crate) struct HitRate(VecDeque<(Instant, u64, u64)>);

impl HitRate {
    /// The counters could not be read for a while: the last minute begins anew.
    pub(crate) fn missed(&mut self) {
        self.0.clear();
    }

    /// Takes the current hits and misses; returns the rate.
    pub(crate) fn add(&mut self, now: Instant, hits: u64, misses: u64) -> HitPercent {
        // Counters that went back began anew when Redis was restarted.
        if self.0.back().is_some_and(|last| hits < last.1 || misses < last.2) {
            self.0.clear();
        }
        self.0.push_back((now, hits, misses));
        while self.0.len() > 2 && now - self.0[1].0 >= Duration::from_secs(60) {
            self.0.pop_front();
        }
        let (_, hits_before, misses_before) = self.0[0];
        HitPercent { minute: percent(hits - hits_before, misses - misses_before), total: percent(hits, misses) }
    }
}

/// Rounded down, so that 100 means all.
pub(super) fn percent(hits: u64, misses: u64) -> Option<f64> {
    let all = hits.saturating_add(misses);
    (all > 0).then(|| (hits as f64 * 10_000.0 / all as f64).floor() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_increase_over_the_last_seconds() {
        let start = Instant::now();
        let mut rate = Rate::default();
        assert_eq!(rate.add(start, 1_000), None);
        for second in 1..=10 {
            assert_eq!(rate.add(start + Duration::from_secs(second), 1_000 + 20 * second), Some(20.0));
        }
        for second in 11..=14 {
            rate.add(start + Duration::from_secs(second), 1_200);
        }
        assert_eq!(rate.add(start + Duration::from_secs(15), 1_200), Some(0.0));
        // 40 s without a look: not a burst of the last 5 s.
        assert_eq!(rate.add(start + Duration::from_secs(55), 1_600), Some(10.0));
    }

    #[test]
    fn a_hit_rate_forgets_what_is_older_than_a_minute() {
        let start = Instant::now();
        let mut rate = HitRate::default();
        assert_eq!(rate.add(start, 0, 0), HitPercent::default());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(rate.add(after(30), 50, 50), HitPercent { minute: Some(50.0), total: Some(50.0) });
        assert_eq!(rate.add(after(90), 100_049, 51), HitPercent { minute: Some(99.99), total: Some(99.94) });
        // Redis was restarted.
        assert_eq!(rate.add(after(91), 3, 1), HitPercent { minute: None, total: Some(75.0) });
    }

    #[test]
    fn a_hit_rate_is_rounded_down_and_begins_anew_after_a_gap() {
        let start = Instant::now();
        let mut rate = HitRate::default();
        rate.add(start, 0, 0);
        let second = start + Duration::from_secs(1);
        assert_eq!(rate.add(second, 999_999, 1), HitPercent { minute: Some(99.99), total: Some(99.99) });
        rate.missed();
        let third = start + Duration::from_secs(2);
        assert_eq!(rate.add(third, 1_000_009, 1), HitPercent { minute: None, total: Some(99.99) });
    }

    #[test]
    fn a_number_that_went_back_has_no_negative_rate() {
        let start = Instant::now();
        let mut rate = Rate::default();
        rate.add(start, 1_000);
        assert_eq!(rate.add(start + RATE_WINDOW_MIN, 10), Some(0.0));
    }
}
