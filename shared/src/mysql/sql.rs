//! What all statements have in common: how long they may take, and how rows are read.

use std::time::Duration;

use sea_orm::{DbBackend, DbErr, QueryResult, Statement, Value};

use super::errors::{Result, StoreError};
use crate::protocol::{Article, Fence, User};
use crate::service::contain::contained;

/// Rows in one statement: keeps its JSON far below the 16 MiB that MariaDB takes by default
/// (`max_allowed_packet`) even when all ids have their greatest length.
pub(super) const STATEMENT_ROWS_MAX: usize = 5_000;

/// The longest that a transaction may take. A server that vanished never answers, and a transaction that is cut off may
/// have been committed: the fence tells the repeat. `WatchdogSec` in systemd/footfall-flusher.service must be longer.
pub(super) const TRANSACTION_MAX: Duration = Duration::from_secs(60);

pub(super) async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    // The client library panics over some answers that are none, instead of saying so.
    let answer = tokio::time::timeout(limit, contained(work)).await.map_err(|_| StoreError::timed_out(limit))?;
    answer.unwrap_or_else(|why| Err(StoreError::Db(DbErr::Custom(format!("the answer makes no sense ({why})")))))
}

pub(super) fn statement(sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::MySql, sql, values)
}

pub(super) fn json_rows(rows: impl Iterator<Item = impl serde::Serialize>) -> String {
    serde_json::to_string(&rows.collect::<Vec<_>>()).expect("ids and numbers always have a JSON form")
}

/// What [`fence_of`] reads; behind it stands which rows.
pub(super) const FENCES: &str =
    "SELECT epoch, position, flush_epoch, version, views, readers, users, articles FROM footfall_shard_fence";

pub(super) fn fence_of(row: &QueryResult) -> Result<Fence> {
    Ok(Fence {
        epoch: row.try_get("", "epoch")?,
        position: row.try_get("", "position")?,
        flush_epoch: row.try_get("", "flush_epoch")?,
        version: row.try_get("", "version")?,
        views: row.try_get("", "views")?,
        readers: row.try_get("", "readers")?,
        users: row.try_get("", "users")?,
        articles: row.try_get("", "articles")?,
    })
}

pub(super) fn article_of(row: &QueryResult) -> Result<Article> {
    let bytes: Vec<u8> = row.try_get("", "article")?;
    Article::parse(&bytes).map_err(|_| StoreError::Corrupt("an article id that breaks the rules"))
}

pub(super) fn user_of(row: &QueryResult) -> Result<User> {
    let bytes: Vec<u8> = row.try_get("", "user")?;
    User::parse(&bytes).map_err(|_| StoreError::Corrupt("a user id that breaks the rules"))
}
