//! What must hold in one look, and from one look to the next. Pure.

use std::collections::BTreeMap;

use footfall_shared::mysql::{Audit, ProducerFences, column};
use footfall_shared::protocol::{Article, Fence, Producer, Shard, total};

use super::look::{Look, Waiting};

/// What must hold, and how it is broken.
pub(super) type Check = (&'static str, Option<String>);

/// The invariants that one snapshot of MySQL must fulfil.
pub(super) fn of_mysql(audit: &Audit) -> [Check; 5] {
    let (sent, accounted) = audit.conservation();
    let fenced = |of: fn(&Fence) -> u64| total(audit.fences.iter().map(of));
    let counted = column(audit.reader_views);
    let (views, readers, users) = (fenced(|f| f.views), fenced(|f| f.readers), fenced(|f| f.users));
    let torn: Vec<&str> = audit.torn.iter().map(Article::as_str).collect();
    [
        (
            "I4: every article's views and readers are the sums of its readers' rows",
            (!torn.is_empty()).then(|| format!("not so for {}", torn.join(", "))),
        ),
        (
            "I9: views that the producers sent = counted + quarantined + dropped + repeated",
            (sent != accounted).then(|| format!("{sent}, {accounted}")),
        ),
        ("views counted = views that were stored", (counted != views).then(|| format!("{counted}, {views}"))),
        (
            "readers' rows = rows that were flushed",
            (audit.reader_rows != readers).then(|| format!("{}, {readers}", audit.reader_rows)),
        ),
        ("users = users that were flushed", (audit.users != users).then(|| format!("{}, {users}", audit.users))),
    ]
}

/// What Redis holds must fit onto what MySQL has.
pub(super) fn of_redis(look: &Look) -> [Check; 3] {
    let mut chains = Vec::new();
    let mut damage = Vec::new();
    for (shard, waiting) in (0..).map(Shard).zip(&look.shards) {
        chains.extend(chain(shard, waiting, &look.audit.through_redis));
        damage.extend(waiting.damage.iter().map(|what| format!("shard {shard}: {what}")));
    }
    let books = Books::of(look, 0);
    [
        ("I1, I2: batches that wait in Redis follow those in MySQL, each once", some(chains)),
        ("I7: the log has as many entries as its positions say, and each can be read", some(damage)),
        (
            "accepted = stored + pending + quarantined + dropped + repeated",
            (books.difference() != 0).then(|| format!("the difference is {}", books.difference())),
        ),
    ]
}

fn some(broken: Vec<String>) -> Option<String> {
    (!broken.is_empty()).then(|| broken.join("; "))
}

/// Where each producer's batches break off, or repeat.
fn chain(shard: Shard, waiting: &Waiting, fences: &ProducerFences) -> Vec<String> {
    let mut broken = Vec::new();
    let fence = |producer: Producer| fences.get(&(shard, producer)).copied().unwrap_or_default();
    let mut reached: BTreeMap<Producer, (u64, u64)> = BTreeMap::new();
    for batch in &waiting.batches {
        let last = reached.entry(batch.producer).or_insert_with(|| fence(batch.producer));
        let views = last.1.saturating_add(batch.numbered_views);
        if Some(batch.number) != last.0.checked_add(1) || batch.cumulative_views < views {
            broken.push(format!(
                "shard {shard}, producer {}: batch {} with views up to {} follows {} with {}",
                batch.producer, batch.number, batch.cumulative_views, last.0, last.1
            ));
        }
        *last = (batch.number, batch.cumulative_views);
    }
    for (producer, said) in &waiting.producers {
        let has = reached.get(producer).copied().unwrap_or_else(|| fence(*producer));
        // MySQL may be ahead of the moment in which Redis was read; what waits may not be.
        if *said > has || (*said < has && reached.contains_key(producer)) {
            broken.push(format!(
                "shard {shard}, producer {producer}: Redis took batches up to {}, but up to {} are there",
                said.0, has.0
            ));
        }
    }
    broken
}

/// Where all views are: accepted = stored + pending + journalled + quarantined + dropped + repeated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Books {
    pub(super) accepted: u128,
    pub(super) stored: u128,
    pub(super) pending: u128,
    pub(super) journalled: u128,
    pub(super) quarantined: u128,
    pub(super) dropped: u128,
    pub(super) repeated: u128,
}

impl Books {
    /// Accepted is what the producers say, the rest is what is found.
    pub(super) fn of(look: &Look, journalled: u64) -> Self {
        let audit = &look.audit;
        let mut positions = audit.through_redis.clone();
        let mut pending: u128 = 0;
        for (shard, waiting) in (0..).map(Shard).zip(&look.shards) {
            for (producer, said) in &waiting.producers {
                let known = positions.entry((shard, *producer)).or_default();
                *known = *said.max(known);
            }
            let mut reached: BTreeMap<Producer, u64> = BTreeMap::new();
            for batch in &waiting.batches {
                let fence = audit.through_redis.get(&(shard, batch.producer)).map_or(0, |(_, views)| *views);
                let before = reached.insert(batch.producer, batch.cumulative_views).unwrap_or(fence);
                // A damaged journal lost views before this batch: they will be in quarantine.
                let lost = batch.views_before().saturating_sub(before);
                pending += u128::from(batch.numbered_views) + u128::from(lost);
            }
        }
        let through_redis: u128 = positions.values().map(|(_, views)| u128::from(*views)).sum();
        Self {
            accepted: through_redis + audit.direct_views + u128::from(journalled),
            stored: audit.reader_views,
            pending,
            journalled: journalled.into(),
            quarantined: audit.quarantined_views,
            dropped: audit.dropped_views,
            repeated: audit.repeats,
        }
    }

    /// Views that are missing, or too many if below 0.
    pub(super) fn difference(&self) -> i128 {
        let found = [self.stored, self.pending, self.journalled, self.quarantined, self.dropped, self.repeated];
        i128::from(column(self.accepted)) - i128::from(column(found.iter().sum()))
    }
}

/// What must hold from one look to the next.
pub(super) fn between(before: &Audit, after: &Audit) -> [Check; 2] {
    let mut back = Vec::new();
    for (shard, (old, new)) in before.fences.iter().zip(&after.fences).enumerate() {
        let positions = |fence: &Fence| [fence.epoch, fence.position, fence.flush_epoch, fence.version];
        let (old, new) = (positions(old), positions(new));
        if new.iter().zip(old).any(|(new, old)| *new < old) {
            back.push(format!("shard {shard}: epoch, position, epoch of flush, version from {old:?} to {new:?}"));
        }
    }
    for (old, new) in [(&before.through_redis, &after.through_redis), (&before.direct, &after.direct)] {
        for (key, position) in old {
            if new.get(key).is_none_or(|now| now.0 < position.0 || now.1 < position.1) {
                back.push(format!("shard {}, producer {} below batch {}", key.0, key.1, position.0));
            }
        }
    }
    let (old, new) = (before.reader_views, after.reader_views);
    [
        ("I5: fences never go back", some(back)),
        ("views in MySQL never become fewer", (new < old).then(|| format!("{new} after {old}"))),
    ]
}

#[cfg(test)]
mod tests;
