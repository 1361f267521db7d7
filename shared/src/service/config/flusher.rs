//! `[flusher]`: the daemon that moves counts to the database.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use super::ms;
use super::setting::{nonzero, section};

section!(
    /// footfall-flusher: moves counts from Redis to the database.
    Flusher {
        /// Where `/metrics`, `/livez` and `/readyz` are.
        admin: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8011));
        /// So many waiting views start a flush.
        updates: NonZeroU64 = nonzero!(30);
        /// So many articles with waiting views start a flush.
        articles: NonZeroU64 = nonzero!(10);
        /// A view that has waited so long starts a flush.
        timeout: Duration = ms(1_000);
        /// How often it looks at the log and at what starts a flush.
        poll: Duration = ms(50);
        /// Views in one transaction, about, and at least one batch; so many that wait start a flush at once.
        transaction_views_max: NonZeroU64 = nonzero!(100_000), in 1..=10_000_000;
        /// How long a dead flusher keeps others from its shard. 0: no lease.
        lease: Option<Duration> = Some(ms(3_000));
    }
);
