//! The logs that recoveries have set aside in Redis: reading them, and counting what is counted nowhere.

use std::time::Duration;

use footfall_shared::counter::{Batch, Shard};
use footfall_shared::queue::{Applied, Queue, QueueError};
use footfall_shared::recovery;
use tokio::time::Instant;

use super::{Stores, missing};
use crate::Result;
use crate::aside::{Aside, AsideId, Fit, Had, fit, merge};
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
    for shard in Shard::all(stores.config.shards) {
        let logs = stores.redis.shard(shard).aside().await?;
        ids.extend(logs.into_iter().map(|(epoch, generation)| AsideId { shard, epoch, generation }));
    }
    Ok(ids)
}

/// One log.
pub(super) async fn read(stores: &Stores<'_>, id: AsideId) -> Result<Aside> {
    let log = stores.redis.shard(id.shard).aside_log(id.epoch, id.generation).await?;
    if log.is_empty() { Err(missing(id)) } else { Ok(Aside::new(id, &log)) }
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
    let aside = read(stores, id).await?;
    let queue = stores.redis.shard(id.shard);
    let mut had = had(stores, id.shard).await?;
    let mut left = Vec::new();
    let mut sent = 0;
    for batch in &aside.batches {
        match batch {
            Err(error) => left.push(format!("a batch cannot be read ({error})")),
            Ok(batch) => match fit(batch, &had) {
                Fit::Had => {}
                Fit::Gap(number) => left.push(format!(
                    "producer {}: batch {} cannot follow {number}, those between are in no log before this one",
                    batch.producer, batch.number
                )),
                Fit::Contradiction => left.push(format!(
                    "producer {}: batch {} has not as many views as its numbers say",
                    batch.producer, batch.number
                )),
                Fit::Next => {
                    send(stores, &queue, batch).await?;
                    merge(&mut had, [(batch.producer, (batch.number, batch.cumulative_views))]);
                    sent += 1;
                }
            },
        }
    }
    if !left.is_empty() {
        let first = left.remove(0);
        let more = if left.is_empty() { String::new() } else { format!(" (and {} more)", left.len()) };
        return Ok(Some(format!("{} sent to be counted, but {first}{more}", count(sent, "batch"))));
    }
    // I3: until MySQL has them, no other place keeps what was sent should Redis lose it again.
    let deadline = Instant::now() + FLUSH_MAX;
    loop {
        let stored = stored(stores, id.shard).await?;
        if aside.batches.iter().flatten().all(|batch| fit(batch, &stored) == Fit::Had) {
            queue.drop_aside(id.epoch, id.generation).await?;
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
    let (shards, views_max) = (stores.config.shards, stores.config.ingest.generation_views_max);
    let mut epoch = recovery::open(queue, &stores.store, shards).await?;
    for _ in 0..TRIES {
        match try_to_send(queue, epoch, shards, batch, views_max).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(QueueError::Epoch) => epoch = recovery::open(queue, &stores.store, shards).await?,
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::Dependency(format!(
        "redis was opened anew, or full, during each of {TRIES} tries to send batch {} of producer {}; what was sent is \
         counted once, whatever follows: try again",
        batch.number, batch.producer
    )))
}

async fn try_to_send(
    queue: &Queue,
    epoch: u64,
    shards: u16,
    batch: &Batch,
    views_max: u64,
) -> std::result::Result<bool, QueueError> {
    queue.register(epoch, batch.producer, shards).await?;
    // A log that was set aside has no view ids.
    match queue.apply(epoch, batch, views_max, u64::MAX).await? {
        Applied::Ok(_) => Ok(true),
        Applied::Full { open } => queue.seal(epoch, open).await.map(|_| false),
        Applied::Seen(_) | Applied::Behind => Ok(false),
    }
}
