//! How many of something each address has at the moment.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::service::proxies::neighbourhood;

/// Counts per address, up to a bound for each. Only addresses that have any are remembered, so there are never more of
/// them than of what is counted. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PerAddress {
    max: usize,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One of an address's, given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    of: PerAddress,
    address: IpAddr,
}

impl PerAddress {
    /// Each address may have `max`.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, counts: Arc::default() }
    }

    /// One more for this address; none if it has as many as it may.
    #[must_use]
    pub fn take(&self, address: IpAddr) -> Option<Share> {
        let address = neighbourhood(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is inserted for an address that may have none.
        let count = counts.get(&address).copied().unwrap_or(0);
        if count >= self.max {
            return None;
        }
        counts.insert(address, count + 1);
        Some(Share { of: self.clone(), address })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.of.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_all() {
        let shares = PerAddress::new(3);
        let take = |address: &str| shares.take(address.parse().expect("an address"));
        let of_one = ["2001:db8::1", "2001:db8::2", "2001:db8::3:4"].map(take);
        assert!(of_one.iter().all(Option::is_some));
        assert!(take("2001:db8::5").is_none(), "whoever has one address has those beside it");
        assert!(take("2001:db8:0:1::1").is_some() && take("192.0.2.1").is_some(), "others have theirs");
        drop(of_one);
        assert!(take("2001:db8::5").is_some());
        assert!(shares.counts.lock().expect("whole").is_empty(), "nothing is left of who has gone");
    }
}
