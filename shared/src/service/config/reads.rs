//! `[reads]`: cache-first reads.

use std::time::Duration;

use super::ms;
use super::setting::section;

section!(
    /// Reads, which are answered from a cache in Redis first.
    Reads {
        /// Life of a cached value after its last touch, give or take a tenth, and of a list.
        ttl: Duration = ms(10_000);
        /// Life of a cached value after the last flushed view of its article, if that is longer: what is being viewed stays
        /// cached. For as long again a value is kept for reads while the database is away; each of these begins that time
        /// anew. 0: all go by `ttl_ms`.
        warm_ttl: Option<Duration> = Some(ms(600_000));
    }
);
