//! `cargo xtask`.

use std::process::ExitCode;

use clap::Parser;
use footfall_drill::packages::Missing;
use xtask::{bench, chaos, checks, docs, fuzz, package, soak, up};

/// Footfall's commands for developers.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
#[expect(clippy::large_enum_variant, reason = "there is one, and it lives as long as the program")]
enum Cli {
    /// Run everything on private stores until Ctrl-C.
    Up(up::Args),
    Chaos(chaos::Args),
    Soak(soak::Args),
    Fuzz(fuzz::Args),
    Bench(bench::Args),
    Test(checks::Args),
    /// Build a Debian package.
    Package,
    /// Write what docs/cli.md has of the programs' own help.
    Docs(docs::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse() {
        Cli::Up(args) => up::run(&args),
        Cli::Chaos(args) => chaos::run(&args),
        Cli::Soak(args) => soak::run(&args),
        Cli::Fuzz(args) => fuzz::run(&args),
        Cli::Bench(args) => bench::run(&args),
        Cli::Test(args) => checks::run(&args),
        Cli::Package => package::run(),
        Cli::Docs(args) => docs::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        // 69 is sysexits' EX_UNAVAILABLE.
        ExitCode::from(if error.is::<Missing>() { 69 } else { 1 })
    })
}
