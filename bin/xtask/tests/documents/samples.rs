//! Every sample in a document can be parsed by what it is for. Those of pages and of `curl` are run by the tests of the whole
//! system, too (`site`, `browser::snippet`).

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::process::Command;

use footfall_shared::service::config::Config;
use footfall_shared::service::paths::{DASHBOARD, INGEST, id_in};

use crate::{Block, blocks, document, documents};

/// Why a sample cannot be used as it stands there; nothing if it can.
fn mistakes(block: &Block) -> Vec<String> {
    match block.language.as_str() {
        "sh" => shell(&block.text),
        "html" => html(&block.text).into_iter().collect(),
        "promql" => promql(&block.text).into_iter().collect(),
        "toml" => settings(&block.text),
        // A picture of letters, or what a program prints; what Redis and Sentinel are given is used by the tests `stores` and
        // `sentinels` of the whole system.
        "text" | "redis" => vec![],
        other => vec![format!("nobody checks what is written in `{other}`")],
    }
}

/// What bash says, and where it asks for what nobody answers.
fn shell(text: &str) -> Vec<String> {
    let output = Command::new("bash").args(["-n", "-c", text]).output().expect("bash starts");
    let mut mistakes = vec![];
    if !output.status.success() {
        mistakes.push(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let paths = text.split("http://127.0.0.1:").skip(1).filter_map(|rest| {
        let address = rest.split(['\'', '"', ' ', '\n', ';']).next()?;
        let (_, path) = address.split_once('/')?;
        Some(format!("/{}", path.split('?').next().unwrap_or_default()))
    });
    let is_known = |path: &String| {
        let mut forms = INGEST.iter().chain(DASHBOARD.iter()).chain(&["/metrics"]);
        forms.any(|form| id_in(form, path).is_some())
    };
    mistakes.extend(paths.filter(|path| !is_known(path)).map(|path| format!("nobody answers {path}")));
    let units = text.lines().filter(|line| line.starts_with("systemctl ") || line.starts_with("journalctl "));
    let units = units.map(|line| line.split(" #").next().unwrap_or_default());
    for word in units.flat_map(|line| line.split(|c: char| c.is_whitespace() || "'\"`".contains(c))) {
        let is_unit = word.starts_with("footfall-") && !word.contains(['*', '/', '=']) || word == "footfall.target";
        let unit = if word.contains('.') { word.to_owned() } else { format!("{word}.service") };
        if is_unit && !xtask::root().join("systemd").join(&unit).exists() {
            mistakes.push(format!("there is no unit {unit}"));
        }
    }
    mistakes
}

/// What `footfall check-config` says of it.
fn settings(text: &str) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), text).expect("written");
    let config = Config::load(Some(file.path()), HashMap::<String, String>::new());
    config.err().map_or_else(Vec::new, |error| error.0)
}

/// The tag is one that the script understands.
fn html(text: &str) -> Option<String> {
    let script = document("bin/ingest/src/page/footfall.js");
    let attributes = text.split_whitespace().filter_map(|word| {
        let word = word.split(['=', '>']).next()?;
        word.starts_with("data-").then_some(word)
    });
    let unknown: BTreeSet<&str> = attributes.filter(|name| !understands(&script, name)).collect();
    (!unknown.is_empty()).then(|| format!("footfall.js does not know {unknown:?}"))
}

/// Whether a script names the attribute, as it is or in the way of a `dataset`.
fn understands(script: &str, attribute: &str) -> bool {
    let mut parts = attribute.trim_start_matches("data-").split('-');
    let mut camel = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (first, rest) = part.split_at(1);
        camel += &first.to_uppercase();
        camel += rest;
    }
    script.contains(attribute) || script.contains(&camel)
}

