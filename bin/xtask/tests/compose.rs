//! compose.yaml and the Dockerfile say what is so: their programs and commands exist, their settings can be used, and their
//! ports are those that the services listen on.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use footfall_shared::config::Config;
use serde_json::{Map, Value};

fn text(path: &str) -> String {
    fs::read_to_string(xtask::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// YAML, with what it repeats by reference in its place.
fn parse(yaml: &str) -> Value {
    let python = xtask::python::environment().unwrap_or_else(|error| panic!("{error:#}")).join("bin/python");
    let mut command = Command::new(python);
    command.args(["-c", "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python starts");
    child.stdin.take().expect("piped").write_all(yaml.as_bytes()).expect("it reads");
    serde_json::from_slice(&child.wait_with_output().expect("it ends").stdout).expect("YAML")
}

/// A value as Compose passes it on, where the variables that must be set are: `${A:-b}` is b.
fn filled_in(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut parts = text.split("${");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (variable, rest) = part.split_once('}').expect("a variable ends");
        filled += variable.split_once(":-").map_or("0123456789abcdef", |(_, default)| default);
        filled += rest;
    }
    filled
}

fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its program");
    test.parent().and_then(Path::parent).expect("tests are built into target/PROFILE/deps").join(name)
}

/// The port at the end of an address.
fn port(address: &str) -> Option<u16> {
    address.rsplit(':').next()?.parse().ok()
}

/// Where the two files differ from the programs, a sentence each.
fn drift(compose: &str, dockerfile: &str) -> Vec<String> {
    let compose = parse(compose);
    let mut drift = Vec::new();
    let services = compose["services"].as_object().cloned().unwrap_or_default();
    for (name, service) in &services {
        let image = service["image"].as_str().unwrap_or_default();
        if service["build"].is_null() {
            let tag = image.rsplit_once(':').map(|(_, tag)| tag);
            if !tag.is_some_and(|tag| tag.starts_with(|first: char| first.is_ascii_digit())) {
                drift.push(format!("{name}: the image {image} has no version"));
            }
            continue;
        }
        drift.extend(drift_of_ours(name, service, dockerfile));
    }
    for part in services.values().flat_map(|service| service["depends_on"].as_object().cloned().unwrap_or_default()) {
        if !services.contains_key(&part.0) {
            drift.push(format!("there is no service {}", part.0));
        }
    }
    drift
}

fn drift_of_ours(name: &str, service: &Value, dockerfile: &str) -> Vec<String> {
    let mut drift = Vec::new();
    let command = service["command"].as_str().unwrap_or_default();
    let mut words = command.split_whitespace();
    let built = words.next().unwrap_or_default();
    let is_copied = dockerfile.split_whitespace().any(|word| word == format!("target/release/{built}"));
    if !is_copied || !program(built).exists() {
        drift.push(format!("{name}: the image has no program {built}"));
    } else {
        let mut call = Command::new(program(built));
        let output = call.args(words).arg("--help").output().expect("it starts");
        if !output.status.success() {
            drift.push(format!("{name}: `{command}` is refused"));
        }
    }
    let environment: HashMap<String, String> = service["environment"]
        .as_object()
        .unwrap_or(&Map::new())
        .iter()
        .map(|(variable, value)| (variable.clone(), filled_in(value)))
        .collect();
    let config = match Config::load(None, environment) {
        Ok(config) => config,
        Err(error) => return drift.into_iter().chain([format!("{name}: {error}")]).collect(),
    };
    let listens = match built {
        "footfall-ingest" => Some(config.ingest.listen),
        "footfall-dashboard" => Some(config.dashboard.listen),
        _ => None,
    };
    for published in service["ports"].as_array().unwrap_or(&Vec::new()) {
        let published = published.as_str().unwrap_or_default();
        if listens.is_none_or(|listens| port(published) != Some(listens.port()) || listens.ip().is_loopback()) {
            drift.push(format!("{name}: nothing listens at the port of {published}"));
        }
    }
    if built == "footfall-ingest" {
        let journal = format!(":{}", config.ingest.journal);
        let volumes = service["volumes"].as_array().cloned().unwrap_or_default();
        if !volumes.iter().any(|volume| volume.as_str().is_some_and(|volume| volume.ends_with(&journal))) {
            drift.push(format!("{name}: the journal is not on a volume"));
        }
        if !dockerfile.contains(&config.ingest.journal) {
            drift.push(format!("{name}: the image has no folder for the journal"));
        }
    }
    drift
}

#[test]
fn compose_and_image_are_those_of_the_programs() {
    let (compose, dockerfile) = (text("compose.yaml"), text("Dockerfile"));
    assert_eq!(drift(&compose, &dockerfile), [""; 0]);
    for (from, to, said) in [
        ("mariadb:10.11", "mariadb:latest", "has no version"),
        ("command: footfall-flusher", "command: footfall-flush", "no program footfall-flush"),
        ("command: footfall init", "command: footfall initialise", "is refused"),
        ("FOOTFALL_INGEST__LISTEN", "FOOTFALL_INGEST__LISTENS", "unknown field `listens`"),
        ("127.0.0.1:8001:8001", "127.0.0.1:8001:8002", "nothing listens"),
        ("    FOOTFALL_INGEST__LISTEN: 0.0.0.0:8000\n", "", "nothing listens"),
        ("journal:/var/lib/footfall/journal", "journal:/var/lib/journal", "not on a volume"),
        ("init: {condition", "initial: {condition", "no service initial"),
    ] {
        let changed = compose.replace(from, to);
        assert_ne!(changed, compose);
        let drift = drift(&changed, &dockerfile);
        assert!(drift.iter().any(|drift| drift.contains(said)), "{said}: {drift:?}");
    }
    let without = dockerfile.replace("target/release/footfall-ingest", "");
    assert!(drift(&compose, &without).iter().any(|drift| drift.contains("no program footfall-ingest")));
    // The Rust that builds the image is the one that the workspace asks for.
    let wanted = text("Cargo.toml");
    let version = wanted.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("a version");
    assert!(dockerfile.contains(&format!("FROM rust:{}-", version.trim_matches('"'))), "{version}");
}
