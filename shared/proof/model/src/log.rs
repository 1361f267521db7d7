//! Batches, bags of batches, and the log of them.

use std::fmt;

/// Producers, at most.
pub const PRODUCERS: usize = 2;
/// Batches of a producer on one path, at most.
pub const NUMBERS: usize = 3;

/// A batch, by producer, path and number. It holds one view.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Batch(u8);

impl Batch {
    /// On the Redis path.
    #[must_use]
    pub fn of_redis(producer: usize, number: u8) -> Self {
        Self((producer * NUMBERS) as u8 + number)
    }

    /// On the direct path.
    #[must_use]
    pub fn of_direct(producer: usize, number: u8) -> Self {
        Self(((PRODUCERS + producer) * NUMBERS) as u8 + number)
    }

    /// Whose it is.
    #[must_use]
    pub fn producer(self) -> usize {
        usize::from(self.0 - 1) / NUMBERS % PRODUCERS
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        (self.0 - 1) % NUMBERS as u8 + 1
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if usize::from(self.0) > PRODUCERS * NUMBERS { "direct" } else { "p" };
        write!(f, "{path}{}.{}", self.producer(), self.number())
    }
}

/// How often each batch is in something: a bag, so that a batch counted twice is seen. Two bits each, and 3 stands for
/// more.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Batches(u32);

/// The lower bit of every batch.
const LOWER: u32 = 0x5555_5555;

impl Batches {
    /// Batches 1 to `last` of every producer, on both paths.
    #[must_use]
    pub fn up_to(redis: [u8; PRODUCERS], direct: [u8; PRODUCERS]) -> Self {
        let mut bits = 0;
        for (at, last) in redis.into_iter().chain(direct).enumerate() {
            bits |= (LOWER & ((1 << (2 * last)) - 1)) << (2 * NUMBERS * at);
        }
        Self(bits)
    }

    /// How often a batch is in it.
    #[must_use]
    pub fn count(self, batch: Batch) -> u8 {
        (self.0 >> (2 * (batch.0 - 1)) & 3) as u8
    }

    /// Adds a batch once.
    pub fn add(&mut self, batch: Batch) {
        if self.count(batch) < 3 {
            self.0 += 1 << (2 * (batch.0 - 1));
        }
    }

    /// This with everything that is in `other`.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        // Two bits of each batch at a time do not overflow as long as nothing is in both.
        if (self.0 | self.0 >> 1) & (other.0 | other.0 >> 1) & LOWER == 0 {
            return Self(self.0 | other.0);
        }
        let mut sum = self;
        for batch in (1..=(2 * PRODUCERS * NUMBERS) as u8).map(Batch) {
            (0..other.count(batch)).for_each(|_| sum.add(batch));
        }
        sum
    }

    /// Whether no batch is in it twice.
    #[must_use]
    pub fn is_once_each(self) -> bool {
        self.0 & !LOWER == 0
    }

    /// Whether all of it is in `other`; both hold nothing twice.
    #[must_use]
    pub fn is_part_of(self, other: Self) -> bool {
        self.is_once_each() && self.0 & !other.0 == 0
    }

    /// The views in it: every batch holds one.
    #[must_use]
    pub fn views(self) -> u32 {
        (self.0 & LOWER).count_ones() + 2 * (self.0 & !LOWER).count_ones()
    }

    /// Only where batches change their path: those of the direct path as what they were before.
    #[must_use]
    pub fn on_one_path(self) -> Self {
        let shift = 2 * NUMBERS * PRODUCERS;
        Self(self.0 & ((1 << shift) - 1)).plus(Self(self.0 >> shift))
    }
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let present = (1..=(2 * PRODUCERS * NUMBERS) as u8).map(Batch).filter(|&batch| self.count(batch) > 0);
        f.debug_map().entries(present.map(|batch| (batch, self.count(batch)))).finish()
    }
}

/// A log, or a part of one: a list of entries, and the positions of the oldest and the newest. An entry is one batch.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Log {
    /// Position of the oldest entry.
    pub first: u8,
    /// Position of the newest; `first - 1` if there is none.
    pub tail: u8,
    /// The list, four bits each, the oldest lowest.
    list: u32,
}

/// Entries in a list, at most.
const LENGTH: u8 = 8;

impl Log {
    /// Without entries; the next one will stand at `first`.
    #[must_use]
    pub fn empty(first: u8) -> Self {
        Self { first, tail: first - 1, list: 0 }
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list == 0
    }

    /// Whether the positions are those of the list (I7).
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.tail + 1 == self.first + self.length()
    }

    fn length(&self) -> u8 {
        (u32::BITS - self.list.leading_zeros()).div_ceil(4) as u8
    }

    /// The entry at a position.
    #[must_use]
    pub fn at(&self, position: u8) -> Option<Batch> {
        if position < self.first || position > self.tail || position - self.first >= LENGTH {
            return None;
        }
        let batch = (self.list >> (4 * (position - self.first)) & 15) as u8;
        (batch > 0).then_some(Batch(batch))
    }

    /// Adds an entry at the tail. Only a protocol that lacks a rule ever fills the list; then there is no room.
    pub fn append(&mut self, batch: Batch) {
        let length = self.length();
        if length < LENGTH {
            self.list |= u32::from(batch.0) << (4 * length);
            self.tail += 1;
        }
    }

    /// Takes the oldest `count` entries off the list, and leaves the positions as they are.
    pub fn cut(&mut self, count: u8) {
        self.list = self.list.checked_shr(4 * u32::from(count)).unwrap_or(0);
    }

    /// Forgets the entries up to a position.
    pub fn trim(&mut self, last: u8) {
        if last >= self.tail {
            *self = Self::empty(last + 1);
        } else if last >= self.first {
            self.cut(last - self.first + 1);
            self.first = last + 1;
        }
    }

    /// The entries behind a position, oldest first.
    pub fn behind(&self, position: u8) -> impl Iterator<Item = Batch> {
        let log = *self;
        (self.first.max(position + 1)..=self.tail).filter_map(move |position| log.at(position))
    }

    /// What is in the entries behind a position.
    #[must_use]
    pub fn batches_behind(&self, position: u8) -> Batches {
        let mut batches = Batches::default();
        self.behind(position).for_each(|batch| batches.add(batch));
        batches
    }

    /// Whether two logs have the same entries, wherever both have one.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        (self.first.max(other.first)..=self.tail.min(other.tail))
            .all(|position| self.at(position) == other.at(position))
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries: Vec<Option<Batch>> = (self.first..=self.tail).map(|position| self.at(position)).collect();
        write!(f, "{}..={} {entries:?}", self.first, self.tail)
    }
}
