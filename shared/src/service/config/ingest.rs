//! `[ingest]`: the HTTP service that counts.

use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::setting::{NUMBER_MAX, nonzero, section, settings_of_text};
use super::{Bots, Origins, WebUrl, ms};

/// A journal needs room for a few segments.
pub const JOURNAL_BYTES_MIN: u64 = 8 << 20;
/// Room for some ten thousand view ids, those of a few batches.
const IDS_BYTES_MIN: u64 = 1 << 20;

section!(
    /// footfall-ingest: counts views.
    Ingest {
        /// Where views come in.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8000));
        /// Where `/metrics`, `/livez` and `/readyz` are.
        admin: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8010));
        /// How others reach it; for `footfall load`.
        url: WebUrl = WebUrl::of(8000);
        /// Further connections are closed at once. A connection is an open file: see `LimitNOFILE` in the unit.
        connections_max: NonZeroUsize = nonzero!(20_000), in 1..=10_000_000;
        /// For a request's head; idle connections too, and clients that take nothing of an answer, or acknowledge nothing.
        header_timeout: Duration = ms(10_000);
        /// For a request's body.
        body_timeout: Duration = ms(10_000);
        /// Largest body of `POST /v1/views`.
        body_bytes_max: NonZeroUsize = nonzero!(1 << 20), in 1..=1 << 30;
        /// Memory for the bodies of all requests together, but for the first 4 KiB of each; then 503. At least
        /// `ingest.body_bytes_max`.
        bodies_bytes_max: NonZeroUsize = nonzero!(64 << 20), in 1..=1 << 40;
        /// Views in one request.
        request_views_max: NonZeroUsize = nonzero!(10_000), in 1..=10_000_000;
        /// Views that one ingest counts for one address (one /64, in IPv6), with ten seconds' worth at once; more are
        /// [refused with 429](docs/operations.md#what-one-address-may-send). 0: no limit.
        views_per_second: Option<NonZeroU32> = None, in 0..=1_000_000;
        /// Articles of which this ingest has not heard lately that one address may bring up, all at once if need be; then
        /// 429. 0: no limit.
        new_articles_per_minute: Option<NonZeroU32> = None, in 0..=1_000_000;
        /// Views that may wait for their batch, per shard; then 503.
        queue_views_max: NonZeroUsize = nonzero!(100_000), in 1..=1_000_000_000;
        /// Views in one batch, about.
        batch_views_max: NonZeroUsize = nonzero!(2_000), in 1..=100_000;
        /// After a batch of fewer than 16 views the next one of its shard is not sent before this. Many ingests with many
        /// shards have small batches, of which [each costs](docs/scale.md#what-waiting-saves). 0: at once.
        linger: Option<Duration> = None, in 0..=100;
        /// Redis's memory for the view ids of the last 10 to 20 minutes, some 96 bytes each, all shards together, and never
        /// more than a quarter of its `maxmemory`; beyond it the oldest are forgotten early.
        ids_bytes_max: NonZeroU64 = nonzero!(256 << 20), in IDS_BYTES_MIN..=NUMBER_MAX;
        /// A folder on a disk of ingest's machine that it may write to (the unit allows it this one); several ingests may
        /// share it. `off`: no journal, which [promises less](docs/guarantees.md).
        journal: Journal = Journal(Some("/var/lib/footfall/journal".into()));
        /// Disk space of the journal, per shard; then 503.
        journal_bytes_max: NonZeroU64 = nonzero!(1 << 30), in JOURNAL_BYTES_MIN..=NUMBER_MAX;
        /// What an acknowledged view outlives, whatever becomes of Redis: the end of all `process`es, or of the machine's
        /// `power` too. Then a view is acknowledged when the journal's disk or the database has it, which [takes
        /// longer](docs/performance.md#power-or-process).
        durability: Durability = Durability::Process;
        /// With `process`, a batch that neither Redis nor the database has confirmed after this is brought to the journal's
        /// disk and acknowledged.
        journal_sync: Duration = ms(100);
        /// Without a journal: memory for batches that the database does not have, per shard; then 503.
        retained_bytes_max: NonZeroUsize = nonzero!(256 << 20);
        /// Sites whose pages may [read the answers](docs/site.md#in-the-page), separated by commas, such as
        /// `https://news.example, http://localhost:3000`; `*`: all; empty: none.
        allowed_origins: Origins = Origins::default();
        /// Whether a view may come [without a user](docs/site.md#readers-without-a-name): it then counts for a name that is made of
        /// address and `User-Agent`, and lasts for a day.
        anonymous: bool = true;
        /// Words in the `User-Agent` of what is [not counted](docs/site.md#bots), separated by commas, in whatever case.
        bots: Bots = Bots::default();
        /// Then a waiting client gets 503.
        answer_timeout: Duration = ms(10_000);
        /// After SIGTERM: half of it serving on with `/readyz` 503, half of it finishing. systemd waits 30 s at most.
        drain: Option<Duration> = Some(ms(5_000));
    }
);
settings_of_text!(Origins: "list", Bots: "list", Journal: "path or `off`", Durability: "`process` or `power`");

/// What an acknowledged view outlives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of any process: the journal's page cache, or Redis, has the view.
    Process,
    /// The end of the machine: the journal's disk, or MySQL, has it.
    Power,
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "process" => Ok(Self::Process),
            "power" => Ok(Self::Power),
            _ => Err("process or power".into()),
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::Power => "power",
        })
    }
}

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
