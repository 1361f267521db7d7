//! `[reads]`: cache-first reads.

use std::time::Duration;

use super::ms;
use super::setting::{FROM_ZERO_MS, section};

section!(
    /// `[reads]`
    Reads {
        /// How long a cached value lives after its last touch.
        ttl_ms: Duration = ms(10_000);
        /// How long that of an article lives after its last view was flushed, if that is longer.
        warm_ttl_ms: Duration = ms(600_000), in FROM_ZERO_MS;
    }
);
