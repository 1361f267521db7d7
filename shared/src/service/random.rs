//! Random numbers: names that nobody else has, and what spreads the work of several processes.

use std::cell::Cell;

thread_local! {
    static SEEDED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A random number from the operating system.
///
/// # Panics
///
/// If that has none: nothing works without names that are unique.
#[must_use]
pub fn number() -> u64 {
    match SEEDED.get() {
        None => getrandom::u64().expect("the operating system has random numbers"),
        Some(state) => {
            SEEDED.set(Some(state.wrapping_add(0x9e37_79b9_7f4a_7c15)));
            mix(state)
        }
    }
}

/// From here on all numbers of this thread follow from `seed`, so that a simulation can be repeated.
pub fn simulate(seed: u64) {
    SEEDED.set(Some(seed));
}

/// The output function of SplitMix64, <https://prng.di.unimi.it/splitmix64.c>.
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
