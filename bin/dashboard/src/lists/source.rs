//! Where lists are read.

use std::sync::Arc;

use footfall_shared::mysql::{Store, StoreError};
use footfall_shared::service::clock;

use super::json::Horizon;
use crate::numbers::StoredUntil;

/// MySQL, or a replica of it. The live numbers do not come from here: they must fit what Redis has, and need one row per
/// shard and second.
pub(crate) struct Source {
    store: Store,
    is_replica: bool,
    stored_until: Arc<StoredUntil>,
}

impl Source {
    /// The replica, if there is one.
    pub(crate) fn new(store: Store, replica: Option<Store>, stored_until: Arc<StoredUntil>) -> Self {
        Self { is_replica: replica.is_some(), store: replica.unwrap_or(store), stored_until }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// What it is called in a sentence.
    pub(super) fn name(&self) -> &'static str {
        if self.is_replica { "the replica at database.read_url" } else { "MySQL" }
    }

    /// Up to when a list that is read after this is complete. A replica is only as old as what it has: that it stands still
    /// says nothing about MySQL.
    pub(super) async fn horizon(&self) -> Result<Horizon, StoreError> {
        // Known before a list is read, so the list has at least that.
        let stored_until_ms = if self.is_replica {
            let fences = self.store.fences().await?;
            self.stored_until.of_replica(&fences)
        } else {
            self.stored_until.get()
        };
        Ok(Horizon { now_ms: clock::unix_ms(), stored_until_ms, is_replica: self.is_replica })
    }
}
