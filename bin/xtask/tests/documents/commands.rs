//! Every command that a document shows exists and takes these arguments, and docs/cli.md is what the programs say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::docs::{self, CLI, commands as commands_in_help};

use crate::{document, documents};

fn is_tool(word: &str) -> bool {
    word == "footfall" || word == "$footfall" || word.ends_with("/footfall")
}

/// What is shown to be typed after the name of a program, for example `footfall load --views 1`, each with its line.
fn calls<'a>(text: &'a str, is_program: &dyn Fn(&[&str]) -> bool) -> Vec<(usize, Vec<&'a str>)> {
    let mut calls = Vec::new();
    let mut is_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
            continue;
        }
        // In a block all is code; else what is between the first and the second backtick, the third and the fourth ...
        let parts: Vec<&str> = if is_code { vec![line] } else { line.split('`').skip(1).step_by(2).collect() };
        for part in parts {
            let words: Vec<&str> = part.split_whitespace().collect();
            let Some(at) = (1..=words.len()).find(|end| is_program(&words[..*end])) else { continue };
            // Until the comment, until the shell goes on with something else, or until what stands for something else.
            let ends = |word: &&&str| word.starts_with(['#', '|', ';', '&', '>', '\\', '[', '<']);
            let arguments: Vec<&str> = words[at..].iter().take_while(|word| !ends(word)).copied().collect();
            if arguments.first().is_some_and(|word| word.starts_with(|first: char| first.is_ascii_lowercase())) {
                calls.push((index + 1, arguments));
            }
        }
    }
    calls
}

/// The first column of the table of commands.
fn commands(text: &str) -> BTreeSet<&str> {
    let table = text.lines().skip_while(|line| !line.starts_with("| command |")).skip(2);
    table
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| line.trim_start_matches(['|', ' ', '`']).split('`').next())
        .collect()
}

#[test]
fn the_two_commands_stand_first_and_exist() {
    let help = help(&program("xtask"), &["--help"]);
    for readme in ["README.md", "README.zh-CN.md"] {
        let text = document(readme);
        let shown = calls(&text, &|words| words.ends_with(&["cargo", "xtask"]));
        let first: Vec<&str> = shown.iter().take(2).map(|(_, arguments)| arguments[0]).collect();
        assert_eq!(first, ["up", "test"], "{readme}");
        assert!(first.iter().all(|command| commands_in_help(&help).contains(command)), "{help}");
    }
}

#[test]
fn a_stranger_finishes_the_first_page() {
    let lines = document("README.md").lines().count();
    assert!(lines <= 150, "README.md has {lines} lines: what does a newcomer not need?");
}

#[test]
fn every_program_explains_itself() {
    for name in ["footfall", "footfall-ingest", "footfall-flusher", "footfall-dashboard"] {
        let help = help(&program(name), &["--help"]);
        assert!(help.contains(&format!("Usage: {name}")) && help.contains("FOOTFALL_"), "{name}: {help}");
    }
}

#[test]
fn the_commands_of_the_tool_are_those_of_the_program() {
    let help = help(&program("footfall"), &["--help"]);
    let known: BTreeSet<&str> = commands_in_help(&help).into_iter().collect();
    assert_eq!(commands(&document(CLI)), known, "{CLI}'s table of commands, and `footfall --help`");
}

/// Asks a program for help behind the arguments: it reads all that is before that, and then does nothing.
fn refusal(program: &Path, arguments: &[&str]) -> Option<String> {
    let (ok, said) = run(program, &[arguments, &["--help"]].concat());
    (!ok).then(|| format!("`{}` is refused: {said}", arguments.join(" ")))
}

#[test]
fn every_call_is_taken() {
    let (tool, xtask, bench) = (program("footfall"), program("xtask"), program("footfall-bench"));
    let mut found = 0;
    let mut refused = Vec::new();
    for (path, text) in documents() {
        // What the programs say themselves is wrapped anywhere, and is theirs to keep right.
        let text = text.split(docs::MADE).next().unwrap_or_default();
        let of_tool = calls(text, &|words| words.last().is_some_and(|word| is_tool(word)));
        let of_xtask = calls(text, &|words| words.ends_with(&["cargo", "xtask"]));
        found += of_tool.len() + of_xtask.len();
        let of_tool = of_tool.into_iter().map(|(line, call)| (line, &tool, call));
        let of_xtask = of_xtask.into_iter().map(|(line, mut call)| {
            // A program of its own, which reads its options by itself.
            let is_bench = call[0] == "bench";
            if is_bench {
                call.remove(0);
            }
            (line, if is_bench { &bench } else { &xtask }, call)
        });
        for (line, program, call) in of_tool.chain(of_xtask) {
            refused.extend(refusal(program, &call).map(|why| format!("{path}:{line}: {why}")));
        }
    }
    assert!(found > 100, "{found} calls were found");
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    // What is not taken is seen.
    assert!(refusal(&tool, &["load", "--viewers", "1"]).is_some() && refusal(&tool, &["lode"]).is_some());
    assert!(refusal(&xtask, &["up", "--demonstrate"]).is_some() && refusal(&bench, &["--rounds", "x"]).is_some());
}

#[test]
fn the_help_in_the_document_is_that_of_the_programs() {
    let text = document(CLI);
    let tool = program("footfall");
    let renewed = docs::renewed(&text, tool.parent().expect("a folder"), &program("xtask")).expect("they say it");
    assert!(text == renewed, "{CLI} is not what the programs say: run `cargo xtask docs`");
    assert!(text.matches("\n## `").count() > 5 && text.matches("\n### `footfall ").count() > 12, "all are in it");
}

/// A program that was built with this test.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its program");
    let folder = test.parent().and_then(Path::parent).expect("tests are built into target/PROFILE/deps");
    let program = folder.join(name);
    assert!(
        program.exists(),
        "{} is missing: build the workspace first, as `cargo xtask test` does",
        program.display()
    );
    program
}

fn run(program: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program).args(arguments).output().expect("it starts");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[track_caller]
fn help(program: &Path, arguments: &[&str]) -> String {
    let (ok, text) = run(program, arguments);
    assert!(ok, "{} {}: {text}", program.display(), arguments.join(" "));
    text
}

#[test]
fn commands_are_found() {
    let text = "Run `footfall init`, footfall is nice, `x footfall`.\n```sh\n$ target/release/footfall load --views 1 # x\n\
                footfall --help\n$footfall verify | less\ncargo xtask up <A>\n```\n| command | does |\n|-|-|\n| `init` | a |\n\
                | `load` | b |\n\nx";
    let of_tool = calls(text, &|words| words.last().is_some_and(|word| is_tool(word)));
    assert_eq!(of_tool, [(1, vec!["init"]), (3, vec!["load", "--views", "1"]), (5, vec!["verify"])]);
    assert_eq!(calls(text, &|words| words.ends_with(&["cargo", "xtask"])), [(6, vec!["up"])]);
    assert_eq!(commands(text), BTreeSet::from(["init", "load"]));
}
