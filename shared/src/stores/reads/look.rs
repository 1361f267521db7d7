//! What the log of a shard holds, for whoever shows all of it at a steady pace: the dashboard's feed. It follows the log
//! together with the reads of single articles, so that a process reads each entry once.

use super::Reads;
use crate::protocol::keys::CacheTag;
use crate::protocol::{Article, Position, Shard};
use crate::redis::{Page, QueueError};

/// One look at the log of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogStatus {
    /// Under which epoch it is open, and the version of what is cached beside it.
    pub tag: CacheTag,
    /// What of it is there.
    pub position: Position,
    /// Views in it.
    pub pending_views: u64,
    /// Age of the oldest of them, in milliseconds; 0 if there is none.
    pub lag_ms: u64,
    /// See [`crate::protocol::DataSet::is_behind`].
    pub is_behind: bool,
    /// Whether this process has read all of it.
    pub is_whole: bool,
}

impl LogStatus {
    pub(super) fn of(tag: CacheTag, page: &Page, is_whole: bool) -> Self {
        Self {
            tag,
            position: page.position,
            pending_views: page.pending_views,
            lag_ms: page.now_ms.saturating_sub(page.stored_until_ms),
            is_behind: page.is_behind,
            is_whole,
        }
    }
}

impl Reads {
    /// Looks at the log of a shard, and reads what has come; none if no recovery has opened it.
    pub async fn follow(&self, shard: Shard) -> Result<Option<LogStatus>, QueueError> {
        let shard = &self.shards[usize::from(shard.0)];
        if let Some(look) = shard.follow().await? {
            return Ok(Some(look));
        }
        let state = shard.in_time(shard.queue.state()).await?;
        let Some(data) = state.and_then(|state| state.data).filter(|data| data.is_current) else { return Ok(None) };
        shard.set_tag(data.tag());
        shard.follow().await
    }

    /// How many of the views that `look` has found are in entries up to `position`; none if these entries were not read
    /// yet, or some are trimmed by now: then look again.
    #[must_use]
    pub fn views_up_to(&self, shard: Shard, look: &LogStatus, position: u64) -> Option<u64> {
        self.shards[usize::from(shard.0)].views_up_to(look, position)
    }

    /// Views of an article behind `position` in the log of this epoch, as far as they were read and are not trimmed.
    #[must_use]
    pub fn waiting(&self, article: &Article, epoch: u64, position: u64) -> u64 {
        self.shard_of(article).waiting(article, epoch, position)
    }
}
