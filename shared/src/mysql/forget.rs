//! What a flood has left is deleted: articles with all that MySQL holds of them. The views go into the books as dropped, so
//! that their conservation (I9) and the sums of the articles (I4) hold after every single transaction.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ConnectionTrait, DatabaseTransaction, Value};

use super::errors::{Result, StoreError};
use super::lists::{behind, bytes};
use super::rows::total_of;
use super::sql::{TRANSACTION_MAX, article_of, in_time, json_rows, statement, user_of};
use super::store::Store;
use super::transaction::lock;
use super::tries::{REPEATS, repeated};
use crate::protocol::{Article, Row, Shard, User, total};

/// Which articles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// This one.
    Article(Article),
    /// All whose name begins so.
    Prefix(Vec<u8>),
}

/// What was forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Articles that are not there any more.
    pub articles: u64,
    /// (article, user) pairs.
    pub readers: u64,
    /// Users who had read nothing else.
    pub users: u64,
    /// Views, those from quarantine too.
    pub views: u64,
}

impl Forgotten {
    /// Adds what another step has forgotten.
    pub fn add(&mut self, more: Self) {
        self.articles = self.articles.saturating_add(more.articles);
        self.readers = self.readers.saturating_add(more.readers);
        self.users = self.users.saturating_add(more.users);
        self.views = self.views.saturating_add(more.views);
    }
}

/// Rows that one transaction deletes from a table, at most: flushes wait for it.
const ROWS_MAX: u32 = 5_000;

/// How many articles are counted before anybody is asked: more are a flood, however many they are.
pub const COUNTED_MAX: u32 = 100_000;

impl Which {
    /// All names from the first on, and before the second.
    fn range(&self) -> (Vec<u8>, Vec<u8>) {
        match self {
            // No id holds a NUL, and nothing is between a name and the same with one.
            Self::Article(article) => (article.as_bytes().to_vec(), [article.as_bytes(), &[0]].concat()),
            Self::Prefix(prefix) => (prefix.clone(), behind(prefix).unwrap_or_else(|| vec![u8::MAX; 256])),
        }
    }
}

/// What changes in one shard.
#[derive(Default)]
struct Change {
    articles: u64,
    readers: u64,
    views: u64,
    dropped: u64,
}

impl Store {
    /// How many articles there are, [`COUNTED_MAX`] at most, and how many rows in quarantine are about them.
    pub async fn forgettable(&self, which: &Which) -> Result<(u64, u64)> {
        let (from, to) = which.range();
        let sql = format!(
            "SELECT (SELECT CAST(COUNT(*) AS UNSIGNED) FROM (SELECT article FROM footfall_articles \
             WHERE article >= ? AND article < ? LIMIT {COUNTED_MAX}) a) AS articles, \
             (SELECT CAST(COUNT(*) AS UNSIGNED) FROM footfall_quarantine WHERE article >= ? AND article < ?) AS quarantined"
        );
        let values = [bytes(&from), bytes(&to), bytes(&from), bytes(&to)];
        let row = self.one(&sql, values).await?.ok_or(StoreError::Corrupt("a count has no row"))?;
        Ok((row.try_get("", "articles")?, row.try_get("", "quarantined")?))
    }

    /// Deletes articles and all that is known of them, but not the site's minutes; `progress` hears of every transaction.
    /// An interruption leaves nothing half done, and a repeat goes on. Views that come meanwhile are counted as new.
    pub async fn forget(&self, which: &Which, shards: u16, mut progress: impl FnMut(Forgotten) + Send) -> Result<()> {
        self.tables_fit().await?;
        self.refuse_followers().await?;
        let (from, to) = which.range();
        // First, because an old article has more hours than a transaction should delete with its last reader.
        while self.step(|| self.forget_hours(&from, &to, shards)).await? {}
        let mut after: Option<Row> = None;
        loop {
            let (forgotten, last) = self.step(|| self.forget_readers(&from, &to, after.as_ref(), shards)).await?;
            progress(forgotten);
            after = last;
            if after.is_none() {
                break;
            }
        }
        loop {
            let forgotten = self.step(|| self.forget_quarantined(&from, &to, shards)).await?;
            if forgotten == Forgotten::default() {
                return Ok(());
            }
            progress(forgotten);
        }
    }

    /// One transaction of it.
    async fn step<T, F: Future<Output = Result<T>>>(&self, once: impl FnMut() -> F) -> Result<T> {
        in_time(TRANSACTION_MAX, repeated(REPEATS, once)).await
    }

    /// Locks all shards, as an erasure does: whether a user has read anything else depends on all of them.
    async fn begin_in_all(&self, shards: u16) -> Result<(DatabaseTransaction, BTreeMap<Shard, u64>)> {
        let transaction = self.begin().await?;
        let mut users = BTreeMap::new();
        for shard in Shard::all(shards) {
            users.insert(shard, lock(&transaction, shard).await?.users);
        }
        Ok((transaction, users))
    }

