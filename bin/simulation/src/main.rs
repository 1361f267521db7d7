//! Runs one seed and tells everything: `cargo run --release -p footfall-simulation -- SEED [MUTANT]`.

use std::process::ExitCode;

use footfall_simulation::{Mutant, run};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(seed) = arguments.next().and_then(|seed| seed.parse().ok()) else {
        eprintln!("usage: footfall-simulation SEED [{:?}]", Mutant::ALL);
        return ExitCode::from(2);
    };
    let mutant = arguments.next().and_then(|name| Mutant::ALL.into_iter().find(|mutant| format!("{mutant:?}") == name));
    if std::env::var_os("FOOTFALL_SIMULATION_LOG").is_some() {
        // Not the log of the services, which leaves out what is repeated.
        tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    }
    let report = run(seed, mutant, true);
    for line in &report.lines {
        println!("{line}");
    }
    println!(
        "\nseed {seed}, {} events, hash {:016x}, healed in {} ms\n{}",
        report.events, report.hash, report.healing_ms, report.plan
    );
    for violation in &report.violations {
        println!("VIOLATION {violation}");
    }
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
