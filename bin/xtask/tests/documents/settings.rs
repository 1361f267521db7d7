//! The table of settings and the sample of a configuration file are what the settings' declarations in `shared` make of
//! them, and every setting that a document names is one of these; docs/security.md has every limit.
//! `FOOTFALL_TEST_WRITE=1 cargo test -p xtask --test documents settings` writes the table and the sample anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;

use footfall_shared::service::config::{self, Config};
use serde_json::Value;

use crate::names::product;
use crate::{document, documents};

/// The document with the table.
const TABLE: &str = "docs/configuration.md";
const SAMPLE: &str = "systemd/etc/footfall.toml";
const SECURITY: &str = "docs/security.md";
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
         {WRITE}=1 cargo test -p xtask --test documents settings writes it anew"
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

/// All settings with their defaults, as they are written into a file: `section.key`, and `key` outside the sections.
fn settings() -> BTreeMap<String, String> {
    let config = Config::default();
    let Ok(Value::Object(sections)) = serde_json::to_value(&config) else { unreachable!("a struct is an object") };
    let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut settings = BTreeMap::new();
    for (section, value) in sections {
        match value {
            Value::Object(keys) => {
                settings.extend(keys.into_iter().map(|(key, value)| (format!("{section}.{key}"), text(value))));
            }
            value => drop(settings.insert(section, text(value))),
        }
    }
    // It hides its user when it is written out.
    settings.insert("database.url".to_owned(), config.database.url.with_password().to_owned());
    settings
}

/// A row of a table of settings.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    line: usize,
    key: String,
    default: String,
}

/// The rows of all tables whose second column is the default, without the decoration of their cells.
fn rows(text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut is_wanted = None; // none: outside of a table
    for (index, line) in text.lines().enumerate() {
        let Some(cells) = line.trim().strip_prefix('|') else {
            is_wanted = None;
            continue;
        };
        let mut cells = cells.split('|').map(|cell| cell.trim().trim_matches(['`', '"']));
        let (key, default) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        match is_wanted {
            None => is_wanted = Some(default.eq_ignore_ascii_case("default")),
            Some(true) if !key.starts_with(['-', ':']) => {
                rows.push(Row { line: index + 1, key: key.to_owned(), default: default.to_owned() });
            }
            Some(_) => {}
        }
    }
    rows
}

/// Settings that a text names and that do not exist, a sentence each.
fn unknown_settings(path: &str, text: &str, settings: &BTreeMap<String, String>) -> Vec<String> {
    let mut unknown = Vec::new();
    let sections: BTreeSet<&str> = settings.keys().filter_map(|key| Some(key.split_once('.')?.0)).collect();
    for (index, line) in text.lines().enumerate() {
        for word in line.split('`').skip(1).step_by(2) {
            let is_key = word.chars().all(|character| character.is_ascii_lowercase() || "._".contains(character));
            let is_ours = word.split_once('.').is_some_and(|(section, _)| sections.contains(section));
            if is_key && is_ours && !settings.contains_key(word) {
                unknown.push(format!("{path}:{}: there is no setting `{word}`", index + 1));
            }
        }
    }
    for (line, name) in variables(text) {
        let Some(setting) = name.strip_prefix("FOOTFALL_") else { continue };
        let is_known = |setting: &str| settings.contains_key(&setting.to_lowercase().replace("__", "."));
        let secret = setting.strip_suffix("_FILE").unwrap_or(setting);
        // The first is a flag's, the next are those of tests, the last is "and so on".
        let of_tests = ["TEST_", "SIMULATION_"].iter().any(|test| setting.starts_with(test));
        let is_other = setting == "CONFIG" || of_tests || setting.is_empty();
        if !is_other && !is_known(setting) && !is_known(secret) {
            unknown.push(format!("{path}:{line}: `{name}` sets nothing"));
        }
    }
    unknown
}

/// All words of the kind `FOOTFALL_INGEST__LISTEN`, each with its line.
fn variables(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(index, line)| {
        line.split(|character: char| !character.is_ascii_uppercase() && !character.is_ascii_digit() && character != '_')
            .filter(|word| word.starts_with("FOOTFALL_"))
            .map(move |word| (index + 1, word))
    })
}

#[test]
fn every_setting_that_a_document_names_exists() {
    let settings = settings();
    let unknown = documents().into_iter().flat_map(|(path, text)| unknown_settings(&path, &text, &settings));
    let unknown: Vec<String> = unknown.collect();
    assert!(unknown.is_empty(), "the documents have drifted:\n{}", unknown.join("\n"));
}

/// Settings of the samples in /etc/footfall that are in files of their own.
const SECRETS: [&str; 3] = ["redis.url", "database.url", "dashboard.token"];

