//! One consistent look at everything, for `footfall verify`.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, QueryResult, TransactionTrait};

use super::errors::{NO_FENCE, Result, StoreError};
use super::sql::{STATEMENT_ROWS_MAX, article_of, fence_of, in_time, json_rows, statement, user_of};
use super::store::Store;
use crate::protocol::{Article, Fence, Positions, Producer, Row, Shard};

/// What [`Store::audit`] found.
///
/// Sums are wide enough for any counts, also for those of an older version, which had no limit.
#[derive(Debug, Clone)]
pub struct Audit {
    /// Position and running totals, by shard.
    pub fences: Vec<Fence>,
    /// Sum of all (article, user) views.
    pub reader_views: u128,
    /// Number of (article, user) pairs.
    pub reader_rows: u64,
    /// Number of users.
    pub users: u64,
    /// Sum of the producers' cumulative views, through Redis (I9).
    pub fenced_views: u128,
    /// Sum of the producers' cumulative views, on the direct path (I9).
    pub direct_views: u128,
    /// Views left out because their id was counted before.
    pub repeats: u128,
    /// Views in quarantine.
    pub quarantined_views: u128,
    /// Views that a person has dropped from quarantine, or forgotten with their article.
    pub dropped_views: u128,
    /// Articles whose views or readers are not the sum of their readers' rows (I4), the first ones.
    pub torn: Vec<Article>,
    /// Views per pair, of the articles that were asked for.
    pub pairs: Vec<Row>,
    /// What is in quarantine, as far as its ids are known.
    pub quarantined: Vec<Row>,
    /// How far each producer is, through Redis.
    pub through_redis: ProducerFences,
    /// How far each producer is, on the direct path.
    pub direct: ProducerFences,
    /// Views of the articles with the most of them, in MySQL.
    pub top: Vec<(Article, u64)>,
}

/// The last batch of every producer in MySQL, and its cumulative views, by shard.
pub type ProducerFences = BTreeMap<(Shard, Producer), (u64, u64)>;

/// How many articles are in [`Audit::top`].
const TOP_MAX: u32 = 5;

/// What became of the views of a shard, see [`Store::totals`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardTotals {
    /// The last position in MySQL.
    pub position: u64,
    /// Views that are counted.
    pub stored_views: u128,
    /// Views that a person has dropped from quarantine, or forgotten with their article.
    pub dropped_views: u128,
    /// Views that producers have sent on the direct path.
    pub direct_views: u128,
    /// Views left out because their id was counted before.
    pub repeated_views: u128,
    /// Views in quarantine.
    pub quarantined_views: u128,
}

/// A sum as a column holds it. Beyond `u64::MAX`, which only counts of a version without limits reach, running totals
/// stand still, and sums can be compared no further.
#[must_use]
pub fn column(sum: u128) -> u64 {
    u64::try_from(sum).unwrap_or(u64::MAX)
}

impl Store {
    /// One consistent look for `footfall verify`: the fences, the sums of I4 and I9, and the views of
    /// every pair of the given articles.
    pub async fn audit(&self, articles: &[Article]) -> Result<Audit> {
        let transaction = self
            .db
            .begin_with_config(Some(sea_orm::IsolationLevel::RepeatableRead), Some(sea_orm::AccessMode::ReadOnly))
            .await?;
        let sql = "SELECT shard, epoch, position, flush_epoch, version, views, readers, users, articles FROM footfall_shard_fence ORDER BY shard";
        let fences =
            transaction.query_all_raw(statement(sql, [])).await?.iter().map(fence_of).collect::<Result<Vec<_>>>()?;
        let sum = |what: &str, table: &str| format!("(SELECT {} FROM {table})", exact_sum(what));
        let sums = format!(
            "SELECT {} AS reader_views, {} AS fenced_views, {} AS direct_views, {} AS repeats, {} AS quarantined_views, \
             {} AS dropped_views, (SELECT CAST(COUNT(*) AS UNSIGNED) FROM footfall_article_readers) AS reader_rows, \
             (SELECT CAST(COUNT(*) AS UNSIGNED) FROM footfall_users) AS users",
            sum("views", "footfall_article_readers"),
            sum("views", "footfall_producer_fence"),
            sum("views", "footfall_direct_fence"),
            sum("repeats", "footfall_producer_fence"),
            sum("views", "footfall_quarantine"),
            sum("dropped", "footfall_shard_fence"),
        );
        let row = transaction.query_one_raw(statement(&sums, [])).await?.ok_or(NO_FENCE)?;
        let (reader_views, reader_rows) = (sum_of(&row, "reader_views")?, row.try_get("", "reader_rows")?);
        let (users, fenced_views) = (row.try_get("", "users")?, sum_of(&row, "fenced_views")?);
        let (direct_views, repeats) = (sum_of(&row, "direct_views")?, sum_of(&row, "repeats")?);
        let (quarantined_views, dropped_views) = (sum_of(&row, "quarantined_views")?, sum_of(&row, "dropped_views")?);
        // No join: while tables grow from nothing, the optimizer knows too little of them, and a bad plan takes minutes.
        let torn = "SELECT article FROM (SELECT article, CAST(views AS DECIMAL(30)) AS views, CAST(readers AS SIGNED) AS readers \
                    FROM footfall_articles UNION ALL SELECT article, -CAST(SUM(views) AS DECIMAL(30)), -CAST(COUNT(*) AS SIGNED) \
                    FROM footfall_article_readers GROUP BY article) parts GROUP BY article \
                    HAVING SUM(views) <> 0 OR SUM(readers) <> 0 LIMIT 20";
        let torn =
            transaction.query_all_raw(statement(torn, [])).await?.iter().map(article_of).collect::<Result<_>>()?;
        let mut pairs = Vec::new();
        for chunk in articles.chunks(STATEMENT_ROWS_MAX) {
            let json = json_rows(chunk.iter().map(|article| (article.as_str(),)));
            let sql = "SELECT r.article, r.user, r.views FROM JSON_TABLE(?, '$[*]' COLUMNS (a VARBINARY(1024) PATH '$[0]')) j \
                       JOIN footfall_article_readers r ON r.article = j.a";
            for row in transaction.query_all_raw(statement(sql, [json.into()])).await? {
                pairs.push(Row { article: article_of(&row)?, user: user_of(&row)?, views: row.try_get("", "views")? });
            }
        }
        let sql = "SELECT article, user, views FROM footfall_quarantine WHERE article <> ''";
        let quarantined = transaction
            .query_all_raw(statement(sql, []))
            .await?
            .iter()
            .map(|row| Ok(Row { article: article_of(row)?, user: user_of(row)?, views: row.try_get("", "views")? }))
            .collect::<Result<_>>()?;
        let through_redis = producer_fences(&transaction, "footfall_producer_fence").await?;
        let direct = producer_fences(&transaction, "footfall_direct_fence").await?;
        let sql = "SELECT article, views FROM footfall_articles ORDER BY views DESC, article LIMIT ?";
        let top = transaction
            .query_all_raw(statement(sql, [TOP_MAX.into()]))
            .await?
            .iter()
            .map(|row| Ok((article_of(row)?, row.try_get("", "views")?)))
            .collect::<Result<_>>()?;
        transaction.rollback().await?;
        Ok(Audit {
            fences,
            reader_views,
            reader_rows,
            users,
            fenced_views,
            direct_views,
            repeats,
            quarantined_views,
            dropped_views,
            torn,
            pairs,
            quarantined,
            through_redis,
            direct,
            top,
        })
    }

