//! One run: load, faults, healing, and then the ledger against the stores.

use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use footfall_proof::{CarriedOut, Expect, Findings, Plan, ShardSeen, carry_out, judge};

use crate::lab::{Lab, Skip};
use crate::load::{self, Totals, Traffic};
use crate::probe::{Prober, Timeline};
use crate::shards::Watch;
use crate::verify::Verified;
use crate::world::Real;

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
pub struct RunOutcome {
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
    /// Where servers stand in for each other: what was seen of each shard.
    pub shards: Vec<ShardSeen>,
    /// Faults of a schedule that found no occasion.
    pub missed: Vec<String>,
}

/// Runs a plan on a stack that is well. A stack on which a run failed should not be used again.
pub(crate) fn run(lab: &mut Lab, plan: &Plan) -> RunOutcome {
    let started = Instant::now();
    let mut measured = Measured::default();
    let verdict = match attempt(lab, plan, &mut measured) {
        Ok(()) => Verdict::Passed,
        Err(error) => match error.downcast::<Skip>() {
            Ok(skip) => Verdict::Skipped(skip.to_string()),
            Err(error) => Verdict::Failed(format!("{error:#}")),
        },
    };
    RunOutcome { plan: plan.clone(), verdict, measured, took: started.elapsed(), kept: None }
}

fn attempt(lab: &mut Lab, plan: &Plan, measured: &mut Measured) -> anyhow::Result<()> {
    let seed = plan.load_seed();
    if lab.several.is_some() {
        lab.wait_well(RECOVERY_MAX)?;
    }
    lab.untold = 0;
    lab.changes.clear();
    lab.article_prefix = load::article_prefix(seed);
    let ledger = lab.path("ledger");
    let quarantined_before = lab.quarantined()?;
    let load = Traffic::start(&lab.stack, plan.load, seed, &ledger)?;
    lab.wait_for("a first answer", || load.has_begun())?;
    let prober = Prober::start(lab.targets(), format!("{}1", lab.article_prefix));
    let watch = lab.several.is_some().then(|| Watch::start(lab)).transpose()?;

    let result = hurt(lab, plan, measured);
    let healed = Instant::now();
    let result = result.and_then(|()| lab.wait_well(RECOVERY_MAX));
    if result.is_ok() {
        thread::sleep(AFTERWARDS);
    }
    // Ended in any case, so that a stack without a fault can be used again.
    let (totals, timeline) = (load.finish(), prober.finish());
    result?;
    let drain = match plan.expect {
        Expect::NoneLost | Expect::Halts => DRAIN_MAX,
        Expect::Quarantined | Expect::LostAsReported => DRAIN_LOST_MAX,
    };
    let (totals, ended) = (totals?, Instant::now());
    let verified = Verified::run(lab.stack.tool(), &[&ledger], drain)?;
    measured.drained = ended.elapsed();
    fill_in(measured, &totals, &timeline, healed, &verified);
    measured.quarantined = lab.quarantined()?.saturating_sub(quarantined_before);
    measured.untold = lab.untold;
    measured.shards = watch.map_or_else(|| Ok(vec![]), |watch| watch.finish(lab, plan))?;
    ensure!(totals.acknowledged > 0, "not one view was acknowledged");
    let report = verified.report.trim();
    let broken = if verified.is_right { vec![] } else { vec!["an invariant does not hold".to_owned()] };
    let findings = Findings {
        refused: totals.refused,
        missing: measured.lost,
        extra: measured.doubled,
        quarantined: measured.quarantined,
        untold: measured.untold,
        broken,
        shards: measured.shards.clone(),
    };
    match judge(plan.expect, &findings).as_slice() {
        [] => Ok(()),
        wrong => bail!("{}:\n{report}", wrong.join("; ")),
    }
}

/// Carries the plan out.
fn hurt(lab: &mut Lab, plan: &Plan, measured: &mut Measured) -> anyhow::Result<()> {
    let mut real = Real::new(lab, plan.is_schedule());
    let work = pin!(carry_out(&mut real, plan));
    let Poll::Ready(CarriedOut { missed, result }) = work.poll(&mut Context::from_waker(Waker::noop())) else {
        unreachable!("a real system blocks instead of waiting")
    };
    measured.missed = missed.into_iter().map(|(fault, _)| fault.to_string()).collect();
    result
}

/// Views in quarantine.
fn fill_in(measured: &mut Measured, totals: &Totals, timeline: &Timeline, healed: Instant, verified: &Verified) {
    measured.acknowledged = totals.acknowledged;
    measured.attempted = totals.acknowledged + totals.unknown;
    measured.lost = verified.missing;
    measured.doubled = verified.extra;
    measured.degraded = timeline.degraded();
    measured.recovered = timeline.recovered(healed);
}
