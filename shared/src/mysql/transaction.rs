//! The transactions that change counts: fence, rows and sums together, or nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult};
use tokio::time::Instant;

use super::errors::{NO_FENCE, Result, StoreError};
use super::known::Known;
use super::rows::{Poison, Stored, store_rows, store_users, total_of, upsert_hours, upsert_minutes};
use super::sql::{FENCES, TRANSACTION_MAX, fence_of, in_time, json_rows, statement};
use super::store::Store;
use super::tries::{REPEATS, Tries, repeated, unless_rolled_back};
use crate::protocol::{
    Batch, Committed, Direct, Fence, Flush, Histories, Producer, ProducerBatches, Recovery, Row, Shard, User, total,
};

/// The shard's row, locked from here to the end of the transaction: one writer per shard at a time (I4, I5).
pub(super) async fn lock(transaction: &DatabaseTransaction, shard: Shard) -> Result<Fence> {
    let sql = format!("{FENCES} WHERE shard = ? FOR UPDATE");
    let row = transaction.query_one_raw(statement(&sql, [shard.0.into()])).await?.ok_or(NO_FENCE)?;
    fence_of(&row)
}

pub(super) async fn next_epoch(store: &Store, shard: Shard, epoch: u64) -> Result<Option<Recovery>> {
    repeated(REPEATS, || begin_epoch(store, shard, epoch)).await
}

async fn begin_epoch(store: &Store, shard: Shard, epoch: u64) -> Result<Option<Recovery>> {
    let transaction = store.begin().await?;
    let written = write_epoch(&transaction, shard, epoch).await;
    let (transaction, recovery) = unless_rolled_back(transaction, written).await?;
    transaction.commit().await?; // Of nothing, if another process has begun it.
    Ok(recovery)
}