    /// What becomes of views in MySQL, by shard, in one look.
    pub async fn totals(&self) -> Result<Vec<ShardTotals>> {
        let sum =
            |what: &str, table: &str| format!("(SELECT {} FROM {table} t WHERE t.shard = f.shard)", exact_sum(what));
        let sql = format!(
            "SELECT f.position, f.views, f.dropped, {} AS direct, {} AS repeats, {} AS quarantined FROM footfall_shard_fence f ORDER BY f.shard",
            sum("views", "footfall_direct_fence"),
            sum("repeats", "footfall_producer_fence"),
            sum("views", "footfall_quarantine"),
        );
        let books_of = |row: &QueryResult| {
            Ok(ShardTotals {
                position: row.try_get("", "position")?,
                stored_views: row.try_get::<u64>("", "views")?.into(),
                dropped_views: row.try_get::<u64>("", "dropped")?.into(),
                direct_views: sum_of(row, "direct")?,
                repeated_views: sum_of(row, "repeats")?,
                quarantined_views: sum_of(row, "quarantined")?,
            })
        };
        self.all(&sql, []).await?.iter().map(books_of).collect()
    }

    /// How far each producer is, through Redis.
    pub async fn producer_fences(&self) -> Result<ProducerFences> {
        self.fences_in("footfall_producer_fence").await
    }

    /// How far each producer is, on the direct path.
    pub async fn direct_fences(&self) -> Result<ProducerFences> {
        self.fences_in("footfall_direct_fence").await
    }

    async fn fences_in(&self, table: &str) -> Result<ProducerFences> {
        let work = self.reach.step(producer_fences(&self.db, table));
        self.explained(in_time(self.timeout, work).await).await
    }
}

/// A sum as SQL that is exact however great the counts are: as text, because a number would end at 2^64.
fn exact_sum(what: &str) -> String {
    format!("CAST(COALESCE(SUM({what}), 0) AS CHAR)")
}

fn sum_of(row: &QueryResult, column: &str) -> Result<u128> {
    let text: String = row.try_get("", column)?;
    text.parse().map_err(|_| StoreError::Corrupt("a sum that is no whole number"))
}

/// How far the producers of one shard are on one path.
pub(super) async fn fences_of_shard(db: &impl ConnectionTrait, table: &str, shard: Shard) -> Result<Positions> {
    let all = producer_fences(db, table).await?;
    Ok(all
        .into_iter()
        .filter(|((of, _), _)| *of == shard)
        .map(|((_, producer), position)| (producer, position))
        .collect())
}

async fn producer_fences(db: &impl ConnectionTrait, table: &str) -> Result<ProducerFences> {
    let sql = format!("SELECT shard, producer, batch, views FROM {table}");
    let fence_of = |row: &QueryResult| {
        let key = (Shard(row.try_get("", "shard")?), Producer(row.try_get("", "producer")?));
        Ok((key, (row.try_get("", "batch")?, row.try_get("", "views")?)))
    };
    db.query_all_raw(statement(&sql, [])).await?.iter().map(fence_of).collect()
}
