//! What a person does to the counts: rows in quarantine are looked at, counted after all or dropped, and a reader is
//! erased. Every change keeps the conservation of views (I9) and the sums of the articles (I4).

use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult};

use super::errors::{Result, StoreError};
use super::rows::{Poison, Stored, store_rows, total_of};
use super::sql::statement;
use super::store::Store;
use super::transaction::{add_to_totals, lock};
use super::tries::{REPEATS, repeated};
use crate::protocol::{Article, Row, Shard, User};

/// Views that could not be counted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Quarantined {
    /// Names it for `footfall quarantine`.
    pub id: u64,
    /// Its shard.
    pub shard: u16,
    /// The epoch in which it was refused.
    pub epoch: u64,
    /// The position that held it; 0 if it came to MySQL directly.
    pub position: u64,
    /// What was read; empty if that is not known.
    pub article: String,
    /// Who read it; empty if that is not known.
    pub user: String,
    /// How often.
    pub views: u64,
    /// Why it was not counted.
    pub reason: String,
    /// When, in MySQL's time zone.
    pub since: String,
}

/// What became of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replayed {
    /// It is counted, and in quarantine no more.
    Counted,
    /// MySQL still refuses it, for this reason.
    Refused(String),
    /// Its reader and article are not known: it can only be dropped.
    Unknown,
    /// There is nothing with this id.
    Missing,
}

/// Rows that one transaction of an erasure changes, at most.
const ERASED_ROWS_MAX: u64 = 10_000;

const COLUMNS: &str = "id, shard, epoch, position, article, user, views, reason, CAST(since AS CHAR) AS since";

impl Store {
    /// What is in quarantine, oldest first, from behind `after` on.
    pub async fn quarantined(&self, after: u64, limit: u32) -> Result<Vec<Quarantined>> {
        let sql = format!("SELECT {COLUMNS} FROM footfall_quarantine WHERE id > ? ORDER BY id LIMIT ?");
        self.all(&sql, [after.into(), limit.into()]).await?.iter().map(quarantined_of).collect()
    }

    /// How many rows are in quarantine.
    pub async fn quarantined_rows(&self) -> Result<u64> {
        let row = self.one("SELECT CAST(COUNT(*) AS UNSIGNED) AS all_rows FROM footfall_quarantine", []).await?;
        Ok(row.map(|row| row.try_get("", "all_rows")).transpose()?.unwrap_or(0))
    }

    /// One entry.
    pub async fn quarantined_one(&self, id: u64) -> Result<Option<Quarantined>> {
        let sql = format!("SELECT {COLUMNS} FROM footfall_quarantine WHERE id = ?");
        self.one(&sql, [id.into()]).await?.as_ref().map(quarantined_of).transpose()
    }

    /// Counts what is in quarantine, now that MySQL takes it.
    pub async fn replay(&self, id: u64) -> Result<Replayed> {
        repeated(REPEATS, || self.replay_once(id)).await
    }

    async fn replay_once(&self, id: u64) -> Result<Replayed> {
        let Some(entry) = self.quarantined_one(id).await? else { return Ok(Replayed::Missing) };
        let ids = (Article::parse(entry.article.as_bytes()), User::parse(entry.user.as_bytes()));
        let (Ok(article), Ok(user)) = ids else { return Ok(Replayed::Unknown) };
        let transaction = self.begin().await?;
        let shard = Shard(entry.shard);
        let fence = lock(&transaction, shard).await?;
        // The row is gone if another person was faster.
        if delete(&transaction, id).await? == 0 {
            transaction.rollback().await?;
            return Ok(Replayed::Missing);
        }
        let mut stored = Stored::default();
        let row = Row { article, user, views: entry.views };
        store_rows(&transaction, &[row], fence.views, Poison::IsLeftOut, &mut stored).await?;
        if let Some((_, reason)) = stored.refused.pop() {
            transaction.rollback().await?;
            return Ok(Replayed::Refused(reason));
        }
        add_to_totals(&transaction, shard, &stored).await?;
        transaction.commit().await?;
        Ok(Replayed::Counted)
    }

