//! One run: load, faults, healing, and then the ledger against the stores.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::fault::{Expect, Healing, Part};
use crate::lab::{Lab, NotHit, Skip};
use crate::load::{self, Load, Totals};
use crate::plan::{Plan, Step};
use crate::probe::{Prober, Timeline};
use crate::verify::Verified;

/// How long the stack may take to be well again after the last healing.
const RECOVERY_MAX: Duration = Duration::from_secs(40);
/// How long everything may take to come to MySQL after the load.
const DRAIN_MAX: Duration = Duration::from_secs(40);
/// The same where something stays missing, as it must.
const DRAIN_LOST_MAX: Duration = Duration::from_secs(5);
/// How long the load goes on after the recovery.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was run.
    pub plan: Plan,
    /// The verdict, and its reason.
    pub verdict: Verdict,
    /// What was measured; zeros as far as it did not come to that.
    pub measured: Measured,
    /// From the beginning of the load to the end of the verification.
    pub took: Duration,
    /// The folder with data and logs, when it was kept.
    pub kept: Option<PathBuf>,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As expected.
    Passed,
    /// It cannot be done here, and why.
    Skipped(String),
    /// Not as expected, and how.
    Failed(String),
}

/// What was measured in a run. Views, and time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Views that the client was told are counted.
    pub acknowledged: u64,
    /// These, and those that it does not know about.
    pub attempted: u64,
    /// Acknowledged views that are not counted.
    pub lost: u64,
    /// Views that are counted beyond those attempted.
    pub doubled: u64,
    /// Views that came into quarantine.
    pub quarantined: u64,
    /// Views in records that a fault has destroyed at the end of a journal: nothing behind says that they were there.
    pub untold: u64,
    /// How long a service was not ready, or answered that it does not work as usual.
    pub degraded: Duration,
    /// From the healing until everything was well again; none if that was not seen.
    pub recovered: Option<Duration>,
    /// From the end of the load until every view was where it belongs, and that was proven.
    pub drained: Duration,
    /// Faults of a schedule that found no occasion.
    pub missed: Vec<&'static str>,
}

/// Runs a plan on a stack that is well. A stack on which a run failed should not be used again.
pub(crate) fn run(lab: &mut Lab, plan: &Plan) -> Outcome {
    let started = Instant::now();
    let mut measured = Measured::default();
    let verdict = match attempt(lab, plan, &mut measured) {
        Ok(()) => Verdict::Passed,
        Err(error) => match error.downcast::<Skip>() {
            Ok(skip) => Verdict::Skipped(skip.to_string()),
            Err(error) => Verdict::Failed(format!("{error:#}")),
        },
    };
    Outcome { plan: plan.clone(), verdict, measured, took: started.elapsed(), kept: None }
}

fn attempt(lab: &mut Lab, plan: &Plan, measured: &mut Measured) -> anyhow::Result<()> {
    let seed = plan.load_seed();
    lab.scale = plan.scale;
    lab.untold = 0;
    lab.article_prefix = load::article_prefix(seed);
    let ledger = lab.path("ledger");
    let quarantined_before = quarantined(lab);
    let load = Load::start(&lab.stack, plan.shape, seed, &ledger)?;
    lab.wait_for("a first answer", || load.has_begun())?;
    let prober = Prober::start(lab.targets(), format!("{}1", lab.article_prefix));

    let result = carry_out(lab, plan, measured);
    let healed = Instant::now();
    let result = result.and_then(|()| lab.wait_well(RECOVERY_MAX));
    if result.is_ok() {
        thread::sleep(AFTERWARDS);
    }
    // Ended in any case, so that a stack without a fault can be used again.
    let (totals, timeline) = (load.finish(), prober.finish());
    result?;
    let drain = match plan.expected() {
        Expect::NoneLost | Expect::Halts => DRAIN_MAX,
        Expect::Quarantined | Expect::LostAsReported => DRAIN_LOST_MAX,
    };
    let (totals, ended) = (totals?, Instant::now());
    let verified = Verified::run(lab.stack.tool(), &ledger, drain)?;
    measured.drained = ended.elapsed();
    fill_in(measured, &totals, &timeline, healed, &verified);
    measured.quarantined = quarantined(lab).saturating_sub(quarantined_before);
    measured.untold = lab.untold;
    judge(plan, measured, &totals, &verified)
}

