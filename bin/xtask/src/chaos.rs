//! `cargo xtask chaos`: every fault many times, then random schedules of them, judged by the ledger of `footfall load`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use footfall_drill::packages::{CLOCK, STORES};
use footfall_drill::{Campaign, Event, Expect, Fault, Outcomes, Plan, Scale, Setting, Verdict};

use crate::packages;

/// What the share of CI may take, in minutes, its control included.
const SHARE_MINUTES: f64 = 2.0;
/// Random schedules in it.
const SHARE_SCHEDULES: u64 = 3;
/// Its seed: a failure of CI is to be seen again at a desk.
const SHARE_SEED: u64 = 1;
/// A flusher that trusts its lease instead of the fence.
const UNFENCED: &str = "footfall-flusher-unfenced";
/// What it cannot live through.
const CONTROL: [&str; 3] = ["flushers-without-leases", "flusher-killed-after-commit", "commit-answer-dropped"];
/// With more runs than these, only every so manieth that went well is a line.
const LINES_MAX: usize = 100;

/// Do everything that can go wrong to a private stack under load, and count every view afterwards
///
/// Each fault in turn, then random schedules of 3 to 8 of them. The judge is the ledger of `footfall load`: no view that
/// was acknowledged may be lost, and none counted twice. Everything follows from the seed, which is printed. Exit code 1
/// if any run did not end as it must.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Random schedules [default: 200; none with --fault or --without-fence; 3 with --share]
    #[arg(long, value_name = "N")]
    schedules: Option<u64>,
    /// How often each fault [default: 20; 1 with --share]
    #[arg(long, value_name = "R")]
    rounds: Option<u64>,
    /// Makes the same runs again; round r has seed S + r [default: a random one; 1 with --share]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Only this fault; repeat it for several. `footfall drill --list` names them
    #[arg(long = "fault", value_name = "NAME", value_parser = find)]
    faults: Vec<&'static Fault>,
    /// The part that CI runs, in less than 4 minutes: nearly all faults, and a control
    #[arg(long)]
    share: bool,
    /// The long forms of all faults: pauses of half a minute instead of seconds, a million readers instead of thousands
    #[arg(long, conflicts_with = "share")]
    long: bool,
    /// Start no further run after so many minutes, and say what was left out
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Run a flusher whose fence is switched off, against faults that it cannot live through: this must fail
    #[arg(long, conflicts_with_all = ["share", "schedules"])]
    without_fence: bool,
    /// Keep the data and logs of all runs, not only of those that fail
    #[arg(long)]
    keep: bool,
    /// Run the programs in this folder instead of building them
    #[arg(long, value_name = "DIR", hide = true)]
    binaries: Option<PathBuf>,
}

fn find(name: &str) -> Result<&'static Fault, String> {
    footfall_drill::find(name).ok_or_else(|| "there is no such fault; `footfall drill --list` names them".to_owned())
}

impl Args {
    /// The part that CI runs.
    pub fn share() -> Self {
        Self { share: true, ..Self::default() }
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
    if args.without_fence {
        campaign.flusher = Some(UNFENCED.to_owned());
        campaign.keep_failed = false;
    }

    println!("{} runs, seed {seed}", plans.len());
    let outcomes = carry_out(&campaign, plans)?;
    let failed = outcomes.done.iter().filter(|outcome| matches!(outcome.verdict, Verdict::Failed(_))).count();
    println!("\n{}", footfall_drill::table(&outcomes.done));
    print!("{}", footfall_drill::failures(&outcomes.done, |name, seed| again(args, name, seed)));
    println!("\n{}", summary(&outcomes, failed, seed, started.elapsed()));
    if args.share {
        say_what_is_not_in_it();
        control(&binaries)?;
    }
    Ok(failed == 0)
}

/// What is run, in order of the faults: a deadline cuts rounds off all of them, not some faults entirely.
fn plans(args: &Args, seed: u64) -> Vec<Plan> {
    let scale = if args.long { Scale::Long } else { Scale::Short };
    let faults: Vec<&'static Fault> = if !args.faults.is_empty() {
        args.faults.clone()
    } else if args.without_fence {
        CONTROL.iter().map(|name| footfall_drill::find(name).expect("they exist")).collect()
    } else {
        footfall_drill::all().filter(|fault| !(args.share && fault.not_in_share.is_some())).collect()
    };
    let rounds = args.rounds.unwrap_or(if args.share || args.without_fence { 1 } else { 20 });
    let schedules = args.schedules.unwrap_or(match (args.share, args.faults.is_empty() && !args.without_fence) {
        (_, false) => 0,
        (true, true) => SHARE_SCHEDULES,
        (false, true) => 200,
    });
    let mut plans = Vec::new();
    for round in 0..rounds {
        for fault in &faults {
            let plan = Plan::of_fault(fault, seed.wrapping_add(round), scale);
            plans.push(if args.without_fence { plan.on(Setting::NoLeases) } else { plan });
        }
    }
    plans.extend((0..schedules).map(|index| Plan::schedule(seed.wrapping_add(index), scale)));
    plans
}

