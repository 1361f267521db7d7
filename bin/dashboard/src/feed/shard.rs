//! What is known of one shard, from both stores.

use std::time::Duration;

use footfall_shared::protocol::Fence;
use footfall_shared::protocol::Shard;
use footfall_shared::stores::reads::LogStatus;
use tokio::time::Instant;

use crate::numbers::{self, Pending};
use crate::snapshot::Backlog;

/// A fence is read again after this, even if nothing was flushed: to know whether MySQL is there, and whether it was
/// emptied. That is one row by its key per second, so an idle site costs MySQL next to nothing.
const FENCE_AGE_MAX: Duration = Duration::from_secs(1);

pub(super) struct ShardView {
    pub(super) shard: Shard,
    /// The log as it was read last; none if Redis could not be read, or no recovery has opened the log.
    pub(super) look: Option<LogStatus>,
    /// How many of the views in the log are in entries up to the fence's position, if that is known.
    stored_views: Option<u64>,
    /// What MySQL has, and when it was asked.
    fence: Option<(Instant, Fence)>,
    /// The ranking contains no entry behind the position of this fence; none while that is not known.
    pub(super) ranked: Option<Fence>,
    /// The fence as Redis holds it for other dashboards.
    shared: Option<Fence>,
    /// Whether a flusher holds the lease.
    pub(super) is_leased: bool,
}

/// What is to be done about the copy of the fence in Redis, where a dashboard finds it that starts while MySQL is away.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FenceCopy {
    Write(Fence),
    Read,
}

impl ShardView {
    pub(super) fn new(shard: Shard) -> Self {
        Self { shard, look: None, stored_views: None, fence: None, ranked: None, shared: None, is_leased: false }
    }

    /// Takes what Redis has now.
    pub(super) fn set_look(&mut self, look: Option<LogStatus>) {
        self.look = look;
        self.stored_views = None;
    }

    pub(super) fn fence(&self) -> Option<Fence> {
        self.fence.map(|(_, fence)| fence)
    }

    /// Takes what MySQL has now, and how many views of the log that are. Returns whether MySQL's numbers went back.
    pub(super) fn set_fence(&mut self, now: Instant, fence: Fence, stored_views: Option<u64>) -> bool {
        self.stored_views = stored_views;
        let before = self.fence.replace((now, fence));
        before.is_some_and(|(_, before)| numbers::is_reset(&before, &fence))
    }

    pub(super) fn fence_copy(&self, is_mysql_away: bool) -> Option<FenceCopy> {
        match self.fence() {
            Some(fence) if !is_mysql_away && self.shared != Some(fence) => Some(FenceCopy::Write(fence)),
            None if is_mysql_away => Some(FenceCopy::Read),
            _ => None,
        }
    }

    /// The copy was written, or was not: a Redis that is full refuses it, and then nobody could be helped by it.
    pub(super) fn copy_written(&mut self, is_written: bool) {
        self.shared = self.fence().filter(|_| is_written);
    }

    pub(super) fn copy_read(&mut self, now: Instant, copy: Option<Fence>) {
        self.fence = copy.map(|fence| (now, fence));
    }

    /// The views that wait above what MySQL has.
    pub(super) fn pending(&self) -> Option<Pending> {
        let look = self.look?;
        Some(match &self.fence {
            Some((_, fence)) => Pending::above(fence, &look, self.stored_views),
            None => Pending { views: look.pending_views, is_exact: false },
        })
    }

    /// Whether MySQL must be asked before its numbers and those of Redis can be added up.
    pub(super) fn is_fence_due(&self, now: Instant) -> bool {
        let Some((read_at, _)) = &self.fence else {
            return true;
        };
        let is_flushed = self.pending().is_some_and(|pending| !pending.is_exact);
        is_flushed || now - *read_at > FENCE_AGE_MAX
    }

    /// Whether the ranking contains all that is flushed.
    pub(super) fn is_ranked(&self) -> bool {
        let at = |fence: Fence| (fence.epoch, fence.position);
        self.fence().zip(self.ranked).is_some_and(|(fence, ranked)| at(fence) <= at(ranked))
    }

    /// The epoch and position behind which the log's views are not in the ranking yet; none if that is not known.
    pub(super) fn unranked_from(&self) -> Option<(u64, u64)> {
        let (look, ranked) = self.look.zip(self.ranked)?;
        (look.tag.epoch == ranked.epoch).then_some((ranked.epoch, ranked.position))
    }

    pub(super) fn backlog(&self) -> Backlog {
        let look = self.look;
        Backlog {
            shard: self.shard.0,
            epoch: look.map(|look| look.tag.epoch),
            position: look.map(|look| look.position.tail),
            pending_views: look.map(|look| look.pending_views),
            log_entries: look.map(|look| look.position.entries()),
            lag_ms: look.map(|look| look.lag_ms),
        }
    }
}
