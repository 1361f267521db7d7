//! `[redis]`: the queue and the cache.

use std::path::PathBuf;
use std::time::Duration;

use super::setting::section;
use super::{SecretUrl, ms};

section!(
    /// `[redis]`
    Redis {
        /// `redis://[user:password@]host:port/db`, `rediss://...` for TLS, or `unix:///path/to/socket?pass=password`.
        url: SecretUrl = SecretUrl("redis://127.0.0.1:6379/0".into());
        /// With TLS: a PEM file with the authorities that may have signed Redis's certificate, instead of the system's.
        ca: Option<PathBuf> = None;
        /// How long a connection or an answer may take.
        timeout_ms: Duration = ms(2_000);
    }
);
