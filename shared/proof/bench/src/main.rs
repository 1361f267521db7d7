//! `cargo xtask bench`: how fast Footfall counts, beside what limits it and beside what people run.

mod alone;
mod backlog;
mod bulk;
mod growth;
mod held;
mod kills;
mod lines;
mod load;
mod measure;
mod names;
mod outage;
mod peers;
mod report;
mod rivals;
mod run;
mod scene;
mod spread;
mod targets;
mod traffic;

use std::process::ExitCode;

use clap::Parser;

/// Measures Footfall and its peers, interleaved, on private stores
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    run: run::Args,
    #[command(subcommand)]
    part: Option<Subprocess>,
}

/// What the bench runs as processes of their own, so that their time is counted apart.
#[derive(clap::Subcommand)]
enum Subprocess {
    #[command(hide = true)]
    Load(load::Args),
    #[command(hide = true)]
    Peer(peers::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.part {
        None => run::run(&cli.run),
        Some(Subprocess::Load(args)) => load::run(args),
        Some(Subprocess::Peer(args)) => peers::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
