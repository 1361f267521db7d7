//! The time, as it is handed to everything that decides. Only the code that does I/O reads the clocks, so that tests run
//! hours of operation in milliseconds.

use footfall_shared::service::clock;
use tokio::time::Instant;

/// One reading of both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// For durations: it never goes back.
    pub(crate) at: Instant,
    /// For people: milliseconds since 1970.
    pub(crate) unix_ms: u64,
}

impl Now {
    /// Reads the clocks.
    #[must_use]
    pub(crate) fn read() -> Self {
        Self { at: Instant::now(), unix_ms: clock::unix_ms() }
    }

    /// The time of day as RFC 3339.
    #[must_use]
    pub(crate) fn rfc3339(self) -> String {
        clock::rfc3339(self.unix_ms)
    }
}
