//! What lists need to be read in the order of a key. The build before can go on beside it.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{DbBackend, Statement};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0003_lists"
    }
}

/// Table, key, and what adds it.
const KEYS: [(&str, &str, &str); 2] = [
    ("footfall_articles", "by_readers", "ADD KEY by_readers (readers)"),
    // By hour first: what rose in the last hours lies together, and old hours are not touched again.
    (
        "footfall_article_hours",
        "by_article",
        "DROP PRIMARY KEY, ADD PRIMARY KEY (hour, article), ADD KEY by_article (article, hour)",
    ),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for (table, key, change) in KEYS {
            // Asked first, because an upgrade may have been cut off. Each change is one statement, all or nothing.
            let sql = "SELECT INDEX_NAME FROM information_schema.STATISTICS \
                       WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND INDEX_NAME = ?";
            let statement = Statement::from_sql_and_values(DbBackend::MySql, sql, [table.into(), key.into()]);
            if db.query_one_raw(statement).await?.is_none() {
                db.execute_unprepared(&format!("ALTER TABLE {table} {change}")).await?;
            }
        }
        Ok(())
    }
}
