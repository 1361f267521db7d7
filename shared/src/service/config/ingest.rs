//! `[ingest]`: the HTTP service that counts.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::setting::{FROM_ZERO_MS, NUMBER_MAX, section, settings_of_text};
use super::{Bots, Origins, WebUrl, ms};

/// A journal needs room for a few segments.
pub const JOURNAL_BYTES_MIN: u64 = 8 << 20;
/// Room for some ten thousand view ids, those of a few batches.
const IDS_BYTES_MIN: u64 = 1 << 20;

section!(
    /// `[ingest]`
    Ingest {
        /// Where views come in.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8000));
        /// Where `/metrics` is.
        admin: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8010));
        /// How others reach it; for `footfall load`.
        url: WebUrl = WebUrl::of(8000);
        /// Connections at once; more are closed at once.
        connections_max: usize = 20_000, in 1..=10_000_000;
        /// A request's head must arrive within this time.
        header_timeout_ms: Duration = ms(10_000);
        /// A request's body must arrive within this time.
        body_timeout_ms: Duration = ms(10_000);
        /// Largest body of `POST /v1/views`.
        body_bytes_max: usize = 1 << 20, in 1..=1 << 30;
        /// Memory for the bodies of all requests together, but for the first 4 KiB of each; beyond it 503.
        bodies_bytes_max: usize = 64 << 20, in 1..=1 << 40;
        /// Largest number of views in one request.
        request_views_max: usize = 10_000, in 1..=10_000_000;
        /// Views per second that are counted for one address (one /64, in IPv6), with ten seconds' worth at once; more
        /// are refused with 429. 0: as many as come.
        views_per_second: u32 = 0, in 0..=1_000_000;
        /// Articles per minute that one address may bring up of which this ingest has not heard lately, all at once if
        /// need be; further ones are refused with 429. 0: as many as come.
        new_articles_per_minute: u32 = 0, in 0..=1_000_000;
        /// Views that may wait for their batch, per shard; more are refused with 503.
        queue_views_max: usize = 100_000, in 1..=1_000_000_000;
        /// Views in one batch, at most.
        batch_views_max: usize = 2_000, in 1..=100_000;
        /// The folder of the journal, on a disk of this machine; several ingests may share it. `off`: without one, views
        /// that Redis loses are lost if ingest ends too, and while both stores are away none is counted.
        journal: Journal = Journal(Some("/var/lib/footfall/journal".into()));
        /// Disk space of the journal, per shard; beyond it views are refused with 503.
        journal_bytes_max: u64 = 1 << 30, in JOURNAL_BYTES_MIN..=NUMBER_MAX;
        /// When neither Redis nor MySQL has confirmed a batch after this, the journal is brought to the disk and the
        /// batch acknowledged.
        journal_sync_ms: Duration = ms(100);
        /// Without a journal: memory for batches that MySQL does not have yet, per shard; beyond it 503.
        retained_bytes_max: usize = 256 << 20;
        /// Redis's memory for the ids of views counted lately, all shards together, and never more than a quarter of its
        /// `maxmemory`. What does not fit is forgotten before its time: see `footfall_view_ids_window_seconds`.
        ids_bytes_max: u64 = 256 << 20, in IDS_BYTES_MIN..=NUMBER_MAX;
        /// Sites whose pages may read the answers, such as `https://news.example`; `*`: all; empty: none.
        allowed_origins: Origins = Origins::default();
        /// Whether a view may come without a user: it is then counted for a name that is made of address and
        /// `User-Agent`, and lasts for a day.
        anonymous: bool = true;
        /// Views are not counted if one of these is in their `User-Agent`, in whatever case.
        bots: Bots = Bots::default();
        /// How long a client waits for its acknowledgement before it gets 503.
        answer_timeout_ms: Duration = ms(10_000);
        /// After SIGTERM: how long open connections are served before they are closed.
        drain_ms: Duration = ms(5_000), in FROM_ZERO_MS;
    }
);
settings_of_text!(Origins, Bots, Journal);

/// Where the journal is, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal(Option<PathBuf>);

impl Journal {
    /// Its folder; none if it is off.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.0.as_deref()
    }
}

impl FromStr for Journal {
    type Err = String;

    /// A word that is no path is no folder: who writes `none` or `OFF` does not want a folder of that name.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            _ if text.contains('/') && text.trim() == text => Ok(Self(Some(text.into()))),
            _ => Err("the path of a folder, such as /var/lib/footfall/journal or ./journal, or off".into()),
        }
    }
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(folder) => folder.display().fmt(f),
            None => f.write_str("off"),
        }
    }
}
