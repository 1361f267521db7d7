//! How often reads were answered from a cache, and how often MySQL was asked.

use std::time::Duration;

use crate::redis::Redis;
use crate::service::telemetry::{self, IntCounter};

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
    /// In the order of [`Interface::ALL`]: to look each up by its name would cost more than to count.
    hits: [IntCounter; Interface::ALL.len()],
    misses: [IntCounter; Interface::ALL.len()],
}

impl Default for HitCounts {
    fn default() -> Self {
        let counters = |name, help| {
            let counters = telemetry::counters(name, help, "interface");
            Interface::ALL.map(|interface| counters.with_label_values(&[interface.name()]))
        };
        Self {
            hits: counters("footfall_read_hits_total", "Reads that a cache answered."),
            misses: counters("footfall_read_misses_total", "Reads that MySQL was asked for."),
        }
    }
}

impl HitCounts {
    /// A cache has answered.
    pub fn hit(&self, interface: Interface) {
        self.hits[interface as usize].inc();
    }

    /// MySQL was asked.
    pub fn miss(&self, interface: Interface) {
        self.misses[interface as usize].inc();
    }

    /// Adds what is new to the counts of all processes, once per `period`, for ever.
    pub async fn report(&self, redis: &Redis, period: Duration) {
        let mut reported = [(0, 0); Interface::ALL.len()];
        loop {
            tokio::time::sleep(period).await;
            for (interface, reported) in Interface::ALL.into_iter().zip(&mut reported) {
                let (name, index) = (interface.name(), interface as usize);
                let now = (self.hits[index].get(), self.misses[index].get());
                let new = (now.0 - reported.0, now.1 - reported.1);
                if new != (0, 0) && redis.add_reads(name, new.0, new.1).await.is_ok() {
                    *reported = now;
                }
            }
        }
    }
}
