//! The best statements that we know for many views at once, written by hand: literal text, sorted, and no question that
//! the answers to the writes do not answer.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use sea_orm::sqlx::{self, AssertSqlSafe, MySqlConnection, Row as _};

/// Rows in one statement: more gain nothing.
const STATEMENT_ROWS: usize = 5_000;
const ADD_VIEWS: &str = "ON DUPLICATE KEY UPDATE views = views + VALUES(views)";

/// What one reader adds to one article: article, user, views.
pub(crate) type Row<Id> = (Id, Id, u64);

/// Adds views to readers, users and articles in one transaction. The rows are in key order, each pair once: then two
/// writers take their locks in the same order.
pub(crate) async fn add<Id: Display + Ord>(connection: &mut MySqlConnection, rows: &[Row<Id>]) -> sqlx::Result<()> {
    let mut users: Vec<&Id> = Vec::new();
    // Views, and readers that the article did not have.
    let mut articles: BTreeMap<&Id, (u64, u64)> = BTreeMap::new();
    run(connection, "START TRANSACTION".to_owned()).await?;
    for rows in rows.chunks(STATEMENT_ROWS) {
        let values = rows.iter().map(|(article, user, views)| format!("('{article}','{user}',{views})"));
        let into = "INSERT INTO footfall_article_readers (article, user, views)";
        let stored = run(connection, insert(into, values, &format!("{ADD_VIEWS} RETURNING views"))).await?;
        for ((article, user, views), stored) in rows.iter().zip(stored) {
            let (all, readers) = articles.entry(article).or_default();
            *all += views;
            // Counts only grow, so a row that comes back as it was written is new.
            if stored.try_get::<u64, _>(0)? == *views {
                users.push(user);
                *readers += 1;
            }
        }
    }
    users.sort_unstable();
    users.dedup();
    for users in users.chunks(STATEMENT_ROWS) {
        let values = users.iter().map(|user| format!("('{user}')"));
        run(connection, insert("INSERT IGNORE INTO footfall_users (user)", values, "")).await?;
    }
    let articles: Vec<_> = articles.into_iter().collect();
    for articles in articles.chunks(STATEMENT_ROWS) {
        let values = articles.iter().map(|(article, (views, readers))| format!("('{article}',{views},{readers})"));
        let behind = format!("{ADD_VIEWS}, readers = readers + VALUES(readers)");
        run(connection, insert("INSERT INTO footfall_articles (article, views, readers)", values, &behind)).await?;
    }
    run(connection, "COMMIT".to_owned()).await?;
    Ok(())
}

/// Adds views to an hour of articles, which are in key order.
pub(crate) async fn add_hour<Id: Display>(
    connection: &mut MySqlConnection,
    hour: u32,
    articles: &[(Id, u64)],
) -> sqlx::Result<()> {
    for articles in articles.chunks(STATEMENT_ROWS) {
        let values = articles.iter().map(|(article, views)| format!("('{article}',{hour},{views})"));
        run(connection, insert("INSERT INTO footfall_article_hours (article, hour, views)", values, ADD_VIEWS)).await?;
    }
    Ok(())
}

/// An INSERT of all rows. Ids of the traffic are letters and digits: nothing has to be escaped.
fn insert(into: &str, rows: impl Iterator<Item = String>, behind: &str) -> String {
    let mut sql = format!("{into} VALUES ");
    for (index, row) in rows.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(sql, "{comma}{row}").expect("memory takes everything");
    }
    sql + " " + behind
}

/// Runs a statement as text: nothing is prepared.
async fn run(connection: &mut MySqlConnection, sql: String) -> sqlx::Result<Vec<sqlx::mysql::MySqlRow>> {
    sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await
}
