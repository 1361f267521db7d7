//! The table of settings and the sample of a configuration file are what the settings' declarations in `shared` make of
//! them. `FOOTFALL_TEST_WRITE=1 cargo test -p xtask --test settings` writes both anew.

use std::fs;

use footfall_shared::service::config;

/// The document with the table.
const TABLE: &str = "docs/configuration.md";
const SAMPLE: &str = "systemd/etc/footfall.toml";
/// Whether to write what should be there.
const WRITE: &str = "FOOTFALL_TEST_WRITE";

/// How the table of settings begins, and no other table.
const TABLE_BEGINS: &str = "| key | default |";

/// The lines of a document that are the table, and what is before and behind it.
fn take_apart(text: &str) -> Option<[&str; 3]> {
    let begin = text.find(&format!("\n{TABLE_BEGINS}"))? + 1;
    let lines = text[begin..].split_inclusive('\n').take_while(|line| line.starts_with('|'));
    let end = begin + lines.map(str::len).sum::<usize>();
    Some([&text[..begin], &text[begin..end], &text[end..]])
}

/// Compares a file with what should be there, or writes that.
#[track_caller]
fn check(path: &str, expected: &str) {
    let file = xtask::root().join(path);
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}"));
    if text == expected {
        return;
    }
    if std::env::var_os(WRITE).is_some() {
        fs::write(&file, expected).unwrap_or_else(|error| panic!("{path}: {error}"));
        return;
    }
    let (number, line) =
        (1..).zip(expected.lines()).find(|(_, line)| !text.lines().any(|old| old == *line)).unwrap_or_default();
    panic!(
        "{path} does not say what the settings' declarations in shared say, such as in line {number}: `{line}`; \
         {WRITE}=1 cargo test -p xtask --test settings writes it anew"
    );
}

#[test]
fn the_table_is_that_of_the_settings() {
    let text = fs::read_to_string(xtask::root().join(TABLE)).expect("the document with the table");
    let [before, _, behind] = take_apart(&text).expect("a table of settings");
    check(TABLE, &format!("{before}{}{behind}", config::table(TABLE)));
}

#[test]
fn the_sample_is_that_of_the_settings() {
    check(SAMPLE, &config::sample());
}

#[test]
fn a_table_is_taken_out_of_its_document() {
    let text = "# A\n\n| a | b |\n| - | - |\n\n| key | default | meaning |\n| - | - | - |\n| `a` | 1 | x |\n\nmore\n";
    let [before, table, behind] = take_apart(text).expect("a table");
    assert_eq!(before, "# A\n\n| a | b |\n| - | - |\n\n");
    assert_eq!(table, "| key | default | meaning |\n| - | - | - |\n| `a` | 1 | x |\n");
    assert_eq!(behind, "\nmore\n");
    assert!(take_apart("no table").is_none());
}