    async fn forget_hours(&self, from: &[u8], to: &[u8], shards: u16) -> Result<bool> {
        let (transaction, _) = self.begin_in_all(shards).await?;
        let sql = format!("DELETE FROM footfall_article_hours WHERE article >= ? AND article < ? LIMIT {ROWS_MAX}");
        let deleted = transaction.execute_raw(statement(&sql, [bytes(from), bytes(to)])).await?.rows_affected();
        transaction.commit().await?;
        Ok(deleted == u64::from(ROWS_MAX))
    }

    /// Forgets the next readers behind `after`; answers what, and the last of them if there may be more.
    async fn forget_readers(
        &self,
        from: &[u8],
        to: &[u8],
        after: Option<&Row>,
        shards: u16,
    ) -> Result<(Forgotten, Option<Row>)> {
        let (transaction, users_before) = self.begin_in_all(shards).await?;
        let (first, user) = after.map_or((from, &[][..]), |row| (row.article.as_bytes(), row.user.as_bytes()));
        let range = "WHERE article >= ? AND article < ? AND (article > ? OR user > ?) ORDER BY article, user LIMIT ?";
        let values = |limit: u32| [bytes(first), bytes(to), bytes(first), bytes(user), limit.into()];
        let sql = format!("SELECT article, user, views FROM footfall_article_readers {range}");
        let mut rows = Vec::new();
        for row in transaction.query_all_raw(statement(&sql, values(ROWS_MAX))).await? {
            rows.push(Row { article: article_of(&row)?, user: user_of(&row)?, views: row.try_get("", "views")? });
        }
        let Some(last) = rows.last().cloned() else {
            transaction.rollback().await?;
            return Ok((Forgotten::default(), None));
        };
        // The same rows: nobody writes while all shards are locked.
        let sql = format!("DELETE FROM footfall_article_readers {range}");
        expect_rows(&transaction, &sql, values(ROWS_MAX), rows.len()).await?;

        let parts: Vec<(&Article, u64, u64)> = rows
            .chunk_by(|a, b| a.article == b.article)
            .map(|rows| (&rows[0].article, total(rows.iter().map(|row| row.views)), rows.len() as u64))
            .collect();
        let json = json_rows(parts.iter().map(|(article, views, readers)| (article.as_str(), views, readers)));
        let sql = "INSERT INTO footfall_articles (article, views, readers) SELECT j.a, j.v, j.r FROM JSON_TABLE(?, '$[*]' COLUMNS \
                   (a VARBINARY(1024) PATH '$[0]', v BIGINT UNSIGNED PATH '$[1]', r BIGINT UNSIGNED PATH '$[2]')) j \
                   ON DUPLICATE KEY UPDATE views = footfall_articles.views - j.v, readers = footfall_articles.readers - j.r";
        expect_rows(&transaction, sql, [json.into()], 2 * parts.len()).await?;
        let names: Vec<&[u8]> = parts.iter().map(|(article, ..)| article.as_bytes()).collect();
        let sql = format!("SELECT article FROM footfall_articles WHERE readers = 0 AND article IN ({})", marks(&names));
        let gone = transaction.query_all_raw(statement(&sql, ids(&names))).await?;
        let gone = gone.iter().map(article_of).collect::<Result<Vec<_>>>()?;
        let names: Vec<&[u8]> = gone.iter().map(Article::as_bytes).collect();
        if !names.is_empty() {
            let sql = format!("DELETE FROM footfall_articles WHERE article IN ({})", marks(&names));
            expect_rows(&transaction, &sql, ids(&names), names.len()).await?;
            // Only what has come since the hours were deleted.
            let sql = format!("DELETE FROM footfall_article_hours WHERE article IN ({})", marks(&names));
            transaction.execute_raw(statement(&sql, ids(&names))).await?;
        }
        let users = forget_users(&transaction, &rows).await?;

        let mut changes: BTreeMap<Shard, Change> = BTreeMap::new();
        for (article, views, readers) in &parts {
            let change = changes.entry(Shard::of(article, shards)).or_default();
            change.views = change.views.saturating_add(*views);
            change.dropped = change.views;
            change.readers += readers;
        }
        for article in &gone {
            changes.entry(Shard::of(article, shards)).or_default().articles += 1;
        }
        take_off(&transaction, &changes).await?;
        take_off_users(&transaction, users_before, users).await?;
        transaction.commit().await?;
        let forgotten = Forgotten {
            articles: gone.len() as u64,
            readers: rows.len() as u64,
            users,
            views: total(rows.iter().map(|row| row.views)),
        };
        Ok((forgotten, Some(last).filter(|_| rows.len() == ROWS_MAX as usize)))
    }

