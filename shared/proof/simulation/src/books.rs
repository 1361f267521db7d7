//! The books of a run, kept outside of what is tested: what clients were told, and what became of each batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use footfall_shared::protocol::packed::Path;
use footfall_shared::protocol::{Article, Batch};

use crate::stage::lock;

/// Names a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchName {
    /// Its shard.
    pub shard: u16,
    /// Whose it is.
    pub producer: u64,
    /// How it goes to MySQL.
    pub path: Path,
    /// Its number.
    pub number: u64,
}

impl BatchName {
    /// The name of a batch.
    #[must_use]
    pub fn of(shard: u16, path: Path, batch: &Batch) -> Self {
        Self { shard, producer: batch.producer.0, path, number: batch.number }
    }
}

/// Article and user.
pub type Pair = (String, String);

/// Views per article and user.
pub type Rows = BTreeMap<Pair, u64>;

/// What was read in a batch.
#[must_use]
pub fn rows_of(batch: &Batch) -> Rows {
    let pair = |article: &str, user: &str| (article.to_owned(), user.to_owned());
    batch.rows.iter().map(|row| (pair(row.article.as_str(), row.user.as_str()), row.views)).collect()
}

/// How a journal lost a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destroyed {
    /// It was not on the disk yet when the power was cut.
    ByPower,
    /// The disk damaged it.
    ByDamage,
}

/// What clients were told of one article and user.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Views that may have been counted.
    pub attempted: u64,
    /// Views that were acknowledged.
    pub acknowledged: u64,
    /// How often it was sent, if it is one view with an id.
    pub tries: u64,
    /// When it was first sent.
    pub first_ms: u64,
}

/// What Redis or a journal had of a batch.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// What was read.
    pub rows: Rows,
    /// The write by which Redis last took it.
    pub write: Option<(u64, u64)>,
    /// Whether and how its record was destroyed.
    pub destroyed: Option<Destroyed>,
}

#[derive(Default)]
struct State {
    told: BTreeMap<Pair, Told>,
    batches: BTreeMap<BatchName, Known>,
    /// Producers without a journal that have died.
    gone: BTreeSet<u64>,
    /// When Redis forgot view ids of a shard.
    forgotten: BTreeMap<u16, Vec<u64>>,
    acknowledged: u64,
    /// When a client was last told so.
    told_ms: u64,
    /// Clients that a replica has answered last, by shard.
    at_replica: BTreeSet<(usize, u16)>,
    costs: Costs,
    /// What MySQL had at each position and version of a shard.
    stored: BTreeMap<(u16, u64, u64), Numbers>,
}

/// What a run has cost, beside time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Costs {
    /// Flushes that were refused because their epoch was over.
    pub fenced: u64,
    /// Batches that Redis was sent although it had them.
    pub repeats: u64,
}

/// Views and readers per article.
pub type Numbers = BTreeMap<Article, (u64, u64)>;

/// The books.
#[derive(Default)]
pub struct Books(Mutex<State>);

impl Books {
    /// A client sends these views. A view with an id that it has sent before is still one view.
    pub fn attempt(&self, pairs: &[Pair], has_ids: bool, now_ms: u64) {
        let mut state = lock(&self.0);
        for pair in pairs {
            let told = state.told.entry(pair.clone()).or_default();
            if told.attempted == 0 {
                told.first_ms = now_ms;
            }
            if has_ids {
                told.tries += 1;
                told.attempted = 1;
            } else {
                told.attempted += 1;
            }
        }
    }

    /// The client was told that they were not taken.
    pub fn refused(&self, pairs: &[Pair], has_ids: bool) {
        let mut state = lock(&self.0);
        for pair in pairs {
            let told = state.told.entry(pair.clone()).or_default();
            if has_ids {
                told.tries -= 1;
                told.attempted = told.tries.min(1);
            } else {
                told.attempted -= 1;
            }
        }
    }

    /// The client was told that they are counted.
    pub fn acknowledged(&self, pairs: &[Pair], has_ids: bool, now_ms: u64) {
        let mut state = lock(&self.0);
        state.told_ms = now_ms;
        for pair in pairs {
            let told = state.told.entry(pair.clone()).or_default();
            if has_ids {
                told.acknowledged = 1;
            } else {
                told.acknowledged += 1;
            }
            state.acknowledged += 1;
        }
    }

    /// Redis took a batch.
    pub fn applied(&self, name: BatchName, batch: &Batch, write: (u64, u64)) {
        // One without content only takes the number of one that was lost.
        if !batch.rows.is_empty() {
            let mut state = lock(&self.0);
            let known = state.batches.entry(name).or_default();
            known.write = Some(write);
            known.rows = rows_of(batch);
        }
    }

