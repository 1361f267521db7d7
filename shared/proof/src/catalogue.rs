//! Everything that is done to a stack on purpose, each with a name and a sentence, and as data what it consists of.

mod clock;
mod everything;
mod flusher;
mod ingest;
mod journal;
mod mysql;
mod redis;
mod several;
mod slow;

use crate::dice::Dice;
use crate::fault::Fault;
use crate::judge::Expect;
use crate::setup::{Load, Setup, Topology};
use crate::step::PlannedFault;
use crate::values::Who;

pub use flusher::FENCE_FORGOTTEN;

/// How far a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// For CI and for a look: a few seconds per fault.
    Short,
    /// The real lengths: 30 s of standing still, a million readers.
    Long,
}

impl Scale {
    fn of<T>(self, short: T, long: T) -> T {
        match self {
            Self::Short => short,
            Self::Long => long,
        }
    }
}

/// What a recipe's chances come from.
pub(crate) struct Draw<'a> {
    pub(crate) dice: &'a Dice,
    pub(crate) scale: Scale,
    /// How long it lasts.
    pub(crate) hold_ms: u64,
}

impl Draw<'_> {
    fn one(&self, fault: Fault) -> Vec<PlannedFault> {
        vec![self.after(0, fault)]
    }

    fn after(&self, after_ms: u64, fault: Fault) -> PlannedFault {
        PlannedFault { after_ms, hold_ms: self.hold_ms, fault }
    }

    /// Lasts until what is done in the same moment is over: services come back after their stores.
    fn longer(&self, fault: Fault) -> PlannedFault {
        /// How long it takes to kill a store and to start it again.
        const LONGER_MS: u64 = 300;
        PlannedFault { after_ms: 0, hold_ms: self.hold_ms + LONGER_MS, fault }
    }

    /// One of both.
    fn ingest(&self) -> Who {
        Who::Ingest(self.dice.index(2))
    }

    /// One of both.
    fn flusher(&self) -> Who {
        Who::Flusher(self.dice.index(2))
    }
}

/// A way to make one or several faults that belong together.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// In tables and on the command line.
    pub name: &'static str,
    /// What happens, in a sentence.
    pub about: &'static str,
    /// What must become of the views.
    pub expect: Expect,
    /// The stack that it needs.
    pub setup: Setup,
    /// Why the share of CI, which has little time, leaves it out.
    pub not_in_share: Option<&'static str>,
    /// Why it is never one of several: what each of them alone does not lose, they may lose together.
    alone: Option<&'static str>,
    /// How long it lasts before it is healed, in milliseconds: from, to.
    short_ms: (u64, u64),
    /// The same in a long run.
    long_ms: (u64, u64),
    pub(crate) load: fn(Scale) -> Load,
    pub(crate) make: fn(&Draw<'_>) -> Vec<PlannedFault>,
}

