//! Where the steps of a shard's lanes are carried out: the shard's log in Redis, and MySQL.

use std::sync::Arc;

use footfall_shared::mysql::{Fences, StoreError};
use footfall_shared::protocol::errors::ErrorClass;
use footfall_shared::protocol::{Batch, Direct, Position, Producer};
use footfall_shared::redis::Queue;
use footfall_shared::stores::recovery;
use futures_util::future::join_all;
use tracing::warn;

use crate::ids::IdsLimit;
use crate::lane::{LaneError, LaneReply, LaneRequest};

/// The stores of one shard. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) queue: Queue,
    pub(crate) fences: Arc<dyn Fences>,
    /// How many there are.
    pub(crate) shards: u16,
    pub(crate) ids: IdsLimit,
}

impl Link {
    /// Carries a step out.
    pub(crate) async fn perform(self, producer: Producer, step: LaneRequest) -> LaneReply {
        match step {
            LaneRequest::Open => LaneReply::Opened(self.open(producer).await),
            LaneRequest::Apply { epoch, batches } => {
                // Redis takes them one after the other: what follows one that it did not take is refused.
                let ids_max = self.ids.get();
                let applied =
                    batches.iter().map(|batch| async { (batch.number, self.queue.apply(epoch, batch, ids_max).await) });
                LaneReply::Applied(join_all(applied).await)
            }
            LaneRequest::Look => {
                let state = self.queue.state().await;
                LaneReply::Looked(state.map(|state| state.data.filter(|data| data.is_current && !data.is_damaged)))
            }
        }
    }

    /// Writes a batch of the direct path, once, however often it is called.
    pub(crate) async fn commit(&self, batch: &Batch) -> Result<Direct, StoreError> {
        let shard = self.queue.shard();
        let stored = self.fences.commit_direct(shard, batch).await;
        if let Ok(Direct::Now { quarantined: views @ 1.. }) = stored {
            let class = ErrorClass::DbPoison;
            class.count();
            warn!(
                %shard, views, class = class.name(),
                "views could not be counted and are in quarantine: see `footfall quarantine list`"
            );
        }
        stored
    }

    async fn open(&self, producer: Producer) -> Result<(u64, u64, Position), LaneError> {
        let epoch = recovery::open(&self.queue, &*self.fences, self.shards).await?;
        let (last, position) = self.queue.register(epoch, producer, self.shards).await?;
        Ok((epoch, last, position))
    }
}
