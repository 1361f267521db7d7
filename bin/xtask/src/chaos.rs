//! `cargo xtask chaos`: every fault many times, then random schedules of them, judged by the ledger of `footfall load`.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use footfall_drill::packages::{CLOCK, STORES};
use footfall_drill::{Campaign, Event, Outcomes, Verdict};
use footfall_proof::{Expect, FENCE_FORGOTTEN, Plan, Recipe, Scale, Setup, Topology};

use crate::packages;
use crate::unpacked::GALERA;

/// In the package of Galera.
const LIBRARY: &str = "/usr/lib/galera/libgalera_smm.so";
/// What the share of CI may take, in minutes, its control included.
const SHARE_MINUTES: f64 = 4.0;
/// Stacks in it at once.
const SHARE_STACKS: usize = 3;
/// Random schedules in it.
const SHARE_SCHEDULES: u64 = 3;
/// Its seed: a failure of CI is to be seen again at a desk.
const SHARE_SEED: u64 = 1;
/// Of more runs than these, only every n-th that went well is a line.
const LINES_MAX: usize = 100;

/// Do everything that can go wrong to a private stack under load, and count every view afterwards
///
/// Each fault in turn, then random schedules of 3 to 8 of them. The judge is the ledger of `footfall load`: no view that
/// was acknowledged may be lost, and none counted twice. Everything follows from the seed, which is printed. Exit code 1
/// if any run did not end as it must.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Random schedules [default: 200; 50 with --topology; none with --fault or --without-fence; 3 with --share]
    #[arg(long, value_name = "N")]
    schedules: Option<u64>,
    /// How often each fault [default: 20; 3 with --topology; 1 with --share]
    #[arg(long, value_name = "R")]
    rounds: Option<u64>,
    /// Makes the same runs again; round r has seed S + r [default: a random one; 1 with --share]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Only this fault; repeat it for several. `footfall drill --list` names them
    #[arg(long = "fault", value_name = "NAME", value_parser = find)]
    faults: Vec<&'static Recipe>,
    /// The faults of stores of several servers, `sentinel`, `cluster` or `galera`, instead of those of the usual stack
    #[arg(long, value_name = "TOPOLOGY")]
    topology: Option<Topology>,
    /// The part that CI runs, in less than 5 minutes: nearly all faults, a few of each topology, and a control
    #[arg(long, conflicts_with = "topology")]
    share: bool,
    /// The long forms of all faults: pauses of half a minute instead of seconds, a million readers instead of thousands
    #[arg(long, conflicts_with = "share")]
    long: bool,
    /// Stacks that are hurt at once, for most of a run is waiting [default: 1; 3 with --share]
    #[arg(long, value_name = "N")]
    stacks: Option<NonZeroUsize>,
    /// Start no further run after so many minutes, and say what was left out
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Only this plan, as a failed run has saved it
    #[arg(long, value_name = "FILE", value_parser = read_plan, conflicts_with_all = ["share", "schedules", "rounds", "faults", "topology"])]
    plan: Option<Plan>,
    /// Make MySQL forget its fence after a flush, so that nothing keeps it from being written twice: this must fail
    #[arg(long, conflicts_with_all = ["share", "schedules", "plan", "topology"])]
    without_fence: bool,
    /// Keep the data and logs of all runs, not only of those that fail
    #[arg(long)]
    keep: bool,
    /// Run the programs in this folder instead of building them
    #[arg(long, value_name = "DIR", hide = true)]
    binaries: Option<PathBuf>,
}

fn find(name: &str) -> Result<&'static Recipe, String> {
    footfall_proof::find(name).ok_or_else(|| "there is no such fault; `footfall drill --list` names them".to_owned())
}

fn read_plan(path: &str) -> Result<Plan, String> {
    fs::read_to_string(path).map_err(|error| error.to_string())?.parse()
}

impl Args {
    /// The part that CI runs.
    pub fn share() -> Self {
        Self { share: true, ..Self::default() }
    }

    /// With the programs in this folder.
    pub fn with(self, binaries: PathBuf) -> Self {
        Self { binaries: Some(binaries), ..self }
    }
}

