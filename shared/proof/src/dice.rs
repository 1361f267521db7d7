//! Where all chance comes from: numbers that follow from a seed, the same on every machine and in every version.

use std::sync::{Mutex, PoisonError};

/// A source of numbers.
#[derive(Debug)]
pub struct Dice(Mutex<u64>);

impl Dice {
    /// Equal seeds give equal numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }

    /// Dice that are independent of how often these are thrown from here on.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::new(self.number())
    }

    /// Any number: SplitMix64, <https://prng.di.unimi.it/splitmix64.c>.
    pub fn number(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = *state;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn range(&self, low: u64, high: u64) -> u64 {
        low + self.number() % (high - low + 1)
    }

    /// A position in something that has `len` of them; 0 if it has none.
    pub fn index(&self, len: usize) -> usize {
        if len == 0 { 0 } else { (self.number() % len as u64) as usize }
    }

    /// True in this percentage of cases.
    pub fn chance(&self, percent: u64) -> bool {
        self.range(0, 99) < percent
    }

    /// One of these.
    pub fn pick<T: Copy>(&self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }
}
