//! Every metric, table and package that a document names exists, and the table of errors is that of the code.

use std::collections::BTreeSet;
use std::fs;

use footfall_shared::protocol::errors::{MEANINGS, Meaning};

use crate::{document, documents, files_below};

/// What the services and the tool are made of, all in one.
pub(crate) fn product() -> String {
    let mut files = Vec::new();
    for folder in ["shared/src", "shared/journal/src", "bin/ingest/src", "bin/flusher/src", "bin/dashboard/src"] {
        files_below(&xtask::root().join(folder), true, &mut files);
    }
    files.retain(|path| path.ends_with(".rs"));
    files.iter().map(|path| document(path)).collect()
}

/// All words of the kind `footfall_views_accepted_total`, each with its line.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(index, line)| {
        line.split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
            // What stands for several ends like this.
            .filter(|word| word.starts_with("footfall_") && !word.ends_with('_') && word.to_lowercase() == *word)
            .map(move |word| (index + 1, word))
    })
}

/// Names that nobody has, a sentence each. A histogram is shown under three names.
fn unknown(path: &str, text: &str, known: &BTreeSet<&str>) -> Vec<String> {
    let is_known = |name: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        known.contains(name) || base.is_some_and(|base| known.contains(base))
    };
    let unknown = words(text).filter(|(_, name)| !is_known(name));
    unknown.map(|(line, name)| format!("{path}:{line}: there is nothing called {name}")).collect()
}

#[test]
fn every_name_is_known() {
    let product = product();
    let known: BTreeSet<&str> = words(&product).map(|(_, name)| name).collect();
    let documents = documents();
    assert!(documents.iter().map(|(_, text)| words(text).count()).sum::<usize>() > 100, "names are found");
    let unknown: Vec<String> = documents.iter().flat_map(|(path, text)| unknown(path, text, &known)).collect();
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn the_table_of_errors_is_that_of_the_code() {
    let design = document("docs/design.md");
    let rows = MEANINGS.iter().map(|Meaning { name, severity, action, client, .. }| {
        format!("| `{name}` | {} | {action} | {client} |", format!("{severity:?}").to_lowercase())
    });
    let rows: Vec<String> = rows.collect();
    let shown: Vec<&str> = design.lines().filter(|line| is_error(line)).collect();
    assert_eq!(shown, rows, "docs/design.md, and shared/src/protocol/errors.rs");
}

/// Whether a row of a table begins with a class of errors.
fn is_error(row: &str) -> bool {
    ["| `cache_", "| `db_", "| `disk_"].iter().any(|class| row.starts_with(class))
}

/// Packages of this workspace that `cargo` is told of in a document.
#[test]
fn every_package_exists() {
    let mut manifests = Vec::new();
    for folder in ["bin", "shared", "migrations"] {
        files_below(&xtask::root().join(folder), true, &mut manifests);
    }
    manifests.retain(|path| path.ends_with("/Cargo.toml"));
    let mut packages = BTreeSet::new();
    let mut tests = BTreeSet::new();
    for path in &manifests {
        let text = document(path);
        let name = text.lines().find_map(|line| line.strip_prefix("name = ")).expect("a name").trim_matches('"');
        let folder = xtask::root().join(path).with_file_name("tests");
        for test in fs::read_dir(folder).into_iter().flatten().flatten() {
            let test = test.path();
            let stem = test.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if test.join("main.rs").exists() || test.extension().is_some_and(|kind| kind == "rs") {
                tests.insert((name.to_owned(), stem.to_owned()));
            }
        }
        packages.insert(name.to_owned());
    }
    let mut found = 0;
    for (path, text) in documents() {
        for (index, line) in text.lines().enumerate() {
            let Some((_, call)) = line.split_once("cargo test ") else { continue };
            let words: Vec<&str> = call.split(['`', '#']).next().unwrap_or_default().split_whitespace().collect();
            let behind = |option: &str| words.windows(2).find(|pair| pair[0] == option).map(|pair| pair[1]);
            let (package, test) = (behind("-p"), behind("--test"));
            found += usize::from(package.is_some() || test.is_some());
            let exists = package.is_none_or(|package| packages.contains(package));
            assert!(exists, "{path}:{}: there is no such package", index + 1);
            let is_meant = |known: &&(String, String)| package.is_none_or(|package| known.0 == package);
            let exists = test.is_none_or(|test| tests.iter().filter(is_meant).any(|known| known.1 == test));
            assert!(exists, "{path}:{}: there is no such test", index + 1);
        }
    }
    assert!(found > 4, "{found} calls were found");
}

#[test]
fn every_unknown_name_is_seen() {
    let known = BTreeSet::from(["footfall_a_total", "footfall_b_seconds", "footfall_users"]);
    let fine = "`footfall_a_total`, footfall_b_seconds_bucket, footfall_..._fence, footfall_VERSION, footfall_users";
    assert_eq!(unknown("f", fine, &known), [""; 0]);
    for wrong in ["footfall_a_totals", "footfall_a", "footfall_user"] {
        assert_eq!(unknown("f", &format!("\n{wrong}"), &known), [format!("f:2: there is nothing called {wrong}")]);
    }
}
