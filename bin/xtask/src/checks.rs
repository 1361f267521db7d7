//! `cargo xtask test`: everything that CI runs, in the order of growing patience; less of it, or more.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use footfall_drill::packages::{CLOCK, STORES};

use crate::unpacked::{HAPROXY, NGINX, PROMETHEUS};
use crate::{chaos, packages, python, soak};

/// Run everything that CI runs
///
/// Style, documents, every test on real servers and in a browser, and a share of the faults. Stops at the first step that
/// fails. Exit code 0 if all passed.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Only what needs no store and no browser: for while you write
    #[arg(long, conflicts_with = "all")]
    quick: bool,
    /// Everything in the release profile, with the long forms of all tests, every fault 20 times, and two hours of traffic: many
    /// hours
    #[arg(long)]
    all: bool,
}

/// One profile for all, and the same packages and features each time: cargo builds everything anew for another choice.
const STYLE: [&str; 2] =
    ["fmt --all --check", "clippy --workspace --all-targets --all-features --locked -- -D warnings"];

/// Of the tests in folders `tests` those that need no server. Those beside the code never do. Without the mutants, which take
/// minutes and change seldom.
const QUICK: [&str; 2] = [
    "build --workspace --all-features --bins --locked",
    "test --workspace --all-features --locked --lib --bins --test circles --test documents --test journal \
     --test protocol --test rules --test seeds -- --skip mutant",
];

const ORDINARY: [&str; 3] = [
    "doc --workspace --all-features --no-deps --locked",
    "build --workspace --all-features --all-targets --locked",
    "test --workspace --all-features --locked",
];

const ALL: [&str; 4] = [
    "doc --workspace --all-features --no-deps --locked",
    "build --release --workspace --all-features --bins --tests --locked",
    "test --release --workspace --all-features --locked",
    "test --release --workspace --all-features --locked --test machine --test protocol -- --ignored --test-threads 1",
];

/// The long forms of tests, for `--all`. The head of each test says what its variable does.
const LONG: [(&str, &str); 4] = [
    ("FOOTFALL_SIMULATION_SEEDS", "100000"),
    ("FOOTFALL_TEST_BACKLOG_VIEWS", "6000000"),
    ("FOOTFALL_TEST_OUTAGE_SECONDS", "300"),
    ("FOOTFALL_TEST_READS", "1000000"),
];

/// Tests of a program that run at once, on each core: most of a test on real servers is waiting.
const THREADS_PER_CORE: usize = 4;

/// Licences and sources of what we are built from, by the rules in `.deny.toml`. The tool is not in Debian, so it is run where
/// somebody has installed it. Known holes are no part of it: they become known without any change here, and the list of
/// them comes over the network.
const DENY: &str = "deny --workspace --all-features --locked check bans licenses sources";

/// Runs all steps and stops at the first one that fails, with its exit code.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut timings = Vec::new();
    let has_deny = has_deny();
    let mut steps: Vec<&str> = has_deny.then_some(DENY).into_iter().chain(STYLE).collect();
    match args {
        Args { quick: true, .. } => steps.extend(QUICK),
        Args { all: true, .. } => steps.extend(ALL),
        Args { .. } => steps.extend(ORDINARY),
    }
    if !args.quick {
        let started = Instant::now();
        announce("packages");
        packages::ensure(&[STORES, CLOCK, packages::BROWSER, packages::CERTIFICATES, packages::SYSTEMD].concat())?;
        python::environment()?;
        for (packages, program) in [(PROMETHEUS, "promtool"), (HAPROXY, "haproxy"), (NGINX, "nginx")] {
            packages.command(program)?;
        }
        timings.push(("packages", started.elapsed(), true));
    }

    let mut code = 0;
    for step in steps {
        let started = Instant::now();
        announce(&format!("cargo {step}"));
        let status = cargo(args, step).status().context("cargo did not start")?;
        timings.push((step, started.elapsed(), status.success()));
        if !status.success() {
            // A signal leaves no code.
            code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            break;
        }
    }

    for (name, proof) in proofs(args) {
        if code == 0 {
            let started = Instant::now();
            announce(name);
            let passed = proof()?;
            timings.push((name, started.elapsed(), passed));
            code = u8::from(!passed);
        }
    }

    println!("\n{}", summary(&timings));
    if !has_deny {
        println!("NOT RUN: cargo {DENY}, because cargo-deny is not installed: see .github/CONTRIBUTING.md");
    }
    Ok(ExitCode::from(code))
}

/// What comes after the tests, by its name; it answers whether it passed.
type Proof = (&'static str, fn() -> anyhow::Result<bool>);

fn proofs(args: &Args) -> &'static [Proof] {
    fn built(profile: &str) -> PathBuf {
        crate::target_dir().join(profile)
    }
    match args {
        Args { quick: true, .. } => &[],
        Args { all: true, .. } => &[
            ("xtask chaos", || chaos::passes(&chaos::Args::default().with(built("release")))),
            ("xtask soak", || soak::passes(&soak::Args::with(built("release")))),
        ],
        Args { .. } => &[("xtask chaos --share", || chaos::passes(&chaos::Args::share().with(built("debug"))))],
    }
}

fn cargo(args: &Args, step: &str) -> Command {
    let mut cargo = crate::cargo();
    if step.starts_with("doc ") {
        cargo.env("RUSTDOCFLAGS", "-D warnings"); // A link that leads nowhere is only a warning.
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cargo.env("RUST_TEST_THREADS", (cores * THREADS_PER_CORE).to_string());
    if args.all {
        cargo.envs(LONG);
    } else if args.quick {
        cargo.env("FOOTFALL_SIMULATION_SEEDS", "100");
    }
    cargo.args(step.split_whitespace());
    cargo
}

fn has_deny() -> bool {
    let mut deny = crate::cargo();
    deny.args(["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    deny.status().is_ok_and(|status| status.success())
}

fn announce(step: &str) {
    println!("\n==> {step}");
}

fn summary(timings: &[(&str, Duration, bool)]) -> String {
    let mut lines: Vec<String> = timings
        .iter()
        .map(|(step, took, passed)| {
            let result = if *passed { "ok    " } else { "FAILED" };
            format!("{result} {:7.1} s  {step}", took.as_secs_f64())
        })
        .collect();
    let total: Duration = timings.iter().map(|(_, took, _)| *took).sum();
    lines.push(format!("total  {:7.1} s", total.as_secs_f64()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_shows_every_step_and_the_total() {
        let timings = [("packages", Duration::from_millis(1500), true), ("fmt", Duration::from_secs(10), false)];
        assert_eq!(summary(&timings), "ok         1.5 s  packages\nFAILED    10.0 s  fmt\ntotal     11.5 s");
    }
}
