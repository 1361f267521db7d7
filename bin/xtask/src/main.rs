//! `cargo xtask`.

use std::process::ExitCode;

use clap::Parser;
use xtask::{checks, packages, up};

/// Footfall's commands for developers.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Cli {
    /// Run everything on private stores until Ctrl-C.
    Up(up::Args),
    /// Run everything that CI runs.
    Test,
}

fn main() -> ExitCode {
    let result = match Cli::parse() {
        Cli::Up(args) => up::run(&args),
        Cli::Test => checks::run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        // 69 is sysexits' EX_UNAVAILABLE.
        ExitCode::from(if error.is::<packages::Missing>() { 69 } else { 1 })
    })
}
