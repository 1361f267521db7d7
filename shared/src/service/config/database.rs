//! `[database]`: the store.

use std::time::Duration;

use super::setting::section;
use super::{SecretUrl, ms};

section!(
    /// `[database]`
    Database {
        /// `mysql://user:password@host:port/database`; `?socket=/path` for a unix socket,
        /// `?ssl-mode=VERIFY_IDENTITY&ssl-ca=/path` for TLS.
        url: SecretUrl = SecretUrl("mysql://footfall@127.0.0.1:3306/footfall".into());
        /// Connections per process.
        connections_max: u32 = 4, in 1..=10_000;
        /// How long a connection may take to be made or to become free.
        timeout_ms: Duration = ms(5_000);
    }
);
