//! What an ingest does: it appends batches, each once, and says how it fares.

use redis::Cmd;

use super::errors::{QueueError, Result};
use super::queue::Queue;
use super::replies::Word;
use super::scripts::{APPLY, BEHIND, REGISTER, ROTATE};
use crate::protocol::packed::Packed;
use crate::protocol::{Position, Producer};

/// What APPLY did with a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The batch is in the log or, if it was a repeat, was before. Its position is at most `tail`.
    Ok(Position),
    /// These views of the batch, by their position in `ids`, were counted before: leave them out, then send again.
    Seen(Vec<usize>),
    /// The data set does not know the producer, or lacks batches before this one: register, and send those first.
    Behind,
}

impl Queue {
    /// Admits a producer; answers the number of its last batch in this data set.
    pub async fn register(&self, epoch: u64, producer: Producer, shards: u16) -> Result<(u64, Position)> {
        let mut call = REGISTER.call([&*self.keys.meta, &self.keys.producers]);
        call.arg(epoch).arg(producer.to_string()).arg(shards);
        let (word, reply) = self.call(&REGISTER, call).await?;
        match word {
            Word::Shards => Err(QueueError::Shards(reply.text(0)?)),
            _ => Ok((reply.number(0)?, reply.position(1)?)),
        }
    }

    /// Appends a batch once, whatever the number of calls. If more than `ids_max` view ids would be added between two
    /// rotations, they are rotated before their time.
    pub async fn apply(&self, epoch: u64, batch: &Packed, ids_max: u64) -> Result<Applied> {
        let keys = &self.keys;
        let mut call: Cmd = APPLY.call([&*keys.meta, &keys.producers, &keys.log, &keys.ids, &keys.ids_before]);
        call.arg(epoch)
            .arg(batch.producer.to_string())
            .arg(batch.number)
            .arg(batch.views)
            .arg(batch.cumulative_views)
            .arg(&*batch.bytes)
            .arg(ids_max);
        for view in &batch.ids {
            call.arg(&view.hash()).arg(view.id.as_bytes());
        }
        let (word, reply) = self.call(&APPLY, call).await?;
        Ok(match word {
            Word::Behind => Applied::Behind,
            Word::Seen => Applied::Seen(reply.positions()?),
            _ => Applied::Ok(reply.position(0)?),
        })
    }

    /// Forgets the view ids of the period before the last one, if `rotation` still is what the data set says; `is_early`
    /// if that is to make room.
    pub async fn rotate_ids(&self, epoch: u64, rotation: u64, is_early: bool) -> Result<()> {
        let mut call = ROTATE.call([&*self.keys.meta, &self.keys.ids, &self.keys.ids_before]);
        call.arg(epoch).arg(rotation).arg(u8::from(is_early));
        self.call(&ROTATE, call).await.map(drop)
    }

    /// Tells the others how many views an ingest has acknowledged that only its journal holds. `beat` grows each time:
    /// so others see that it lives. `stored` is the last batch that MySQL has, and its cumulative views, of each path.
    /// With `is_behind`, readers are told for a while that the numbers of this shard are a part.
    pub async fn report(
        &self,
        producer: Producer,
        beat: u64,
        journalled: u64,
        stored: [(u64, u64); 2],
        is_behind: bool,
    ) -> Result<()> {
        let [(number, views), (direct, direct_views)] = stored;
        if is_behind {
            self.call(&BEHIND, BEHIND.call([&*self.keys.meta])).await?;
        }
        let producer = producer.to_string();
        let (report, stored) = (format!("{beat}:{journalled}"), format!("{number}:{views}:{direct}:{direct_views}"));
        self.calls.note([(&self.keys.reports, &producer, &report), (&self.keys.stored, &producer, &stored)]).await
    }

    /// Takes the report of an ingest back that has ended.
    pub async fn forget_report(&self, producer: Producer) -> Result<()> {
        let mut pipeline = redis::pipe();
        pipeline.hdel(&self.keys.reports, producer.to_string()).ignore();
        pipeline.hdel(&self.keys.stored, producer.to_string()).ignore();
        Ok(self.calls.commands(pipeline).await?)
    }
}
