//! `[http]`: what all HTTP services have in common.

use std::sync::Arc;

use super::setting::{section, settings_of_text};
use crate::service::proxies::Proxies;

section!(
    /// `[http]`
    Http {
        /// Proxies in front of the services that are believed what they say in `X-Forwarded-For`.
        trusted_proxies: Proxies = Proxies::default();
        /// Whether their connections to ingest and dashboard begin with a PROXY protocol header, of version 1 or 2.
        proxy_protocol: bool = false;
        /// Connections of one address (of one /64, in IPv6) to one service at once; more are closed at once. Trusted
        /// proxies may have as many as there are.
        connections_per_address_max: usize = 2_000, in 1..=10_000_000;
    }
);
settings_of_text!(Proxies);

impl Http {
    /// The proxies whose connections begin with a PROXY protocol header.
    #[must_use]
    pub fn announced_by(&self) -> Arc<Proxies> {
        Arc::new(if self.proxy_protocol { self.trusted_proxies.clone() } else { Proxies::default() })
    }
}
