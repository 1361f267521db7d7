//! `cargo xtask docs`: what docs/cli.md has of the programs' own help. A test compares the two.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};

use crate::package::PROGRAMS;

/// The document, below the top folder.
pub const CLI: &str = "docs/cli.md";

/// The end of what is written by hand. All that follows is made here.
pub const MADE: &str = "<!-- From here on made by `cargo xtask docs` from the programs' own help. -->";

/// Commands of `cargo xtask` that say by themselves what they take; the bench must be built for that.
const COMMANDS: [&str; 4] = ["up", "chaos", "soak", "package"];

/// Options of `cargo xtask docs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ask the programs in this folder instead of building them.
    #[arg(long, value_name = "DIR", hide = true)]
    binaries: Option<PathBuf>,
}

/// Writes the document anew.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let binaries = match &args.binaries {
        Some(binaries) => binaries.clone(),
        None => crate::build(crate::QUICK, &PROGRAMS)?,
    };
    let path = crate::root().join(CLI);
    let text = fs::read_to_string(&path).with_context(|| CLI.to_owned())?;
    fs::write(&path, renewed(&text, &binaries, &std::env::current_exe()?)?)?;
    println!("{CLI}");
    Ok(ExitCode::SUCCESS)
}

/// Headings of a Markdown text, as the anchors that GitHub makes of them.
pub fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        is_code ^= line.starts_with("```");
        let Some(heading) = line.strip_prefix('#').filter(|_| !is_code) else { continue };
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        anchors.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    anchors
}

/// The document as it has to be: what was written by hand, and the help of the programs in the folder `binaries`.
pub fn renewed(text: &str, binaries: &Path, xtask: &Path) -> anyhow::Result<String> {
    let by_hand = text.split(MADE).next().unwrap_or_default().trim_end();
    let mut out = format!("{by_hand}\n\n{MADE}\n");
    let [tool, services @ ..] = PROGRAMS;
    add(&mut out, &binaries.join(tool), tool, &[], 2)?;
    for service in services {
        add(&mut out, &binaries.join(service), service, &[], 2)?;
    }
    for command in COMMANDS {
        add(&mut out, xtask, "cargo xtask", &[command], 2)?;
    }
    Ok(out)
}

/// Adds the help of a command, and of the commands that it has.
fn add(out: &mut String, program: &Path, name: &str, command: &[&str], level: usize) -> anyhow::Result<()> {
    let help = help(program, command)?;
    let title = [&[name], command].concat().join(" ");
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(out, "\n{} `{title}`\n\n```text\n{}\n```\n", "#".repeat(level), lines.join("\n").trim_end());
    for below in commands(&help) {
        add(out, program, name, &[command, &[below]].concat(), (level + 1).min(4))?;
    }
    Ok(())
}

/// What a command says about itself, wherever and in whatever environment it is asked.
fn help(program: &Path, command: &[&str]) -> anyhow::Result<String> {
    let mut asked = Command::new(program);
    // It shows the value of this, and is as wide as this.
    asked.args(command).arg("--help").env_remove("FOOTFALL_CONFIG").env_remove("COLUMNS");
    let output = asked.output().with_context(|| program.display().to_string())?;
    ensure!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// The commands in a text of clap's `--help`.
pub fn commands(help: &str) -> Vec<&str> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    // A description goes on in lines that begin further to the right.
    let names = list.take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty() && *name != "help").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found() {
        let help = "Does\n\nCommands:\n  init  a\n        more\n  load  b\n  help  c\n\nOptions:\n  -h";
        assert_eq!(commands(help), ["init", "load"]);
        assert_eq!(commands("Does\n\nOptions:\n  -h"), [""; 0]);
    }
}
