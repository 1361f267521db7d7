//! How each part does, and why numbers may be behind, in sentences.

use footfall_shared::service::telemetry::{Health, HealthState};
use tokio::time::Instant;

use super::shard::ShardView;
use super::{Feed, LAG_MS_MAX};
use crate::numbers;

impl Feed {
    /// What the stores have said last, if they cannot be read.
    pub(super) fn why_unreadable(&self) -> Option<String> {
        let said: Vec<&str> = self.redis_error.as_deref().into_iter().chain(self.mysql.error()).collect();
        (!said.is_empty()).then(|| said.join("; "))
    }

    pub(super) fn redis_health(&self) -> Health {
        match &self.redis_error {
            Some(error) => Health::because(HealthState::Down, error),
            None if self.is_redis_current() => Health::OK,
            None => Health::because(HealthState::Degraded, "being recovered"),
        }
    }

    pub(super) fn flusher_health(&self) -> Health {
        if self.redis_error.is_some() || !self.is_redis_current() {
            return Health::because(HealthState::Unknown, "cannot be seen without Redis");
        }
        // A flusher takes the lease only for a flush: without work there is none, and all is well.
        let is_late = |view: &&ShardView| view.look.is_some_and(|look| look.lag_ms > LAG_MS_MAX);
        let lag_ms = self.shards.iter().filter_map(|view| Some(view.look?.lag_ms)).max();
        let seconds = lag_ms.unwrap_or(0) / 1_000;
        if !self.shards.iter().any(|view| is_late(&view)) {
            Health::OK
        } else if self.mysql.error().is_some() {
            Health::because(
                HealthState::Degraded,
                format!("waits for MySQL; the oldest view has waited for {seconds} s"),
            )
        } else if self.shards.iter().filter(is_late).all(|view| view.is_leased) {
            Health::because(HealthState::Degraded, format!("is behind; the oldest view has waited for {seconds} s"))
        } else {
            Health::because(HealthState::Down, format!("is not at work; the oldest view has waited for {seconds} s"))
        }
    }

    /// Why the numbers may be behind: a code, a level and a sentence, of the gravest reason only.
    pub(super) fn why_stale(&self) -> Option<(&'static str, HealthState, String)> {
        let (down, degraded) = (HealthState::Down, HealthState::Degraded);
        if self.redis_error.is_some() {
            return Some(("redis_down", down, "Redis cannot be read: how many views there are is not known.".into()));
        }
        if !self.is_redis_current() {
            let reason = match self.mysql.error() {
                None => "Redis is being recovered: views that wait there are not in the numbers yet.",
                Some(_) => "Redis waits to be recovered, which needs MySQL, and MySQL cannot be read.",
            };
            return Some(("recovering", down, reason.into()));
        }
        if self.mysql.tables_differ().is_some() {
            let reason = "The tables in MySQL are not as they should be: views are still counted, readers and articles are those \
                          of its last answer.";
            return Some(("schema", degraded, reason.into()));
        }
        if self.mysql.error().is_some() {
            let reason =
                "MySQL cannot be read: views are still counted, readers and articles are those of its last answer.";
            return Some(("mysql_down", degraded, reason.into()));
        }
        // Between COMMIT and ACK the total may be too low for a moment: only what lasts is worth a word.
        if self.total.is_unsettled(Instant::now()) {
            let is_older = |view: &ShardView| {
                view.fence().zip(view.look).is_some_and(|(fence, look)| numbers::is_store_older(&fence, &look))
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
        self.shards.iter().any(|view| view.look.is_some_and(|look| look.is_behind)).then(|| {
            ("journalled", degraded, "Some views wait in journals: those in Redis and MySQL are only a part.".into())
        })
    }
}
