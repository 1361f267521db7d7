//! Runs one plan and tells everything: `cargo run --release -p footfall-simulation -- SEED [MUTANT]` for the random plan of a
//! seed, `-- --plan FILE [MUTANT]` for one that was saved, also by `cargo xtask chaos`.

use std::process::ExitCode;

use footfall_proof::Plan;
use footfall_simulation::{Mutant, Report, run_plan, storm};

/// What the arguments ask for.
fn asked(mut arguments: impl Iterator<Item = String>) -> Result<(Plan, Option<Mutant>), String> {
    let usage = || format!("usage: footfall-simulation SEED|--plan FILE [MUTANT], which is one of {:?}", Mutant::ALL);
    let first = arguments.next().ok_or_else(usage)?;
    let plan = if first == "--plan" {
        let path = arguments.next().ok_or_else(usage)?;
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        text.parse().map_err(|why| format!("{path} is no plan: {why}"))?
    } else {
        storm(first.parse().map_err(|_| usage())?)
    };
    let is_meant =
        |name: String| Mutant::ALL.into_iter().find(|mutant| format!("{mutant:?}") == name).ok_or_else(usage);
    Ok((plan, arguments.next().map(is_meant).transpose()?))
}

fn main() -> ExitCode {
    let (plan, mutant) = match asked(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    if std::env::var_os("FOOTFALL_SIMULATION_LOG").is_some() {
        // Not the log of the services, which leaves out what is repeated.
        tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    }
    let report = run_plan(&plan, mutant, true);
    for line in &report.lines {
        println!("{line}");
    }
    let Report { events, hash, healing_ms, epochs_begun, costs, .. } = &report;
    println!(
        "\n{plan}\n{events} events, hash {hash:016x}, healed in {healing_ms} ms, {epochs_begun:?} epochs, {costs:?}"
    );
    for missed in &report.missed {
        println!("NOT DONE {missed}");
    }
    for violation in &report.violations {
        println!("VIOLATION {violation}");
    }
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
