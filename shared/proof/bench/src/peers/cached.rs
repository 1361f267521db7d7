//! What people run: one EVALSHA per view, and a job that every second moves what came since into MySQL.
//!
//! The job takes counts out of Redis before it writes them, in one transaction of Redis, so that no view is moved twice.
//! Between that and the COMMIT they are in its memory only: whoever kills it there loses them.

use std::sync::LazyLock;
use std::time::Duration;

use footfall_shared::protocol::View;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, RedisResult, Script};
use sea_orm::sqlx::{Connection, MySqlConnection};
use tokio::time::MissedTickBehavior;

use crate::bulk::{self, Row};

/// The set of articles that the job must look at.
pub(crate) const DIRTY: &str = "peer:dirty";
/// How often the job has moved everything that was there when it began.
pub(crate) const PASSES: &str = "peer:passes";
const TOTALS: &str = "peer:totals";

const EVERY: Duration = Duration::from_secs(1);
/// Articles that are taken out of Redis in one go.
const TAKEN_ARTICLES: usize = 1_000;
/// Rows of readers from which on a transaction is committed.
const TRANSACTION_ROWS: usize = 20_000;

/// The usual three things of a counter: how often, by whom, and what the job must look at.
static COUNT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
         redis.call('HINCRBY', KEYS[2], ARGV[2], 1)
         redis.call('SADD', KEYS[3], ARGV[1])",
    )
});

fn readers(article: &str) -> String {
    format!("peer:readers:{article}")
}

/// Counts a view in Redis.
pub(super) async fn count(mut redis: MultiplexedConnection, view: &View) -> RedisResult<()> {
    let mut count = COUNT.key(TOTALS);
    count.key(readers(view.article.as_str())).key(DIRTY).arg(view.article.as_bytes()).arg(view.user.as_bytes());
    count.invoke_async(&mut redis).await
}

/// The job.
pub(super) async fn move_for_ever(mut redis: MultiplexedConnection, url: &str) -> anyhow::Result<()> {
    let mut mysql = MySqlConnection::connect(url).await?;
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        // What becomes dirty meanwhile waits for the next second, or this one would never end.
        let mut left: usize = redis.scard(DIRTY).await?;
        while left > 0 {
            let mut rows = Vec::new();
            while left > 0 && rows.len() < TRANSACTION_ROWS {
                let taken = take(&mut redis, &mut rows).await?;
                left = if taken == 0 { 0 } else { left.saturating_sub(taken) };
            }
            rows.sort_unstable();
            // What was taken is nowhere else: it is kept until it is written, however long MySQL is away.
            while let Err(error) = bulk::add(&mut mysql, &rows).await {
                eprintln!("{error}");
                tokio::time::sleep(EVERY).await;
                if let Ok(connection) = MySqlConnection::connect(url).await {
                    mysql = connection;
                }
            }
        }
        redis.incr::<_, _, ()>(PASSES, 1).await?;
    }
}

/// Takes the readers of some dirty articles; answers of how many.
async fn take(redis: &mut MultiplexedConnection, rows: &mut Vec<Row<String>>) -> RedisResult<usize> {
    let articles: Vec<String> = redis::cmd("SPOP").arg(DIRTY).arg(TAKEN_ARTICLES).query_async(redis).await?;
    let mut pipeline = redis::pipe();
    pipeline.atomic();
    for article in &articles {
        pipeline.hgetall(readers(article)).unlink(readers(article)).ignore();
    }
    if articles.is_empty() {
        return Ok(0);
    }
    let taken: Vec<Vec<(String, u64)>> = pipeline.query_async(redis).await?;
    for (article, readers) in articles.iter().zip(taken) {
        rows.extend(readers.into_iter().map(|(user, views)| (article.clone(), user, views)));
    }
    Ok(articles.len())
}
