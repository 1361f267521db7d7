//! `[flusher]`: the daemon that moves counts to the database.

use std::net::SocketAddr;
use std::time::Duration;

use super::ms;
use super::setting::{FROM_ZERO_MS, section};

section!(
    /// `[flusher]`
    Flusher {
        /// Where `/metrics`, `/livez` and `/readyz` are.
        admin: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8011));
        /// This many views waiting start a flush,
        updates: u64 = 30;
        /// or this many articles touched,
        articles: u64 = 10;
        /// or a view waiting this long.
        timeout_ms: Duration = ms(1_000);
        /// How often the log and the triggers are looked at.
        poll_ms: Duration = ms(50);
        /// Views in one transaction, about; at least one batch. As many that wait start a flush at once.
        transaction_views_max: u64 = 100_000, in 1..=10_000_000;
        /// How long a flusher that died keeps the others away from its shard.
        lease_ms: Duration = ms(3_000), in FROM_ZERO_MS;
    }
);
