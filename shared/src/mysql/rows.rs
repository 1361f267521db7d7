//! Rows and what follows from them, written in a transaction that others begin and end. MySQL may refuse some of them, and
//! then all others are written.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction};
use tracing::warn;

use super::errors::{Result, StoreError};
use super::sql::{STATEMENT_ROWS_MAX, article_of, json_rows, statement, user_of};
use crate::protocol::errors::Grade;
use crate::protocol::{Article, Delta, Row, Shard, User, VIEWS_MAX, add_views, total};
use crate::service::random;

/// What to do when MySQL refuses a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Poison {
    /// The statement fails.
    Fails,
    /// It is found by bisection and left out.
    IsLeftOut,
}

impl Poison {
    /// Carries out what MySQL may refuse; false if it does and that is left out.
    async fn lets(self, transaction: &DatabaseTransaction, work: impl Future<Output = Result<()>>) -> Result<bool> {
        match self {
            Self::Fails => work.await.map(|()| true),
            Self::IsLeftOut => Ok(unless_refused(transaction, work).await?.is_none()),
        }
    }
}

/// What rows became in MySQL.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) deltas: Vec<Delta>,
    pub(super) readers: u64,
    pub(super) users: u64,
    pub(super) articles: u64,
    /// Readers who were new to an article, and so may be new at all.
    pub(super) to_check: Vec<User>,
    /// Users that MySQL has for certain, once this is committed.
    pub(super) known: Vec<User>,
    /// Rows that MySQL refuses, with its reason.
    pub(super) refused: Vec<(Row, String)>,
}

impl Stored {
    pub(super) fn views(&self) -> u64 {
        total(self.deltas.iter().map(|part| part.views))
    }

    /// Adds the growth of an article; the parts of one article come one after the other.
    fn grow(&mut self, part: Delta) {
        match self.deltas.last_mut() {
            Some(last) if last.article == part.article => {
                last.views = last.views.saturating_add(part.views);
                last.readers += part.readers;
            }
            _ => self.deltas.push(part),
        }
    }
}

/// Writes sorted rows and what follows from them: readers and articles. Their users are left to [`store_users`], but where
/// refused rows are looked for: there a user may be what MySQL refuses. `had` are the views of the shard so far.
pub(super) async fn store_rows(
    transaction: &DatabaseTransaction,
    rows: &[Row],
    had: u64,
    poison: Poison,
    stored: &mut Stored,
) -> Result<()> {
    // An article has no more views than its shard: most shards are far from any limit, and need not be asked.
    let may_be_full = total(rows.iter().map(|row| row.views)).saturating_add(had) > VIEWS_MAX;
    if poison == Poison::Fails {
        for part in rows.chunks(STATEMENT_ROWS_MAX) {
            store_part(transaction, part, may_be_full, stored).await?;
        }
        return Ok(());
    }
    let mut parts: Vec<&[Row]> = rows.rchunks(STATEMENT_ROWS_MAX).collect();
    let mut has_refused = false;
    while let Some(part) = parts.pop() {
        let mut try_part = Stored::default();
        let Some(error) =
            unless_refused(transaction, store_with_users(transaction, part, may_be_full, &mut try_part)).await?
        else {
            try_part.deltas.into_iter().for_each(|deltas| stored.grow(deltas));
            stored.readers += try_part.readers;
            stored.users += try_part.users;
            stored.articles += try_part.articles;
            stored.known.append(&mut try_part.known);
            stored.refused.extend(try_part.refused);
            continue;
        };
        match part {
            [row] => {
                if !std::mem::replace(&mut has_refused, true) {
                    others_are_taken(transaction).await?;
                }
                stored.refused.push((row.clone(), error.to_string()));
            }
            _ => {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
            }
        }
    }
    if has_refused {
        // It may have broken on the way.
        others_are_taken(transaction).await?;
    }
    Ok(())
}

