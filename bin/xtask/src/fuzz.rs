//! `cargo xtask fuzz`: the parsers of bytes from outside, with inputs that libFuzzer makes.
//!
//! Rust's stable compiler can leave the marks in the code by which libFuzzer sees what an input has reached. Only
//! sanitizers of memory would need another compiler, and there is no code here that they would find anything in.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use footfall_drill::packages::Package;

use crate::packages;

/// libFuzzer is C++.
const COMPILER: &[Package] = &[Package { name: "g++", programs: &["c++"] }];

/// The marks: which way each branch went and how often, and what was compared with what.
const FLAGS: [&str; 7] = [
    "--cfg fuzzing",
    "--check-cfg cfg(fuzzing)",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Give every parser of bytes from outside inputs that a fuzzer makes, and print how many
///
/// It goes on from the seeds in shared/proof/fuzz/seeds and from what earlier runs have found, which is in target/fuzz. The exit code
/// is 1 if a parser has failed; the input is kept and named.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// For each parser.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Only this parser; its name is that of a folder in shared/proof/fuzz/seeds.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
}

/// Runs one parser after the other.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    packages::ensure(COMPILER)?;
    let seeds = crate::root().join("shared/proof/fuzz/seeds");
    let mut targets = Vec::new();
    for folder in fs::read_dir(&seeds).with_context(|| seeds.display().to_string())? {
        targets.extend(folder?.file_name().into_string().ok());
    }
    targets.retain(|target| args.target.as_ref().is_none_or(|only| only == target));
    targets.sort();
    if targets.is_empty() {
        bail!("there is no such parser: the folders in {} name them", seeds.display());
    }
    let kept = crate::target_dir().join("fuzz");
    let program = build(&kept)?;
    let (mut all, mut failed) = (0, false);
    println!("{:<16}{:>16}{:>12}  found", "parser", "executions", "per second");
    for target in &targets {
        let log = kept.join(format!("{target}.log"));
        let inputs = kept.join("inputs").join(target);
        fs::create_dir_all(&inputs)?;
        let status = Command::new(&program)
            .env("FOOTFALL_TEST_FUZZ", target)
            .arg(format!("-max_total_time={}", args.seconds))
            .arg(format!("-artifact_prefix={}/{target}-", kept.display()))
            .args(["-print_final_stats=1", "-max_len=4096", "-timeout=10", "-rss_limit_mb=2048"])
            .args([&inputs, &seeds.join(target)])
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .status()
            .context("the fuzzer did not start")?;
        let said = fs::read_to_string(&log)?;
        let number = |name: &str| number_in(&said, name).unwrap_or(0);
        let (executions, rate) = (number("number_of_executed_units"), number("average_exec_per_sec"));
        let found = if status.success() { "nothing".to_owned() } else { format!("a failure: {}", log.display()) };
        println!("{target:<16}{executions:>16}{rate:>12}  {found}");
        all += executions;
        failed |= !status.success();
    }
    println!("{:<16}{all:>16}", "all");
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// In a folder of its own: nothing else is built with these flags.
fn build(kept: &Path) -> anyhow::Result<std::path::PathBuf> {
    // Named, so that what runs while it is built has no marks.
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = crate::cargo();
    command
        .args([
            "build",
            "--profile",
            "fuzz",
            "--locked",
            "--package",
            "footfall-fuzz",
            "--target",
            &host,
            "--target-dir",
        ])
        .arg(kept)
        .env("RUSTFLAGS", FLAGS.join(" "));
    if !command.status().context("cargo did not start")?.success() {
        bail!("the build failed");
    }
    Ok(kept.join(host).join("fuzz/footfall-fuzz"))
}

/// What libFuzzer says at its end, in lines such as `stat::number_of_executed_units: 1234`.
fn number_in(said: &str, name: &str) -> Option<u64> {
    said.lines()
        .rev()
        .find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executions_are_read() {
        let said = "#2 INITED\nDone 7 runs\nstat::number_of_executed_units: 1234\nstat::average_exec_per_sec:     56\n";
        assert_eq!(number_in(said, "number_of_executed_units"), Some(1234));
        assert_eq!(number_in(said, "average_exec_per_sec"), Some(56));
        assert_eq!(number_in(said, "peak_rss_mb"), None);
    }
}
