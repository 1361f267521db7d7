//! What counting without Redis, view ids and quarantine need to remember. Expands only: the build before can go on
//! beside it.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{DbBackend, Statement};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0002_fallbacks"
    }
}

/// Table, column.
const COLUMNS: [(&str, &str); 3] = [
    // Grows whenever the counts change by anything but a flush.
    ("footfall_shard_fence", "version"),
    // Views that a person has dropped from quarantine.
    ("footfall_shard_fence", "dropped"),
    // Views left out because their id was counted before.
    ("footfall_producer_fence", "repeats"),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for (table, column) in COLUMNS {
            // Asked first, because MySQL has no `ADD COLUMN IF NOT EXISTS`, and an upgrade may have been cut off.
            let sql = "SELECT COLUMN_NAME FROM information_schema.COLUMNS \
                       WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND COLUMN_NAME = ?";
            let values = [table.into(), column.into()];
            let found = db.query_one_raw(Statement::from_sql_and_values(DbBackend::MySql, sql, values)).await?;
            if found.is_none() {
                let sql = format!("ALTER TABLE {table} ADD COLUMN {column} BIGINT UNSIGNED NOT NULL DEFAULT 0");
                db.execute_unprepared(&sql).await?;
            }
        }
        Ok(())
    }
}
