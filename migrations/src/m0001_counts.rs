//! Counts, fences and the two views that analysts may rely on.

use sea_orm_migration::prelude::*;

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0001_counts"
    }
}

/// Ids are VARBINARY: they compare by bytes, without case, accent or trailing-space folding.
const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS footfall_schema_version (
        one TINYINT UNSIGNED NOT NULL PRIMARY KEY,
        version INT UNSIGNED NOT NULL,
        shards INT UNSIGNED NOT NULL
    ) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS footfall_articles (
        article VARBINARY(255) NOT NULL PRIMARY KEY,
        views BIGINT UNSIGNED NOT NULL,
        readers BIGINT UNSIGNED NOT NULL,
        KEY by_views (views)
    ) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS footfall_article_readers (
        article VARBINARY(255) NOT NULL,
        user VARBINARY(128) NOT NULL,
        views BIGINT UNSIGNED NOT NULL,
        PRIMARY KEY (article, user),
        KEY by_user (user)
    ) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS footfall_users (
        user VARBINARY(128) NOT NULL PRIMARY KEY
    ) ENGINE = InnoDB",
    // Hours and minutes since 1970 UTC.
    "CREATE TABLE IF NOT EXISTS footfall_article_hours (
        article VARBINARY(255) NOT NULL,
        hour INT UNSIGNED NOT NULL,
        views BIGINT UNSIGNED NOT NULL,
        PRIMARY KEY (article, hour)
    ) ENGINE = InnoDB",
    // With the shard in the key, so that two shards never wait for the same row.
    "CREATE TABLE IF NOT EXISTS footfall_site_minutes (
        minute INT UNSIGNED NOT NULL,
        shard SMALLINT UNSIGNED NOT NULL,
        views BIGINT UNSIGNED NOT NULL,
        PRIMARY KEY (minute, shard)
    ) ENGINE = InnoDB",
    // The position of each shard, written in the same transaction as the counts that it speaks of; and
    // running totals, so that the site's numbers are one row.
    "CREATE TABLE IF NOT EXISTS footfall_shard_fence (
        shard SMALLINT UNSIGNED NOT NULL PRIMARY KEY,
        epoch BIGINT UNSIGNED NOT NULL DEFAULT 0,
        gen BIGINT UNSIGNED NOT NULL DEFAULT 0,
        flush_epoch BIGINT UNSIGNED NOT NULL DEFAULT 0,
        views BIGINT UNSIGNED NOT NULL DEFAULT 0,
        readers BIGINT UNSIGNED NOT NULL DEFAULT 0,
        users BIGINT UNSIGNED NOT NULL DEFAULT 0,
        articles BIGINT UNSIGNED NOT NULL DEFAULT 0
    ) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS footfall_producer_fence (
        shard SMALLINT UNSIGNED NOT NULL,
        producer BIGINT UNSIGNED NOT NULL,
        batch BIGINT UNSIGNED NOT NULL,
        views BIGINT UNSIGNED NOT NULL,
        PRIMARY KEY (shard, producer)
    ) ENGINE = InnoDB",
    // Batches that go to MySQL directly while Redis is away.
    "CREATE TABLE IF NOT EXISTS footfall_direct_fence (
        shard SMALLINT UNSIGNED NOT NULL,
        producer BIGINT UNSIGNED NOT NULL,
        batch BIGINT UNSIGNED NOT NULL,
        views BIGINT UNSIGNED NOT NULL,
        PRIMARY KEY (shard, producer)
    ) ENGINE = InnoDB",
    // Rows that could not be stored, with the reason, until a person decides.
    "CREATE TABLE IF NOT EXISTS footfall_quarantine (
        id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        shard SMALLINT UNSIGNED NOT NULL,
        epoch BIGINT UNSIGNED NOT NULL,
        gen BIGINT UNSIGNED NOT NULL,
        article VARBINARY(255) NOT NULL,
        user VARBINARY(128) NOT NULL,
        views BIGINT UNSIGNED NOT NULL,
        reason TEXT NOT NULL,
        since TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
    ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    // Stable names for analysts, whatever becomes of the tables. Ids as text, compared by bytes.
    "CREATE OR REPLACE VIEW article_counts AS
        SELECT CONVERT(article USING utf8mb4) COLLATE utf8mb4_bin AS article, views, readers FROM footfall_articles",
    "CREATE OR REPLACE VIEW reader_counts AS
        SELECT CONVERT(article USING utf8mb4) COLLATE utf8mb4_bin AS article,
               CONVERT(user USING utf8mb4) COLLATE utf8mb4_bin AS user, views FROM footfall_article_readers",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in TABLES {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}
