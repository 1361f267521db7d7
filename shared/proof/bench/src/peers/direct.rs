//! What is simplest: two upserts per view, each a transaction of its own, through a pool of connections.

use footfall_shared::protocol::View;
use sea_orm::sqlx::mysql::MySqlPoolOptions;
use sea_orm::sqlx::{self, MySqlPool};

/// Enough that commits share their fsyncs. More only wait for each other's rows.
const CONNECTIONS: u32 = 32;
/// How often a deadlock is tried again.
const TRIES: usize = 10;

const READER: &str = "INSERT INTO footfall_article_readers (article, user, views) VALUES (?, ?, 1)
     ON DUPLICATE KEY UPDATE views = views + 1";
const ARTICLE: &str = "INSERT INTO footfall_articles (article, views, readers) VALUES (?, 1, ?)
     ON DUPLICATE KEY UPDATE views = views + 1, readers = readers + VALUES(readers)";

pub(super) async fn pool(url: &str) -> sqlx::Result<MySqlPool> {
    MySqlPoolOptions::new().max_connections(CONNECTIONS).min_connections(CONNECTIONS).connect(url).await
}

/// Counts a view in MySQL.
pub(super) async fn count(pool: &MySqlPool, view: &View) -> sqlx::Result<()> {
    let (article, user) = (view.article.as_bytes(), view.user.as_bytes());
    let stored = again(|| async { sqlx::query(READER).bind(article).bind(user).execute(pool).await }).await?;
    // 1 for a row that is new, 2 for one that was changed.
    let new_readers = u64::from(stored.rows_affected() == 1);
    again(|| async { sqlx::query(ARTICLE).bind(article).bind(new_readers).execute(pool).await }).await?;
    Ok(())
}

/// Runs a statement, once more if it was the one that a deadlock was resolved by.
async fn again<T, Run: Future<Output = sqlx::Result<T>>>(run: impl Fn() -> Run) -> sqlx::Result<T> {
    const DEADLOCK: &str = "40001";
    let mut tries = 0;
    loop {
        tries += 1;
        match run().await {
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(DEADLOCK) && tries < TRIES => {}
            result => return result,
        }
    }
}