#[test]
fn the_sample_is_read_as_the_defaults() {
    // With all of its settings switched on.
    let is_setting = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains(|c| " `".contains(c)));
    let sample = document(SAMPLE);
    let lines = sample
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ') && is_setting(rest)).unwrap_or(line));
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), lines.collect::<Vec<_>>().join("\n")).expect("written");
    let config = Config::load(Some(file.path()), HashMap::<String, String>::new()).expect("it can be used");
    assert_eq!(config, Config::default());
    // As the package installs it, and as the units and the tool read the secrets beside it.
    let folder = xtask::root().join("systemd/etc");
    let files = SECRETS.map(|key| {
        let variable = format!("FOOTFALL_{}_FILE", key.replace('.', "__").to_uppercase());
        assert!(document("systemd/etc/env").contains(&format!("export {variable}=/etc/footfall/{key}\n")), "{key}");
        for service in ["ingest", "flusher", "dashboard"] {
            let unit = document(&format!("systemd/footfall-{service}.service"));
            for line in
                [format!("LoadCredential={key}:/etc/footfall/{key}\n"), format!("Environment={variable}=%d/{key}\n")]
            {
                assert!(unit.contains(&line), "{service}: {line}");
            }
        }
        (variable, folder.join(key).display().to_string())
    });
    let config = Config::load(Some(&folder.join("footfall.toml")), HashMap::from(files)).expect("it can be used");
    assert_eq!(config, Config::default());
}

/// Whether a setting says how much somebody can take.
fn is_limit(setting: &str) -> bool {
    // What starts a flush is called a time-out too.
    let is_duration = setting.ends_with("timeout_ms") && !setting.starts_with("flusher.");
    is_duration || setting.ends_with("_max") || setting.contains("_per_") || setting == "dashboard.session_ms"
}

/// All words of the kind `footfall_views_accepted_total`, each with its line.
fn metrics(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(index, line)| {
        line.split(|character: char| !character.is_ascii_lowercase() && !character.is_ascii_digit() && character != '_')
            .filter(|word| word.starts_with("footfall_"))
            .map(move |word| (index + 1, word))
    })
}

/// Where the table of limits is not the programs', a sentence each.
fn drift_of_limits(text: &str, settings: &BTreeMap<String, String>, product: &str) -> Vec<String> {
    let mut drift = unknown_settings(SECURITY, text, settings);
    let mut missing: BTreeSet<&String> = settings.keys().filter(|setting| is_limit(setting)).collect();
    for Row { line, key, default } in rows(text) {
        match settings.get(&key) {
            None => drift.push(format!("{SECURITY}:{line}: there is no setting `{key}`")),
            Some(real) if *real != default => {
                drift.push(format!("{SECURITY}:{line}: the default of `{key}` is `{real}`, not `{default}`"));
            }
            Some(_) => drop(missing.remove(&key)),
        }
    }
    drift.extend(missing.iter().map(|key| format!("{SECURITY}: no row of a table begins with | `{key}` |")));
    let unknown = metrics(text).filter(|(_, name)| !product.contains(&format!("\"{name}\"")));
    drift.extend(unknown.map(|(line, name)| format!("{SECURITY}:{line}: there is no metric {name}")));
    drift
}

#[test]
fn every_limit_is_in_the_document_on_security() {
    let (text, settings, product) = (document(SECURITY), settings(), product());
    assert_eq!(drift_of_limits(&text, &settings, &product), [""; 0]);
    for (from, to, said) in [
        ("| `ingest.connections_max` |", "| ingest's connections |", "begins with | `ingest.connections_max` |"),
        ("| `dashboard.requests_per_second` |", "| `dashboard.requests` |", "there is no setting `dashboard.requests`"),
        ("| `redis.timeout_ms` | `2000` |", "| `redis.timeout_ms` | `200` |", "is `2000`, not `200`"),
        ("footfall_waiting_lookups", "footfall_waiting_look_ups", "there is no metric footfall_waiting_look_ups"),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text, "{from}");
        let drift = drift_of_limits(&changed, &settings, &product);
        assert!(drift.iter().any(|drift| drift.contains(said)), "{said}: {drift:?}");
    }
}

#[test]
fn a_setting_that_does_not_exist_is_seen() {
    let settings = BTreeMap::from([("a.n", "7"), ("a.url", "x://y"), ("top", "1")].map(|(k, v)| (k.into(), v.into())));
    let fine = "| other | table of `a.n`, `c.x`, `a.txt2` |\n\n`FOOTFALL_A__URL_FILE`, FOOTFALL_A__N=3, FOOTFALL_... FOOTFALL_CONFIG";
    assert_eq!(unknown_settings(TABLE, fine, &settings), Vec::<String>::new());
    for (from, to, said) in [
        ("`a.n`", "`a.m`", "docs/configuration.md:1: there is no setting `a.m`"),
        ("A__N=3", "A__M=3", "docs/configuration.md:3: `FOOTFALL_A__M` sets nothing"),
        ("FOOTFALL_... ", "`a.x` ", "docs/configuration.md:3: there is no setting `a.x`"),
    ] {
        let unknown = unknown_settings(TABLE, &fine.replace(from, to), &settings);
        assert_eq!(unknown, [said], "{from}");
    }
}
