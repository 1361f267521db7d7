//! Footfall's own commands for developers: `cargo xtask up`, `test`, `chaos`, `soak`, `fuzz`, `bench`, `package` and `docs`.
//!
//! It is a library too, for the tests in `tests/`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

pub mod bench;
pub mod chaos;
pub mod checks;
pub mod docs;
pub mod fuzz;
mod logs;
pub mod machine;
pub mod notices;
pub mod package;
pub mod packages;
mod ports;
pub mod python;
pub mod soak;
pub mod unpacked;
pub mod up;

/// The top folder of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this package is in bin/xtask")
}

/// The settings that a sample of a load balancer asks for in its comments, as a configuration file.
pub fn settings_beside(sample: &str) -> String {
    sample.lines().filter_map(|line| line.strip_prefix("#     ")).map(|line| format!("{line}\n")).collect()
}

/// The commands that a section of the runbook begins with, by the section's heading, as a script.
///
/// # Panics
///
/// If there is no such section, or no commands in it.
pub fn commands_of_runbook(heading: &str) -> String {
    let text = fs::read_to_string(root().join("docs/operations.md")).expect("the runbook");
    let section = text.split("\n## ").find(|section| section.starts_with(heading)).expect("the section");
    let (_, block) = section.split_once("```sh\n").expect("commands");
    block.split_once("```").expect("their end").0.to_owned()
}

/// The folder that cargo builds into.
pub fn target_dir() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The cargo that runs us, to be run at the top of the repository.
fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // `cargo run` describes this package to us in these. Passed on, they would make cargo rebuild dependencies whose
    // build scripts look at them, back and forth with every call from a shell.
    for (name, _) in env::vars_os() {
        let described = name.to_string_lossy();
        if described.starts_with("CARGO_PKG_") || described.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// The profile that soon has something to run.
const QUICK: &str = "release";

/// The profile of what is installed or measured: slower to build, faster to run. Cargo.toml says what is in it.
const DIST: &str = "dist";

/// Builds packages of the workspace, and returns where their programs are.
fn build(profile: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    println!("Building ...");
    let mut command = cargo();
    command.args(["build", "--profile", profile, "--locked"]);
    for package in packages {
        command.args(["--package", package]);
    }
    if !command.status().context("cargo did not start")?.success() {
        bail!("the build failed");
    }
    Ok(target_dir().join(profile))
}
