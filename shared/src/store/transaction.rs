//! The transactions that change counts: fence, rows and sums together, or nothing.

use sea_orm::{ConnectionTrait, DatabaseTransaction, TransactionTrait};

use super::{
    Committed, Direct, Fence, Flush, Histories, NO_FENCE, Part, Recovery, Result, STATEMENT_ROWS_MAX, Store,
    StoreError, fence_of, json_rows, statement,
};
use crate::counter::{Article, Batch, Growth, Producer, Row, Shard, User};
use crate::grading::{Class, Grade};

/// The shard's row, locked from here to the end of the transaction: one writer per shard at a time (I4, I5).
pub(super) async fn lock(transaction: &DatabaseTransaction, shard: Shard) -> Result<Fence> {
    let sql = "SELECT epoch, gen, flush_epoch, version, views, readers, users, articles FROM footfall_shard_fence \
               WHERE shard = ? FOR UPDATE";
    let row = transaction.query_one_raw(statement(sql, [shard.0.into()])).await?.ok_or(NO_FENCE)?;
    fence_of(&row)
}

pub(super) async fn next_epoch(store: &Store, shard: Shard, epoch: u64) -> Result<Option<Recovery>> {
    let transaction = store.db.begin().await?;
    let fence = lock(&transaction, shard).await?;
    if fence.epoch != epoch {
        transaction.rollback().await?;
        return Ok(None);
    }
    let epoch = epoch + 1;
    let sql = "UPDATE footfall_shard_fence SET epoch = ? WHERE shard = ?";
    transaction.execute_raw(statement(sql, [epoch.into(), shard.0.into()])).await?;
    let sql = "SELECT producer, batch, views FROM footfall_producer_fence WHERE shard = ?";
    let producers = transaction
        .query_all_raw(statement(sql, [shard.0.into()]))
        .await?
        .iter()
        .map(|row| Ok((Producer(row.try_get("", "producer")?), row.try_get("", "batch")?, row.try_get("", "views")?)))
        .collect::<Result<_>>()?;
    transaction.commit().await?;
    let Fence { generation, flush_epoch, version, .. } = fence;
    Ok(Some(Recovery { epoch, generation, flush_epoch, version, producers }))
}

pub(super) async fn commit(store: &Store, shard: Shard, epoch: u64, flush: &Flush) -> Result<Committed> {
    match commit_rows(store, shard, epoch, flush, Poison::Fails).await {
        // The same once more, looking for the rows that MySQL refuses.
        Err(error) if error.class() == Class::DbPoison => {
            commit_rows(store, shard, epoch, flush, Poison::IsLeftOut).await
        }
        result => result,
    }
}

async fn commit_rows(store: &Store, shard: Shard, epoch: u64, flush: &Flush, poison: Poison) -> Result<Committed> {
    let transaction = store.db.begin().await?;
    let fence = lock(&transaction, shard).await?;
    if let Some(refused) = fence.refuses(epoch, flush.first).filter(|_| store.fence_is_on()) {
        transaction.rollback().await?;
        return Ok(refused);
    }
    let mut lost = Vec::new();
    for part in &flush.producers {
        let fenced = fenced(&transaction, "footfall_producer_fence", shard, part.producer).await?;
        match part.follows(fenced) {
            Some(0) => {}
            Some(views) => lost.push((part, views)),
            None if !store.fence_is_on() => {}
            None => {
                transaction.rollback().await?;
                return Ok(Committed::Gap { producer: part.producer });
            }
        }
    }

    let mut stored = Stored::default();
    store_rows(&transaction, &flush.rows, poison, &mut stored).await?;
    let histories = Histories { hours: flush.hours.clone(), minutes: flush.minutes.clone() };
    upsert_histories(&transaction, shard, &histories, &stored).await?;
    upsert_producers(&transaction, shard, &flush.producers).await?;
    let mut quarantined = quarantine_refused(&transaction, shard, (epoch, flush.last), &stored.refused).await?;
    for (part, views) in lost {
        quarantined += views;
        let reason = format!(
            "lost: the journal of producer {} was damaged before its batch {}; its reader and article are not known",
            part.producer, part.last
        );
        quarantine(&transaction, shard, (epoch, flush.last), ("", "", views), &reason).await?;
    }

    let sql = "UPDATE footfall_shard_fence SET gen = ?, flush_epoch = ?, views = views + ?, readers = readers + ?, \
               users = users + ?, articles = articles + ? WHERE shard = ? AND epoch = ? AND gen = ?";
    let values = [
        flush.last.into(),
        epoch.into(),
        stored.views().into(),
        stored.readers.into(),
        stored.users.into(),
        stored.articles.into(),
        shard.0.into(),
        fence.epoch.into(),
        fence.generation.into(),
    ];
    if transaction.execute_raw(statement(sql, values)).await?.rows_affected() != 1 {
        return Err(StoreError::Corrupt("the fence row changed while it was locked"));
    }
    transaction.commit().await?;
    Ok(Committed::Now { growth: stored.growth, version: fence.version, quarantined })
}

