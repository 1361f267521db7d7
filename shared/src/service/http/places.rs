//! Limits how many connections there are, in all and of one address.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Once};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use super::per_address::{PerAddress, Share};
use crate::service::proxies::Proxies;
use crate::service::telemetry::{self, IntCounterVec};

static REFUSED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    telemetry::counters(
        "footfall_connections_refused_total",
        "Connections closed at once, because there were too many in all, or too many of one address.",
        "reason",
    )
});
/// Said once: who opens too many goes on doing so.
static REFUSED_SAID: Once = Once::new();

/// The places for connections of one server.
pub(super) struct Places {
    all: Arc<Semaphore>,
    per_address: PerAddress,
    per_address_max: usize,
    /// They bring everybody's connections, so there is no bound for one of them.
    proxies: Proxies,
}

/// A place, free again when it is dropped.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    share: Option<Share>,
}

impl Places {
    pub(super) fn new(max: usize, per_address_max: usize, proxies: Proxies) -> Self {
        // Registered with both reasons, so that a rate can be seen from the first one on.
        for reason in ["all", "address"] {
            REFUSED.with_label_values(&[reason]);
        }
        let per_address = PerAddress::new(per_address_max);
        Self { all: Arc::new(Semaphore::new(max)), per_address, per_address_max, proxies }
    }

    /// A place for a connection from here; none if there is none left.
    pub(super) fn take(&self, peer: IpAddr) -> Option<Place> {
        let Ok(permit) = Arc::clone(&self.all).try_acquire_owned() else {
            REFUSED.with_label_values(&["all"]).inc();
            return None;
        };
        let mut place = Place { _permit: permit, share: None };
        (self.proxies.contain(peer) || self.belongs_to(&mut place, peer)).then_some(place)
    }

    /// Says whose connection it is: of a proxy's that is known only later. Answers whether this address may have one more.
    pub(super) fn belongs_to(&self, place: &mut Place, client: IpAddr) -> bool {
        place.share = self.per_address.take(client);
        if place.share.is_none() {
            REFUSED.with_label_values(&["address"]).inc();
            REFUSED_SAID.call_once(|| {
                warn!(
                    "a connection of {client} was closed: it has {} already, and http.connections_per_address_max allows \
                     no more; if that is a load balancer, name it in http.trusted_proxies; further ones are only counted",
                    self.per_address_max
                );
            });
        }
        place.share.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_may_have_all_places_and_each_of_its_clients_a_few() {
        let [proxy, client] = ["10.0.0.1", "192.0.2.7"].map(|address| address.parse().expect("an address"));
        let places = Places::new(10, 3, "10.0.0.1".parse().expect("an address"));
        let mut of_proxy: Vec<_> = (0..10).map(|_| places.take(proxy).expect("a place")).collect();
        assert!(places.take(client).is_none(), "there are no more in all");
        assert_eq!(of_proxy.iter_mut().filter_map(|place| places.belongs_to(place, client).then_some(())).count(), 3);
        drop(of_proxy);
        let of_client: Vec<_> = (0..10).filter_map(|_| places.take(client)).collect();
        assert_eq!((of_client.len(), places.all.available_permits()), (3, 7));
    }
}
