//! `cargo xtask bench`: builds and hands over to `footfall-bench`, which needs more libraries than this command may.

use std::process::{Command, ExitCode};

use anyhow::Context;
use footfall_drill::packages::STORES;

use crate::packages;

/// Measure how fast Footfall counts, beside a bare server and beside what people run
///
/// `cargo xtask bench --help` shows the options, once it is built.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// Options of the bench.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// The exit code is that of the bench.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    packages::ensure(STORES)?;
    let packages = ["footfall-ingest", "footfall-flusher", "footfall", "footfall-bench"];
    let bench = crate::build(crate::DIST, &packages)?.join("footfall-bench");
    let status = Command::new(bench).args(&args.options).status().context("the bench did not start")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