/// Injects and heals, in the order of the plan.
fn carry_out(lab: &mut Lab, plan: &Plan, measured: &mut Measured) -> anyhow::Result<()> {
    let mut wounds: Vec<Wound> = Vec::new();
    let mut previous = Instant::now();
    let mut result = Ok(());
    for step in &plan.steps {
        let parts = step.fault.parts;
        result = heal(lab, &mut wounds, previous + step.after, |wound| shares(wound.parts, parts));
        if result.is_err() {
            break;
        }
        previous = Instant::now();
        match inject(lab, step) {
            Ok(healing) => wounds.push(Wound { due: Instant::now() + step.hold, parts, healing }),
            // Among others a fault may come at a bad time. Alone it must find its occasion.
            Err(error) if plan.is_schedule() && (error.is::<NotHit>() || error.is::<Skip>()) => {
                measured.missed.push(step.fault.name);
            }
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    // Always all of them: a wound that stays would hide what else is wrong.
    let healed = heal(lab, &mut wounds, Instant::now(), |_| true);
    result.and(healed)
}

/// A fault that lasts.
struct Wound {
    due: Instant,
    parts: &'static [Part],
    healing: Healing,
}

fn shares(some: &[Part], others: &[Part]) -> bool {
    some.iter().any(|part| others.contains(part))
}

fn inject(lab: &mut Lab, step: &Step) -> anyhow::Result<Healing> {
    (step.fault.inject)(lab, &mut StdRng::seed_from_u64(step.seed))
}

/// Waits until a moment, and until every wound that `must` be healed before is; heals each when it is due.
fn heal(lab: &mut Lab, wounds: &mut Vec<Wound>, until: Instant, must: impl Fn(&Wound) -> bool) -> anyhow::Result<()> {
    let mut result = Ok(());
    loop {
        wounds.sort_by_key(|wound| wound.due);
        let is_needed = wounds.iter().any(&must);
        let Some(due) = wounds.first().map(|wound| wound.due).filter(|due| is_needed || *due < until) else {
            break;
        };
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let wound = wounds.remove(0);
        result = result.and((wound.healing)(lab));
    }
    thread::sleep(until.saturating_duration_since(Instant::now()));
    result
}

/// Views in quarantine.
fn quarantined(lab: &Lab) -> u64 {
    let sum = lab.number("SELECT CAST(COALESCE(SUM(views), 0) AS SIGNED) FROM footfall_quarantine");
    sum.ok().and_then(|sum| u64::try_from(sum).ok()).unwrap_or(0)
}

fn fill_in(measured: &mut Measured, totals: &Totals, timeline: &Timeline, healed: Instant, verified: &Verified) {
    measured.acknowledged = totals.acknowledged;
    measured.attempted = totals.acknowledged + totals.unknown;
    measured.lost = verified.missing;
    measured.doubled = verified.extra;
    measured.degraded = timeline.degraded();
    measured.recovered = timeline.recovered(healed);
}

fn judge(plan: &Plan, measured: &Measured, totals: &Totals, verified: &Verified) -> anyhow::Result<()> {
    let Measured { lost, doubled, quarantined, untold, .. } = *measured;
    let report = verified.report.trim();
    ensure!(totals.acknowledged > 0, "not one view was acknowledged");
    ensure!(totals.refused == 0, "{} valid views were refused with 4xx", totals.refused);
    ensure!(doubled == 0, "{doubled} views were counted twice:\n{report}");
    match plan.expected() {
        Expect::LostAsReported => {
            ensure!(
                lost <= quarantined + untold,
                "{lost} views are lost, {quarantined} are in quarantine, and only {untold} could not be known of:\n{report}"
            );
            return Ok(());
        }
        Expect::Quarantined => ensure!(quarantined > 0, "nothing came into quarantine:\n{report}"),
        Expect::Halts | Expect::NoneLost => {
            ensure!(quarantined == 0, "{quarantined} views came into quarantine:\n{report}");
        }
    }
    ensure!(lost == 0, "{lost} acknowledged views are lost:\n{report}");
    ensure!(verified.is_right, "an invariant does not hold:\n{report}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Scale;

    /// Whether a run passes in which so many views are (lost, in quarantine, beyond knowing, doubled).
    fn passes(fault: &str, (lost, quarantined, untold, doubled): (u64, u64, u64, u64)) -> bool {
        let plan = Plan::of_fault(crate::find(fault).expect("there is one"), 1, Scale::Short);
        let measured = Measured { lost, quarantined, untold, doubled, ..Measured::default() };
        let totals = Totals { acknowledged: 1_000, unknown: 0, refused: 0, is_complete: true };
        let report = String::new();
        let verified = Verified { missing: lost, extra: doubled, quarantined, is_right: true, report };
        judge(&plan, &measured, &totals, &verified).is_ok()
    }

    #[test]
    fn only_what_was_promised_to_be_lost_may_be() {
        let spoiled = "journal-bits-flipped-redis-lost";
        assert!(passes(spoiled, (0, 0, 0, 0)) && passes(spoiled, (32, 16, 16, 0)) && passes(spoiled, (16, 16, 0, 0)));
        assert!(!passes(spoiled, (33, 16, 16, 0)) && !passes(spoiled, (0, 0, 0, 1)));
        let killed = "ingest-killed";
        assert!(passes(killed, (0, 0, 0, 0)));
        for wrong in [(1, 0, 0, 0), (1, 0, 1, 0), (1, 1, 0, 0), (0, 1, 0, 0), (0, 0, 0, 1)] {
            assert!(!passes(killed, wrong), "{wrong:?}");
        }
        assert!(passes("poison-rows", (0, 1, 0, 0)) && !passes("poison-rows", (0, 0, 0, 0)));
        assert!(!passes("poison-rows", (1, 1, 0, 0)));
    }
}