pub(super) async fn commit_direct(store: &Store, shard: Shard, batch: &Batch) -> Result<Direct> {
    let hours = batch.articles().map(|(article, views)| (article.clone(), batch.minute / 60, views)).collect();
    let minute = Some((batch.minute, batch.views())).filter(|(_, views)| *views > 0);
    let histories = Histories { hours, minutes: Vec::from_iter(minute) };
    import(store, shard, batch, &histories).await
}

pub(super) async fn import(store: &Store, shard: Shard, batch: &Batch, histories: &Histories) -> Result<Direct> {
    match commit_batch(store, shard, batch, histories, Poison::Fails).await {
        Err(error) if error.class() == Class::DbPoison => {
            commit_batch(store, shard, batch, histories, Poison::IsLeftOut).await
        }
        result => result,
    }
}

async fn commit_batch(
    store: &Store,
    shard: Shard,
    batch: &Batch,
    histories: &Histories,
    poison: Poison,
) -> Result<Direct> {
    let transaction = store.db.begin().await?;
    // As a flush does: else two writers could both count the same new reader (I4).
    let fence = lock(&transaction, shard).await?;
    let fenced = fenced(&transaction, "footfall_direct_fence", shard, batch.producer).await?;
    if fenced.0 >= batch.number {
        transaction.rollback().await?;
        return Ok(Direct::Before);
    }
    let (views, number) = (batch.views() + batch.repeats, batch.number);
    let part = Part {
        producer: batch.producer,
        first: number,
        last: number,
        cumulative_views: batch.cumulative_views,
        views,
        repeats: batch.repeats,
    };
    let Some(lost) = part.follows(fenced) else {
        transaction.rollback().await?;
        return Ok(Direct::Behind { number: fenced.0 });
    };
    let mut stored = Stored::default();
    store_rows(&transaction, &batch.rows, poison, &mut stored).await?;
    upsert_histories(&transaction, shard, histories, &stored).await?;
    let quarantined = quarantine_refused(&transaction, shard, (fence.epoch, 0), &stored.refused).await?;
    if lost > 0 {
        let reason =
            format!("lost: the journal of producer {} was damaged before its direct batch {number}", part.producer);
        quarantine(&transaction, shard, (fence.epoch, 0), ("", "", lost), &reason).await?;
    }
    let sql = "INSERT INTO footfall_direct_fence (shard, producer, batch, views) VALUES (?, ?, ?, ?) \
               ON DUPLICATE KEY UPDATE batch = VALUES(batch), views = VALUES(views)";
    let values = [shard.0.into(), part.producer.0.into(), number.into(), batch.cumulative_views.into()];
    transaction.execute_raw(statement(sql, values)).await?;
    add_to_totals(&transaction, shard, &stored).await?;
    transaction.commit().await?;
    Ok(Direct::Now { quarantined: quarantined.saturating_add(lost) })
}