async fn write_epoch(transaction: &DatabaseTransaction, shard: Shard, epoch: u64) -> Result<Option<Recovery>> {
    let fence = lock(transaction, shard).await?;
    if fence.epoch != epoch {
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
    let Fence { position, flush_epoch, version, .. } = fence;
    Ok(Some(Recovery { epoch, position, flush_epoch, version, producers }))
}

/// Characters of a reason that are kept.
const REASON_CHARS_MAX: usize = 1_000;

pub(super) async fn commit(store: &Store, shard: Shard, epoch: u64, flush: &Flush) -> Result<Committed> {
    let mut tries = Tries::new();
    loop {
        let poison = tries.poison();
        match repeated(REPEATS, || commit_rows(store, shard, epoch, flush, poison)).await {
            Err(error) => tries.go_on(error, store.tables_fit()).await?,
            committed => return committed,
        }
    }
}

/// What a transaction has written: MySQL's answer, and what is known of its users once that is committed. Without the
/// latter there is nothing to commit.
type Written<T> = (T, Option<Learnt>);

/// Users that MySQL has once the fence stands at this version and position.
struct Learnt {
    known: Known,
    at: (u64, u64),
    users: Vec<User>,
}

/// Commits what was written, or takes it back.
async fn end<T>(transaction: DatabaseTransaction, written: Result<Written<T>>) -> Result<T> {
    let (transaction, (answer, learnt)) = unless_rolled_back(transaction, written).await?;
    match learnt {
        None => transaction.rollback().await?,
        Some(learnt) => {
            transaction.commit().await?;
            learnt.known.remember(learnt.at, &learnt.users);
        }
    }
    Ok(answer)
}

async fn commit_rows(store: &Store, shard: Shard, epoch: u64, flush: &Flush, poison: Poison) -> Result<Committed> {
    let transaction = store.begin().await?;
    let written = write_flush(store, &transaction, shard, epoch, flush, poison).await;
    end(transaction, written).await
}

async fn write_flush(
    store: &Store,
    transaction: &DatabaseTransaction,
    shard: Shard,
    epoch: u64,
    flush: &Flush,
    poison: Poison,
) -> Result<Written<Committed>> {
    let fence = lock(transaction, shard).await?;
    if let Some(refused) = fence.refuses(epoch, flush.first) {
        return Ok((refused, None));
    }
    let known = store.known.under(shard, &fence);
    let fenced = fenced_producers(transaction, shard, &flush.producers).await?;
    let mut lost = Vec::new();
    for part in &flush.producers {
        match part.follows(fenced.get(&part.producer).copied().unwrap_or_default()) {
            Some(0) => {}
            Some(views) => lost.push((part, views)),
            None => return Ok((Committed::Gap { producer: part.producer }, None)),
        }
    }

    let mut stored = Stored::default();
    store_rows(transaction, &flush.rows, fence.views, poison, &mut stored).await?;
    let histories = Histories { hours: flush.hours.clone(), minutes: flush.minutes.clone() };
    upsert_histories(transaction, shard, histories, &stored, poison).await?;
    upsert_producers(transaction, shard, &flush.producers).await?;
    let mut quarantined = quarantine_refused(transaction, shard, (epoch, flush.last), &stored.refused).await?;
    for (part, views) in lost {
        quarantined = quarantined.saturating_add(views);
        let reason = format!(
            "lost: the journal of producer {} was damaged before its batch {}; its reader and article are not known",
            part.producer, part.last
        );
        quarantine(transaction, shard, (epoch, flush.last), ("", "", views), &reason).await?;
    }
    known.retain_unknown(&mut stored.to_check);
    store_users(transaction, &mut stored).await?;

    let sql = format!(
        "UPDATE footfall_shard_fence SET position = ?, flush_epoch = ?, views = {}, readers = readers + ?, \
         users = users + ?, articles = articles + ? WHERE shard = ? AND epoch = ? AND position = ?",
        total_of("views", "?")
    );
    let values = [
        flush.last.into(),
        epoch.into(),
        stored.views().into(),
        stored.views().into(),
        stored.readers.into(),
        stored.users.into(),
        stored.articles.into(),
        shard.0.into(),
        fence.epoch.into(),
        fence.position.into(),
    ];
    if transaction.execute_raw(statement(&sql, values)).await?.rows_affected() != 1 {
        return Err(StoreError::Corrupt("the fence row changed while it was locked"));
    }
    let learnt = Learnt { known, at: (fence.version, flush.last), users: stored.known };
    Ok((Committed::Now { deltas: stored.deltas, version: fence.version, quarantined }, Some(learnt)))
}

pub(super) async fn commit_direct(store: &Store, shard: Shard, batch: &Batch) -> Result<Direct> {
    let hours = batch.articles().map(|(article, views)| (article.clone(), batch.minute / 60, views)).collect();
    let minute = Some((batch.minute, batch.views())).filter(|(_, views)| *views > 0);
    let histories = Histories { hours, minutes: Vec::from_iter(minute) };
    store.turns.wait(shard).await;
    let started = Instant::now();
    // Clients may be waiting for it: not for as long as for a flush.
    let committed = commit_once(store, shard, batch, &histories, (store.timeout, REPEATS)).await;
    store.turns.took(shard, started.elapsed());
    committed
}

/// Nobody waits for it, and every flush of the shard may get in its way.
const IMPORT_REPEATS: usize = 10;

pub(super) async fn import(store: &Store, shard: Shard, batch: &Batch, histories: &Histories) -> Result<Direct> {
    commit_once(store, shard, batch, histories, (TRANSACTION_MAX, IMPORT_REPEATS)).await
}

/// With its repeats it takes no longer than `limit`, unless the rows have to be tried one by one.
async fn commit_once(
    store: &Store,
    shard: Shard,
    batch: &Batch,
    histories: &Histories,
    (limit, repeats): (Duration, usize),
) -> Result<Direct> {
    let mut tries = Tries::new();
    loop {
        let poison = tries.poison();
        let limit = if poison == Poison::Fails { limit } else { TRANSACTION_MAX };
        let work = repeated(repeats, || commit_batch(store, shard, batch, histories, poison));
        match in_time(limit, work).await {
            Err(error) => tries.go_on(error, store.tables_fit()).await?,
            committed => return committed,
        }
    }
}

async fn commit_batch(
    store: &Store,
    shard: Shard,
    batch: &Batch,
    histories: &Histories,
    poison: Poison,
) -> Result<Direct> {
    let transaction = store.begin().await?;
    let written = write_batch(store, &transaction, shard, batch, histories, poison).await;
    end(transaction, written).await
}

async fn write_batch(
    store: &Store,
    transaction: &DatabaseTransaction,
    shard: Shard,
    batch: &Batch,
    histories: &Histories,
    poison: Poison,
) -> Result<Written<Direct>> {
    // As a flush does: else two writers could both count the same new reader (I4).
    let fence = lock(transaction, shard).await?;
    let fenced = fenced_directly(transaction, shard, batch.producer).await?;
    if fenced.0 >= batch.number {
        return Ok((Direct::Before, None));
    }
    let (views, number) = (batch.numbered_views(), batch.number);
    let part = ProducerBatches {
        producer: batch.producer,
        first: number,
        last: number,
        cumulative_views: batch.cumulative_views,
        views,
        repeats: batch.repeats,
    };
    let Some(lost) = part.follows(fenced) else {
        return Ok((Direct::Behind { number: fenced.0 }, None));
    };
    let known = store.known.under(shard, &fence);
    let mut stored = Stored::default();
    store_rows(transaction, &batch.rows, fence.views, poison, &mut stored).await?;
    upsert_histories(transaction, shard, histories.clone(), &stored, poison).await?;
    let quarantined = quarantine_refused(transaction, shard, (fence.epoch, 0), &stored.refused).await?;
    if lost > 0 {
        let reason =
            format!("lost: the journal of producer {} was damaged before its direct batch {number}", part.producer);
        quarantine(transaction, shard, (fence.epoch, 0), ("", "", lost), &reason).await?;
    }
    let sql = "INSERT INTO footfall_direct_fence (shard, producer, batch, views) VALUES (?, ?, ?, ?) \
               ON DUPLICATE KEY UPDATE batch = VALUES(batch), views = VALUES(views)";
    let values = [shard.0.into(), part.producer.0.into(), number.into(), batch.cumulative_views.into()];
    transaction.execute_raw(statement(sql, values)).await?;
    known.retain_unknown(&mut stored.to_check);
    store_users(transaction, &mut stored).await?;
    add_to_totals(transaction, shard, &stored).await?;
    let learnt = Learnt { known, at: (fence.version + 1, fence.position), users: stored.known };
    Ok((Direct::Now { quarantined: quarantined.saturating_add(lost) }, Some(learnt)))
}

/// Adds to the shard's totals what did not come by a flush, and tells the caches so.
pub(super) async fn add_to_totals(transaction: &DatabaseTransaction, shard: Shard, stored: &Stored) -> Result<()> {
    let sql = format!(
        "UPDATE footfall_shard_fence SET version = version + 1, views = {}, readers = readers + ?, \
         users = users + ?, articles = articles + ? WHERE shard = ?",
        total_of("views", "?")
    );
    let views = stored.views();
    let values = [
        views.into(),
        views.into(),
        stored.readers.into(),
        stored.users.into(),
        stored.articles.into(),
        shard.0.into(),
    ];
    transaction.execute_raw(statement(&sql, values)).await?;
    Ok(())
}

/// The last batch of each producer of a flush in MySQL and its cumulative views, if it has one.
async fn fenced_producers(
    transaction: &DatabaseTransaction,
    shard: Shard,
    parts: &[ProducerBatches],
) -> Result<BTreeMap<Producer, (u64, u64)>> {
    let json = json_rows(parts.iter().map(|part| (part.producer.0,)));
    let sql = "SELECT f.producer, f.batch, f.views FROM \
               JSON_TABLE(?, '$[*]' COLUMNS (p BIGINT UNSIGNED PATH '$[0]')) j \
               STRAIGHT_JOIN footfall_producer_fence f ON f.shard = ? AND f.producer = j.p";
    let rows = transaction.query_all_raw(statement(sql, [json.into(), shard.0.into()])).await?;
    let fenced = |row: &QueryResult| {
        Ok((Producer(row.try_get("", "producer")?), (row.try_get("", "batch")?, row.try_get("", "views")?)))
    };
    rows.iter().map(fenced).collect()
}

/// The last batch of a producer in MySQL that came directly, and its cumulative views.
async fn fenced_directly(transaction: &DatabaseTransaction, shard: Shard, producer: Producer) -> Result<(u64, u64)> {
    let sql = "SELECT batch, views FROM footfall_direct_fence WHERE shard = ? AND producer = ?";
    match transaction.query_one_raw(statement(sql, [shard.0.into(), producer.0.into()])).await? {
        Some(row) => Ok((row.try_get("", "batch")?, row.try_get("", "views")?)),
        None => Ok((0, 0)),
    }
}

/// Adds to hours and minutes, without the rows that MySQL refused.
async fn upsert_histories(
    transaction: &DatabaseTransaction,
    shard: Shard,
    histories: Histories,
    stored: &Stored,
    poison: Poison,
) -> Result<()> {
    let Histories { mut hours, mut minutes } = histories;
    for (row, _) in &stored.refused {
        take_back(&mut hours, |(article, ..)| *article == row.article, |(.., views)| views, row.views);
        take_back(&mut minutes, |_| true, |(_, views)| views, row.views);
    }
    upsert_hours(transaction, &hours, poison).await?;
    upsert_minutes(transaction, shard, &minutes, poison).await
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
    Ok(total(refused.iter().map(|(row, _)| row.views)))
}

pub(super) async fn quarantine(
    transaction: &DatabaseTransaction,
    shard: Shard,
    (epoch, position): (u64, u64),
    (article, user, views): (&str, &str, u64),
    reason: &str,
) -> Result<()> {
    let sql = "INSERT INTO footfall_quarantine (shard, epoch, position, article, user, views, reason) VALUES (?, ?, ?, ?, ?, ?, ?)";
    let values = [
        shard.0.into(),
        epoch.into(),
        position.into(),
        article.as_bytes().to_vec().into(),
        user.as_bytes().to_vec().into(),
        views.into(),
        plain(reason).into(),
    ];
    transaction.execute_raw(statement(sql, values)).await?;
    Ok(())
}

/// A reason as every session and column takes it: MySQL's words may cite whatever the row holds, in any length.
fn plain(reason: &str) -> String {
    reason.chars().take(REASON_CHARS_MAX).map(|c| if c.is_ascii() { c } else { '?' }).collect()
}

async fn upsert_producers(
    transaction: &DatabaseTransaction,
    shard: Shard,
    producers: &[ProducerBatches],
) -> Result<()> {
    let parts = producers.iter().map(|part| (part.producer.0, part.last, part.cumulative_views, part.repeats));
    let sql = "INSERT INTO footfall_producer_fence (shard, producer, batch, views, repeats) SELECT ?, j.p, j.b, j.v, j.r FROM \
               JSON_TABLE(?, '$[*]' COLUMNS (p BIGINT UNSIGNED PATH '$[0]', b BIGINT UNSIGNED PATH '$[1]', \
               v BIGINT UNSIGNED PATH '$[2]', r BIGINT UNSIGNED PATH '$[3]')) j \
               ON DUPLICATE KEY UPDATE batch = j.b, views = j.v, repeats = footfall_producer_fence.repeats + j.r";
    transaction.execute_raw(statement(sql, [shard.0.into(), json_rows(parts).into()])).await?;
    Ok(())
}
