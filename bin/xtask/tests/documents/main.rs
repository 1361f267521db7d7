//! The documents say what is so: their links lead somewhere, their settings, metrics and commands exist, and their samples
//! can be run or parsed.

mod commands;
mod links;
mod names;
mod samples;
mod settings;

use std::fs;
use std::path::Path;

fn document(path: &str) -> String {
    fs::read_to_string(xtask::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All documents, as paths below the top folder, with their text.
fn documents() -> Vec<(String, String)> {
    let mut found: Vec<String> = Vec::new();
    for folder in ["", "docs", ".github"] {
        files_below(&xtask::root().join(folder), !folder.is_empty(), &mut found);
    }
    found.retain(|path| path.ends_with(".md"));
    found.sort();
    assert!(found.len() > 15, "{found:?}");
    found.into_iter().map(|path| (path.clone(), document(&path))).collect()
}

/// Adds the files of a folder, and of those in it if wanted, as paths below the top folder.
fn files_below(folder: &Path, recursively: bool, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            let below = path.strip_prefix(xtask::root()).expect("it is below the top folder");
            found.push(below.to_string_lossy().into_owned());
        } else if recursively {
            files_below(&path, true, found);
        }
    }
}

/// A part of a document between two lines of three backticks.
struct Block {
    /// Of its first line, from 1 on.
    line: usize,
    language: String,
    text: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    for (index, line) in text.lines().enumerate() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            is_open = !is_open;
            if is_open {
                blocks.push(Block { line: index + 2, language: language.trim().to_owned(), text: String::new() });
            }
        } else if let (true, Some(block)) = (is_open, blocks.last_mut()) {
            block.text += line;
            block.text.push('\n');
        }
    }
    blocks
}

/// The text with nothing in the place of blocks and of what is between backticks, line by line.
fn prose(text: &str) -> Vec<String> {
    let mut is_code = false;
    let lines = text.lines().map(|line| {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
            return String::new();
        }
        if is_code { String::new() } else { line.split('`').step_by(2).collect() }
    });
    lines.collect()
}

#[test]
fn blocks_and_prose_are_told_apart() {
    let text = "a `b` c\n```sh\nd `e`\n```\nf\n  ```\n  g\n  ```\n";
    let blocks = blocks(text);
    let found: Vec<_> = blocks.iter().map(|block| (block.line, &*block.language, &*block.text)).collect();
    assert_eq!(found, [(3, "sh", "d `e`\n"), (7, "", "  g\n")]);
    assert_eq!(prose(text), ["a  c", "", "", "", "f", "", "", ""]);
}