/// What Prometheus says of it, as of the query of a rule. A line that does not begin with a space begins a query.
fn promql(text: &str) -> Option<String> {
    let mut queries: Vec<String> = Vec::new();
    for line in text.lines() {
        match queries.last_mut() {
            Some(query) if line.starts_with(' ') => *query += line,
            _ => queries.push(line.to_owned()),
        }
    }
    let rules = queries.iter().enumerate().map(|(number, query)| {
        format!("      - record: sample:{number}\n        expr: {}\n", serde_json::Value::String(query.clone()))
    });
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a temporary file");
    let rules = format!("groups:\n  - name: samples\n    rules:\n{}", rules.collect::<String>());
    fs::write(file.path(), rules).expect("written");
    let mut promtool = xtask::unpacked::PROMETHEUS.command("promtool").unwrap_or_else(|error| panic!("{error:#}"));
    let output = promtool.args(["check", "rules"]).arg(file.path()).output().expect("promtool starts");
    (!output.status.success()).then(|| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn every_sample_can_be_used() {
    let mut found = 0;
    let mut wrong = Vec::new();
    for (path, text) in documents() {
        for block in blocks(&text) {
            found += 1;
            wrong.extend(mistakes(&block).into_iter().map(|why| format!("{path}:{}: {why}", block.line)));
        }
    }
    assert!(found > 40, "{found} samples were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The tests in a browser take it from one of them.
#[test]
fn the_tag_is_the_same_everywhere() {
    let tags = ["README.md", "README.zh-CN.md", "docs/site.md"].map(|path| {
        let text = document(path);
        let tag = blocks(&text).into_iter().find(|block| block.language == "html").map(|block| block.text);
        tag.unwrap_or_else(|| panic!("{path} shows no tag"))
    });
    assert!(tags.iter().all(|tag| *tag == tags[0]), "{tags:?}");
}

/// Both tell the same story: as many parts, tables and samples, and the same links but for those between them.
#[test]
fn the_chinese_readme_has_what_the_english_one_has() {
    let of = |path: &str| {
        let text = document(path);
        let count = |begin: &str| text.lines().filter(|line| line.starts_with(begin)).count();
        let links: BTreeSet<String> = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
            .filter(|target| !target.starts_with("README"))
            .map(str::to_owned)
            .collect();
        let commands: Vec<String> = blocks(&text)
            .iter()
            .flat_map(|block| block.text.lines())
            .map(|line| line.split("  #").next().unwrap_or_default().trim_end().to_owned())
            .collect();
        ([count("## "), count("|"), count("- "), count("1. ")], links, commands)
    };
    assert_eq!(of("README.md"), of("README.zh-CN.md"));
}

#[test]
fn every_mistake_is_seen() {
    let block = |language: &str, text: &str| Block { line: 1, language: language.to_owned(), text: text.to_owned() };
    for (language, text) in [
        ("sh", "curl 'http://127.0.0.1:8000/v1/views?x=1' # y\nsystemctl restart footfall-ingest footfall.target\n"),
        ("sh", "for p in 1 2; do curl http://127.0.0.1:$p/readyz; done\njournalctl --unit 'footfall-*'\n"),
        ("html", "<script defer src=\"x\" data-article=\"a\"></script>\n"),
        ("promql", "rate(a[5m])\n  / rate(b[5m])\nc\n"),
    ] {
        assert_eq!(mistakes(&block(language, text)), [""; 0], "{text}");
    }
    for (language, text, said) in [
        ("sh", "for p in 1; do x\n", "syntax error"),
        ("sh", "curl http://127.0.0.1:8000/v1/view\n", "nobody answers /v1/view"),
        ("sh", "systemctl restart footfall-ingestion\n", "no unit footfall-ingestion.service"),
        ("html", "<b data-footfall-reads></b>\n", "data-footfall-reads"),
        ("promql", "rate(a[5m)\n", "expr"),
        ("cobol", "", "nobody checks"),
    ] {
        let found = mistakes(&block(language, text));
        assert!(found.iter().any(|found| found.contains(said)), "{said}: {found:?}");
    }
}
