//! How each part does, and why numbers may be behind, as messages.

use footfall_shared::service::telemetry::{Health, HealthState};
use tokio::time::Instant;

use super::shard::ShardView;
use super::stores::Stores;
use super::total::Total;
use crate::numbers::{self, LAG_MS_MAX};

/// What health is judged by.
pub(super) struct Assessment<'a> {
    pub(super) now: Instant,
    pub(super) stores: &'a Stores,
    pub(super) shards: &'a [ShardView],
    pub(super) total: &'a Total,
}

impl Assessment<'_> {
    fn is_redis_open(&self) -> bool {
        self.shards.iter().all(|shard| shard.look.is_some())
    }

    pub(super) fn redis(&self) -> Health {
        match self.stores.redis.error() {
            Some(error) => Health::because(HealthState::Down, error),
            None if self.is_redis_open() => Health::OK,
            None => Health::because(HealthState::Degraded, "being recovered"),
        }
    }

    pub(super) fn flusher(&self) -> Health {
        if self.stores.redis.error().is_some() || !self.is_redis_open() {
            return Health::because(HealthState::Unknown, "unknown without Redis");
        }
        // A flusher takes the lease only for a flush: without work there is none, and all is well.
        let is_late = |shard: &&ShardView| shard.look.is_some_and(|look| look.lag_ms > LAG_MS_MAX);
        let lag_ms = self.shards.iter().filter_map(|shard| Some(shard.look?.lag_ms)).max();
        let seconds = lag_ms.unwrap_or(0) / 1_000;
        if !self.shards.iter().any(|shard| is_late(&shard)) {
            Health::OK
        } else if self.stores.mysql.error().is_some() {
            Health::because(
                HealthState::Degraded,
                format!("waits for MySQL; the oldest view has waited for {seconds} s"),
            )
        } else if self.shards.iter().filter(is_late).all(|shard| shard.is_leased) {
            Health::because(HealthState::Degraded, format!("is behind; the oldest view has waited for {seconds} s"))
        } else {
            Health::because(HealthState::Down, format!("does not flush; the oldest view has waited for {seconds} s"))
        }
    }

    /// Why the numbers may be behind: a code, a severity and a message, for the gravest reason only.
    pub(super) fn stale(&self) -> Option<(&'static str, HealthState, String)> {
        let (down, degraded) = (HealthState::Down, HealthState::Degraded);
        let mysql = &self.stores.mysql;
        if self.stores.redis.error().is_some() {
            return Some(("redis_down", down, "Redis cannot be read: the number of views is unknown.".into()));
        }
        if !self.is_redis_open() {
            let reason = match mysql.error() {
                None => "Redis is being recovered: views that wait there are not in the numbers yet.",
                Some(_) => "Redis has to be recovered, which needs MySQL, and MySQL cannot be read.",
            };
            return Some(("recovering", down, reason.into()));
        }
        if mysql.schema_error().is_some() {
            let reason = "The tables in MySQL are not as this build needs them: views are still counted, readers and articles \
                          are as of its last response.";
            return Some(("schema", degraded, reason.into()));
        }
        if mysql.error().is_some() {
            let reason =
                "MySQL cannot be read: views are still counted, readers and articles are as of its last response.";
            return Some(("mysql_down", degraded, reason.into()));
        }
        // Between COMMIT and ACK the total may be too low for a moment: only what lasts is worth telling.
        if self.total.is_unsettled(self.now) {
            let is_older = |shard: &ShardView| {
                shard.fence().zip(shard.look).is_some_and(|(fence, look)| numbers::is_store_older(&fence, &look))
            };
            return Some(if self.shards.iter().any(is_older) {
                ("mysql_older", down, "MySQL is older than Redis: it lacks views that it had before.".into())
            } else {
                (
                    "unsettled",
                    degraded,
                    "A flush was not acknowledged to Redis: some waiting views are not in the numbers.".into(),
                )
            });
        }
        let missing = self.total.missing_views();
        if missing > 0 {
            let reason = format!("Catching up: {missing} views shown before are not back in Redis yet.");
            return Some(("catching_up", down, reason));
        }
        self.shards.iter().any(|shard| shard.look.is_some_and(|look| look.is_behind)).then(|| {
            ("journalled", degraded, "Some views wait in journals: those in Redis and MySQL are only a part.".into())
        })
    }
}