    /// Gives up what is in quarantine; false if there is nothing with this id. Its views stay in the books as dropped.
    pub async fn drop_quarantined(&self, id: u64) -> Result<bool> {
        repeated(REPEATS, || self.drop_once(id)).await
    }

    async fn drop_once(&self, id: u64) -> Result<bool> {
        let Some(entry) = self.quarantined_one(id).await? else { return Ok(false) };
        let transaction = self.begin().await?;
        lock(&transaction, Shard(entry.shard)).await?;
        let is_there = delete(&transaction, id).await? == 1;
        if is_there {
            let sql = format!("UPDATE footfall_shard_fence SET dropped = {} WHERE shard = ?", total_of("dropped", "?"));
            let values = [entry.views.into(), entry.views.into(), entry.shard.into()];
            transaction.execute_raw(statement(&sql, values)).await?;
        }
        transaction.commit().await?;
        Ok(is_there)
    }

    /// Replaces a user by random names, another one for each article, so that nothing ties the reads together any
    /// more. All totals stay. Answers how many rows were changed; views that come later are counted anew.
    pub async fn erase(&self, user: &User, shards: u16) -> Result<u64> {
        self.tables_fit().await?;
        self.refuse_followers().await?;
        let mut erased = 0;
        loop {
            let changed = repeated(REPEATS, || self.erase_rows(user, shards)).await?;
            erased = u64::saturating_add(erased, changed);
            if changed < ERASED_ROWS_MAX {
                return Ok(erased);
            }
        }
    }

    /// Replaces the user in as many rows as one transaction changes; answers in how many.
    async fn erase_rows(&self, user: &User, shards: u16) -> Result<u64> {
        let user = user.as_bytes().to_vec();
        let name = "CONCAT('erased-', LOWER(HEX(RANDOM_BYTES(16))))";
        let transaction = self.begin().await?;
        for shard in Shard::all(shards) {
            lock(&transaction, shard).await?; // A flush in between could count the same reader twice (I4).
        }
        let mut changed = 0;
        for sql in [
            format!("UPDATE footfall_article_readers SET user = {name} WHERE user = ? LIMIT {ERASED_ROWS_MAX}"),
            format!("UPDATE footfall_users SET user = {name} WHERE user = ?"),
            // MySQL's words may cite what it refused.
            format!(
                "UPDATE footfall_quarantine SET user = {name}, reason = 'not kept: it may have named the reader' \
                 WHERE user = ? LIMIT {ERASED_ROWS_MAX}"
            ),
        ] {
            changed += transaction.execute_raw(statement(&sql, [user.clone().into()])).await?.rows_affected();
        }
        // Nobody may believe any more that MySQL has this user.
        let sql = "UPDATE footfall_shard_fence SET version = version + 1";
        transaction.execute_raw(statement(sql, [])).await?;
        transaction.commit().await?;
        Ok(changed)
    }
}

async fn delete(transaction: &DatabaseTransaction, id: u64) -> Result<u64> {
    let deleted =
        transaction.execute_raw(statement("DELETE FROM footfall_quarantine WHERE id = ?", [id.into()])).await?;
    Ok(deleted.rows_affected())
}

fn quarantined_of(row: &QueryResult) -> Result<Quarantined> {
    let text = |column| Ok::<_, StoreError>(String::from_utf8_lossy(&row.try_get::<Vec<u8>>("", column)?).into());
    Ok(Quarantined {
        id: row.try_get("", "id")?,
        shard: row.try_get("", "shard")?,
        epoch: row.try_get("", "epoch")?,
        position: row.try_get("", "position")?,
        article: text("article")?,
        user: text("user")?,
        views: row.try_get("", "views")?,
        reason: row.try_get("", "reason")?,
        since: row.try_get("", "since")?,
    })
}
