//! Opens a Redis data set that no recovery has opened in this life of its server: after a restart, a
//! fail-over, FLUSHALL or the very first start. Any process may do it; a race costs an epoch number.

use tracing::{error, info, warn};

use crate::queue::{Queue, QueueError};
use crate::store::{Store, StoreError};

/// Why a shard could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Redis failed; try again.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// MySQL failed; try again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Redis has forgotten generations, because MySQL had them, that MySQL does not have any more.
    /// Going on would hide the loss: a person must decide.
    #[error(
        "MySQL is older than Redis: it is at epoch {} and generation {} of shard {shard}, but epoch {} was begun and \
         generation {} acknowledged; was MySQL restored from a backup? This shard stands still",
        .stored.0, .stored.1, .known.0, .known.1
    )]
    StoreIsOlder {
        /// Which shard.
        shard: u16,
        /// Epoch and generation in MySQL.
        stored: (u64, u64),
        /// Epoch and generation that MySQL is known to have had.
        known: (u64, u64),
    },
}

/// Makes sure that the shard's data set is open; answers the epoch under which it is.
pub async fn open(queue: &Queue, store: &Store, shards: u16) -> Result<u64, RecoveryError> {
    loop {
        let state = queue.state().await?;
        let fence = store.fence(queue.shard()).await?;
        // Read after Redis: a fence never goes back, so a lower one means that MySQL lost something.
        if let Some(data) = state.data {
            let known = (data.epoch, data.position.first - 1);
            let forgotten = data.epoch >= fence.flush_epoch && known.1 > fence.generation;
            if data.epoch > fence.epoch || forgotten {
                let stored = (fence.epoch, fence.generation);
                return Err(RecoveryError::StoreIsOlder { shard: queue.shard().0, stored, known });
            }
        }
        if let Some(data) = state.data.filter(|data| data.is_open && data.epoch == fence.epoch) {
            return Ok(data.epoch);
        }
        // From here on no older epoch can flush (I6).
        let recovery = store.next_epoch(queue.shard()).await?;
        match queue.reopen(&state, &recovery, shards).await? {
            Some(0) => {
                info!(shard = %queue.shard(), epoch = recovery.epoch, "redis opened");
                return Ok(recovery.epoch);
            }
            Some(aside) => {
                error!(
                    shard = %queue.shard(), epoch = recovery.epoch,
                    "redis came back with an overtaken history: {aside} generations set aside under footfall:{{{}}}:aside:{}:*",
                    queue.shard(), recovery.epoch
                );
                return Ok(recovery.epoch);
            }
            None => warn!(shard = %queue.shard(), "redis changed while it was opened: looking again"),
        }
    }
}
