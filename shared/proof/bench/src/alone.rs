//! What each store needs for the same views when nothing is asked of it beyond writing them: the limit of whatever is
//! built on it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use footfall_shared::protocol::packed;
use footfall_shared::protocol::{Article, Batch, Producer, User, View};
use footfall_shared::service::clock;
use sea_orm::sqlx::{Connection, MySqlConnection};

use crate::bulk;
use crate::traffic::{self, Traffic};

/// Sends Redis the commands to which a batch leads, each batch in one go and without any script: it is appended, and two
/// positions move. Nothing is checked.
pub(crate) fn redis(url: &str, traffic: Traffic, batch_views: usize, views: u64) -> anyhow::Result<()> {
    let mut connection = redis::Client::open(url)?.get_connection()?;
    for batch in batches(traffic, batch_views, views)? {
        let (number, views) = (batch.number, batch.cumulative_views);
        let mut pipeline = redis::pipe();
        pipeline.rpush("log", packed::encode(&batch)).ignore();
        pipeline.cmd("HSET").arg("meta").arg("views").arg(views).arg("tail").arg(number).ignore();
        pipeline.hset("producers", batch.producer.to_string(), format!("{number}:{views}")).ignore();
        pipeline.query::<()>(&mut connection)?;
    }
    Ok(())
}

/// Writes views into our own tables, so many in a transaction; answers how long that took, without the sorting before.
/// Hours are written once, at the end: nobody has to have them sooner.
pub(crate) fn mariadb(url: &str, traffic: Traffic, transaction_views: usize, views: u64) -> anyhow::Result<Duration> {
    let hour = clock::unix_minute() / 60;
    let transactions = batches(traffic, transaction_views, views)?;
    let mut articles: BTreeMap<&Article, u64> = BTreeMap::new();
    for row in transactions.iter().flat_map(|batch| &batch.rows) {
        *articles.entry(&row.article).or_default() += row.views;
    }
    let articles: Vec<_> = articles.into_iter().collect();
    let rows = |batch: &Batch| -> Vec<bulk::Row<String>> {
        batch.rows.iter().map(|row| (row.article.to_string(), row.user.to_string(), row.views)).collect()
    };
    let transactions: Vec<_> = transactions.iter().map(rows).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = MySqlConnection::connect(url).await?;
        let began = Instant::now();
        for rows in &transactions {
            bulk::add(&mut connection, rows).await?;
        }
        bulk::add_hour(&mut connection, hour, &articles).await?;
        let took = began.elapsed();
        connection.close().await?;
        Ok(took)
    })
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
