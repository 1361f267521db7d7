//! The table of settings is the configuration, and so is every setting that a document names; docs/security.md has every
//! limit, and the sample configuration shows the defaults.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;

use footfall_shared::service::config::Config;
use serde_json::Value;

use crate::names::product;
use crate::{document, documents};

const CONFIGURATION: &str = "docs/configuration.md";
const SECURITY: &str = "docs/security.md";

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
    // These two hide their passwords when they are written out.
    settings.insert("redis.url".to_owned(), config.redis.url.with_password().to_owned());
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

/// Where a table and the settings differ, a sentence each.
fn differences(text: &str, settings: &BTreeMap<String, String>) -> Vec<String> {
    let mut differences = Vec::new();
    let mut missing: BTreeSet<&String> = settings.keys().collect();
    for Row { line, key, default } in rows(text) {
        match settings.get(&key) {
            None => differences.push(format!("{CONFIGURATION}:{line}: there is no setting `{key}`")),
            Some(_) if !missing.remove(&key) => {
                differences.push(format!("{CONFIGURATION}:{line}: `{key}` is in the table twice"));
            }
            Some(real) if *real != default => {
                differences
                    .push(format!("{CONFIGURATION}:{line}: the default of `{key}` is `{real}`, not `{default}`"));
            }
            Some(_) => {}
        }
    }
    differences.extend(missing.iter().map(|key| {
        let default = &settings[*key];
        format!("{CONFIGURATION}: no table of settings has a row that begins with | `{key}` | `{default}` |")
    }));
    differences.extend(unknown_settings(CONFIGURATION, text, settings));
    differences
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
fn the_settings_are_those_of_the_program() {
    let settings = settings();
    let mut differences = differences(&document(CONFIGURATION), &settings);
    for (path, text) in documents() {
        differences.extend(unknown_settings(&path, &text, &settings));
    }
    assert!(differences.is_empty(), "the documents have drifted:\n{}", differences.join("\n"));
}

/// Settings of the samples in /etc/footfall that are in files of their own.
const SECRETS: [&str; 3] = ["redis.url", "database.url", "dashboard.token"];

/// Where a sample, with all of its settings switched on, is not the defaults, a sentence each.
fn drift_of_sample(text: &str, settings: &BTreeMap<String, String>) -> Vec<String> {
    let is_setting = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains(|c| " `".contains(c)));
    let switched_on: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ') && is_setting(rest)).unwrap_or(line))
        .collect();
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), switched_on.join("\n")).expect("written");
    match Config::load(Some(file.path()), HashMap::<String, String>::new()) {
        Err(error) => return vec![error.to_string()],
        Ok(config) if config != Config::default() => return vec!["a value is not the default".into()],
        Ok(_) => {}
    }
    let mut section = "";
    let mut shown = BTreeSet::new();
    for line in switched_on {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            shown.insert(if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") });
        }
    }
    // Seldom used, and a secret.
    let not_there = SECRETS.iter().chain(["dashboard.read_token"].iter());
    shown.extend(not_there.map(|key| (*key).to_owned()));
    settings.keys().filter(|key| !shown.contains(*key)).map(|key| format!("{key} is not shown")).collect()
}

#[test]
fn the_sample_shows_the_defaults() {
    let sample = document("systemd/etc/footfall.toml");
    assert_eq!(drift_of_sample(&sample, &settings()), [""; 0]);
    for (from, to, said) in [
        ("#poll_ms = 50\n", "", "flusher.poll_ms is not shown"),
        ("#poll_ms = 50\n", "#poll_ms = 51\n", "not the default"),
        ("#poll_ms = 50\n", "#pole_ms = 50\n", "pole_ms"),
        ("[http]\n", "", "trusted_proxies"),
    ] {
        let changed = sample.replace(from, to);
        assert_ne!(changed, sample);
        let drift = drift_of_sample(&changed, &settings());
        assert!(drift.iter().any(|drift| drift.contains(said)), "{said}: {drift:?}");
    }
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
fn every_drift_is_seen() {
    let settings = BTreeMap::from([("a.n", "7"), ("a.url", "x://y"), ("top", "1")].map(|(k, v)| (k.into(), v.into())));
    let fine = "| other | table of `a.n`, `c.x`, `a.txt2` |\n|---|---|\n| `b.c` | 3 |\n\n| setting | default | meaning |\n|---|---:|---|\n| `a.n` | 7 | m |\n\
                | `a.url` | `x://y` | m |\n\n|key|Default|\n|-|-|\n|`top`|1|\n`FOOTFALL_A__URL_FILE`, FOOTFALL_A__N=3, FOOTFALL_... FOOTFALL_CONFIG";
    assert_eq!(differences(fine, &settings), Vec::<String>::new());
    for (from, to, said) in [
        ("| 7 |", "| 8 |", "docs/configuration.md:7: the default of `a.n` is `7`, not `8`"),
        ("`a.n`", "`a.m`", "docs/configuration.md:7: there is no setting `a.m`"),
        ("| `a.n` | 7 | m |\n", "", "begins with | `a.n` | `7` |"),
        ("|`top`|1|", "|`top`|1|\n|`top`|1|", "docs/configuration.md:13: `top` is in the table twice"),
        ("A__N=3", "A__M=3", "docs/configuration.md:13: `FOOTFALL_A__M` sets nothing"),
        ("FOOTFALL_... ", "`a.x` ", "docs/configuration.md:13: there is no setting `a.x`"),
    ] {
        let changed = fine.replace(from, to);
        assert_ne!(changed, fine);
        let differences = differences(&changed, &settings);
        assert!(differences.iter().any(|difference| difference.contains(said)), "{said}: {differences:?}");
    }
}
