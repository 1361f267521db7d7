//! `[database]`: what keeps the counts.

use std::num::NonZeroU32;
use std::time::Duration;

use super::setting::{nonzero, section};
use super::{DatabaseUrl, ms};

section!(
    /// MySQL or MariaDB: keeps the counts.
    Database {
        /// MySQL or MariaDB; `?ssl-mode=VERIFY_IDENTITY&ssl-ca=/path/ca.pem` for TLS that nobody can stand between (`ssl-ca`
        /// alone means the same), `?socket=/path` for a unix socket.
        url: DatabaseUrl = DatabaseUrl::default();
        /// A replica for the dashboard's lists and histories, so that they are no load for `database.url`; empty: they are read
        /// there. They say as of when they are.
        read_url: Option<DatabaseUrl> = None;
        /// Connections per process.
        connections_max: NonZeroU32 = nonzero!(4), in 1..=10_000;
        /// For a connection and for a read.
        timeout: Duration = ms(5_000);
    }
);
