//! Bounding the view ids that Redis remembers: two sets, of which the older one is dropped in turn. Pure: time comes in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use footfall_shared::protocol::{ID_BYTES, Remembered};
use tokio::time::Instant;

/// A view id is remembered for one to two of these.
const PERIOD: Duration = Duration::from_secs(600);
/// View ids take this part of Redis's memory at most, in percent, whatever is configured.
const MEMORY_PERCENT_MAX: u64 = 25;

/// The view ids of one shard.
pub(crate) struct ViewIds {
    limit: IdsLimit,
    /// One batch may have more ids than there is room for.
    batch_max: u64,
    /// The rotation that was seen last, and when it was first seen.
    known: Option<(u64, Instant)>,
    /// To be asked for.
    due: Option<Rotation>,
}

/// Forgets the ids of the period before the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// Only if this still is the last one: several ingests may ask for it.
    pub(crate) after: u64,
    /// Before their time, to make room.
    pub(crate) is_early: bool,
}

/// How many ids may be added to a shard between two rotations. Cheap to clone: the same limit.
#[derive(Clone)]
pub(crate) struct IdsLimit {
    bytes_max: u64,
    shards: u16,
    ids_max: Arc<AtomicU64>,
}

impl IdsLimit {
    /// As many as take `bytes_max`, those of two periods and of all shards together.
    pub(crate) fn new(bytes_max: u64, shards: u16) -> Self {
        let limit = Self { bytes_max, shards, ids_max: Arc::default() };
        limit.set(0);
        limit
    }

    pub(crate) fn get(&self) -> u64 {
        self.ids_max.load(Ordering::Relaxed)
    }

    /// No more than a part of Redis's memory (0: of all that there is) has room for.
    fn set(&self, memory: u64) {
        let part = if memory == 0 { u64::MAX } else { memory / 100 * MEMORY_PERCENT_MAX };
        let ids_max = self.bytes_max.min(part) / ID_BYTES / 2 / u64::from(self.shards.max(1));
        self.ids_max.store(ids_max.max(1), Ordering::Relaxed);
    }
}

impl ViewIds {
    pub(crate) fn new(limit: IdsLimit, batch_max: u64) -> Self {
        Self { limit, batch_max, known: None, due: None }
    }

    /// Takes note of the memory that Redis may use; 0 if that is not limited.
    pub(crate) fn limit_to(&self, memory: u64) {
        self.limit.set(memory);
    }

    /// Takes note of what a look at the data set has shown.
    pub(crate) fn looked(&mut self, ids: &Remembered, now: Instant) {
        if self.known.is_none_or(|(known, _)| known != ids.rotation) {
            self.known = Some((ids.rotation, now));
        }
        // Redis sees to the limit by itself when it takes a batch, unless it takes none, or has less memory than before.
        if ids.added.max(ids.before) > self.limit.get().max(self.batch_max) {
            self.due = Some(Rotation { after: ids.rotation, is_early: true });
        }
    }

    /// Whether a rotation was seen: then there is a time for the next one.
    pub(crate) fn are_known(&self) -> bool {
        self.known.is_some()
    }

    /// Asks for the next rotation when it is time, if the data set is open.
    pub(crate) fn tick(&mut self, is_open: bool, now: Instant) {
        if is_open && let Some((after, _)) = self.known.take_if(|(_, seen)| now >= *seen + PERIOD) {
            self.due = Some(Rotation { after, is_early: false });
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Rotation> {
        self.due.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn ids_are_forgotten_in_time_and_earlier_for_want_of_room() {
        let limit = IdsLimit::new(MIB, 2);
        let mut ids = ViewIds::new(limit.clone(), 10);
        let start = Instant::now();
        let seen = Remembered { rotation: 7, added: limit.get(), ..Remembered::default() };
        ids.looked(&seen, start);
        ids.tick(true, start + PERIOD - Duration::from_secs(1));
        assert_eq!(ids.poll(), None);
        ids.tick(false, start + PERIOD);
        assert_eq!(ids.poll(), None, "only an open data set can be asked");
        ids.tick(true, start + PERIOD);
        assert_eq!(ids.poll(), Some(Rotation { after: 7, is_early: false }));
        ids.tick(true, start + 2 * PERIOD);
        assert_eq!(ids.poll(), None, "nobody knows whether it has happened");
        ids.looked(&Remembered { added: limit.get() + 1, ..seen }, start);
        assert_eq!(ids.poll(), Some(Rotation { after: 7, is_early: true }));
    }

    #[test]
    fn ids_take_a_part_of_the_memory_and_no_more_than_is_configured() {
        let limit = IdsLimit::new(MIB, 2);
        let configured = limit.get();
        assert_eq!(configured, MIB / ID_BYTES / 2 / 2, "two periods, two shards");
        for (memory, expected) in [(100 * MIB, configured), (MIB, configured / 4), (1, 1), (0, configured)] {
            limit.set(memory);
            assert!(limit.get().abs_diff(expected) <= 1, "{memory}: {} instead of {expected}", limit.get());
        }
    }
}
