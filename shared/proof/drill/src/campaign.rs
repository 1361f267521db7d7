//! Many runs, on as few stacks as will do.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use footfall_proof::{Plan, Setup};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::lab::Lab;
use crate::run::{self, Measured, RunOutcome, Verdict};
use crate::scripts::Scripts;
use crate::setting;

/// A stack is replaced after this many runs, because `footfall verify` looks at all that is in its database.
const RUNS_MAX: u32 = 40;
/// Where Debian's package has it.
const GALERA: &str = "/usr/lib/galera/libgalera_smm.so";
/// And after a run with more views than these.
const VIEWS_MAX: u64 = 200_000;

/// How to carry out plans.
#[derive(Clone, Debug)]
pub struct Campaign {
    binaries: PathBuf,
    scripts: Scripts,
    /// Galera's library, `libgalera_smm.so`; without it what needs it is skipped.
    pub galera: Option<PathBuf>,
    /// Stacks at once.
    pub stacks: usize,
    /// No run is started after this moment.
    pub deadline: Option<Instant>,
    /// Whether the folder of a run stays behind that did not end as expected.
    pub keep_failed: bool,
    /// Whether every run's does.
    pub keep_all: bool,
}

/// What a campaign tells while it is under way.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A run begins.
    Begins(&'a Plan),
    /// A run has ended, or was skipped.
    Ended(&'a RunOutcome),
}

/// What came of some plans.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    /// Of those that were run, or skipped, in the order in which they were.
    pub done: Vec<RunOutcome>,
    /// Those that were not started before the deadline, or before somebody ended it.
    pub left_out: Vec<Plan>,
}

impl Campaign {
    /// With the programs in this folder.
    pub fn new(binaries: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            binaries: binaries.to_owned(),
            scripts: Scripts::of(binaries)?,
            galera: Some(PathBuf::from(GALERA)).filter(|library| library.exists()),
            stacks: 1,
            deadline: None,
            keep_failed: true,
            keep_all: false,
        })
    }

    /// Carries out the plans, those that share a kind of stack together, and tells how it goes. An error if a stack cannot
    /// even be started.
    ///
    /// A first SIGINT, SIGTERM or SIGHUP lets the present runs end and leaves out the others; a second one ends the
    /// process.
    pub fn run(&self, plans: Vec<Plan>, tell: impl Fn(Event<'_>) + Sync) -> anyhow::Result<Outcomes> {
        let interrupted = catch_signals()?;
        let parts = Mutex::new(parts(plans, self.stacks).into_iter());
        let next = || parts.lock().expect("no other thread panics with it").next();
        let work = || {
            let mut outcomes = Outcomes::default();
            while let Some((setup, plans)) = next() {
                self.run_on(setup, plans, &interrupted, &tell, &mut outcomes)?;
            }
            Ok(outcomes)
        };
        let ended: Vec<anyhow::Result<Outcomes>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.stacks).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().expect("a panic in a run")).collect()
        });
        let mut all = Outcomes::default();
        for outcomes in ended {
            let outcomes = outcomes?;
            all.done.extend(outcomes.done);
            all.left_out.extend(outcomes.left_out);
        }
        Ok(all)
    }

    /// On stacks of this kind, one after the other.
    fn run_on(
        &self,
        setup: Setup,
        plans: Vec<Plan>,
        interrupted: &AtomicBool,
        tell: &(impl Fn(Event<'_>) + Sync),
        outcomes: &mut Outcomes,
    ) -> anyhow::Result<()> {
        let galera = self.galera.as_deref();
        let obstacle = setting::obstacle(setup, galera);
        let mut present: Option<(Lab, u32)> = None;
        for plan in plans {
            let is_late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_late || interrupted.load(Ordering::Relaxed) {
                outcomes.left_out.push(plan);
                continue;
            }
            tell(Event::Begins(&plan));
            if let Some(why) = &obstacle {
                outcomes.done.push(skipped(plan, why));
            } else {
                let (mut lab, runs) = match present.take().filter(|(_, runs)| *runs < RUNS_MAX) {
                    Some(present) => present,
                    None => (Lab::start(setup, &self.binaries, &self.scripts, galera)?, 0),
                };
                let mut outcome = run::run(&mut lab, &plan);
                let failed = matches!(outcome.verdict, Verdict::Failed(_));
                if failed && self.keep_failed || self.keep_all {
                    outcome.kept = Some(lab.keep());
                } else if !failed && outcome.measured.acknowledged <= VIEWS_MAX {
                    present = Some((lab, runs + 1));
                }
                outcomes.done.push(outcome);
            }
            tell(Event::Ended(outcomes.done.last().expect("just pushed")));
        }
        Ok(())
    }
}

/// Parts that each need one kind of stack, so that this many stacks have work to the end: the largest first, because the
/// others fit beside it. Schedules last in each.
fn parts(plans: Vec<Plan>, stacks: usize) -> Vec<(Setup, Vec<Plan>)> {
    let runs_max = plans.len().div_ceil(stacks).max(1);
    let mut kinds: BTreeMap<Setup, Vec<Plan>> = BTreeMap::new();
    for plan in plans {
        kinds.entry(plan.setup).or_default().push(plan);
    }
    let mut parts = Vec::new();
    for (setup, mut plans) in kinds {
        plans.sort_by_key(Plan::is_schedule);
        parts.extend(plans.chunks(runs_max).map(|part| (setup, part.to_vec())));
    }
    parts.sort_by_key(|(_, plans)| Reverse(plans.len()));
    parts
}

fn skipped(plan: Plan, why: &str) -> RunOutcome {
    let verdict = Verdict::Skipped(why.to_owned());
    RunOutcome { plan, verdict, measured: Measured::default(), took: Duration::ZERO, kept: None }
}

/// The flag that the first signal sets.
pub(crate) fn catch_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the first looks at the flag before the second sets it.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&interrupted))?;
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    Ok(interrupted)
}
