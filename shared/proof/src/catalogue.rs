//! Everything that can be done to a running stack, each with a name and a sentence.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::lab::{Lab, Scale};
use crate::load::Shape;
use crate::setting::Setting;
use crate::stack::Role;

mod clock;
mod everything;
mod flusher;
mod ingest;
mod journal;
mod mysql;
mod redis;
mod slow;

/// Undoes a fault.
pub(crate) type Healing = Box<dyn FnOnce(&mut Lab) -> anyhow::Result<()>>;

/// What a fault lays its hands on, or cannot do without. Two faults of a schedule that share a part take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Ingest,
    Flusher,
    Redis,
    MySql,
}

/// What must become of the views that were acknowledged. None may be counted twice, ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Every one is counted.
    NoneLost,
    /// The shard stands still and says why, and after the healing every one is counted.
    Halts,
    /// Every one is counted or in quarantine, and some are in quarantine.
    Quarantined,
    /// Their last copy was damaged: what is lost is in quarantine, but for what was at the end of a journal.
    LostAsReported,
}

/// Something that is done to a running stack under load.
#[derive(Clone, Debug)]
pub struct Fault {
    /// In tables and on the command line.
    pub name: &'static str,
    /// What happens, in a sentence.
    pub about: &'static str,
    /// What must become of the views.
    pub expect: Expect,
    /// The stack that it needs.
    pub setting: Setting,
    /// Why the share of CI, which has little time, leaves it out.
    pub not_in_share: Option<&'static str>,
    /// Why it is never one of several: what each of them alone does not lose, they may lose together.
    alone: Option<&'static str>,
    pub(crate) parts: &'static [Part],
    /// How long it lasts before it is healed, in milliseconds: from, to.
    hold_ms: (u64, u64),
    /// The same in a long run.
    hold_long_ms: (u64, u64),
    pub(crate) shape: fn(Scale) -> Shape,
    /// Does it; answers how it is undone. May take a while, for what consists of several steps.
    pub(crate) inject: fn(&mut Lab, &mut StdRng) -> anyhow::Result<Healing>,
}

impl Fault {
    /// One that nothing may be lost by, on the usual stack.
    const fn new(
        name: &'static str,
        about: &'static str,
        parts: &'static [Part],
        inject: fn(&mut Lab, &mut StdRng) -> anyhow::Result<Healing>,
    ) -> Self {
        Self {
            name,
            about,
            expect: Expect::NoneLost,
            setting: Setting::Usual,
            not_in_share: None,
            alone: None,
            parts,
            hold_ms: (200, 700),
            hold_long_ms: (200, 2_500),
            shape: |_| Shape::default(),
            inject,
        }
    }

    /// It lasts so long, in milliseconds from and to; in a long run as long as the second pair says.
    const fn lasts(mut self, short: (u64, u64), long: (u64, u64)) -> Self {
        self.hold_ms = short;
        self.hold_long_ms = long;
        self
    }

    const fn expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    const fn on(mut self, setting: Setting) -> Self {
        self.setting = setting;
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

    const fn under(mut self, shape: fn(Scale) -> Shape) -> Self {
        self.shape = shape;
        self
    }

    /// Whether it may be one of several in a random schedule.
    pub fn mixes(&self) -> bool {
        /// A schedule has up to eight of them.
        const HOLD_MS_MAX: u64 = 5_000;
        let loses_nothing = self.expect == Expect::NoneLost && self.alone.is_none();
        loses_nothing && self.setting == Setting::Usual && self.hold_ms.1 <= HOLD_MS_MAX
    }

    /// How long it lasts before it is healed.
    pub(crate) fn hold(&self, scale: Scale, random: &mut StdRng) -> Duration {
        let (from, to) = match scale {
            Scale::Short => self.hold_ms,
            Scale::Long => self.hold_long_ms,
        };
        Duration::from_millis(random.random_range(from..=to))
    }
}

/// All faults, in the order of the tables.
pub fn all() -> impl Iterator<Item = &'static Fault> {
    [
        ingest::FAULTS,
        flusher::FAULTS,
        redis::FAULTS,
        mysql::FAULTS,
        slow::FAULTS,
        everything::FAULTS,
        journal::FAULTS,
        clock::FAULTS,
    ]
    .into_iter()
    .flatten()
}

/// The fault of that name.
pub fn find(name: &str) -> Option<&'static Fault> {
    all().find(|fault| fault.name == name)
}

/// For what heals by itself.
fn nothing() -> Healing {
    Box::new(|_| Ok(()))
}

/// Starts a killed service again.
fn restart(role: Role, index: usize) -> Healing {
    Box::new(move |lab| Ok(lab.stack.service(role, index).restart()?))
}

/// Waits a random time, in milliseconds.
fn pause(random: &mut StdRng, from: u64, to: u64) {
    std::thread::sleep(Duration::from_millis(random.random_range(from..=to)));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_fit_a_command_line() {
        let mut names = BTreeSet::new();
        for fault in all() {
            let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(fault.name.chars().all(is_plain) && fault.name.len() <= 34, "{}", fault.name);
            assert!(names.insert(fault.name), "{} is there twice", fault.name);
            assert!(fault.about.ends_with('.') && fault.about.len() < 150, "{}: {}", fault.name, fault.about);
            assert!(fault.hold_ms.0 <= fault.hold_ms.1 && fault.hold_long_ms.0 <= fault.hold_long_ms.1);
            assert_eq!(find(fault.name).map(|fault| fault.about), Some(fault.about));
        }
        assert!(names.len() >= 40, "{} faults", names.len());
    }

    #[test]
    fn what_halts_or_loses_is_not_mixed_with_others() {
        assert!(all().filter(|fault| fault.mixes()).count() >= 25);
        assert!(all().filter(|fault| fault.mixes()).all(|fault| fault.expect == Expect::NoneLost));
        for name in ["mysql-older-restored", "journal-bits-flipped", "lock-time-outs"] {
            assert!(!find(name).expect("there is one").mixes(), "{name}");
        }
    }
}