/// Exit code 1 if a run failed.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    Ok(if passes(args)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs it all; whether all went as it must.
pub(crate) fn passes(args: &Args) -> anyhow::Result<bool> {
    packages::ensure(STORES)?;
    if let Err(missing) = packages::ensure(CLOCK) {
        eprintln!("warning: faults of the clock are skipped: {missing}");
    }
    let binaries = match &args.binaries {
        Some(binaries) => binaries.clone(),
        None => build()?,
    };
    // Building is no part of the time that the runs may take: a share in which all is left out proves nothing.
    let started = Instant::now();
    let seed = args.seed.unwrap_or_else(|| if args.share { SHARE_SEED } else { footfall_drill::random_seed() });
    let plans = plans(args, seed);
    let minutes = args.minutes.or(args.share.then_some(SHARE_MINUTES));
    let mut campaign = Campaign::new(&binaries)?;
    campaign.deadline = minutes.map(|minutes| started + Duration::from_secs_f64(minutes.max(0.0) * 60.0));
    campaign.keep_all = args.keep;
    campaign.stacks = args.stacks.map_or(if args.share { SHARE_STACKS } else { 1 }, NonZeroUsize::get);
    if plans.iter().any(|plan| plan.setup == Setup::Several(Topology::Galera)) {
        match GALERA.file(LIBRARY) {
            Ok(library) => campaign.galera = Some(library),
            Err(missing) => eprintln!("warning: faults of Galera are skipped: {missing:#}"),
        }
    }
    campaign.keep_failed = !args.without_fence;

    println!("{} runs, seed {seed}", plans.len());
    let (begun, waited) = (Instant::now(), waited_for_cpu());
    let outcomes = carry_out(&campaign, plans)?;
    let waited = waited.zip(waited_for_cpu()).map(|(before, now)| now.saturating_sub(before));
    let failed = outcomes.done.iter().filter(|outcome| matches!(outcome.verdict, Verdict::Failed(_))).count();
    println!("\n{}", footfall_drill::table(&outcomes.done));
    if let Some(table) = footfall_drill::table_of_shards(&outcomes.done) {
        println!("\n{table}");
    }
    print!("{}", footfall_drill::failures(&outcomes.done, |plan| again(args, plan)));
    println!("\n{}", summary(&outcomes, failed, seed, started.elapsed()));
    if let Some(waited) = waited {
        // What is said of times is to be read with this.
        let percent = 100.0 * waited.as_secs_f64() / begun.elapsed().as_secs_f64();
        println!("For {percent:.0} % of the time something on this machine had to wait for a CPU.");
    }
    if args.share {
        say_what_is_not_in_it();
        control(&binaries)?;
    }
    Ok(failed == 0)
}

/// For how long something has had to wait for a CPU since this machine was started; none where the kernel does not say so.
fn waited_for_cpu() -> Option<Duration> {
    let said = fs::read_to_string("/proc/pressure/cpu").ok()?;
    let total = said.lines().next()?.rsplit_once("total=")?.1;
    total.trim().parse().ok().map(Duration::from_micros)
}

/// What is run, in order of the faults: a deadline cuts rounds off all of them, not some faults entirely.
fn plans(args: &Args, seed: u64) -> Vec<Plan> {
    if let Some(plan) = &args.plan {
        return vec![plan.clone()];
    }
    let scale = if args.long { Scale::Long } else { Scale::Short };
    let faults: Vec<&'static Recipe> = if !args.faults.is_empty() {
        args.faults.clone()
    } else if args.without_fence {
        vec![&FENCE_FORGOTTEN]
    } else {
        match args.share {
            true => footfall_proof::all().filter(|fault| fault.not_in_share.is_none()).collect(),
            false => footfall_proof::of(args.topology).collect(),
        }
    };
    let rounds = args.rounds.unwrap_or(match args.topology {
        _ if args.share || args.without_fence => 1,
        None => 20,
        Some(_) => 3,
    });
    let schedules = args.schedules.unwrap_or(match args.topology {
        _ if args.without_fence || !args.faults.is_empty() => 0,
        _ if args.share => SHARE_SCHEDULES,
        None => 200,
        Some(_) => 50,
    });
    let mut plans = Vec::new();
    for round in 0..rounds {
        plans.extend(faults.iter().map(|recipe| Plan::of(recipe, seed.wrapping_add(round), scale)));
    }
    plans.extend((0..schedules).map(|index| Plan::schedule(args.topology, seed.wrapping_add(index), scale)));
    plans
}

