//! MySQL, as the feed asks it: not before its tables are known to be right, and not again at once after it failed.

use std::time::Duration;

use footfall_shared::mysql::{Fences, Store, StoreError};
use footfall_shared::protocol::errors::{Class, Grade};
use footfall_shared::protocol::{Article, Fence, Shard};
use footfall_shared::service::lifecycle::{EXIT_DEPENDENCY, Refusal};
use footfall_shared::service::telemetry::{Health, HealthState};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::numbers;

/// It is left alone for this long after it failed, so that waiting for it does not slow the feed.
const REST: Duration = Duration::from_secs(2);

pub(super) struct MySql {
    store: Store,
    /// It may have been away when the process began, so it is asked here, before the first number.
    schema_is_right: bool,
    error: Option<(Instant, Class, String)>,
}

impl MySql {
    pub(super) fn new(store: Store) -> Self {
        Self { store, schema_is_right: false, error: None }
    }

    /// Makes sure, as soon as it answers, that its tables are those of this build. Fails if they never will be.
    pub(super) async fn check_schema(&mut self, shards: u16) -> Result<(), Refusal> {
        if !self.schema_is_right && self.may_be_asked() {
            match self.store.check_schema(shards).await {
                Ok(()) => self.schema_is_right = true,
                Err(StoreError::Schema(sentence)) => return Err(Refusal { code: EXIT_DEPENDENCY, sentence }),
                Err(error) => self.failed(&error),
            }
        }
        Ok(())
    }

    fn may_be_asked(&self) -> bool {
        self.error.as_ref().is_none_or(|(failed_at, ..)| failed_at.elapsed() >= REST)
    }

    /// It, if it may be read now. Whoever does says so if it fails, see [`Self::failed`].
    pub(super) fn readable(&self) -> Option<&Store> {
        (self.schema_is_right && self.may_be_asked()).then_some(&self.store)
    }

    /// The fence of a shard; none if it cannot be read.
    pub(super) async fn fence(&mut self, shard: Shard) -> Option<Fence> {
        match self.readable()?.fence(shard).await {
            Ok(fence) => {
                if self.error.take().is_some() {
                    info!("mysql answers again");
                }
                Some(fence)
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    /// The articles with the most views in it, see [`numbers::Ranking::set`]; none if it cannot be read.
    pub(super) async fn top_articles(&mut self) -> Option<Vec<(Article, u64, u64)>> {
        let read = self.readable()?.top_articles(numbers::CANDIDATES).await;
        read.inspect_err(|error| self.failed(error)).ok()
    }

    pub(super) fn failed(&mut self, error: &StoreError) {
        if self.error.is_none() {
            warn!("mysql cannot be read: {error}");
        }
        self.error = Some((Instant::now(), error.class(), error.to_string()));
    }

    /// What it has said last, if it cannot be read.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_ref().map(|(.., error)| error.as_str())
    }

    /// What of the tables is not as this build needs them.
    pub(super) fn tables_differ(&self) -> Option<&str> {
        self.error.as_ref().filter(|(_, class, _)| *class == Class::DbSchema).map(|(.., what)| what.as_str())
    }

    pub(super) fn health(&self) -> Health {
        self.error().map_or(Health::OK, |error| Health::because(HealthState::Down, error))
    }
}
