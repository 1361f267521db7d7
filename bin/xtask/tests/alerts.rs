//! What the operator is given for Prometheus and Grafana says what is so: rules are valid and fire when they must, every
//! metric exists, every alert has its section in docs/operations.md, and every message that is quoted there is said.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use xtask::docs::anchors;

const ALERTS: &str = "docs/prometheus/alerts.yaml";
const ALERTS_TEST: &str = "docs/prometheus/alerts_test.yaml";
const CONFIGURATION: &str = "docs/prometheus/prometheus.yaml";
const GRAFANA: &str = "docs/grafana.json";
const OPERATIONS: &str = "docs/operations.md";

fn text(path: &str) -> String {
    fs::read_to_string(xtask::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All that is compiled into the services and the tool.
fn sources() -> String {
    fn add(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                add(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                *text += &fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            }
        }
    }
    let mut text = String::new();
    for folder in ["bin/ingest/src", "bin/flusher/src", "bin/dashboard/src", "bin/footfall/src", "shared/src"] {
        add(&xtask::root().join(folder), &mut text);
    }
    text
}

// ---- Prometheus's own checks ----

fn run_promtool(arguments: &[&str], file: &Path) -> Output {
    let mut promtool = xtask::unpacked::PROMETHEUS.command("promtool").unwrap_or_else(|error| panic!("{error:#}"));
    promtool.args(arguments).arg(file).output().expect("promtool starts")
}

/// Fails with what `promtool` says, if it finds anything.
#[track_caller]
fn promtool(arguments: &[&str], file: &Path) {
    let output = run_promtool(arguments, file);
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {}: {}", arguments.join(" "), String::from_utf8_lossy(&said));
}

#[test]
fn prometheus_takes_the_configuration_and_the_rules() {
    promtool(&["check", "config"], &xtask::root().join(CONFIGURATION));
    promtool(&["check", "rules"], &xtask::root().join(ALERTS));
}

#[test]
fn alerts_fire_when_they_must_and_not_when_they_must_not() {
    promtool(&["test", "rules"], &xtask::root().join(ALERTS_TEST));
    // That nothing fires proves nothing of an alert that never does.
    let tests = text(ALERTS_TEST);
    let untested: Vec<String> = alerts().into_iter().filter(|alert| !fires_in(&tests, alert)).collect();
    assert!(untested.is_empty(), "no case of {ALERTS_TEST} lets these fire: {}", untested.join(", "));
}

fn fires_in(tests: &str, alert: &str) -> bool {
    tests.contains(&format!("labels: '{{alertname=\"{alert}\""))
}

#[test]
fn every_panel_asks_what_prometheus_understands() {
    let mut queries = Vec::new();
    collect_queries(&serde_json::from_str(&text(GRAFANA)).expect("JSON"), &mut queries);
    assert!(queries.len() > 40, "only {} queries were found", queries.len());
    // As rules, because `promtool` checks those.
    let rules = queries.iter().enumerate().map(|(number, query)| {
        let query = query.replace("$__rate_interval", "1m");
        format!("      - record: panel:{number}\n        expr: {}\n", Value::String(query))
    });
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a temporary file");
    fs::write(file.path(), format!("groups:\n  - name: panels\n    rules:\n{}", rules.collect::<String>()))
        .expect("write");
    promtool(&["check", "rules"], file.path());
}

/// All values of the key `expr`, wherever they are.
fn collect_queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(query) if key == "expr" => found.push(query.to_owned()),
                    _ => collect_queries(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect_queries(value, found)),
        _ => {}
    }
}

// ---- metrics ----

/// All words of the kind `footfall_views_accepted_total`, each with its line.
fn metrics(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(index, line)| {
        line.split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
            .filter(|word| word.starts_with("footfall_"))
            .map(move |word| (index + 1, word))
    })
}

/// Metrics that a document names and nobody shows, a sentence each.
fn unknown_metrics(path: &str, text: &str, sources: &str) -> Vec<String> {
    let is_shown = |name: &str| sources.contains(&format!("\"{name}\""));
    let is_histogram = |name: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        base.is_some_and(|base| sources.contains(&format!("telemetry::seconds(\"{base}\"")))
    };
    metrics(text)
        .filter(|(_, name)| !is_shown(name) && !is_histogram(name))
        .map(|(line, name)| format!("{path}:{line}: there is no metric {name}"))
        .collect()
}

