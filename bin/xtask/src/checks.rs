//! `cargo xtask test`: everything that CI runs, in the order of growing patience.

use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use footfall_drill::packages::{CLOCK, STORES};

use crate::unpacked::{HAPROXY, NGINX, PROMETHEUS};
use crate::{chaos, packages, python};

/// The cargo calls, after the packages.
const STEPS: [&str; 5] = [
    "fmt --all --check",
    "clippy --release --workspace --all-targets --all-features --locked -- -D warnings",
    "doc --release --workspace --all-features --no-deps --locked",
    "build --release --workspace --all-features --bins --tests --locked",
    "test --release --workspace --all-features --locked",
];

/// Licences and sources of what we are built from, by the rules in `.deny.toml`. The tool is not in Debian, so it is run where
/// somebody has installed it. Known holes are no part of it: they become known without any change here, and the list of
/// them comes over the network.
const DENY: &str = "deny --workspace --all-features --locked check bans licenses sources";

/// The last step: it takes what the steps before have built.
const CHAOS: &str = "xtask chaos --share";

/// Runs all steps and stops at the first one that fails, with its exit code.
pub fn run() -> anyhow::Result<ExitCode> {
    let mut timings = Vec::new();

    let started = Instant::now();
    announce("packages");
    packages::ensure(&[STORES, CLOCK, packages::BROWSER, packages::CERTIFICATES, packages::SYSTEMD].concat())?;
    python::environment()?;
    for (packages, program) in [(PROMETHEUS, "promtool"), (HAPROXY, "haproxy"), (NGINX, "nginx")] {
        packages.command(program)?;
    }
    timings.push(("packages", started.elapsed(), true));

    let has_deny = has_deny();
    let mut code = 0;
    for step in has_deny.then_some(DENY).into_iter().chain(STEPS) {
        let started = Instant::now();
        announce(&format!("cargo {step}"));
        let mut cargo = crate::cargo();
        if step.starts_with("doc ") {
            cargo.env("RUSTDOCFLAGS", "-D warnings"); // A link that leads nowhere is only a warning.
        }
        let status = cargo.args(step.split(' ')).status().context("cargo did not start")?;
        timings.push((step, started.elapsed(), status.success()));
        if !status.success() {
            // A signal leaves no code.
            code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            break;
        }
    }

    if code == 0 {
        let started = Instant::now();
        announce(CHAOS);
        let passed = chaos::passes(&chaos::Args::share())?;
        timings.push((CHAOS, started.elapsed(), passed));
        code = u8::from(!passed);
    }

    println!("\n{}", summary(&timings));
    if !has_deny {
        println!("NOT RUN: cargo {DENY}, because cargo-deny is not installed: see .github/CONTRIBUTING.md");
    }
    Ok(ExitCode::from(code))
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
