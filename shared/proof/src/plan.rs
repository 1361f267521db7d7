//! What is done in one run, and when. Everything follows from a seed, and can be written down and given back.

use std::fmt;
use std::str::FromStr;

use crate::catalogue::{Draw, Recipe, Scale, all, of};
use crate::dice::Dice;
use crate::judge::Expect;
use crate::setup::{Load, Setup, Topology};
use crate::step::PlannedFault;

/// Between two faults of a schedule, in milliseconds.
const GAP_MS: (u64, u64) = (50, 1_200);
/// How many faults a schedule has.
const FAULTS: (u64, u64) = (3, 8);
/// How random schedules are called in tables; those on stores of several servers with what these are.
const SCHEDULE: &str = "random schedule";
/// The first line of a plan as text.
const HEAD: &str = "footfall plan v1";

/// One run: a system, a load, and what is done to the system meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The fault's name, or that of all schedules.
    pub name: String,
    /// What happens by chance in the run follows from this.
    pub seed: u64,
    /// What must become of its views.
    pub expect: Expect,
    /// The system.
    pub setup: Setup,
    /// The load.
    pub load: Load,
    /// The faults, in order.
    pub steps: Vec<PlannedFault>,
}

impl Plan {
    /// One fault of the catalogue.
    #[must_use]
    pub fn of(recipe: &Recipe, seed: u64, scale: Scale) -> Self {
        let dice = dice(recipe.name, seed);
        let mut steps = recipe.steps(&dice, scale);
        if let Some(first) = steps.first_mut() {
            first.after_ms += dice.range(100, 500);
        }
        let (setup, load) = (recipe.setup, (recipe.load)(scale));
        Self { name: recipe.name.to_owned(), seed, expect: recipe.expect, setup, load, steps }
    }

    /// 3 to 8 faults of the catalogue, which may last beside each other as far as they do not concern the same
    /// component. Of several at once only that can be expected which is expected of nearly each.
    #[must_use]
    pub fn schedule(topology: Option<Topology>, seed: u64, scale: Scale) -> Self {
        let name = topology.map_or_else(|| SCHEDULE.to_owned(), |topology| format!("{SCHEDULE} of {topology}"));
        let dice = dice(&name, seed);
        let recipes: Vec<&Recipe> = all().filter(|recipe| recipe.mixes(topology)).collect();
        let steps = (0..dice.range(FAULTS.0, FAULTS.1)).flat_map(|_| {
            let mut steps = dice.pick(&recipes).steps(&dice, scale);
            if let Some(first) = steps.first_mut() {
                first.after_ms += dice.range(GAP_MS.0, GAP_MS.1);
            }
            steps
        });
        let steps = steps.collect();
        let setup = topology.map_or(Setup::Usual, Setup::Several);
        let load = of(topology).next().map_or_else(Load::default, |recipe| (recipe.load)(scale));
        Self { name, seed, expect: Expect::NoneLost, setup, load, steps }
    }

    /// The same with so many views per second, and with its faults lasting so long: those that last longer than others of
    /// the plan do so by as much as before.
    #[must_use]
    pub fn altered(mut self, rate: Option<u64>, hold_ms: Option<u64>) -> Self {
        self.load.rate = rate.unwrap_or(self.load.rate);
        if let Some(hold_ms) = hold_ms {
            let shortest = self.steps.iter().map(|step| step.hold_ms).filter(|ms| *ms > 0).min();
            for step in &mut self.steps {
                step.hold_ms = match shortest {
                    Some(_) if step.hold_ms == 0 => 0,
                    shortest => hold_ms + step.hold_ms - shortest.unwrap_or(0),
                };
            }
        }
        self
    }

    /// Whether it is one of the random schedules.
    #[must_use]
    pub fn is_schedule(&self) -> bool {
        self.name.starts_with(SCHEDULE)
    }

    /// When the last fault is over, in milliseconds.
    #[must_use]
    pub fn length_ms(&self) -> u64 {
        let mut at_ms = 0;
        let ends = self.steps.iter().map(|step| {
            at_ms += step.after_ms;
            at_ms + step.hold_ms
        });
        ends.max().unwrap_or(0)
    }

    /// Names the load's articles, so that two runs on one stack do not share any.
    #[must_use]
    pub fn load_seed(&self) -> u32 {
        dice(&self.name, self.seed).number() as u32
    }

    /// For tests of what carries plans out.
    #[cfg(test)]
    pub(crate) fn example() -> Self {
        Self::schedule(None, 1, Scale::Short)
    }
}

/// Different for each name, so that rounds with the same seed do not move in step.
fn dice(name: &str, seed: u64) -> Dice {
    // FNV-1a, <http://www.isthe.com/chongo/tech/comp/fnv/>: std's hash may differ from one build to the next.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    Dice::new(seed ^ hash)
}