fn carry_out(campaign: &Campaign, plans: Vec<Plan>) -> anyhow::Result<Outcomes> {
    let (all, ended) = (plans.len(), AtomicUsize::new(0));
    let every = all.div_ceil(LINES_MAX).max(1);
    campaign.run(plans, |event| {
        let Event::Ended(outcome) = event else { return };
        let number = ended.fetch_add(1, Ordering::Relaxed) + 1;
        if number % every == 0 || outcome.verdict != Verdict::Passed {
            println!("{number:>5} of {all}  {}", footfall_drill::line(outcome));
        }
    })
}

/// The programs.
fn build() -> anyhow::Result<PathBuf> {
    println!("Building ...");
    // As `cargo xtask test` does it, tests included: what only tests need gives dependencies other features, and all would
    // be built anew.
    let arguments = ["build", "--release", "--workspace", "--all-features", "--bins", "--tests", "--locked"];
    let status = crate::cargo().args(arguments).status().context("cargo did not start")?;
    if !status.success() {
        bail!("the build failed");
    }
    Ok(crate::target_dir().join("release"))
}

/// The commands that make a run again: here, and in the simulation, where every step of it can be looked at.
fn again(args: &Args, plan: &Plan) -> Vec<String> {
    let seed = plan.seed;
    // The simulation has no servers that name each other.
    let simulated = plan.setup.topology().is_none().then(|| simulated(plan));
    let what = match (&args.plan, plan.is_schedule()) {
        _ if args.without_fence => "--without-fence".to_owned(),
        (None, false) => format!("--fault {} --rounds 1", plan.name),
        (None, true) => "--rounds 0 --schedules 1".to_owned(),
        (Some(_), _) => return simulated.into_iter().collect(),
    };
    let on = plan.setup.topology().map_or_else(String::new, |topology| format!("--topology {topology} "));
    let long = if args.long { " --long" } else { "" };
    let here = format!("cargo xtask chaos {on}{what} --seed {seed}{long}");
    [here].into_iter().chain(simulated).collect()
}

/// Saves a plan, and says how to run it in the simulation.
fn simulated(plan: &Plan) -> String {
    let folder = crate::target_dir().join("footfall/plans");
    let file = folder.join(format!("{}-{}.txt", plan.name.replace(' ', "-"), plan.seed));
    match fs::create_dir_all(&folder).and_then(|()| fs::write(&file, plan.to_string())) {
        Ok(()) => format!("cargo run --release -p footfall-simulation -- --plan {}", file.display()),
        Err(error) => format!("in the simulation not, because {} cannot be written: {error}", file.display()),
    }
}

fn summary(outcomes: &Outcomes, failed: usize, seed: u64, took: Duration) -> String {
    let skipped = outcomes.done.iter().filter(|outcome| matches!(outcome.verdict, Verdict::Skipped(_))).count();
    let runs = outcomes.done.len() - skipped;
    let (lost, doubled) = outcomes
        .done
        .iter()
        .filter(|outcome| outcome.plan.expect != Expect::LostAsReported)
        .fold((0, 0), |(lost, doubled), outcome| (lost + outcome.measured.lost, doubled + outcome.measured.doubled));
    let mut text = format!(
        "{runs} runs in {:.0} s, seed {seed}: {failed} failed, {lost} lost, {doubled} doubled; {skipped} skipped",
        took.as_secs_f64()
    );
    if !outcomes.left_out.is_empty() {
        let mut names: Vec<&str> = outcomes.left_out.iter().map(|plan| plan.name.as_str()).collect();
        names.dedup();
        names.truncate(60);
        text += &format!("\nLEFT OUT, because time was over: {} runs ({})", outcomes.left_out.len(), names.join(", "));
    }
    text
}

