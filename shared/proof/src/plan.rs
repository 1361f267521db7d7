//! What is done in one run, and when. Pure: everything follows from a seed.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::fault::{self, Expect, Fault};
use crate::lab::Scale;
use crate::load::Shape;
use crate::setting::Setting;

/// Between two faults of a schedule, in milliseconds.
const GAP_MS: std::ops::RangeInclusive<u64> = 50..=1_200;
/// How many faults a schedule has.
const FAULTS: std::ops::RangeInclusive<usize> = 3..=8;
/// The name of all random schedules in tables.
pub(crate) const SCHEDULE: &str = "random schedule";

/// One fault of a run.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) fault: &'static Fault,
    /// After the beginning of the one before, or of the load.
    pub(crate) after: Duration,
    /// From its end until it is healed.
    pub(crate) hold: Duration,
    /// What happens by chance in it follows from this.
    pub(crate) seed: u64,
}

/// One run: a load, and what is done to the stack meanwhile.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The fault's name, or that of all schedules.
    pub name: &'static str,
    /// Makes the same plan again.
    pub seed: u64,
    pub(crate) setting: Setting,
    pub(crate) scale: Scale,
    pub(crate) shape: Shape,
    pub(crate) steps: Vec<Step>,
}

impl Plan {
    /// One fault.
    pub fn of_fault(fault: &'static Fault, seed: u64, scale: Scale) -> Self {
        let mut random = random(fault.name, seed);
        let steps = vec![step(fault, 100..=500, scale, &mut random)];
        Self { name: fault.name, seed, setting: fault.setting, scale, shape: (fault.shape)(scale), steps }
    }

    /// 3 to 8 faults, which may last beside each other as far as they do not lay their hands on the same part.
    pub fn schedule(seed: u64, scale: Scale) -> Self {
        let mut random = random(SCHEDULE, seed);
        let faults: Vec<&Fault> = fault::all().filter(|fault| fault.mixes()).collect();
        let count = random.random_range(FAULTS);
        let steps = (0..count)
            .map(|_| {
                let fault = faults.choose(&mut random).expect("there are faults that mix");
                step(fault, GAP_MS, scale, &mut random)
            })
            .collect();
        Self { name: SCHEDULE, seed, setting: Setting::Usual, scale, shape: Shape::default(), steps }
    }

    /// What must become of its views. Only what is expected of nearly all faults can be expected of several at once.
    pub fn expected(&self) -> Expect {
        match self.steps.as_slice() {
            [only] => only.fault.expect,
            _ => Expect::NoneLost,
        }
    }

    /// The same with so many views per second, and with every fault lasting so long.
    #[must_use]
    pub fn altered(mut self, rate: Option<u64>, hold: Option<Duration>) -> Self {
        self.shape.rate = rate.unwrap_or(self.shape.rate);
        for step in &mut self.steps {
            step.hold = hold.unwrap_or(step.hold);
        }
        self
    }

    /// The same on another kind of stack.
    #[must_use]
    pub fn on(mut self, setting: Setting) -> Self {
        self.setting = setting;
        self
    }

    /// Whether it is one of the random schedules.
    pub fn is_schedule(&self) -> bool {
        self.name == SCHEDULE
    }

    /// Names the load's articles, so that two runs on one stack do not share any.
    pub(crate) fn load_seed(&self) -> u32 {
        random(self.name, self.seed).random()
    }
}

/// With the gap to the fault before, in milliseconds.
fn step(fault: &'static Fault, gap_ms: std::ops::RangeInclusive<u64>, scale: Scale, random: &mut StdRng) -> Step {
    let after = Duration::from_millis(random.random_range(gap_ms));
    Step { fault, after, hold: fault.hold(scale, random), seed: random.random() }
}

/// Different for each name, so that rounds with the same seed do not move in step.
fn random(name: &str, seed: u64) -> StdRng {
    // FNV-1a, <http://www.isthe.com/chongo/tech/comp/fnv/>: std's hash may differ from one build to the next.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    StdRng::seed_from_u64(seed ^ hash)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Step { fault, after, hold, .. }) in self.steps.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}+{:.2} s {} for {:.2} s", after.as_secs_f64(), fault.name, hold.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_plan() {
        for seed in 0..50 {
            let plan = Plan::schedule(seed, Scale::Short);
            assert_eq!(plan.to_string(), Plan::schedule(seed, Scale::Short).to_string());
            assert!(FAULTS.contains(&plan.steps.len()));
        }
        let different: BTreeSet<String> = (0..50).map(|seed| Plan::schedule(seed, Scale::Short).to_string()).collect();
        assert!(different.len() > 45, "{} different plans", different.len());
    }

    #[test]
    fn every_fault_that_mixes_is_in_some_schedule() {
        let mut missing: BTreeSet<&str> = fault::all().filter(|fault| fault.mixes()).map(|fault| fault.name).collect();
        for seed in 0..200 {
            for step in Plan::schedule(seed, Scale::Short).steps {
                missing.remove(step.fault.name);
            }
        }
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn no_two_runs_share_articles() {
        let mut seeds = BTreeSet::new();
        for fault in fault::all() {
            for round in 0..20 {
                assert!(seeds.insert(Plan::of_fault(fault, round, Scale::Short).load_seed()));
            }
        }
        for seed in 0..200 {
            assert!(seeds.insert(Plan::schedule(seed, Scale::Short).load_seed()));
        }
    }

    #[test]
    fn a_plan_can_be_read() {
        let fault = fault::find("flushall").expect("there is one");
        let plan = Plan::of_fault(fault, 7, Scale::Short).to_string();
        assert!(plan.starts_with("+0.") && plan.contains(" s flushall for 0."), "{plan}");
    }
}