/// Adds to the shard's totals what did not come by a flush, and tells the caches so.
pub(super) async fn add_to_totals(transaction: &DatabaseTransaction, shard: Shard, stored: &Stored) -> Result<()> {
    let sql = "UPDATE footfall_shard_fence SET version = version + 1, views = views + ?, readers = readers + ?, \
               users = users + ?, articles = articles + ? WHERE shard = ?";
    let values =
        [stored.views().into(), stored.readers.into(), stored.users.into(), stored.articles.into(), shard.0.into()];
    transaction.execute_raw(statement(sql, values)).await?;
    Ok(())
}

/// The last batch of a producer in MySQL and its cumulative views.
async fn fenced(
    transaction: &DatabaseTransaction,
    table: &str,
    shard: Shard,
    producer: Producer,
) -> Result<(u64, u64)> {
    let sql = format!("SELECT batch, views FROM {table} WHERE shard = ? AND producer = ?");
    match transaction.query_one_raw(statement(&sql, [shard.0.into(), producer.0.into()])).await? {
        Some(row) => Ok((row.try_get("", "batch")?, row.try_get("", "views")?)),
        None => Ok((0, 0)),
    }
}

/// What to do when MySQL refuses a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Poison {
    /// The statement fails.
    Fails,
    /// It is found by bisection and left out.
    IsLeftOut,
}

/// What rows became in MySQL.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) growth: Vec<Growth>,
    pub(super) readers: u64,
    pub(super) users: u64,
    pub(super) articles: u64,
    /// Rows that MySQL refuses, with its reason.
    pub(super) refused: Vec<(Row, String)>,
}

impl Stored {
    pub(super) fn views(&self) -> u64 {
        self.growth.iter().map(|part| part.views).sum()
    }

    /// Adds the growth of an article; the parts of one article come one after the other.
    fn grow(&mut self, part: Growth) {
        match self.growth.last_mut() {
            Some(last) if last.article == part.article => {
                last.views += part.views;
                last.readers = last.readers.zip(part.readers).map(|(a, b)| a + b);
            }
            _ => self.growth.push(part),
        }
    }
}

