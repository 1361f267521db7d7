//! How much of something one address may take per time: what a client takes from all others must have a bound.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::service::proxies::neighbourhood;
use crate::service::telemetry::{self, IntGauge};

/// A bucket for each address, which fills up with time.
pub struct Limit {
    per_second: f64,
    burst: u32,
    buckets: Cache<IpAddr, Arc<Mutex<Bucket>>>,
    remembered: IntGauge,
}

struct Bucket {
    left: f64,
    at: Instant,
}

/// Addresses that are remembered; one that was forgotten begins with a full bucket. The cache forgets those first that have
/// asked once: whoever asks all the time cannot get rid of its bucket by asking from many others.
const ADDRESSES_MAX: usize = 10_000;

impl Limit {
    /// A limit of `per_second` for each address, with bursts of `burst` after a pause. The name is that in metrics.
    #[must_use]
    pub fn new(name: &str, per_second: f64, burst: u32) -> Self {
        let help = "Addresses of which is remembered how much they have taken lately, by limit.";
        let remembered = telemetry::gauges("footfall_limited_addresses", help, "limit").with_label_values(&[name]);
        Self { per_second, burst, buckets: Cache::new(ADDRESSES_MAX), remembered }
    }

    /// The most that can ever be taken at once.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// Takes so many of this address's, all or none: then the error is how long it takes until there are as many, if
    /// nothing else is taken; without end if it is more than the burst.
    pub fn take(&self, address: IpAddr, count: u32, now: Instant) -> Result<(), Duration> {
        let count = f64::from(count);
        self.with_bucket(address, now, |bucket| {
            if bucket.left >= count {
                bucket.left -= count;
                return Ok(());
            }
            if count > f64::from(self.burst) {
                return Err(Duration::MAX);
            }
            Err(Duration::try_from_secs_f64((count - bucket.left) / self.per_second).unwrap_or(Duration::MAX))
        })
    }

    /// Whether one could be taken.
    pub fn has_left(&self, address: IpAddr, now: Instant) -> bool {
        self.with_bucket(address, now, |bucket| bucket.left >= 1.0)
    }

    fn with_bucket<T>(&self, address: IpAddr, now: Instant, look: impl FnOnce(&mut Bucket) -> T) -> T {
        let burst = f64::from(self.burst);
        let mut is_new = false;
        let full = || {
            is_new = true;
            Ok::<_, Infallible>(Arc::new(Mutex::new(Bucket { left: burst, at: now })))
        };
        let Ok(bucket) = self.buckets.get_or_insert_with(&neighbourhood(address), full);
        if is_new {
            self.remembered.set(i64::try_from(self.buckets.len()).unwrap_or(i64::MAX));
        }
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = now.saturating_duration_since(bucket.at).as_secs_f64() * self.per_second;
        bucket.left = burst.min(bucket.left + filled);
        bucket.at = now;
        look(&mut bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn a_bucket_fills_up_again_and_not_beyond_its_size() {
        let limit = Limit::new("test", 2.0, 3);
        let now = Instant::now();
        let taken = |at| (0..10).filter(|_| limit.take(PEER, 1, at).is_ok()).count();
        assert_eq!(taken(now), 3);
        assert_eq!(taken(now + Duration::from_secs(1)), 2);
        assert_eq!(taken(now + Duration::from_secs(100)), 3);
        // Neighbours in IPv6 share one.
        let [one, two, far] = ["2001:db8::1", "2001:db8::2:2", "2001:db8:0:1::1"].map(|a| a.parse().expect("address"));
        let take = |address| limit.take(address, 1, now).is_ok();
        assert!((0..3).all(|_| take(one)) && !take(two) && take(far));
    }

    #[test]
    fn many_are_taken_all_or_none() {
        let limit = Limit::new("test", 2.0, 10);
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs_f64(seconds);
        assert_eq!(limit.take(PEER, 8, now), Ok(()));
        assert_eq!(limit.take(PEER, 5, now), Err(Duration::from_secs_f64(1.5)), "in which three more come");
        assert_eq!(limit.take(PEER, 2, now), Ok(()), "the refused ones have taken nothing");
        assert_eq!(limit.take(PEER, 5, after(2.0)), Err(Duration::from_secs_f64(0.5)));
        assert_eq!(limit.take(PEER, 5, after(2.5)), Ok(()), "as was said");
        assert_eq!(limit.take(PEER, 11, after(100.0)), Err(Duration::MAX), "never");
        assert_eq!(limit.take(PEER, 10, after(100.0)), Ok(()));
        assert_eq!(limit.take(PEER, 0, after(100.0)), Ok(()), "nothing is always there");
    }

    #[test]
    fn addresses_are_remembered_within_a_bound_and_the_busy_one_longest() {
        let limit = Limit::new("test of many", 0.001, 5);
        let now = Instant::now();
        let mut taken = 0;
        for number in 0..100_000_u32 {
            let other = IpAddr::V4(std::net::Ipv4Addr::from_bits((10 << 24) | number));
            assert_eq!(limit.take(other, 1, now), Ok(()), "others have theirs");
            if number % 100 == 0 {
                taken += u32::from(limit.take(PEER, 1, now).is_ok());
            }
        }
        assert!((1..=ADDRESSES_MAX).contains(&limit.buckets.len()), "{}", limit.buckets.len());
        assert_eq!(usize::try_from(limit.remembered.get()), Ok(limit.buckets.len()), "and shown");
        assert_eq!(taken, 5, "a full bucket cannot be had by asking from many addresses");
    }
}
