//! `[http]`: what all HTTP services have in common.

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::setting::{nonzero, section, settings_of_text};
use crate::service::proxies::Proxies;

section!(
    /// What ingest and dashboard have in common.
    Http {
        /// Proxies in front of the services that are believed for whom they have passed a request on (`X-Forwarded-For`):
        /// addresses and networks, separated by commas, such as `10.0.0.5, 192.168.0.0/16`.
        trusted_proxies: Proxies = Proxies::default();
        /// Whether their connections to ingest and dashboard begin with a PROXY protocol header, of version 1 or 2; one that
        /// does not is closed. Others' connections must not have one.
        proxy_protocol: bool = false;
        /// Connections of one address (of one /64, in IPv6) to one service at once; further ones are closed at once.
        /// `http.trusted_proxies` may have more.
        connections_per_address_max: NonZeroUsize = nonzero!(2_000), in 1..=10_000_000;
    }
);
settings_of_text!(Proxies: "list");

impl Http {
    /// The proxies whose connections begin with a PROXY protocol header.
    #[must_use]
    pub fn announced_by(&self) -> Arc<Proxies> {
        Arc::new(if self.proxy_protocol { self.trusted_proxies.clone() } else { Proxies::default() })
    }
}
