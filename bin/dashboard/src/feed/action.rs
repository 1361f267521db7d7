//! What the feed asks the stores for, and what they reply. Everything that crosses the border to the stores is here.

use std::collections::{BTreeMap, HashMap};

use footfall_shared::mysql::StoreError;
use footfall_shared::protocol::Fence;
use footfall_shared::protocol::{Article, Shard};
use footfall_shared::redis::QueueError;
use footfall_shared::redis::presence::Report;
use footfall_shared::stores::reads::LogStatus;
use tokio::time::Instant;

use crate::conservation::Reading;

/// What is to be done next, one thing at a time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Nothing until then.
    Wait(Instant),
    /// MySQL: make sure that the tables are those of this build. Tell [`Input::SchemaIsRight`].
    CheckSchema,
    /// MySQL: read the most viewed articles. Tell [`Input::TopArticles`].
    ReadTopArticles,
    /// MySQL: read a fence, and find out how many views of `look` it covers. Tell [`Input::Fence`].
    ReadFence { shard: Shard, look: Option<LogStatus> },
    /// Redis: read what is new in a log. Tell [`Input::Followed`].
    Follow(Shard),
    /// Redis: write the copy of a fence. Tell [`Input::FenceCopyWritten`].
    WriteFenceCopy(Shard, Fence),
    /// Redis: read the copy of a fence. Tell [`Input::FenceCopy`].
    ReadFenceCopy(Shard),
    /// Redis: read leases, hit counts and presence. Tell [`Input::Activity`].
    ReadActivity,
    /// Redis: delete the report of a process that was silent for long. Tell [`Input::Done`].
    ForgetPresence(Report),
    /// Both stores, Redis first: read what the conservation check needs. Tell [`Input::Conservation`].
    ReadConservation,
    /// Memory: count the views of articles behind a position in the log of an epoch. Tell [`Input::Waiting`].
    CountWaiting(Vec<(Article, u64, u64)>),
    /// Send the snapshot to the viewers. All views before `stored_until_ms` are in MySQL, if that is known.
    Publish { stored_until_ms: Option<u64> },
}

/// What came of the last action.
#[derive(Debug)]
pub(crate) enum Input {
    /// It was done, and there is nothing to tell.
    Done,
    /// Redis did not answer, or refused.
    RedisFailed(QueueError),
    /// MySQL did not answer, or refused.
    MySqlFailed(StoreError),
    SchemaIsRight,
    /// Article, views, readers.
    TopArticles(Vec<(Article, u64, u64)>),
    Fence {
        fence: Fence,
        /// The views of the look in entries up to the fence's position, if that is known.
        stored_views: Option<u64>,
    },
    /// None if no recovery has opened the log.
    Followed(Option<LogStatus>),
    FenceCopyWritten(bool),
    FenceCopy(Option<Fence>),
    Activity(Activity),
    /// None if Redis holds nothing of a shard.
    Conservation(Option<Reading>),
    Waiting(HashMap<Article, u64>),
}

/// What Redis says of the processes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Activity {
    /// Per shard, whether a flusher holds the lease.
    pub(crate) leases: Vec<bool>,
    /// Hits and misses of Redis's own lookups.
    pub(crate) keyspace: (u64, u64),
    /// Hits and misses of reads, by interface.
    pub(crate) reads: BTreeMap<String, (u64, u64)>,
    /// What each process says of itself.
    pub(crate) reports: Vec<Report>,
}