/// Carries out what MySQL may refuse, and takes it back if it does: answers its reason then. Any other error stays one.
async fn unless_refused(
    transaction: &DatabaseTransaction,
    work: impl Future<Output = Result<()>>,
) -> Result<Option<StoreError>> {
    transaction.execute_unprepared("SAVEPOINT part").await?;
    match work.await {
        Ok(()) => Ok(None),
        Err(error) if error.class().may_be_a_row() => {
            transaction.execute_unprepared("ROLLBACK TO SAVEPOINT part").await?;
            Ok(Some(error))
        }
        Err(error) => Err(error),
    }
}

/// The control of the experiment: a row is to blame only if MySQL takes another one in its place, which is taken back at
/// once. That is one that was taken before or, should MySQL only take known articles or only new ones, one that nobody
/// else has. A database that refuses both is broken, or has an outage whose number nobody knows: then no views go to
/// quarantine, and the shard waits.
async fn others_are_taken(transaction: &DatabaseTransaction) -> Result<()> {
    let new = format!("footfall-control-{:016x}", random::number());
    let known = "SELECT r.article, r.user FROM footfall_article_readers r JOIN footfall_articles a ON a.article = r.article \
                 WHERE a.views < ? LIMIT 1";
    let mut controls = vec![Row {
        article: Article::parse(new.as_bytes()).expect(PLAIN),
        user: User::parse(new.as_bytes()).expect(PLAIN),
        views: 1,
    }];
    if let Some(row) = transaction.query_one_raw(statement(known, [VIEWS_MAX.into()])).await? {
        controls.push(Row { article: article_of(&row)?, user: user_of(&row)?, views: 1 });
    }
    let mut reason = String::new();
    while let Some(control) = controls.pop() {
        let mut stored = Stored::default();
        match unless_refused(transaction, store_with_users(transaction, &[control], false, &mut stored)).await? {
            None => {
                transaction.execute_unprepared("ROLLBACK TO SAVEPOINT part").await?;
                return Ok(());
            }
            Some(error) => reason = error.to_string(),
        }
    }
    Err(StoreError::RefusesAll(reason))
}

const PLAIN: &str = "letters and digits are an id";

/// The rows that their articles have room for, in order; the others are refused.
async fn rows_with_room(transaction: &DatabaseTransaction, rows: &[Row], stored: &mut Stored) -> Result<Vec<Row>> {
    let articles: Vec<&Article> = rows.chunk_by(|a, b| a.article == b.article).map(|rows| &rows[0].article).collect();
    let json = json_rows(articles.iter().map(|article| (article.as_str(),)));
    let sql = "SELECT a.article, a.views FROM JSON_TABLE(?, '$[*]' COLUMNS (a VARBINARY(1024) PATH '$[0]')) j \
               JOIN footfall_articles a ON a.article = j.a";
    let mut had: BTreeMap<Article, u64> = BTreeMap::new();
    for row in transaction.query_all_raw(statement(sql, [json.into()])).await? {
        had.insert(article_of(&row)?, row.try_get("", "views")?);
    }
    let mut taken = Vec::with_capacity(rows.len());
    for row in rows {
        let had = had.entry(row.article.clone()).or_default();
        match add_views(*had, row.views) {
            Ok(has) => {
                *had = has;
                taken.push(row.clone());
            }
            Err(_) => {
                let reason = format!(
                    "its article has {had} views: with these it would have more than {VIEWS_MAX}, the most that can be counted"
                );
                stored.refused.push((row.clone(), reason));
            }
        }
    }
    Ok(taken)
}

/// A part of the rows with its users, for those who look for what MySQL refuses: it may be a user.
async fn store_with_users(
    transaction: &DatabaseTransaction,
    rows: &[Row],
    may_be_full: bool,
    stored: &mut Stored,
) -> Result<()> {
    store_part(transaction, rows, may_be_full, stored).await?;
    store_users(transaction, stored).await
}

/// Sorted rows as one JSON parameter: one prepared statement serves any number of rows. The columns are
/// VARBINARY, so ids keep being compared by bytes.
const READER_ROWS: &str = "JSON_TABLE(?, '$[*]' COLUMNS (i FOR ORDINALITY, a VARBINARY(1024) PATH '$[0]', \
     u VARBINARY(1024) PATH '$[1]', n BIGINT UNSIGNED PATH '$[2]')) j";

