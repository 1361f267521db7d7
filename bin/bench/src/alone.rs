//! What each store needs for the same views when nothing is asked of it beyond writing them: the limit of whatever is
//! built on it.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use footfall_shared::clock;
use footfall_shared::counter::{Article, Batch, Producer, User, View};
use footfall_shared::packed;
use sea_orm::sqlx::{self, AssertSqlSafe, Connection, MySqlConnection, Row};

use crate::traffic::{self, Traffic};

/// Rows in one statement: more gain nothing.
const STATEMENT_ROWS: usize = 5_000;

/// Sends Redis the commands to which a batch leads, each batch in one go and without any script: nothing is checked, and
/// the sums are kept here.
pub(crate) fn redis(url: &str, traffic: Traffic, batch_views: usize, views: u64) -> anyhow::Result<()> {
    let mut connection = redis::Client::open(url)?.get_connection()?;
    let mut totals: HashMap<Article, u64> = HashMap::new();
    for batch in batches(traffic, batch_views, views)? {
        let mut pipeline = redis::pipe();
        pipeline.rpush("log", packed::encode(&batch)).ignore();
        let [mut get, mut set] = ["HMGET", "HSET"].map(redis::cmd);
        get.arg("totals");
        set.arg("totals");
        for (article, views) in batch.articles() {
            get.arg(article.as_bytes());
            let total = totals.entry(article.clone()).or_default();
            *total += views;
            set.arg(article.as_bytes()).arg(*total);
        }
        pipeline.add_command(get).ignore().add_command(set).ignore();
        let (number, views) = (batch.number, batch.cumulative_views);
        pipeline.cmd("HSET").arg("meta").arg("views").arg(views).arg("batches").arg(number).ignore();
        pipeline.hset("producers", batch.producer.to_string(), format!("{number}:{views}")).ignore();
        pipeline.query::<()>(&mut connection)?;
    }
    Ok(())
}

/// Writes views into our own tables by the best statements that we know, so many views in a transaction; answers how long
/// that took, without the sorting before.
pub(crate) fn mariadb(url: &str, traffic: Traffic, transaction_views: usize, views: u64) -> anyhow::Result<Duration> {
    let transactions = batches(traffic, transaction_views, views)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = MySqlConnection::connect(url).await?;
        let began = Instant::now();
        for rows in &transactions {
            upsert(&mut connection, rows).await?;
        }
        let took = began.elapsed();
        connection.close().await?;
        Ok(took)
    })
}

/// One transaction: literal text, sorted, and no question that the answers to the writes do not answer.
async fn upsert(connection: &mut MySqlConnection, batch: &Batch) -> sqlx::Result<()> {
    const ADD_VIEWS: &str = "ON DUPLICATE KEY UPDATE views = views + VALUES(views)";
    let hour = batch.minute / 60;
    let mut users: Vec<&User> = Vec::new();
    let mut readers: HashMap<&Article, u64> = HashMap::new();
    run(connection, "START TRANSACTION".to_owned()).await?;
    for rows in batch.rows.chunks(STATEMENT_ROWS) {
        let values = rows.iter().map(|row| format!("('{}','{}',{})", row.article, row.user, row.views));
        let into = "INSERT INTO footfall_article_readers (article, user, views)";
        let stored = run(connection, insert(into, values, &format!("{ADD_VIEWS} RETURNING views"))).await?;
        for (row, stored) in rows.iter().zip(stored) {
            if stored.try_get::<u64, _>(0)? == row.views {
                users.push(&row.user);
                *readers.entry(&row.article).or_default() += 1;
            }
        }
    }
    users.sort_unstable();
    users.dedup();
    for users in users.chunks(STATEMENT_ROWS) {
        let values = users.iter().map(|user| format!("('{user}')"));
        run(connection, insert("INSERT IGNORE INTO footfall_users (user)", values, "")).await?;
    }
    let articles: Vec<_> = batch.articles().collect();
    for articles in articles.chunks(STATEMENT_ROWS) {
        let values = articles.iter().map(|(article, views)| {
            let readers = readers.get(article).copied().unwrap_or(0);
            format!("('{article}',{views},{readers})")
        });
        let behind = format!("{ADD_VIEWS}, readers = readers + VALUES(readers)");
        run(connection, insert("INSERT INTO footfall_articles (article, views, readers)", values, &behind)).await?;
        let values = articles.iter().map(|(article, views)| format!("('{article}',{hour},{views})"));
        run(connection, insert("INSERT INTO footfall_article_hours (article, hour, views)", values, ADD_VIEWS)).await?;
    }
    run(connection, "COMMIT".to_owned()).await?;
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

/// As many views as wanted, folded as ingest folds them.
fn batches(traffic: Traffic, size: usize, views: u64) -> anyhow::Result<Vec<Batch>> {
    let minute = clock::unix_minute();
    let views = traffic.take(usize::try_from(views)?).map(view).collect::<anyhow::Result<Vec<_>>>()?;
    let (mut number, mut before) = (0, 0);
    let batch = |views: &[View]| {
        number += 1;
        let batch = Batch::fold(Producer(1), number, before, minute, views.to_vec());
        before = batch.cumulative_views;
        batch
    };
    Ok(views.chunks(size.max(1)).map(batch).collect())
}

fn view((article, user): (u32, u32)) -> anyhow::Result<View> {
    let id = |letter, number| {
        let mut id = [letter; 10];
        traffic::put(&mut id[1..], number);
        id
    };
    Ok(View { article: Article::parse(&id(b'a', article))?, user: User::parse(&id(b'u', user))?, id: None })
}