impl Recipe {
    /// One that nothing may be lost by, on the usual stack.
    const fn new(name: &'static str, about: &'static str, make: fn(&Draw<'_>) -> Vec<PlannedFault>) -> Self {
        Self {
            name,
            about,
            expect: Expect::NoneLost,
            setup: Setup::Usual,
            not_in_share: None,
            alone: None,
            short_ms: (200, 700),
            long_ms: (200, 2_500),
            load: |_| Load { rate: 2_000, articles: 500, users: 20_000, connections: 32, batch: 1 },
            make,
        }
    }

    /// Sets how long it lasts, from and to in milliseconds, in a short run and in a long one.
    const fn lasts(mut self, short_ms: (u64, u64), long_ms: (u64, u64)) -> Self {
        self.short_ms = short_ms;
        self.long_ms = long_ms;
        self
    }

    const fn expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    const fn on(mut self, setup: Setup) -> Self {
        self.setup = setup;
        self
    }

    const fn not_in_share(mut self, why: &'static str) -> Self {
        self.not_in_share = Some(why);
        self
    }

    const fn alone(mut self, why: &'static str) -> Self {
        self.alone = Some(why);
        self
    }

    const fn under(mut self, load: fn(Scale) -> Load) -> Self {
        self.load = load;
        self
    }

    /// Whether it may be one of several in a random schedule of the usual stack, or of one on stores of several servers:
    /// there all that concerns neither a proxy nor what is there in another form.
    #[must_use]
    pub fn mixes(&self, topology: Option<Topology>) -> bool {
        /// A schedule has up to eight of them.
        const HOLD_MS_MAX: u64 = 5_000;
        let loses_nothing = self.expect == Expect::NoneLost && self.alone.is_none();
        let is_of_usual = self.setup == Setup::Usual && self.short_ms.1 <= HOLD_MS_MAX;
        let fits = match topology {
            None => is_of_usual,
            Some(topology) if self.setup == Setup::Several(topology) => true,
            Some(topology) => {
                let steps = self.steps(&Dice::new(0), Scale::Short);
                is_of_usual && steps.iter().all(|step| step.fault.suits(topology))
            }
        };
        loses_nothing && fits
    }

    /// How long it lasts before it is healed.
    pub(crate) fn hold_ms(&self, dice: &Dice, scale: Scale) -> u64 {
        let (from, to) = scale.of(self.short_ms, self.long_ms);
        dice.range(from, to)
    }
}

/// The whole catalogue, in the order of the tables.
pub fn all() -> impl Iterator<Item = &'static Recipe> {
    [
        ingest::RECIPES,
        flusher::RECIPES,
        redis::RECIPES,
        mysql::RECIPES,
        slow::RECIPES,
        everything::RECIPES,
        journal::RECIPES,
        clock::RECIPES,
        several::RECIPES,
    ]
    .into_iter()
    .flatten()
}

/// Those of stacks on such stores; without a topology, those of all other stacks.
pub fn of(topology: Option<Topology>) -> impl Iterator<Item = &'static Recipe> {
    all().filter(move |recipe| recipe.setup.topology() == topology)
}

/// The recipe of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Recipe> {
    all().find(|recipe| recipe.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_fit_a_command_line() {
        let mut names = BTreeSet::new();
        for recipe in all() {
            let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(recipe.name.chars().all(is_plain) && recipe.name.len() <= 34, "{}", recipe.name);
            assert!(names.insert(recipe.name), "{} is there twice", recipe.name);
            assert!(recipe.about.ends_with('.') && recipe.about.len() < 150, "{}: {}", recipe.name, recipe.about);
            assert!(recipe.short_ms.0 <= recipe.short_ms.1 && recipe.long_ms.0 <= recipe.long_ms.1);
            assert_eq!(find(recipe.name).map(|found| found.about), Some(recipe.about));
        }
        assert!(names.len() >= 40, "{} recipes", names.len());
    }

    #[test]
    fn what_halts_or_loses_is_not_mixed_with_others() {
        let mixed = |topology| all().filter(move |recipe| recipe.mixes(topology));
        assert!(mixed(None).count() >= 25);
        for topology in Topology::ALL.map(Some).into_iter().chain([None]) {
            assert!(mixed(topology).all(|recipe| recipe.expect == Expect::NoneLost));
            for name in ["mysql-older-restored", "journal-bits-flipped", "lock-time-outs"] {
                assert!(!find(name).expect("there is one").mixes(topology), "{name}");
            }
        }
    }

    #[test]
    fn what_needs_a_proxy_or_a_single_store_is_not_mixed_with_faults_of_several() {
        let mixes = |name, topology| find(name).expect("there is one").mixes(Some(topology));
        for topology in Topology::ALL {
            assert!(mixes("ingest-killed", topology) && mixes("flusher-killed", topology));
            for name in ["ingest-killed-after-apply", "redis-slow", "rolling-restart", "journal-disk-full"] {
                assert!(!mixes(name, topology), "{name} on {topology}");
            }
        }
        assert!(mixes("mysql-killed", Topology::Cluster) && !mixes("mysql-killed", Topology::Galera));
        assert!(mixes("flushall", Topology::Galera) && !mixes("flushall", Topology::Sentinel));
    }
}