async fn store_part(
    transaction: &DatabaseTransaction,
    rows: &[Row],
    may_be_full: bool,
    stored: &mut Stored,
) -> Result<()> {
    let with_room;
    let rows = if may_be_full {
        with_room = rows_with_room(transaction, rows, stored).await?;
        &*with_room
    } else {
        rows
    };
    if rows.is_empty() {
        return Ok(());
    }
    let mut deltas: Vec<Delta> = Vec::new();
    for (row, views) in rows.iter().zip(upsert_readers(transaction, rows).await?) {
        // Counts only grow: one that is as it was written was not there before.
        let is_new = views == row.views;
        if is_new {
            stored.to_check.push(row.user.clone());
        }
        let new = u64::from(is_new);
        stored.readers += new;
        match deltas.last_mut() {
            Some(part) if part.article == row.article => {
                part.views = part.views.saturating_add(row.views);
                part.readers += new;
            }
            _ => deltas.push(Delta { article: row.article.clone(), views: row.views, readers: new }),
        }
    }
    stored.articles += upsert_articles(transaction, &deltas).await?;
    deltas.into_iter().for_each(|part| stored.grow(part));
    Ok(())
}

/// Adds to the readers' rows; answers the views that each of them has then, in the same order.
async fn upsert_readers(transaction: &DatabaseTransaction, rows: &[Row]) -> Result<Vec<u64>> {
    let json = json_rows(rows.iter().map(|row| (row.article.as_str(), row.user.as_str(), row.views)));
    // Only MariaDB reads the comment, and answers at once. MySQL has to be asked, which costs a fifth more; what it says
    // is still true, because the fence row is locked.
    let sql = format!(
        "INSERT INTO footfall_article_readers (article, user, views) SELECT j.a, j.u, j.n FROM {READER_ROWS} \
         ON DUPLICATE KEY UPDATE views = footfall_article_readers.views + j.n /*M! RETURNING views */"
    );
    let mut answer = transaction.query_all_raw(statement(&sql, [json.as_str().into()])).await?;
    if answer.is_empty() {
        let sql = format!(
            "SELECT r.views FROM {READER_ROWS} STRAIGHT_JOIN footfall_article_readers r \
             ON r.article = j.a AND r.user = j.u ORDER BY j.i"
        );
        answer = transaction.query_all_raw(statement(&sql, [json.into()])).await?;
    }
    let views = answer.iter().map(|row| row.try_get_by_index(0)).collect::<std::result::Result<Vec<u64>, _>>()?;
    if views.len() != rows.len() || views.iter().zip(rows).any(|(has, row)| *has < row.views) {
        return Err(StoreError::Corrupt("the readers that were written are not those that are there"));
    }
    Ok(views)
}

/// The sum of a column and of what is added to it, as SQL in which `more` is there twice. It stops at the column's limit:
/// sums over articles are only shown, and no view is refused for them.
pub(super) fn total_of(column: &str, more: &str) -> String {
    format!("IF({column} > {max} - {more}, {max}, {column} + {more})", max = u64::MAX)
}

/// Adds those of [`Stored::to_check`] that MySQL lacks. All shards write to these rows: whoever does it last, and in the
/// order of the ids, keeps nobody waiting for long, and no two wait for each other.
pub(super) async fn store_users(transaction: &DatabaseTransaction, stored: &mut Stored) -> Result<()> {
    let mut users = std::mem::take(&mut stored.to_check);
    users.sort_unstable();
    users.dedup();
    for chunk in users.chunks(STATEMENT_ROWS_MAX) {
        let json = json_rows(chunk.iter().map(|user| (user.as_str(),)));
        // (It would cut an id that is too long without an error; the reader rows, which take the same lengths, came first.)
        let sql = "INSERT IGNORE INTO footfall_users (user) SELECT j.u FROM JSON_TABLE(?, '$[*]' COLUMNS (u VARBINARY(1024) PATH '$[0]')) j";
        stored.users += transaction.execute_raw(statement(sql, [json.into()])).await?.rows_affected();
    }
    stored.known.append(&mut users);
    Ok(())
}