#[test]
fn every_metric_exists() {
    let sources = sources();
    let mut unknown = Vec::new();
    for path in [ALERTS, ALERTS_TEST, GRAFANA, OPERATIONS] {
        let text = text(path);
        assert!(metrics(&text).count() > 10, "{path} names metrics");
        unknown.extend(unknown_metrics(path, &text, &sources));
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

// ---- the runbook ----

/// The names of all alerts, in order.
fn alerts() -> Vec<String> {
    let text = text(ALERTS);
    let alerts = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    alerts.map(str::to_owned).collect()
}

/// Where alerts and sections differ, a sentence each.
fn runbook_differences(rules: &str, runbook: &str) -> Vec<String> {
    let anchors = anchors(runbook);
    let mut differences = Vec::new();
    let mut sections = BTreeSet::new();
    for rule in rules.split("- alert: ").skip(1) {
        let alert = rule.lines().next().unwrap_or_default();
        let section = alert.to_lowercase();
        if !anchors.contains(&section) {
            differences.push(format!("{OPERATIONS} has no section of {alert}"));
        }
        for (what, wanted) in [
            ("runbook_url", vec![format!("runbook_url: {OPERATIONS}#{section}")]),
            ("severity", vec!["severity: page".into(), "severity: ticket".into()]),
            ("summary", vec!["summary: ".into()]),
            ("description", vec!["description: ".into()]),
        ] {
            let has = |line: &str| wanted.iter().any(|wanted| line.trim_start().starts_with(wanted.as_str()));
            if !rule.lines().any(has) {
                differences.push(format!("{alert} has no {what} as it should be"));
            }
        }
        sections.insert(section);
    }
    let of_alerts = anchors.iter().filter(|anchor| anchor.starts_with("footfall"));
    differences.extend(
        of_alerts
            .filter(|anchor| !sections.contains(*anchor))
            .map(|anchor| format!("{OPERATIONS} has the section #{anchor}, and there is no such alert")),
    );
    // Links within the text.
    let links = runbook.split("](#").skip(1).filter_map(|rest| rest.split(')').next());
    differences.extend(
        links.filter(|link| !anchors.contains(*link)).map(|link| format!("{OPERATIONS} has no section #{link}")),
    );
    differences
}

#[test]
fn every_alert_has_its_section() {
    let (rules, runbook) = (text(ALERTS), text(OPERATIONS));
    assert!(alerts().len() > 10, "alerts were found");
    let differences = runbook_differences(&rules, &runbook);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// The first cells of all tables that quote what a service says.
fn quoted(text: &str) -> Vec<&str> {
    let mut quoted = Vec::new();
    let mut is_wanted = false;
    for line in text.lines() {
        let Some(cells) = line.strip_prefix("| ") else {
            is_wanted &= line.starts_with('|');
            continue;
        };
        let first = cells.split(" |").next().unwrap_or_default();
        match (first, is_wanted) {
            ("it says", _) => is_wanted = true,
            (_, true) if !first.starts_with('-') => quoted.push(first),
            _ => {}
        }
    }
    quoted
}

#[test]
fn every_quoted_message_is_said() {
    let (sources, text) = (sources(), text(OPERATIONS));
    let quoted = quoted(&text);
    assert!(quoted.len() > 10, "{quoted:?}");
    let unsaid: Vec<&str> = quoted.into_iter().filter(|message| !sources.contains(*message)).collect();
    assert!(unsaid.is_empty(), "{OPERATIONS} quotes what no service says: {}", unsaid.join("; "));
}

// ---- the checks above see what they are for ----

#[test]
fn every_drift_is_seen() {
    let sources = r#"counter("footfall_a_total", "A."), telemetry::seconds("footfall_b_seconds", "B.")"#;
    assert_eq!(unknown_metrics("f", "footfall_a_total footfall_b_seconds_bucket footfall-c", sources), [""; 0]);
    for (text, name) in [
        ("\nrate(footfall_a_totals[1m])", "footfall_a_totals"),
        ("\nfootfall_a_total_bucket", "footfall_a_total_bucket"),
        ("\n`footfall_b`", "footfall_b"),
    ] {
        assert_eq!(unknown_metrics("f", text, sources), [format!("f:2: there is no metric {name}")]);
    }

    let rules = "x\n  - alert: FootfallA\n    severity: page\n    summary: s\n    description: d\n    \
                 runbook_url: docs/operations.md#footfalla\n";
    let runbook = "# Alerts\n## FootfallA\n[x](#footfalla), [y](#a-and-b)\n## A, and `b`\n```sh\n# FootfallC\n```\n";
    assert_eq!(runbook_differences(rules, runbook), [""; 0]);
    for (from, to, said) in [
        ("## FootfallA\n", "## FootfallB\n", "has no section of FootfallA"),
        ("# Alerts\n", "## FootfallB\n", "section #footfallb, and there is no such alert"),
        ("(#a-and-b)", "(#a-or-b)", "no section #a-or-b"),
        ("severity: page", "severity: urgent", "FootfallA has no severity"),
        ("#footfalla\n", "#footfallx\n", "FootfallA has no runbook_url"),
        ("    summary: s\n", "", "FootfallA has no summary"),
    ] {
        let changed = [rules, runbook].map(|text| text.replace(from, to));
        assert_ne!(changed, [rules, runbook]);
        let differences = runbook_differences(&changed[0], &changed[1]);
        assert!(differences.iter().any(|difference| difference.contains(said)), "{said}: {differences:?}");
    }

    let tables = "| a | b |\n| --- | --- |\n| c | d |\n\n| it says | do |\n| --- | --- |\n| e f | g |\n\n| h | i |\n";
    assert_eq!(quoted(tables), ["e f"]);
    assert!(fires_in("- {labels: '{alertname=\"A\", x}'}", "A") && !fires_in("alertname=\"A\"", "A"));
}

#[test]
fn promtool_sees_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = |from: &str, change: fn(String) -> String| -> PathBuf {
        let to = folder.path().join(Path::new(from).file_name().expect("a file"));
        fs::write(&to, change(text(from))).expect("write");
        to
    };
    let fails = |arguments: &[&str], file: &Path| !run_promtool(arguments, file).status.success();
    let rules = copy(ALERTS, |rules| rules.replace("sum(up{job=\"footfall-ingest\"}) == 0 or", ""));
    let tests = copy(ALERTS_TEST, |tests| tests);
    assert!(fails(&["test", "rules"], &tests), "an alert that does not fire any more");
    fs::write(&rules, text(ALERTS).replace("sum(up{job=\"footfall-ingest\"})", "sum(up{job=\"footfall-ingest\"}"))
        .expect("write");
    assert!(fails(&["check", "rules"], &rules), "a query that cannot be read");
    let configuration = copy(CONFIGURATION, |text| text.replace("scrape_configs", "scrape_config"));
    assert!(fails(&["check", "config"], &configuration), "a key that does not exist");
}