fn carry_out(campaign: &Campaign, plans: Vec<Plan>) -> anyhow::Result<Outcomes> {
    let (all, mut number) = (plans.len(), 0);
    let every = all.div_ceil(LINES_MAX).max(1);
    campaign.run(plans, |event| {
        let Event::Ended(outcome) = event else { return };
        number += 1;
        if number % every == 0 || outcome.verdict != Verdict::Passed {
            println!("{number:>5} of {all}  {}", footfall_drill::line(outcome));
        }
    })
}

/// The programs, all of them, also the one that is wrong on purpose.
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

/// The command that makes a run again.
fn again(args: &Args, name: Option<&str>, seed: u64) -> String {
    let what = match name {
        Some(name) => format!("--fault {name} --rounds 1"),
        None => "--rounds 0 --schedules 1".to_owned(),
    };
    let long = if args.long { " --long" } else { "" };
    let fence = if args.without_fence { " --without-fence" } else { "" };
    format!("cargo xtask chaos {what} --seed {seed}{long}{fence}")
}

fn summary(outcomes: &Outcomes, failed: usize, seed: u64, took: Duration) -> String {
    let skipped = outcomes.done.iter().filter(|outcome| matches!(outcome.verdict, Verdict::Skipped(_))).count();
    let runs = outcomes.done.len() - skipped;
    let (lost, doubled) = outcomes
        .done
        .iter()
        .filter(|outcome| outcome.plan.expected() != Expect::LostAsReported)
        .fold((0, 0), |(lost, doubled), outcome| (lost + outcome.measured.lost, doubled + outcome.measured.doubled));
    let mut text = format!(
        "{runs} runs in {:.0} s, seed {seed}: {failed} failed, {lost} lost, {doubled} doubled; {skipped} skipped",
        took.as_secs_f64()
    );
    if !outcomes.left_out.is_empty() {
        let mut names: Vec<&str> = outcomes.left_out.iter().map(|plan| plan.name).collect();
        names.dedup();
        names.truncate(60);
        text += &format!("\nLEFT OUT, because time was over: {} runs ({})", outcomes.left_out.len(), names.join(", "));
    }
    text
}

fn say_what_is_not_in_it() {
    for fault in footfall_drill::all() {
        if let Some(why) = fault.not_in_share {
            println!("Not in this share: {}, because {why}.", fault.name);
        }
    }
}

/// A wrong flusher must be found out, or all the others' success says nothing.
fn control(binaries: &Path) -> anyhow::Result<()> {
    let mut campaign = Campaign::new(binaries)?;
    campaign.flusher = Some(UNFENCED.to_owned());
    campaign.keep_failed = false;
    let args = Args { without_fence: true, ..Args::share() };
    // One of them is enough.
    let outcomes = campaign.run(plans(&args, SHARE_SEED).into_iter().take(1).collect(), |_| {})?;
    let doubled: u64 = outcomes.done.iter().map(|outcome| outcome.measured.doubled).sum();
    if doubled == 0 {
        bail!("the control failed: {UNFENCED} counted nothing twice, so this drill would not have noticed");
    }
    println!("Control: without its fence, the flusher counted {doubled} views twice, and that was noticed.");
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
        let faults = footfall_drill::all().count();
        assert_eq!(count(&Args::default()), (20 * faults, 200));
        let long = footfall_drill::all().filter(|fault| fault.not_in_share.is_some()).count();
        assert_eq!(count(&Args::share()), (faults - long, 3));
        assert_eq!(count(&Args { faults: vec![find("flushall").expect("there is one")], ..Args::default() }), (20, 0));
        assert_eq!(count(&Args { without_fence: true, ..Args::default() }), (3, 0));
        assert_eq!(count(&Args { rounds: Some(0), schedules: Some(1), ..Args::default() }), (0, 1));
    }

    #[test]
    fn a_failed_run_can_be_made_again() {
        let args = Args::share();
        assert_eq!(again(&args, Some("x"), 3), "cargo xtask chaos --fault x --rounds 1 --seed 3");
        let long = Args { long: true, ..Args::default() };
        assert_eq!(again(&long, None, 9), "cargo xtask chaos --rounds 0 --schedules 1 --seed 9 --long");
        let plan = |seed| Plan::schedule(seed, Scale::Short).to_string();
        assert_eq!(plans(&Args { rounds: Some(0), schedules: Some(3), ..Args::default() }, 5)[2].to_string(), plan(7));
    }
}
