//! `[redis]`: the log of views, and the cache.

use std::path::PathBuf;
use std::time::Duration;

use webpki::anchor_from_trusted_cert;

use super::setting::section;
use super::store_url::certificates;
use super::{RedisUrl, ms};

section!(
    /// Redis: the log of the views that the database does not have yet, and the cache.
    Redis {
        /// `rediss://user:password@host:6379/0` with TLS and a password; or `unix:///path/to/socket`.
        url: RedisUrl = RedisUrl::default();
        /// With `rediss://`: a PEM file with the authorities that may have signed Redis's certificate, instead of the
        /// system's.
        ca: Option<PathBuf> = None;
        /// For a connection and for an answer.
        timeout: Duration = ms(2_000);
    }
);

impl Redis {
    /// What URL and authorities do not show alone, a sentence.
    pub(super) fn mistake(&self) -> Option<String> {
        let ca = self.ca.as_ref()?;
        if !self.url.has_tls() {
            return Some("redis.ca is set, and redis.url is not rediss://: TLS is used with rediss:// only".into());
        }
        match certificates(ca) {
            Err(why) => Some(format!("redis.ca {why}")),
            Ok(authorities) => {
                authorities.iter().find_map(|authority| anchor_from_trusted_cert(authority).err()).map(|error| {
                    format!(
                        "redis.ca, {}, cannot be used: a certificate in it is no authority's ({error})",
                        ca.display()
                    )
                })
            }
        }
    }
}