/// Adds to the articles; answers how many were new.
async fn upsert_articles(transaction: &DatabaseTransaction, deltas: &[Delta]) -> Result<u64> {
    let mut added = 0;
    for chunk in deltas.chunks(STATEMENT_ROWS_MAX) {
        let json = json_rows(chunk.iter().map(|part| (part.article.as_str(), part.views, part.readers)));
        let sql = "INSERT INTO footfall_articles (article, views, readers) SELECT j.a, j.v, j.r FROM JSON_TABLE(?, '$[*]' COLUMNS \
                   (a VARBINARY(1024) PATH '$[0]', v BIGINT UNSIGNED PATH '$[1]', r BIGINT UNSIGNED PATH '$[2]')) j \
                   ON DUPLICATE KEY UPDATE views = footfall_articles.views + j.v, readers = footfall_articles.readers + j.r";
        let affected = transaction.execute_raw(statement(sql, [json.into()])).await?.rows_affected();
        added += (2 * chunk.len() as u64)
            .checked_sub(affected)
            .ok_or(StoreError::Corrupt("more rows affected than written"))?;
    }
    Ok(added)
}

/// Adds to the articles' hours. They are only shown: what MySQL refuses here is left out, and counted all the same.
pub(super) async fn upsert_hours(
    transaction: &DatabaseTransaction,
    hours: &[(Article, u32, u64)],
    poison: Poison,
) -> Result<()> {
    let mut parts: Vec<&[(Article, u32, u64)]> = hours.rchunks(STATEMENT_ROWS_MAX).collect();
    let mut left_out = 0;
    while let Some(part) = parts.pop() {
        if !poison.lets(transaction, upsert_part_of_hours(transaction, part)).await? {
            match part {
                [_] => left_out += 1,
                _ => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            }
        }
    }
    if left_out > 0 {
        warn!("MySQL refuses the hours of {left_out} articles: their views are counted, but in no hour that is shown");
    }
    Ok(())
}

async fn upsert_part_of_hours(transaction: &DatabaseTransaction, hours: &[(Article, u32, u64)]) -> Result<()> {
    let json = json_rows(hours.iter().map(|(article, hour, views)| (article.as_str(), hour, views)));
    let sql = format!(
        "INSERT INTO footfall_article_hours (article, hour, views) SELECT j.a, j.h, j.n FROM JSON_TABLE(?, '$[*]' COLUMNS \
         (a VARBINARY(1024) PATH '$[0]', h INT UNSIGNED PATH '$[1]', n BIGINT UNSIGNED PATH '$[2]')) j \
         ON DUPLICATE KEY UPDATE views = {}",
        total_of("footfall_article_hours.views", "j.n")
    );
    transaction.execute_raw(statement(&sql, [json.into()])).await?;
    Ok(())
}

/// Adds to the site's minutes, as [`upsert_hours`] does to the hours.
pub(super) async fn upsert_minutes(
    transaction: &DatabaseTransaction,
    shard: Shard,
    minutes: &[(u32, u64)],
    poison: Poison,
) -> Result<()> {
    let mut left_out = 0;
    for (minute, views) in minutes {
        left_out += u64::from(!poison.lets(transaction, upsert_minute(transaction, shard, *minute, *views)).await?);
    }
    if left_out > 0 {
        warn!("MySQL refuses {left_out} minutes: their views are counted, but in no minute that is shown");
    }
    Ok(())
}

async fn upsert_minute(transaction: &DatabaseTransaction, shard: Shard, minute: u32, views: u64) -> Result<()> {
    let sql = format!(
        "INSERT INTO footfall_site_minutes (minute, shard, views) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE views = {}",
        total_of("views", "VALUES(views)")
    );
    transaction.execute_raw(statement(&sql, [minute.into(), shard.0.into(), views.into()])).await?;
    Ok(())
}
