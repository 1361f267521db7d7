//! `cargo xtask soak`: hours of traffic, and whether anything grows.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use footfall_drill::packages::STORES;
use footfall_drill::{Soak, Soaked};

use crate::packages;

/// Run everything on private stores under steady traffic for hours, and see whether anything grows
///
/// Two ingests, each with half of the views, two flushers and a dashboard, set up as by default. A round lasts ten minutes, or a quarter of all if that
/// is less, and begins with FLUSHALL in Redis; in the first half of the rounds everything is then restarted, one after the
/// other, and in the second half nothing is. Ten times in a round it prints how many views came in, and what each process
/// and each store takes up.
///
/// Exit code 1 if `footfall verify` finds a view lost or doubled at the end, or if something has grown from the second round
/// to the last one: a process's memory by more than 20 % and 8 MiB, its file descriptors by more than 10, or the journal's
/// disk by more than 20 % and 32 MiB. The most of each round counts. MariaDB's memory and both stores' disks are only shown.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long views are sent
    #[arg(long, value_name = "M", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Views per second
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(2..))]
    rate: u64,
    /// Run the programs in this folder instead of building them
    #[arg(long, value_name = "DIR", hide = true)]
    binaries: Option<PathBuf>,
}

impl Args {
    /// As long as it lasts by default, with the programs in this folder.
    pub(crate) fn with(binaries: PathBuf) -> Self {
        Self { minutes: 120, rate: 2_000, binaries: Some(binaries) }
    }
}

/// Exit code 1 if something is wrong.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    Ok(if passes(args)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs it; whether all is as it must be.
pub(crate) fn passes(args: &Args) -> anyhow::Result<bool> {
    packages::ensure(STORES)?;
    let binaries = match &args.binaries {
        Some(binaries) => binaries.clone(),
        None => crate::build(crate::QUICK, &crate::package::PROGRAMS)?,
    };
    let soak = Soak { binaries, lasting: Duration::from_secs(args.minutes * 60), rate: args.rate };
    println!("{} views/s for {} minutes", args.rate, args.minutes);
    let Soaked { acknowledged, unknown, lost, doubled, table, wrong, kept } = soak.run(|line| println!("{line}"))?;
    println!("\n{table}\n");
    println!("{acknowledged} views acknowledged, {unknown} unknown: {lost} lost, {doubled} doubled");
    for what in &wrong {
        println!("FAILED: {what}");
    }
    if let Some(kept) = kept {
        println!("Data and logs are in {}", kept.display());
    }
    Ok(wrong.is_empty())
}