/// Writes sorted rows and what follows from them: readers, users, articles.
pub(super) async fn store_rows(
    transaction: &DatabaseTransaction,
    rows: &[Row],
    poison: Poison,
    stored: &mut Stored,
) -> Result<()> {
    if poison == Poison::Fails {
        for part in rows.chunks(STATEMENT_ROWS_MAX) {
            store_part(transaction, part, stored).await?;
        }
        return Ok(());
    }
    let mut parts: Vec<&[Row]> = rows.rchunks(STATEMENT_ROWS_MAX).collect();
    while let Some(part) = parts.pop() {
        transaction.execute_unprepared("SAVEPOINT part").await?;
        let mut try_part = Stored::default();
        match store_part(transaction, part, &mut try_part).await {
            Ok(()) => {
                try_part.growth.into_iter().for_each(|growth| stored.grow(growth));
                stored.readers += try_part.readers;
                stored.users += try_part.users;
                stored.articles += try_part.articles;
            }
            Err(error) if error.class() == Class::DbPoison => {
                transaction.execute_unprepared("ROLLBACK TO SAVEPOINT part").await?;
                match part {
                    [row] => stored.refused.push((row.clone(), error.to_string())),
                    _ => {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sorted rows as one JSON parameter: one prepared statement serves any number of rows. The columns are
/// VARBINARY, so ids keep being compared by bytes.
const READER_ROWS: &str = "JSON_TABLE(?, '$[*]' COLUMNS (i FOR ORDINALITY, a VARBINARY(1024) PATH '$[0]', \
     u VARBINARY(1024) PATH '$[1]', n BIGINT UNSIGNED PATH '$[2]')) j";

async fn store_part(transaction: &DatabaseTransaction, rows: &[Row], stored: &mut Stored) -> Result<()> {
    let json = json_rows(rows.iter().map(|row| (row.article.as_str(), row.user.as_str(), row.views)));
    // Which pairs are new is asked first: the affected rows of an upsert give only their sum over
    // all articles. It is still true at the upsert, because the fence row is locked.
    let sql = format!(
        "SELECT CAST(j.i AS SIGNED) FROM {READER_ROWS} LEFT JOIN footfall_article_readers r ON r.article = j.a AND r.user = j.u \
         WHERE r.article IS NULL"
    );
    let mut is_new = vec![false; rows.len()];
    let new = transaction.query_all_raw(statement(&sql, [json.as_str().into()])).await?;
    for row in &new {
        let ordinal: i64 = row.try_get_by_index(0)?;
        let index = usize::try_from(ordinal - 1).ok();
        *index.and_then(|index| is_new.get_mut(index)).ok_or(StoreError::Corrupt("a row that was not asked for"))? =
            true;
    }
    let sql = format!(
        "INSERT INTO footfall_article_readers (article, user, views) SELECT j.a, j.u, j.n FROM {READER_ROWS} \
         ON DUPLICATE KEY UPDATE views = footfall_article_readers.views + j.n"
    );
    // 1 affected row per insert, 2 per changed row; every row changes, because it gets at least one view.
    let affected = transaction.execute_raw(statement(&sql, [json.into()])).await?.rows_affected();
    if affected + new.len() as u64 != 2 * rows.len() as u64 {
        return Err(StoreError::Corrupt("the readers that were new are not those that were inserted"));
    }
    let mut growth: Vec<Growth> = Vec::new();
    let mut new_users: Vec<&User> = Vec::new();
    for (row, is_new) in rows.iter().zip(is_new) {
        if is_new {
            new_users.push(&row.user);
        }
        let new = u64::from(is_new);
        match growth.last_mut() {
            Some(part) if part.article == row.article => {
                part.views += row.views;
                part.readers = part.readers.map(|readers| readers + new);
            }
            _ => growth.push(Growth { article: row.article.clone(), views: row.views, readers: Some(new) }),
        }
    }
    new_users.sort_unstable();
    new_users.dedup();
    stored.readers += new.len() as u64;
    stored.users += insert_users(transaction, &new_users).await?;
    stored.articles += upsert_articles(transaction, &growth).await?;
    growth.into_iter().for_each(|part| stored.grow(part));
    Ok(())
}

/// Takes `views` off the entries that match, from the last one on.
fn take_back<T>(
    entries: &mut Vec<T>,
    is_meant: impl Fn(&T) -> bool,
    views_of: impl Fn(&mut T) -> &mut u64,
    mut views: u64,
) {
    for entry in entries.iter_mut().rev() {
        if views > 0 && is_meant(entry) {
            let held = views_of(entry);
            let taken = views.min(*held);
            *held -= taken;
            views -= taken;
        }
    }
    entries.retain_mut(|entry| *views_of(entry) > 0);
}

async fn quarantine_refused(
    transaction: &DatabaseTransaction,
    shard: Shard,
    origin: (u64, u64),
    refused: &[(Row, String)],
) -> Result<u64> {
    for (row, reason) in refused {
        let (article, user) = (row.article.as_str(), row.user.as_str());
        quarantine(transaction, shard, origin, (article, user, row.views), reason).await?;
    }
    Ok(refused.iter().map(|(row, _)| row.views).sum())
}

pub(super) async fn quarantine(
    transaction: &DatabaseTransaction,
    shard: Shard,
    (epoch, generation): (u64, u64),
    (article, user, views): (&str, &str, u64),
    reason: &str,
) -> Result<()> {
    let sql = "INSERT INTO footfall_quarantine (shard, epoch, gen, article, user, views, reason) VALUES (?, ?, ?, ?, ?, ?, ?)";
    let values = [
        shard.0.into(),
        epoch.into(),
        generation.into(),
        article.as_bytes().to_vec().into(),
        user.as_bytes().to_vec().into(),
        views.into(),
        reason.into(),
    ];
    transaction.execute_raw(statement(sql, values)).await?;
    Ok(())
}

/// Adds users who are not known yet; answers how many those were.
async fn insert_users(transaction: &DatabaseTransaction, users: &[&User]) -> Result<u64> {
    let mut added = 0;
    for chunk in users.chunks(STATEMENT_ROWS_MAX) {
        let json = json_rows(chunk.iter().map(|user| (user.as_str(),)));
        let sql = "INSERT IGNORE INTO footfall_users (user) SELECT j.u FROM JSON_TABLE(?, '$[*]' COLUMNS (u VARBINARY(1024) PATH '$[0]')) j";
        added += transaction.execute_raw(statement(sql, [json.into()])).await?.rows_affected();
    }
    Ok(added)
}

/// Adds to the articles; answers how many were new.
async fn upsert_articles(transaction: &DatabaseTransaction, growth: &[Growth]) -> Result<u64> {
    let mut added = 0;
    for chunk in growth.chunks(STATEMENT_ROWS_MAX) {
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

/// Adds to hours and minutes, without the rows that MySQL refused.
async fn upsert_histories(
    transaction: &DatabaseTransaction,
    shard: Shard,
    histories: &Histories,
    stored: &Stored,
) -> Result<()> {
    let Histories { mut hours, mut minutes } = histories.clone();
    for (row, _) in &stored.refused {
        take_back(&mut hours, |(article, ..)| *article == row.article, |(.., views)| views, row.views);
        take_back(&mut minutes, |_| true, |(_, views)| views, row.views);
    }
    upsert_hours(transaction, &hours).await?;
    upsert_minutes(transaction, shard, &minutes).await
}

async fn upsert_hours(transaction: &DatabaseTransaction, hours: &[(Article, u32, u64)]) -> Result<()> {
    for chunk in hours.chunks(STATEMENT_ROWS_MAX) {
        let json = json_rows(chunk.iter().map(|(article, hour, views)| (article.as_str(), hour, views)));
        let sql = "INSERT INTO footfall_article_hours (article, hour, views) SELECT j.a, j.h, j.n FROM JSON_TABLE(?, '$[*]' COLUMNS \
                   (a VARBINARY(1024) PATH '$[0]', h INT UNSIGNED PATH '$[1]', n BIGINT UNSIGNED PATH '$[2]')) j \
                   ON DUPLICATE KEY UPDATE views = footfall_article_hours.views + j.n";
        transaction.execute_raw(statement(sql, [json.into()])).await?;
    }
    Ok(())
}

async fn upsert_minutes(transaction: &DatabaseTransaction, shard: Shard, minutes: &[(u32, u64)]) -> Result<()> {
    for (minute, views) in minutes {
        let sql = "INSERT INTO footfall_site_minutes (minute, shard, views) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE views = views + VALUES(views)";
        transaction.execute_raw(statement(sql, [(*minute).into(), shard.0.into(), (*views).into()])).await?;
    }
    Ok(())
}

async fn upsert_producers(transaction: &DatabaseTransaction, shard: Shard, producers: &[Part]) -> Result<()> {
    for part in producers {
        let sql = "INSERT INTO footfall_producer_fence (shard, producer, batch, views, repeats) VALUES (?, ?, ?, ?, ?) \
                   ON DUPLICATE KEY UPDATE batch = VALUES(batch), views = VALUES(views), repeats = repeats + VALUES(repeats)";
        let values = [
            shard.0.into(),
            part.producer.0.into(),
            part.last.into(),
            part.cumulative_views.into(),
            part.repeats.into(),
        ];
        transaction.execute_raw(statement(sql, values)).await?;
    }
    Ok(())
}