    /// The record of a batch is in no journal any more.
    pub fn destroyed(&self, name: BatchName, rows: &Rows, how: Destroyed) {
        let mut state = lock(&self.0);
        let known = state.batches.entry(name).or_default();
        known.destroyed = Some(how);
        for (pair, views) in rows {
            known.rows.entry(pair.clone()).or_insert(*views);
        }
    }

    /// A journal has the record of a batch, perhaps again.
    pub fn written(&self, name: BatchName) {
        if let Some(known) = lock(&self.0).batches.get_mut(&name) {
            known.destroyed = None;
        }
    }

    /// Redis refused a batch that it has.
    pub fn repeated(&self) {
        lock(&self.0).costs.repeats += 1;
    }

    /// MySQL refused a flush whose epoch is over.
    pub fn fenced(&self) {
        lock(&self.0).costs.fenced += 1;
    }

    /// What there was of both.
    #[must_use]
    pub fn costs(&self) -> Costs {
        lock(&self.0).costs
    }

    /// A client was answered about a shard, by a replica or not.
    pub fn answered(&self, who: usize, shard: u16, by_replica: bool) {
        let mut state = lock(&self.0);
        match by_replica {
            true => state.at_replica.insert((who, shard)),
            false => state.at_replica.remove(&(who, shard)),
        };
    }

    /// Whether a replica has answered a client last.
    #[must_use]
    pub fn is_at_replica(&self, who: usize, shard: u16) -> bool {
        lock(&self.0).at_replica.contains(&(who, shard))
    }

    /// A producer without a journal has died.
    pub fn gone(&self, producer: u64) {
        lock(&self.0).gone.insert(producer);
    }

    /// Redis forgot what it had of a shard, or a part of it.
    pub fn forgotten(&self, shard: u16, now_ms: u64) {
        lock(&self.0).forgotten.entry(shard).or_default().push(now_ms);
    }

    /// Whether Redis forgot view ids of a shard at this time or later.
    #[must_use]
    pub fn forgot_since(&self, shard: u16, since_ms: u64) -> bool {
        lock(&self.0).forgotten.get(&shard).is_some_and(|times| times.iter().any(|time| *time >= since_ms))
    }

    /// What clients were told.
    #[must_use]
    pub fn told(&self) -> BTreeMap<Pair, Told> {
        lock(&self.0).told.clone()
    }

    /// How many views were acknowledged.
    #[must_use]
    pub fn acknowledgements(&self) -> u64 {
        lock(&self.0).acknowledged
    }

    /// When a client was last told that its views are counted.
    #[must_use]
    pub fn told_ms(&self) -> u64 {
        lock(&self.0).told_ms
    }

    /// MySQL has this of a shard at this position and version.
    pub fn stored(&self, shard: u16, position: u64, version: u64, numbers: Numbers) {
        lock(&self.0).stored.insert((shard, position, version), numbers);
    }

    /// Views and readers of an article that MySQL had at a position and version of a shard; none if it was never there.
    #[must_use]
    pub fn stored_at(&self, shard: u16, position: u64, version: u64, article: &Article) -> Option<(u64, u64)> {
        let state = lock(&self.0);
        state.stored.get(&(shard, position, version)).map(|numbers| numbers.get(article).copied().unwrap_or_default())
    }

    /// The views that may be lost, because of what has happened: no journal has them any more, and Redis lost them.
    /// `has` tells whether Redis still has a batch, by the write that took it. With `outlives_power`, clients were only
    /// answered when it was on a disk.
    #[must_use]
    pub fn allowance(&self, outlives_power: bool, has: impl Fn(u16, (u64, u64)) -> bool) -> Rows {
        let state = lock(&self.0);
        let mut rows = Rows::new();
        for (name, known) in &state.batches {
            let is_in_redis = known.write.is_some_and(|write| has(name.shard, write));
            let is_lost = match known.destroyed {
                _ if is_in_redis => false,
                // What Redis never had was acknowledged for being on the disk, and power does not change that.
                Some(Destroyed::ByPower) => known.write.is_some() && !outlives_power,
                Some(Destroyed::ByDamage) => true,
                None => known.write.is_some() && state.gone.contains(&name.producer),
            };
            if is_lost {
                for (pair, views) in &known.rows {
                    *rows.entry(pair.clone()).or_default() += views;
                }
            }
        }
        rows
    }
}