    async fn forget_quarantined(&self, from: &[u8], to: &[u8], shards: u16) -> Result<Forgotten> {
        let (transaction, _) = self.begin_in_all(shards).await?;
        let sql =
            "SELECT id, shard, views FROM footfall_quarantine WHERE article >= ? AND article < ? ORDER BY id LIMIT ?";
        let (mut quarantined, mut changes, mut views) = (Vec::new(), BTreeMap::<Shard, Change>::new(), 0_u64);
        for row in transaction.query_all_raw(statement(sql, [bytes(from), bytes(to), ROWS_MAX.into()])).await? {
            let of_row: u64 = row.try_get("", "views")?;
            quarantined.push(row.try_get::<u64>("", "id")?);
            let change = changes.entry(Shard(row.try_get("", "shard")?)).or_default();
            change.dropped = change.dropped.saturating_add(of_row);
            views = views.saturating_add(of_row);
        }
        if quarantined.is_empty() {
            transaction.rollback().await?;
            return Ok(Forgotten::default());
        }
        let sql = format!("DELETE FROM footfall_quarantine WHERE id IN ({})", marks(&quarantined));
        let values: Vec<Value> = quarantined.iter().map(|id| (*id).into()).collect();
        expect_rows(&transaction, &sql, values, quarantined.len()).await?;
        take_off(&transaction, &changes).await?;
        transaction.commit().await?;
        Ok(Forgotten { views, ..Forgotten::default() })
    }
}

/// Deletes the users of these rows who have read nothing else; answers how many.
async fn forget_users(transaction: &DatabaseTransaction, rows: &[Row]) -> Result<u64> {
    let users: BTreeSet<&User> = rows.iter().map(|row| &row.user).collect();
    let json = json_rows(users.iter().map(|user| (user.as_str(),)));
    let sql = "SELECT j.u AS user FROM JSON_TABLE(?, '$[*]' COLUMNS (u VARBINARY(1024) PATH '$[0]')) j \
               WHERE NOT EXISTS (SELECT 1 FROM footfall_article_readers r WHERE r.user = j.u)";
    let gone = transaction.query_all_raw(statement(sql, [json.into()])).await?;
    let gone = gone.iter().map(user_of).collect::<Result<Vec<_>>>()?;
    if gone.is_empty() {
        return Ok(0);
    }
    let names: Vec<&[u8]> = gone.iter().map(User::as_bytes).collect();
    let sql = format!("DELETE FROM footfall_users WHERE user IN ({})", marks(&names));
    Ok(transaction.execute_raw(statement(&sql, ids(&names))).await?.rows_affected())
}

/// Takes off the shards' totals what is not counted any more, enters it as dropped, and tells the caches so.
async fn take_off(transaction: &DatabaseTransaction, changes: &BTreeMap<Shard, Change>) -> Result<()> {
    let sql = format!(
        "UPDATE footfall_shard_fence SET version = version + 1, views = IF(views < ?, 0, views - ?), \
         readers = readers - ?, articles = articles - ?, dropped = {} WHERE shard = ?",
        total_of("dropped", "?")
    );
    for (shard, Change { articles, readers, views, dropped }) in changes {
        let numbers = [*views, *views, *readers, *articles, *dropped, *dropped].map(Value::from);
        expect_rows(transaction, &sql, numbers.into_iter().chain([shard.0.into()]), 1).await?;
    }
    Ok(())
}

/// The totals of users belong to the shard that saw them first, which nobody knows any more: only their sum has a meaning.
async fn take_off_users(
    transaction: &DatabaseTransaction,
    users_before: BTreeMap<Shard, u64>,
    mut users: u64,
) -> Result<()> {
    for (shard, had) in users_before {
        let fewer = users.min(had);
        if fewer > 0 {
            let sql = "UPDATE footfall_shard_fence SET users = users - ? WHERE shard = ?";
            expect_rows(transaction, sql, [fewer.into(), shard.0.into()], 1).await?;
        }
        users -= fewer;
    }
    Ok(())
}

async fn expect_rows(
    transaction: &DatabaseTransaction,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
    rows: usize,
) -> Result<()> {
    let affected = transaction.execute_raw(statement(sql, values)).await?.rows_affected();
    // The transaction is given up with it.
    if affected == rows as u64 {
        Ok(())
    } else {
        Err(StoreError::Corrupt("other rows were there than are in its sums"))
    }
}

fn marks<T>(values: &[T]) -> String {
    vec!["?"; values.len()].join(", ")
}

fn ids(names: &[&[u8]]) -> Vec<Value> {
    names.iter().map(|name| bytes(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_what_is_meant_and_nothing_else() {
        let article = |name: &str| Article::parse(name.as_bytes()).expect("test id");
        for (which, inside, outside) in [
            (Which::Article(article("a")), vec!["a"], vec!["A", "a ", "a!", "aa", "b", "ä"]),
            (Which::Prefix(b"a/".to_vec()), vec!["a/", "a/b", "a/\u{10ffff}"], vec!["a", "a.", "a0", "b"]),
            (Which::Prefix("é".into()), vec!["é", "éa"], vec!["e", "è", "ê"]),
        ] {
            let (from, to) = which.range();
            let is_in = |name: &&str| name.as_bytes() >= from.as_slice() && name.as_bytes() < to.as_slice();
            assert!(inside.iter().all(is_in) && !outside.iter().any(is_in), "{which:?}");
        }
    }
}
