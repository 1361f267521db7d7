//! What is known of one shard, of both stores.

use std::time::Duration;

use footfall_shared::protocol::Fence;
use footfall_shared::redis::{Queue, QueueError};
use footfall_shared::stores::reads::{Look, Reads};
use tokio::time::Instant;

use crate::frame::Backlog;
use crate::numbers::{self, Pending};

/// A fence is read again after this, even if nothing was flushed: to know whether MySQL is there, and
/// whether it was emptied. One row by its key per second: an idle site costs MySQL next to nothing.
const FENCE_AGE_MAX: Duration = Duration::from_secs(1);

pub(super) struct ShardView {
    pub(super) queue: Queue,
    /// As of the last look; none if Redis could not be read, or no recovery has opened its log.
    pub(super) look: Option<Look>,
    /// How many of the views in it are in entries up to the position of the fence, if that is known.
    stored_views: Option<u64>,
    /// As of the time beside it.
    fence: Option<(Instant, Fence)>,
    /// The ranking contains no entry behind the position of this one; none while that is not known.
    pub(super) ranked: Option<Fence>,
    /// The fence that was kept for others.
    kept: Option<Fence>,
    /// Whether a flusher is at work, as of the last slow look.
    pub(super) is_leased: bool,
}

impl ShardView {
    pub(super) fn new(queue: Queue) -> Self {
        Self { queue, look: None, stored_views: None, fence: None, ranked: None, kept: None, is_leased: false }
    }

    /// Looks at Redis.
    pub(super) async fn look(&mut self, reads: &Reads) -> Result<(), QueueError> {
        self.stored_views = None;
        self.look = reads.follow(self.queue.shard()).await?;
        Ok(())
    }

    pub(super) fn fence(&self) -> Option<Fence> {
        self.fence.map(|(_, fence)| fence)
    }

    /// Takes what MySQL has now; answers whether its numbers went back.
    pub(super) fn set_fence(&mut self, fence: Fence, reads: &Reads) -> bool {
        let shard = self.queue.shard();
        self.stored_views = self.look.and_then(|look| reads.views_up_to(shard, &look, fence.position));
        let before = self.fence.replace((Instant::now(), fence));
        before.is_some_and(|(_, before)| numbers::is_reset(&before, &fence))
    }

    /// Keeps the fence in Redis, where a dashboard finds it that is started while MySQL is away; or finds it there.
    pub(super) async fn share_fence(&mut self, is_mysql_away: bool) -> Result<(), QueueError> {
        match self.fence() {
            Some(fence) if !is_mysql_away && self.kept != Some(fence) => {
                // Refused by a Redis that is full, it is missed by nobody who can be helped.
                let kept = self.queue.keep_fence(&fence).await;
                self.kept = kept.is_ok().then_some(fence);
            }
            None if is_mysql_away => {
                self.fence = self.queue.kept_fence().await?.map(|fence| (Instant::now(), fence));
            }
            _ => {}
        }
        Ok(())
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
    pub(super) fn is_fence_due(&self) -> bool {
        let Some((read_at, _)) = &self.fence else {
            return true;
        };
        let flushed = self.pending().is_some_and(|pending| !pending.is_exact);
        flushed || read_at.elapsed() > FENCE_AGE_MAX
    }

    /// Whether the ranking contains all that is flushed.
    pub(super) fn is_ranked(&self) -> bool {
        let at = |fence: Fence| (fence.epoch, fence.position);
        self.fence().zip(self.ranked).is_some_and(|(fence, ranked)| at(fence) <= at(ranked))
    }

    pub(super) fn backlog(&self) -> Backlog {
        let look = self.look;
        Backlog {
            shard: self.queue.shard().0,
            epoch: look.map(|look| look.age.epoch),
            position: look.map(|look| look.position.tail),
            pending_views: look.map(|look| look.pending_views),
            log_entries: look.map(|look| look.position.entries()),
            lag_ms: look.map(|look| look.lag_ms),
        }
    }
}
