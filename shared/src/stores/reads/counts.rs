//! How often reads were answered from a cache, and how often MySQL was asked.

use std::time::Duration;

use crate::redis::Redis;
use crate::service::telemetry::{self, IntCounterVec};

/// What is read cache-first, each counted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// The numbers of one article.
    Article,
    /// Lists of articles, and histories.
    Lists,
    /// The readers of an article.
    Readers,
    /// Users, and what they have read.
    Users,
}

impl Interface {
    const ALL: [Self; 4] = [Self::Article, Self::Lists, Self::Readers, Self::Users];

    fn name(self) -> &'static str {
        match self {
            Self::Article => "article",
            Self::Lists => "lists",
            Self::Readers => "readers",
            Self::Users => "users",
        }
    }
}

/// How often this process answered from a cache, and how often it asked MySQL.
#[derive(Debug, Clone)]
pub struct HitCounts {
    hits: IntCounterVec,
    misses: IntCounterVec,
}

impl Default for HitCounts {
    fn default() -> Self {
        let (hits, misses) = ("footfall_read_hits_total", "footfall_read_misses_total");
        Self {
            hits: telemetry::counters(hits, "Reads that a cache answered.", "interface"),
            misses: telemetry::counters(misses, "Reads that MySQL was asked for.", "interface"),
        }
    }
}

impl HitCounts {
    /// A cache has answered.
    pub fn hit(&self, interface: Interface) {
        self.hits.with_label_values(&[interface.name()]).inc();
    }

    /// MySQL was asked.
    pub fn miss(&self, interface: Interface) {
        self.misses.with_label_values(&[interface.name()]).inc();
    }

    /// Adds what is new to the counts of all processes, once per `period`, for ever.
    pub async fn report(&self, redis: &Redis, period: Duration) {
        let mut reported = [(0, 0); Interface::ALL.len()];
        loop {
            tokio::time::sleep(period).await;
            for (interface, reported) in Interface::ALL.into_iter().zip(&mut reported) {
                let name = interface.name();
                let count = |counts: &IntCounterVec| counts.with_label_values(&[name]).get();
                let now = (count(&self.hits), count(&self.misses));
                let new = (now.0 - reported.0, now.1 - reported.1);
                if new != (0, 0) && redis.add_reads(name, new.0, new.1).await.is_ok() {
                    *reported = now;
                }
            }
        }
    }
}
