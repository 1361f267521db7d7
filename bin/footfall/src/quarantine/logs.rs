//! The logs that recoveries have set aside in Redis: reading them, and counting what is counted nowhere.

use std::time::Duration;

use footfall_shared::protocol::packed::{self, Packed, PackedError};
use footfall_shared::protocol::{Batch, Producer, Shard};
use footfall_shared::redis::{Applied, Entry, Queue, QueueError};
use footfall_shared::stores::recovery;
use tokio::time::Instant;

use super::{Stores, missing};
use crate::Result;
use crate::aside::{AsideId, Fit, Had, Summary, fit, merge};
use crate::failure::Failure;
use crate::terminal::count;

/// How long a flusher has to bring replayed batches to MySQL.
const FLUSH_MAX: Duration = Duration::from_secs(30);
/// Pause between two looks at how far it is.
const PAUSE: Duration = Duration::from_millis(200);
/// Times that a batch is sent because something came between.
const TRIES: u32 = 20;

/// All logs, those of a shard in the order in which they were written.
pub(super) async fn ids(stores: &Stores<'_>) -> Result<Vec<AsideId>> {
    let mut ids = Vec::new();
    for shard in Shard::all(stores.config.shards.get()) {
        let logs = stores.redis.shard(shard).aside().await?;
        ids.extend(logs.into_iter().map(|(epoch, first)| AsideId { shard, epoch, first }));
    }
    Ok(ids)
}

/// Some of the batches of a log, from the one at this place on; none at its end. A log may be large, and is read piece by
/// piece.
pub(super) async fn read(stores: &Stores<'_>, id: AsideId, from: u64) -> Result<Vec<Read>> {
    let records = stores.redis.shard(id.shard).aside_log(id.epoch, id.first, from).await?;
    if records.is_empty() && from == 0 {
        return Err(missing(id));
    }
    let batch = |record: &Vec<u8>| Ok(packed::decode(&Entry::parse(0, record)?.packed));
    records.iter().map(batch).collect()
}

/// A batch, or why it cannot be read.
pub(super) type Read = std::result::Result<Batch, PackedError>;

/// What a log comes to.
pub(super) async fn summary(stores: &Stores<'_>, id: AsideId, had: &Had) -> Result<Summary> {
    let mut summary = Summary::default();
    loop {
        let batches = read(stores, id, summary.batches).await?;
        if batches.is_empty() {
            return Ok(summary);
        }
        batches.iter().for_each(|batch| summary.add(batch, had));
    }
}

/// How far each producer of a shard is, in MySQL or in the current data set.
pub(super) async fn had(stores: &Stores<'_>, shard: Shard) -> Result<Had> {
    // Redis first: what is flushed in between is seen in MySQL.
    let queue = stores.redis.shard(shard);
    let is_open = queue.state().await?.data.is_some_and(|data| data.is_current);
    // What a data set holds that nobody has opened may be set aside as well.
    let mut had = if is_open { queue.moment().await?.producers } else { Had::new() };
    merge(&mut had, stored(stores, shard).await?);
    Ok(had)
}

async fn stored(stores: &Stores<'_>, shard: Shard) -> Result<Had> {
    let fences = stores.store.producer_fences().await?;
    let of_shard = fences.into_iter().filter(|((of, _), _)| *of == shard);
    Ok(of_shard.map(|((_, producer), position)| (producer, position)).collect())
}

/// Sends what is counted nowhere to Redis once more, and deletes the log when MySQL has all of it. Answers why it stays,
/// if it does.
pub(super) async fn replay(stores: &Stores<'_>, id: AsideId) -> Result<Option<String>> {
    let queue = stores.redis.shard(id.shard);
    let mut had = had(stores, id.shard).await?;
    let (mut left, mut left_more): (Option<String>, u64) = (None, 0);
    let mut last = Had::new();
    let (mut at, mut sent) = (0, 0);
    loop {
        let batches = read(stores, id, at).await?;
        if batches.is_empty() {
            break;
        }
        at += batches.len() as u64;
        for batch in batches {
            let why = match &batch {
                Err(error) => format!("a batch cannot be read ({error})"),
                Ok(batch) => match fit(batch, &had) {
                    Fit::Had => String::new(),
                    Fit::Gap(number) => format!(
                        "producer {}: batch {} cannot follow {number}, those between are in no log before this one",
                        batch.producer, batch.number
                    ),
                    Fit::Contradiction => format!(
                        "producer {}: batch {} has not as many views as its numbers say",
                        batch.producer, batch.number
                    ),
                    Fit::Next => {
                        send(stores, &queue, batch).await?;
                        merge(&mut had, [(batch.producer, (batch.number, batch.cumulative_views))]);
                        sent += 1;
                        String::new()
                    }
                },
            };
            if let Ok(batch) = batch {
                merge(&mut last, [(batch.producer, (batch.number, batch.cumulative_views))]);
            }
            match (&left, why.is_empty()) {
                (_, true) => {}
                (None, false) => left = Some(why),
                (Some(_), false) => left_more += 1,
            }
        }
    }
    if let Some(first) = left {
        let more = if left_more == 0 { String::new() } else { format!(" (and {left_more} more)") };
        return Ok(Some(format!("{} sent to be counted, but {first}{more}", count(sent, "batch"))));
    }
    // I3: until MySQL has them, no other place keeps what was sent should Redis lose it again.
    let deadline = Instant::now() + FLUSH_MAX;
    loop {
        let stored = stored(stores, id.shard).await?;
        let has = |(producer, (number, _)): (&Producer, &(u64, u64))| {
            stored.get(producer).is_some_and(|(stored, _)| stored >= number)
        };
        if last.iter().all(has) {
            queue.drop_aside(id.epoch, id.first).await?;
            return Ok(None);
        }
        if Instant::now() >= deadline {
            return Ok(Some(format!(
                "{} sent to Redis, but MySQL did not have all after {} s: check that a flusher runs, then replay it again",
                count(sent, "batch"),
                FLUSH_MAX.as_secs()
            )));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Applies one batch as its producer would. Redis takes it once, whoever else sends it.
async fn send(stores: &Stores<'_>, queue: &Queue, batch: &Batch) -> Result<()> {
    let (shards, packed) = (stores.config.shards.get(), Packed::new(batch.clone()));
    let mut epoch = recovery::open(queue, &stores.store, shards).await?;
    for _ in 0..TRIES {
        match try_to_send(queue, epoch, shards, &packed).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(QueueError::Epoch) => epoch = recovery::open(queue, &stores.store, shards).await?,
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::Dependency(format!(
        "redis was opened anew during each of {TRIES} tries to send batch {} of producer {}; what was sent is \
         counted once, whatever follows: try again",
        batch.number, batch.producer
    )))
}

async fn try_to_send(queue: &Queue, epoch: u64, shards: u16, batch: &Packed) -> std::result::Result<bool, QueueError> {
    queue.register(epoch, batch.producer, shards).await?;
    // A log that was set aside has no view ids.
    Ok(matches!(queue.apply(epoch, batch, u64::MAX).await?, Applied::Ok(_)))
}
