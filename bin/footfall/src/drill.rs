//! `footfall drill`: every fault once, on private stores.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;

use footfall_drill::{Campaign, Event, Verdict, packages};
use footfall_proof::{Plan, Recipe, Scale};
use footfall_shared::redis;
use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::Failure;
use crate::terminal::{count, note, print};
use crate::{DIFFERENCE_FOUND, INTERRUPTED, Result};

/// Kills, pauses, cuts and fills up while load runs, and shows fault by fault what became of the views
///
/// Everything happens to private stores and services in a temporary folder, which are gone afterwards: the settings of
/// this machine are not read, and no store that they name is touched. The services are those beside this program.
///
/// `lost` are acknowledged views that were not counted, `doubled` those counted twice, by the ledger of `footfall load`,
/// which runs outside of what is hurt. `degraded` is how long a service was not ready or said that it does not work as
/// usual, `recovered` how long that went on after the fault was over, and `drained` how long after the load it took until
/// all views were proven to be in MySQL. The exit code is 1 if a view was lost or doubled.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this fault; repeat it for several. Those of Sentinels, Redis Cluster and Galera must be named
    #[arg(long = "fault", value_name = "NAME", value_parser = find)]
    faults: Vec<&'static Recipe>,
    /// Show all faults, and do nothing
    #[arg(long)]
    list: bool,
    /// Views per second [default: 2000, or what the fault is about]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// How long each fault lasts [default: as long as shows its effect]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// Makes the same drill again [default: a random one]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Keep the data and logs of all faults, not only of those that failed
    #[arg(long)]
    keep: bool,
    /// Print the SHA-1 of each Redis script of this build, for those who watch its commands
    #[arg(long, hide = true)]
    scripts: bool,
}

fn find(name: &str) -> std::result::Result<&'static Recipe, String> {
    footfall_proof::find(name).ok_or_else(|| "there is no such fault; `footfall drill --list` names them".to_owned())
}

/// Blocks: nothing else happens in this process.
pub(crate) fn run(args: &Args) -> Result {
    if args.scripts {
        let line = |script: &redis::Script| format!("{} {}\n", script.name, script.hash());
        print(&redis::scripts().map(line).collect::<String>())?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.list {
        print(&format!("{}\n", footfall_drill::list(footfall_proof::all())))?;
        return Ok(ExitCode::SUCCESS);
    }
    packages::require(packages::STORES).map_err(|missing| Failure::Dependency(missing.to_string()))?;
    let program = std::env::current_exe().map_err(|error| Failure::file("find this program", &error))?;
    let binaries = program.parent().unwrap_or(Path::new("."));
    if let Some(missing) = ["footfall-ingest", "footfall-flusher"].iter().find(|name| !binaries.join(name).exists()) {
        return Err(Failure::Dependency(format!("{missing} is not in {}, beside this program", binaries.display())));
    }
    drill(args, binaries).map_err(|error| Failure::Dependency(format!("{error:#}")))
}

fn drill(args: &Args, binaries: &Path) -> anyhow::Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(footfall_drill::random_seed);
    let plan = |recipe| Plan::of(recipe, seed, Scale::Short).altered(args.rate, args.seconds.map(|s| s * 1_000));
    let plans: Vec<Plan> = if args.faults.is_empty() {
        footfall_proof::of(None).map(plan).collect()
    } else {
        args.faults.iter().copied().map(plan).collect()
    };
    let mut campaign = Campaign::new(binaries)?;
    campaign.keep_all = args.keep;

    let bar = ProgressBar::new(plans.len() as u64).with_style(
        ProgressStyle::with_template("{bar:30} {pos} of {len} faults  {msg}").expect("the template is valid"),
    );
    let outcomes = campaign.run(plans, |event| match event {
        Event::Begins(plan) => bar.set_message(plan.name.clone()),
        Event::Ended(outcome) => {
            bar.inc(1);
            if !io::stderr().is_terminal() {
                note(footfall_drill::line(outcome));
            }
        }
    })?;
    bar.finish_and_clear();

    let failures = footfall_drill::failures(&outcomes.done, |plan| {
        vec![format!("footfall drill --fault {} --seed {}", plan.name, plan.seed)]
    });
    let mut report = format!("{}\n{failures}", footfall_drill::table(&outcomes.done));
    for outcome in outcomes.done.iter().filter(|_| args.keep) {
        if let Some(kept) = &outcome.kept {
            report += &format!("{} left its data in {}\n", outcome.plan.name, kept.display());
        }
    }
    let count_of = |is_meant: fn(&Verdict) -> bool| {
        let meant = outcomes.done.iter().filter(|outcome| is_meant(&outcome.verdict));
        meant.count() as u64
    };
    let failed = count_of(|verdict| matches!(verdict, Verdict::Failed(_)));
    let skipped = count_of(|verdict| matches!(verdict, Verdict::Skipped(_)));
    let passed = outcomes.done.len() as u64 - failed - skipped;
    let left_out = outcomes.left_out.len() as u64;
    let mut said = format!("{} passed, {failed} FAILED, {skipped} skipped", count(passed, "fault"));
    if left_out > 0 {
        said += &format!("; interrupted: {} left out", count(left_out, "fault"));
    }
    print(&format!("{report}{said}; seed {seed}\n")).map_err(|failure| anyhow::anyhow!("{failure}"))?;
    Ok(match (failed, left_out) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(INTERRUPTED),
        _ => ExitCode::from(DIFFERENCE_FOUND),
    })
}
