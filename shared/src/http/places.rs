//! Who may have a connection: so many in all, and so many of one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Once, PoisonError};

use tracing::warn;

use crate::proxies::{Proxies, neighbourhood};
use crate::telemetry::{self, IntCounterVec};

static REFUSED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    telemetry::counters(
        "footfall_connections_refused_total",
        "Connections closed at once, because there were too many in all, or too many of one address.",
        "reason",
    )
});
/// Said once: who opens too many goes on doing so.
static REFUSED_SAID: Once = Once::new();

/// The places for connections of one server. Cheap to clone.
#[derive(Clone)]
pub(super) struct Places(Arc<Shared>);

struct Shared {
    max: usize,
    per_address_max: usize,
    /// They bring everybody's connections, so there is no bound for one of them.
    proxies: Proxies,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// Of the addresses that have any, so there are never more of them than places.
    by_address: HashMap<IpAddr, usize>,
}

/// A place, free again when it is dropped.
pub(super) struct Place {
    places: Places,
    address: Option<IpAddr>,
}

impl Places {
    pub(super) fn new(max: usize, per_address_max: usize, proxies: Proxies) -> Self {
        // Registered with both reasons, so that a rate can be seen from the first one on.
        for reason in ["all", "address"] {
            REFUSED.with_label_values(&[reason]);
        }
        Self(Arc::new(Shared { max, per_address_max, proxies, taken: Mutex::default() }))
    }

    /// A place for a connection from here; none if there is none left.
    pub(super) fn take(&self, peer: IpAddr) -> Option<Place> {
        let mut taken = self.taken();
        if taken.all >= self.0.max {
            REFUSED.with_label_values(&["all"]).inc();
            return None;
        }
        taken.all += 1;
        drop(taken);
        let mut place = Place { places: self.clone(), address: None };
        let may = self.0.proxies.contain(peer) || place.belongs_to(peer);
        may.then_some(place)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Says whose connection it is: of a proxy's that is known only later. Answers whether this address may have one more.
    pub(super) fn belongs_to(&mut self, client: IpAddr) -> bool {
        let address = neighbourhood(client);
        let max = self.places.0.per_address_max;
        {
            let mut taken = self.places.taken();
            let count = taken.by_address.entry(address).or_default();
            if *count < max {
                *count += 1;
                self.address = Some(address);
                return true;
            }
        }
        REFUSED.with_label_values(&["address"]).inc();
        REFUSED_SAID.call_once(|| {
            warn!(
                "a connection of {client} was closed: it has {max} already, and http.connections_per_address_max allows no \
                 more; if that is a load balancer, name it in http.trusted_proxies; further ones are only counted"
            );
        });
        false
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        let Some(address) = self.address else { return };
        if let Some(count) = taken.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_all_places() {
        let proxy: IpAddr = "10.0.0.1".parse().expect("an address");
        let proxies = Proxies::try_from("10.0.0.1".to_owned()).expect("an address");
        let places = Places::new(10, 3, proxies);
        let take = |address: &str| places.take(address.parse().expect("an address"));
        let of_one: Vec<_> = ["2001:db8::1", "2001:db8::2", "2001:db8::3:4"].map(take).into_iter().collect();
        assert!(of_one.iter().all(Option::is_some));
        assert!(take("2001:db8::5").is_none(), "whoever has one address has those beside it");
        assert!(take("2001:db8:0:1::1").is_some() && take("192.0.2.1").is_some(), "others have theirs");
        drop(of_one);
        assert!(take("2001:db8::5").is_some());
        // A proxy may have as many as there are, each of its clients may not.
        let mut of_proxy: Vec<_> = (0..10).map(|_| places.take(proxy).expect("a place")).collect();
        assert!(take("192.0.2.1").is_none(), "there are no more in all");
        let client = "192.0.2.7".parse().expect("an address");
        let allowed = of_proxy.iter_mut().filter_map(|place| place.belongs_to(client).then_some(())).count();
        assert_eq!(allowed, 3);
        drop(of_proxy);
        let taken = places.taken();
        assert!(taken.all == 0 && taken.by_address.is_empty(), "nothing is left of who has gone");
    }
}
