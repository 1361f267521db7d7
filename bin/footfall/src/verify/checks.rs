//! What must hold in one look, and from one look to the next. Pure.

use std::collections::BTreeMap;

use footfall_proof::sentence;
use footfall_shared::mysql::{Audit, ProducerFences, column};
use footfall_shared::protocol::{Article, Conservation, Fence, Producer, Shard, total};

use super::look::{Observation, Waiting};

/// What must hold, and how it is broken.
pub(super) type Check = (&'static str, Option<String>);

/// The invariants that one snapshot of MySQL must fulfil.
pub(super) fn of_mysql(audit: &Audit) -> [Check; 5] {
    let conservation = of_producers(audit);
    let fenced = |of: fn(&Fence) -> u64| total(audit.fences.iter().map(of));
    let counted = column(audit.reader_views);
    let (views, readers, users) = (fenced(|f| f.views), fenced(|f| f.readers), fenced(|f| f.users));
    let torn: Vec<&str> = audit.torn.iter().map(Article::as_str).collect();
    [
        (sentence!(I4), (!torn.is_empty()).then(|| format!("not so for {}", torn.join(", ")))),
        (
            sentence!(I9),
            (conservation.difference() != 0).then(|| format!("the difference is {}", conservation.difference())),
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
pub(super) fn of_redis(look: &Observation) -> [Check; 3] {
    let mut chains = Vec::new();
    let mut damage = Vec::new();
    for (shard, waiting) in (0..).map(Shard).zip(&look.shards) {
        chains.extend(chain(shard, waiting, &look.audit.through_redis));
        damage.extend(waiting.damage.iter().map(|what| format!("shard {shard}: {what}")));
    }
    let conservation = conservation(look, 0);
    [
        (concat!(sentence!(I1), "; ", sentence!(I2)), some(chains)),
        (sentence!(I7), some(damage)),
        (
            "accepted = stored + pending + quarantined + dropped + repeated",
            (conservation.difference() != 0).then(|| format!("the difference is {}", conservation.difference())),
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

/// Where all views are that MySQL's fences have passed (I9).
fn of_producers(audit: &Audit) -> Conservation {
    Conservation {
        accepted: audit.fenced_views + audit.direct_views,
        stored: audit.reader_views,
        quarantined: audit.quarantined_views,
        dropped: audit.dropped_views,
        repeated: audit.repeats,
        ..Conservation::default()
    }
}

/// Where all views are. Accepted is what the producers say, the rest is what is found.
pub(super) fn conservation(look: &Observation, journalled: u64) -> Conservation {
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
    let accepted = through_redis + audit.direct_views + u128::from(journalled);
    Conservation { accepted, pending, journalled: journalled.into(), ..of_producers(audit) }
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
        (sentence!(I5), some(back)),
        ("views in MySQL never become fewer", (new < old).then(|| format!("{new} after {old}"))),
    ]
}

#[cfg(test)]
mod tests;
