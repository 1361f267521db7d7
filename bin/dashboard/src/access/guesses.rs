//! How many wrong tokens and sessions one network may try.

use std::net::{IpAddr, Ipv6Addr};

use footfall_shared::service::limit::Limit;
use tokio::time::Instant;

/// How often wrong tokens and sessions were shown, by those whose first 64 bits are the same, and by those whose first 48
/// are: a network that somebody rents has 65,536 of the first kind.
pub(super) struct Guesses {
    near: Limit,
    wide: Limit,
}

impl Default for Guesses {
    fn default() -> Self {
        Self { near: Limit::new("guesses", 1.0 / 6.0, 10), wide: Limit::new("guesses_of_48", 0.5, 30) }
    }
}

impl Guesses {
    pub(super) fn are_left(&self, peer: IpAddr) -> bool {
        let now = Instant::now();
        self.near.has_left(peer, now) && self.wide.has_left(site(peer), now)
    }

    pub(super) fn count(&self, peer: IpAddr) {
        let now = Instant::now();
        // Nothing is left where nothing can be taken.
        let _ = self.near.take(peer, 1, now);
        let _ = self.wide.take(site(peer), 1, now);
    }
}

/// What a network of IPv6 has in common.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 80))),
        address => address,
    }
}
