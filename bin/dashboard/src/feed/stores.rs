//! Whether Redis and MySQL can be read, and when MySQL may be asked: not before its tables are known to be right, and not
//! at once after it failed.

use std::time::Duration;

use footfall_shared::mysql::StoreError;
use footfall_shared::protocol::errors::{ErrorClass, Grade};
use footfall_shared::redis::QueueError;
use footfall_shared::service::telemetry::{Health, HealthState};
use tokio::time::Instant;
use tracing::{info, warn};

/// How long MySQL is left alone after it failed, so that waiting for it does not slow the feed down.
const BACKOFF: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Stores {
    pub(super) redis: RedisState,
    pub(super) mysql: MySqlState,
}

impl Stores {
    /// The last errors of the stores that cannot be read.
    pub(super) fn errors(&self) -> Option<String> {
        let errors: Vec<&str> = self.redis.error().into_iter().chain(self.mysql.error()).collect();
        (!errors.is_empty()).then(|| errors.join("; "))
    }
}

#[derive(Default)]
pub(super) struct RedisState {
    error: Option<String>,
}

impl RedisState {
    pub(super) fn failed(&mut self, error: &QueueError) {
        if self.error.is_none() {
            warn!("redis cannot be read: {error}");
        }
        self.error = Some(error.to_string());
    }

    /// It has answered everything that it was asked in a round.
    pub(super) fn answered(&mut self) {
        if self.error.take().is_some() {
            info!("redis answers again");
        }
    }

    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

#[derive(Default)]
pub(super) struct MySqlState {
    /// MySQL may have been away when the process began, so this is found out before the first number.
    is_schema_right: bool,
    error: Option<(Instant, ErrorClass, String)>,
}

impl MySqlState {
    /// Whether its tables still have to be checked, and may be now.
    pub(super) fn is_schema_check_due(&self, now: Instant) -> bool {
        !self.is_schema_right && self.may_be_asked(now)
    }

    pub(super) fn schema_is_right(&mut self) {
        self.is_schema_right = true;
    }

    fn may_be_asked(&self, now: Instant) -> bool {
        self.error.as_ref().is_none_or(|(failed_at, ..)| now - *failed_at >= BACKOFF)
    }

    pub(super) fn is_readable(&self, now: Instant) -> bool {
        self.is_schema_right && self.may_be_asked(now)
    }

    /// It has answered with a fence: all is well again.
    pub(super) fn answered(&mut self) {
        if self.error.take().is_some() {
            info!("mysql answers again");
        }
    }

    pub(super) fn failed(&mut self, now: Instant, error: &StoreError) {
        if self.error.is_none() {
            warn!("mysql cannot be read: {error}");
        }
        self.error = Some((now, error.class(), error.to_string()));
    }

    /// Its last error, if it cannot be read.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_ref().map(|(.., error)| error.as_str())
    }

    /// What of the tables is not as this build needs them.
    pub(super) fn schema_error(&self) -> Option<&str> {
        self.error.as_ref().filter(|(_, class, _)| *class == ErrorClass::DbSchema).map(|(.., what)| what.as_str())
    }

    pub(super) fn health(&self) -> Health {
        self.error().map_or(Health::OK, |error| Health::because(HealthState::Down, error))
    }
}