fn say_what_is_not_in_it() {
    for fault in footfall_proof::all() {
        if let Some(why) = fault.not_in_share {
            println!("Not in this share: {}, because {why}.", fault.name);
        }
    }
}

/// What the fence prevents must be found out where it is not prevented, or all the others' success says nothing.
fn control(binaries: &Path) -> anyhow::Result<()> {
    let mut campaign = Campaign::new(binaries)?;
    campaign.keep_failed = false;
    let args = Args { without_fence: true, ..Args::share() };
    let outcomes = campaign.run(plans(&args, SHARE_SEED), |_| {})?;
    let doubled: u64 = outcomes.done.iter().map(|outcome| outcome.measured.doubled).sum();
    if doubled == 0 {
        bail!(
            "the control failed: without its fence MySQL counted nothing twice, so this drill would not have noticed"
        );
    }
    println!("Control: without its fence, MySQL counted {doubled} views twice, and that was noticed.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(args: &Args) -> (usize, usize) {
        let plans = plans(args, 7);
        let schedules = plans.iter().filter(|plan| plan.is_schedule()).count();
        (plans.len() - schedules, schedules)
    }

    #[test]
    fn the_defaults_are_those_of_the_help() {
        let faults = footfall_proof::of(None).count();
        assert_eq!(count(&Args::default()), (20 * faults, 200));
        for topology in Topology::ALL {
            let faults = footfall_proof::of(Some(topology)).count();
            assert_eq!(count(&Args { topology: Some(topology), ..Args::default() }), (3 * faults, 50));
            assert!(footfall_proof::of(Some(topology)).any(|fault| fault.not_in_share.is_none()), "{topology}");
        }
        let in_share = footfall_proof::all().filter(|fault| fault.not_in_share.is_none()).count();
        assert_eq!(count(&Args::share()), (in_share, 3));
        assert_eq!(count(&Args { faults: vec![find("flushall").expect("there is one")], ..Args::default() }), (20, 0));
        assert_eq!(count(&Args { without_fence: true, ..Args::default() }), (1, 0));
        assert_eq!(count(&Args { rounds: Some(0), schedules: Some(1), ..Args::default() }), (0, 1));
    }

    #[test]
    fn a_failed_run_can_be_made_again() {
        let flushall = Plan::of(find("flushall").expect("there is one"), 3, Scale::Short);
        let commands = again(&Args::share(), &flushall);
        assert_eq!(commands[0], "cargo xtask chaos --fault flushall --rounds 1 --seed 3");
        let long = Args { long: true, ..Args::default() };
        let schedule = Plan::schedule(None, 9, Scale::Long);
        assert_eq!(again(&long, &schedule)[0], "cargo xtask chaos --rounds 0 --schedules 1 --seed 9 --long");
        let clustered = Plan::schedule(Some(Topology::Cluster), 9, Scale::Short);
        let again = again(&Args { topology: Some(Topology::Cluster), ..Args::default() }, &clustered);
        assert_eq!(again, ["cargo xtask chaos --topology cluster --rounds 0 --schedules 1 --seed 9"]);
        let plans = plans(&Args { rounds: Some(0), schedules: Some(3), ..Args::default() }, 5);
        assert_eq!(plans[2], Plan::schedule(None, 7, Scale::Short));
    }

    #[test]
    fn a_failed_run_is_saved_for_the_simulation() {
        let plan = Plan::schedule(None, u64::MAX, Scale::Short);
        let command = again(&Args::default(), &plan).pop().expect("a command");
        let (run, file) = command.split_once(" --plan ").expect("it names the file");
        assert_eq!(run, "cargo run --release -p footfall-simulation --");
        assert_eq!(read_plan(file), Ok(plan.clone()));
        let given = Args { plan: Some(plan.clone()), ..Args::default() };
        assert_eq!(plans(&given, 1), [plan]);
        fs::remove_file(file).expect("it was just read");
    }
}
