//! Opens a Redis data set that no recovery has opened in this life of its server: after a restart, a
//! fail-over, FLUSHALL or the very first start. Any process may do it; the first one to begin the next epoch does.
//!
//! Each epoch that is begun ends all others, so processes that begin one after the other would keep each other from opening
//! any. Whoever sees that another has begun one gives it time to open it; and whoever has begun one and was overtaken in
//! Redis by the opening of an older one opens his own, instead of beginning yet another.

mod others;

use std::sync::LazyLock;

use tracing::{error, info, warn};

use self::others::Others;
use crate::mysql::{Fences, StoreError};
use crate::protocol::errors::{ErrorClass, Grade};
use crate::protocol::{Decision, Progress, Recovery};
use crate::redis::{Queue, QueueError};
use crate::service::telemetry::{self, IntCounter};

static RECOVERIES: LazyLock<IntCounter> = LazyLock::new(|| {
    telemetry::counter("footfall_recoveries_total", "Times that this process opened a Redis data set.")
});

/// Why a shard could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Redis failed; try again.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// MySQL failed; try again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Redis has trimmed entries, because MySQL had them, that MySQL does not have any more.
    /// Going on would hide the loss: a person must decide.
    #[error(
        "MySQL is older than Redis: it is at epoch {} and position {} of shard {shard}, but epoch {} was begun and \
         position {} acknowledged; was MySQL restored from a backup? This shard stands still: bring MySQL forward, or run `footfall accept-restore`",
        .stored.0, .stored.1, .known.0, .known.1
    )]
    StoreIsOlder {
        /// Which shard.
        shard: u16,
        /// Epoch and position in MySQL.
        stored: (u64, u64),
        /// Epoch and position that MySQL is known to have had.
        known: (u64, u64),
    },
}

impl Grade for RecoveryError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Queue(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::StoreIsOlder { .. } => ErrorClass::DbBehind,
        }
    }
}

/// Makes sure that the shard's data set is open; answers the epoch under which it is.
pub async fn open(queue: &Queue, store: &dyn Fences, shards: u16) -> Result<u64, RecoveryError> {
    open_or_discard(queue, store, shards, None).await
}

/// Sets the data set that is open under `epoch` aside, because it does not add up, and begins with an empty one: the
/// producers send again what MySQL does not have. Answers the new epoch.
pub async fn discard(queue: &Queue, store: &dyn Fences, shards: u16, epoch: u64) -> Result<u64, RecoveryError> {
    open_or_discard(queue, store, shards, Some(epoch)).await
}

async fn open_or_discard(
    queue: &Queue,
    store: &dyn Fences,
    shards: u16,
    damaged: Option<u64>,
) -> Result<u64, RecoveryError> {
    let mut others = Others::default();
    let mut begun: Option<Recovery> = None;
    loop {
        let state = queue.state().await?;
        let fence = match store.fence(queue.shard()).await {
            Ok(fence) => fence,
            // Redis takes views while MySQL is away or its tables wait to be mended.
            Err(StoreError::Db(_) | StoreError::Unreachable { .. } | StoreError::Schema(_))
                if let Some(epoch) = state.usable(damaged) =>
            {
                return Ok(epoch);
            }
            Err(error) => return Err(error.into()),
        };
        let stored = Progress::from(&fence);
        let is_damaged = match state.decide(stored, damaged) {
            Decision::IsOpen(epoch) => return Ok(epoch),
            Decision::Halt(known) => return Err(store_is_older(queue, stored, known)),
            Decision::Reopen { is_damaged } => is_damaged,
        };
        store.check_schema(shards).await?;
        if !queue.probe(&state).await? {
            // The shard is on another server by now, its server was restarted, or another process was faster: the epoch
            // would end the one that is open there.
            others.wait().await;
            continue;
        }
        let is_ours = |begun: &Recovery| {
            (begun.epoch, begun.position, begun.version) == (fence.epoch, fence.position, fence.version)
        };
        let recovery = match begun.take().filter(is_ours) {
            // Redis has refused to open it, because the data set was not the one that was seen.
            Some(begun) => begun,
            None if others.are_opening(state.data, &fence) => {
                others.wait().await;
                continue;
            }
            // From here on no older epoch can flush (I6).
            None => match store.next_epoch(queue.shard(), fence.epoch).await? {
                Some(recovery) => recovery,
                None => {
                    others.wait().await;
                    continue;
                }
            },
        };
        // And again, on the row that was locked: MySQL may have been restored in between.
        let stored = Progress::from(&recovery);
        if let Some(known) = state.lacking(stored) {
            return Err(store_is_older(queue, stored, known));
        }
        let Some(state) = queue.carry(state, &recovery).await? else {
            begun = Some(recovery);
            continue;
        };
        // Sent once per epoch: a second one, after FLUSHALL, would open the epoch once more without what it had taken.
        let reopened = match queue.reopen(&state, &recovery, shards, is_damaged).await {
            // It cannot even be trimmed.
            Err(error) if error.class() == ErrorClass::CacheCorrupt && !is_damaged => {
                queue.reopen(&state, &recovery, shards, true).await
            }
            reopened => reopened,
        };
        match reopened? {
            Some(false) => {
                RECOVERIES.inc();
                info!(shard = %queue.shard(), epoch = recovery.epoch, "redis opened");
                return Ok(recovery.epoch);
            }
            Some(true) => {
                RECOVERIES.inc();
                error!(
                    shard = %queue.shard(), epoch = recovery.epoch,
                    "redis held an overtaken or damaged history: its log was set aside as footfall:{{{}}}:aside:{}:*",
                    queue.shard(), recovery.epoch
                );
                return Ok(recovery.epoch);
            }
            None => {
                warn!(shard = %queue.shard(), "redis changed while it was opened: looking again");
                begun = Some(recovery);
            }
        }
    }
}

fn store_is_older(queue: &Queue, stored: Progress, known: (u64, u64)) -> RecoveryError {
    RecoveryError::StoreIsOlder { shard: queue.shard().0, stored: (stored.epoch, stored.position), known }
}