impl Recipe {
    pub(crate) fn steps(&self, dice: &Dice, scale: Scale) -> Vec<PlannedFault> {
        let hold_ms = self.hold_ms(dice, scale);
        (self.make)(&Draw { dice, scale, hold_ms })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, seed, expect, setup, load, steps } = self;
        writeln!(f, "{HEAD}\nname {name}\nseed {seed}\nexpect {expect}\nsetup {setup}\nload {load}")?;
        steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

/// Reads what [`Display`](fmt::Display) writes; empty lines and white space around a line do not matter.
impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        if lines.next() != Some(HEAD) {
            return Err(format!("it does not begin with `{HEAD}`"));
        }
        let mut take = |key: &str| {
            let line = lines.next().unwrap_or_default();
            let value = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(' '));
            value.ok_or_else(|| format!("`{key} ...` was expected instead of {line:?}"))
        };
        let name = take("name")?.to_owned();
        let seed = take("seed")?.parse().map_err(|why| format!("seed: {why}"))?;
        let (expect, setup, load) = (take("expect")?.parse()?, take("setup")?.parse()?, take("load")?.parse()?);
        let steps = lines.map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { name, seed, expect, setup, load, steps })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::catalogue::find;
    use crate::fault::Fault;

    fn topologies() -> impl Iterator<Item = Option<Topology>> {
        Topology::ALL.map(Some).into_iter().chain([None])
    }

    #[test]
    fn the_same_seed_makes_the_same_plan() {
        for seed in 0..50 {
            for topology in topologies() {
                let plan = Plan::schedule(topology, seed, Scale::Short);
                assert_eq!(plan, Plan::schedule(topology, seed, Scale::Short));
                assert!(plan.steps.len() as u64 >= FAULTS.0 && plan.is_schedule());
                assert_eq!(plan.setup.topology(), topology);
            }
        }
        for topology in topologies() {
            let text = |seed| Plan::schedule(topology, seed, Scale::Short).to_string();
            let different: BTreeSet<String> = (0..50).map(text).collect();
            assert!(different.len() > 45, "{} different plans", different.len());
        }
    }

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        for scale in [Scale::Short, Scale::Long] {
            let single = all().map(|recipe| Plan::of(recipe, 7, scale));
            let schedules =
                topologies().flat_map(|topology| (0..100).map(move |seed| Plan::schedule(topology, seed, scale)));
            for plan in single.chain(schedules) {
                assert_eq!(plan.to_string().parse(), Ok(plan.clone()), "{plan}");
            }
        }
        let plan = Plan::of(find("flushall").expect("there is one"), 7, Scale::Short).to_string();
        let step = plan.lines().last().expect("a step");
        assert!(step.starts_with('+') && step.ends_with(" ms: flushall"), "{plan}");
    }

    #[test]
    fn what_is_no_plan_is_refused_with_the_reason() {
        let plan = Plan::schedule(None, 3, Scale::Short).to_string();
        for (from, to, why) in [
            ("footfall plan v1", "footfall plan v0", "does not begin with"),
            ("seed 3", "seed x", "seed: "),
            ("setup usual", "setup none", "none of no-leases"),
            ("batch=1", "", "batch= is missing"),
            (" ms for ", " s for ", "is not `+N ms for N ms: FAULT`"),
            ("expect none-lost", "", "`expect ...` was expected"),
        ] {
            let error = plan.replacen(from, to, 1).parse::<Plan>().expect_err(to);
            assert!(error.contains(why), "{to}: {error}");
        }
        let simulated = |hosts: usize| {
            format!(
                "simulated shards=1 masters=1 apply_ms=0 hosts={hosts} has_journal=true outlives_power=true journal_bytes_max=1 lease_ms=0 poll_ms=1 \
                 flush_timeout_ms=0 redis_patience_ms=1 answer_timeout_ms=1 transaction_views_max=1 batch_views_max=1 \
                 ids_bytes_max=1 traffic_ms=1 requests=0 articles=1 ids_percent=0 poison_percent=0 is_upgrade=false"
            )
            .parse::<Setup>()
        };
        assert!(simulated(1).is_ok() && simulated(0).is_err_and(|why| why.contains("may be 0")));
    }

    #[test]
    fn every_fault_that_mixes_is_in_some_schedule() {
        let kind = |fault: &Fault| std::mem::discriminant(fault);
        for topology in topologies() {
            let steps: Vec<PlannedFault> =
                (0..300).flat_map(|seed| Plan::schedule(topology, seed, Scale::Short).steps).collect();
            for recipe in all().filter(|recipe| recipe.mixes(topology)) {
                for step in Plan::of(recipe, 1, Scale::Short).steps {
                    assert!(steps.iter().any(|drawn| kind(&drawn.fault) == kind(&step.fault)), "{}", recipe.name);
                }
            }
        }
    }

    #[test]
    fn no_two_runs_share_articles() {
        let mut seeds = BTreeSet::new();
        for recipe in all() {
            for round in 0..20 {
                assert!(seeds.insert(Plan::of(recipe, round, Scale::Short).load_seed()));
            }
        }
        for seed in 0..200 {
            for topology in topologies() {
                assert!(seeds.insert(Plan::schedule(topology, seed, Scale::Short).load_seed()));
            }
        }
    }

    #[test]
    fn faults_can_be_made_to_last_and_keep_their_order() {
        let holds = |name| {
            let plan = Plan::of(find(name).expect("there is one"), 7, Scale::Short).altered(Some(9), Some(5_000));
            assert_eq!(plan.load.rate, 9);
            plan.steps.iter().map(|step| step.hold_ms).collect::<Vec<_>>()
        };
        assert_eq!(holds("mysql-paused"), [5_000]);
        assert_eq!(holds("deadlocks"), [5_000]);
        let [redis, mysql] = holds("both-down-mysql-first")[..] else { panic!("two stores") };
        assert!(redis > mysql && mysql == 5_000, "{redis} {mysql}");
    }

    #[test]
    fn a_plan_lasts_until_its_last_fault_is_over() {
        let step = |after_ms, hold_ms| PlannedFault { after_ms, hold_ms, fault: Fault::FlushAll {} };
        let plan = Plan { steps: vec![step(100, 900), step(100, 50)], ..Plan::example() };
        assert_eq!(plan.length_ms(), 1_000);
    }
}
