//! MySQL came back older than it was, and a person has decided to go on from there.

use sea_orm::ConnectionTrait;

use super::audit::fences_of_shard;
use super::errors::Result;
use super::sql::statement;
use super::store::Store;
use super::transaction::{lock, quarantine};
use super::tries::{REPEATS, repeated};
use crate::protocol::{Positions, Shard};

/// What others know that MySQL once had of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Redis's data set: its epoch, its version, and the last position that it acknowledged.
    pub data: Option<(u64, u64, u64)>,
    /// Batches that came through Redis.
    pub through_redis: Positions,
    /// Batches that came directly.
    pub direct: Positions,
}

/// What MySQL does not have any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Entries of the log.
    pub entries: u64,
    /// Batches, of both paths.
    pub batches: u64,
    /// Views in them.
    pub views: u64,
    /// Whether MySQL is behind in anything.
    pub is_behind: bool,
}

impl Store {
    /// Moves the fences of a shard to where others know that they were. Views in between stay in quarantine as lost, so
    /// that the books go on to balance (I9). Begins an epoch: whoever has an opinion on an older one has to look again.
    /// With `accept` off nothing is changed, and the answer says what would be lost.
    pub async fn accept_restore(&self, shard: Shard, known: &Known, accept: bool) -> Result<Lost> {
        repeated(REPEATS, || self.accept_once(shard, known, accept)).await
    }

    async fn accept_once(&self, shard: Shard, known: &Known, accept: bool) -> Result<Lost> {
        let transaction = self.begin().await?;
        let fence = lock(&transaction, shard).await?;
        let mut lost = Lost::default();
        for (table, positions) in
            [("footfall_producer_fence", &known.through_redis), ("footfall_direct_fence", &known.direct)]
        {
            let fenced = fences_of_shard(&transaction, table, shard).await?;
            for (producer, (batch, views)) in positions {
                let (had, had_views) = fenced.get(producer).copied().unwrap_or_default();
                // One who knows of fewer views than MySQL has is no witness.
                let Some(views) = views.checked_sub(had_views).filter(|_| *batch > had) else { continue };
                lost.batches = lost.batches.saturating_add(batch - had);
                lost.views = lost.views.saturating_add(views);
                let sql = format!(
                    "INSERT INTO {table} (shard, producer, batch, views) VALUES (?, ?, ?, ?) \
                     ON DUPLICATE KEY UPDATE batch = VALUES(batch), views = views + VALUES(views)"
                );
                let values = [shard.0.into(), producer.0.into(), (*batch).into(), views.into()];
                transaction.execute_raw(statement(&sql, values)).await?;
                if views > 0 {
                    let reason = format!(
                        "lost: MySQL was restored from a backup without the batches {} to {batch} of producer {producer}; \
                         their readers and articles are not known",
                        had.saturating_add(1)
                    );
                    quarantine(&transaction, shard, (fence.epoch, fence.position), ("", "", views), &reason).await?;
                }
            }
        }
        let (epoch, version, position) = known.data.unwrap_or_default();
        if known.data.is_some() && epoch >= fence.flush_epoch {
            lost.entries = position.saturating_sub(fence.position);
        }
        lost.is_behind = lost.batches > 0 || lost.entries > 0 || epoch > fence.epoch || version > fence.version;
        if !accept || !lost.is_behind {
            transaction.rollback().await?;
            return Ok(lost);
        }
        let sql =
            "UPDATE footfall_shard_fence SET epoch = ?, position = ?, flush_epoch = ?, version = ? WHERE shard = ?";
        let values = [
            (fence.epoch.max(epoch) + 1).into(),
            (fence.position + lost.entries).into(),
            // What waits in that data set follows.
            (if lost.entries > 0 { epoch } else { fence.flush_epoch }).into(),
            (fence.version.max(version) + 1).into(),
            shard.0.into(),
        ];
        transaction.execute_raw(statement(sql, values)).await?;
        transaction.commit().await?;
        Ok(lost)
    }
}
