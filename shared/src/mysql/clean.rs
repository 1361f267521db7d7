//! Deletes all counts, for `footfall clean`.

use sea_orm::ConnectionTrait;

use super::errors::Result;
use super::sql::statement;
use super::store::Store;
use super::tables::TABLES;
use super::tries::{REPEATS, repeated};

impl Store {
    /// Deletes all counts. Begins an epoch in every shard: what Redis holds of an older one is not counted any more.
    pub async fn delete_everything(&self) -> Result<()> {
        self.tables_fit().await?;
        self.refuse_followers().await?;
        repeated(REPEATS, || self.delete_counts()).await
    }

    async fn delete_counts(&self) -> Result<()> {
        let transaction = self.begin().await?;
        transaction
            .query_all_raw(statement("SELECT shard FROM footfall_shard_fence ORDER BY shard FOR UPDATE", []))
            .await?;
        for table in TABLES.iter().filter(|table| table.holds_counts) {
            transaction.execute_raw(statement(&format!("DELETE FROM {}", table.name), [])).await?;
        }
        let sql = "UPDATE footfall_shard_fence SET epoch = epoch + 1, flush_epoch = epoch, version = version + 1, views = 0, readers = 0, \
                   users = 0, articles = 0, dropped = 0";
        transaction.execute_raw(statement(sql, [])).await?;
        Ok(transaction.commit().await?)
    }
}
