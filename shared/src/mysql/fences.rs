//! What the protocol asks of MySQL.

use super::errors::{NO_FENCE, Result};
use super::sql::{FENCES, TRANSACTION_MAX, fence_of, in_time};
use super::store::{Store, StoreFuture};
use super::transaction;
use crate::protocol::{
    Article, Batch, Committed, Direct, Fence, Flush, Histories, Recovery, Shard, StoredArticle, shown,
};

/// What the protocol asks of MySQL. A trait, so that a simulation can be another world for the same code.
pub trait Fences: Send + Sync {
    /// Refuses a database of another schema version or another number of shards.
    fn check_schema(&self, shards: u16) -> StoreFuture<'_, ()>;
    /// The position of a shard.
    fn fence(&self, shard: Shard) -> StoreFuture<'_, Fence>;
    /// Begins the epoch after `epoch` of a shard: no flush under an older one commits from here on. Answers none if
    /// another process has begun it.
    fn next_epoch(&self, shard: Shard, epoch: u64) -> StoreFuture<'_, Option<Recovery>>;
    /// Writes a flush in one transaction, unless the fence says that it must not be written. Safe to
    /// repeat after an error, whatever became of the first try: the fence knows.
    fn commit<'a>(&'a self, shard: Shard, epoch: u64, flush: &'a Flush) -> StoreFuture<'a, Committed>;
    /// Writes a batch of the direct path in one transaction, once, however often it is called.
    fn commit_direct<'a>(&'a self, shard: Shard, batch: &'a Batch) -> StoreFuture<'a, Direct>;
    /// One article's row and the position of its shard, in one snapshot.
    fn article<'a>(&'a self, shard: Shard, article: &'a Article) -> StoreFuture<'a, StoredArticle>;
}

impl Store {
    async fn fence_of_shard(&self, shard: Shard) -> Result<Fence> {
        let row = self.one(&format!("{FENCES} WHERE shard = ?"), [shard.0.into()]).await?.ok_or(NO_FENCE)?;
        fence_of(&row)
    }

    /// All fences, by shard.
    pub async fn fences(&self) -> Result<Vec<Fence>> {
        self.all(&format!("{FENCES} ORDER BY shard"), []).await?.iter().map(fence_of).collect()
    }

    /// One article's numbers with the position that they belong to, in one consistent look.
    pub async fn article(&self, shard: Shard, article: &Article) -> Result<StoredArticle> {
        let sql = "SELECT f.epoch, f.position, f.version, f.views AS shard_views, a.views, a.readers \
                   FROM footfall_shard_fence f LEFT JOIN footfall_articles a ON a.article = ? WHERE f.shard = ?";
        let row = self.one(sql, [article.as_bytes().to_vec().into(), shard.0.into()]).await?.ok_or(NO_FENCE)?;
        Ok(StoredArticle {
            epoch: row.try_get("", "epoch")?,
            position: row.try_get("", "position")?,
            version: row.try_get("", "version")?,
            shard_views: row.try_get("", "shard_views")?,
            views: shown(row.try_get::<Option<u64>>("", "views")?.unwrap_or(0)),
            readers: row.try_get::<Option<u64>>("", "readers")?.unwrap_or(0),
        })
    }

    /// Writes a batch of an import in one transaction, once, however often it is called: as one of the direct path, but
    /// its views were at many times.
    pub async fn import(&self, shard: Shard, batch: &Batch, histories: &Histories) -> Result<Direct> {
        let work = transaction::import(self, shard, batch, histories);
        self.explained(in_time(TRANSACTION_MAX, work).await).await
    }
}

impl Fences for Store {
    fn check_schema(&self, shards: u16) -> StoreFuture<'_, ()> {
        Box::pin(self.schema_is_right(shards))
    }

    fn fence(&self, shard: Shard) -> StoreFuture<'_, Fence> {
        Box::pin(self.fence_of_shard(shard))
    }

    fn next_epoch(&self, shard: Shard, epoch: u64) -> StoreFuture<'_, Option<Recovery>> {
        let work = transaction::next_epoch(self, shard, epoch);
        Box::pin(async { self.explained(in_time(TRANSACTION_MAX, work).await).await })
    }

    fn commit<'a>(&'a self, shard: Shard, epoch: u64, flush: &'a Flush) -> StoreFuture<'a, Committed> {
        let work = transaction::commit(self, shard, epoch, flush);
        Box::pin(async { self.explained(in_time(TRANSACTION_MAX, work).await).await })
    }

    fn commit_direct<'a>(&'a self, shard: Shard, batch: &'a Batch) -> StoreFuture<'a, Direct> {
        let work = transaction::commit_direct(self, shard, batch);
        Box::pin(async { self.explained(in_time(TRANSACTION_MAX, work).await).await })
    }

    fn article<'a>(&'a self, shard: Shard, article: &'a Article) -> StoreFuture<'a, StoredArticle> {
        Box::pin(Store::article(self, shard, article))
    }
}
