//! compose.yaml and the Dockerfile say what is so: their programs and commands exist, their settings can be used, and the
//! load balancer's sample, which they use, finds the services.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use footfall_shared::service::config::Config;
use serde_json::{Map, Value, json};

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
        filled += variable.split_once(":-").map_or("6f1c0e9ab7d24835", |(_, default)| default);
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
    for service in services.values() {
        let named = service["depends_on"].as_object().map(|parts| parts.keys().cloned().collect());
        let listed = || serde_json::from_value::<Vec<String>>(service["depends_on"].clone()).unwrap_or_default();
        for part in named.unwrap_or_else(listed).into_iter().filter(|part| !services.contains_key(part)) {
            drift.push(format!("there is no service {part}"));
        }
    }
    drift.extend(drift_of_balancer(&services));
    let range = compose["networks"]["default"]["ipam"]["config"][0]["ip_range"].as_str().unwrap_or("0.0.0.0/0");
    for (name, service) in &services {
        let address = service["networks"]["default"]["ipv4_address"].as_str();
        if address.is_some_and(|address| is_in(address, range)) {
            drift.push(format!("{name}: a service that starts earlier may get its address"));
        }
    }
    drift
}

/// Whether an address is one of a network's, which is written as ADDRESS/BITS.
fn is_in(address: &str, network: &str) -> bool {
    let (start, bits) = network.split_once('/').expect("a network");
    let number = |address: &str| u32::from(address.parse::<Ipv4Addr>().expect("an address"));
    let mask = u32::MAX.checked_shl(32 - bits.parse::<u32>().expect("a number of bits")).unwrap_or(0);
    number(address) & mask == number(start) & mask
}

/// docs/examples/haproxy.cfg sends to the services of these names, at their addresses and ports, and is reached at its own.
fn drift_of_balancer(services: &Map<String, Value>) -> Vec<String> {
    let mut drift = Vec::new();
    let sample = text("docs/examples/haproxy.cfg");
    let beside = beside(&sample);
    let address = |name: &str| services.get(name)?["networks"]["default"]["ipv4_address"].as_str();
    for server in sample.lines().filter_map(|line| line.trim().strip_prefix("server ")) {
        let (name, target) = server.split_once(' ').expect("a name and an address");
        // `dashboard1` is the only one here.
        let service = if services.contains_key(name) { name } else { name.trim_end_matches('1') };
        let listens = services.get(service).and_then(|service| addresses(service, &config(service).ok()?).0);
        let found = address(service).zip(listens).map(|(address, listens)| format!("{address}:{}", listens.port()));
        if found.as_deref() != Some(target) {
            drift.push(format!("haproxy: {name} is not at {target}, but at {found:?}"));
        }
    }
    let haproxy = services.get("haproxy").cloned().unwrap_or_default();
    let published = haproxy["ports"][0].as_str().unwrap_or_default();
    let bound = sample.lines().find_map(|line| line.trim().strip_prefix("bind "));
    if bound.and_then(port) != port(published) {
        drift.push(format!("haproxy: nothing listens at the port of {published}"));
    }
    if !haproxy["volumes"][0].as_str().is_some_and(|volume| volume.starts_with("./docs/examples/haproxy.cfg:")) {
        drift.push("haproxy: it does not have the sample".to_owned());
    }
    for service in services.values().filter(|service| !service["build"].is_null()) {
        let proxies = service["environment"]["FOOTFALL_HTTP__TRUSTED_PROXIES"].as_str();
        if proxies != address("haproxy") {
            drift.push("haproxy: it is not believed".to_owned());
        }
        let limits = |config: &Config| (config.ingest.views_per_second, config.ingest.new_articles_per_minute);
        if config(service).is_ok_and(|config| config.http != beside.http || limits(&config) != limits(&beside)) {
            drift.push("haproxy: its sample wants other settings beside it".to_owned());
        }
    }
    drift
}

/// The settings that the sample of a load balancer asks for.
fn beside(sample: &str) -> Config {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(xtask::settings_beside(sample).as_bytes()).expect("written");
    Config::load(Some(file.path()), HashMap::<String, String>::new()).unwrap_or_else(|error| panic!("{error}"))
}

/// The settings of a service.
fn config(service: &Value) -> Result<Config, footfall_shared::service::config::ConfigError> {
    let variables = service["environment"].as_object().cloned().unwrap_or_default();
    Config::load(
        None,
        variables.iter().map(|(variable, value)| (variable.clone(), filled_in(value))).collect::<HashMap<_, _>>(),
    )
}

/// Where it listens for others, and where its health is told, if it does.
fn addresses(service: &Value, config: &Config) -> (Option<SocketAddr>, Option<SocketAddr>) {
    match service["command"].as_str() {
        Some("footfall-ingest") => (Some(config.ingest.listen), Some(config.ingest.admin)),
        Some("footfall-flusher") => (None, Some(config.flusher.admin)),
        Some("footfall-dashboard") => (Some(config.dashboard.listen), Some(config.dashboard.admin)),
        _ => (None, None),
    }
}

fn drift_of_ours(name: &str, service: &Value, dockerfile: &str) -> Vec<String> {
    let mut drift = Vec::new();
    let command = service["command"].as_str().unwrap_or_default();
    let mut words = command.split_whitespace();
    let built = words.next().unwrap_or_default();
    let is_copied = dockerfile.split_whitespace().any(|word| word == format!("target/dist/{built}"));
    if !is_copied || !program(built).exists() {
        drift.push(format!("{name}: the image has no program {built}"));
    } else {
        let mut call = Command::new(program(built));
        let output = call.args(words).arg("--help").output().expect("it starts");
        if !output.status.success() {
            drift.push(format!("{name}: `{command}` is refused"));
        }
    }
    let config = match config(service) {
        Ok(config) => config,
        Err(error) => return drift.into_iter().chain([format!("{name}: {error}")]).collect(),
    };
    let (listens, admin) = addresses(service, &config);
    if listens.is_some_and(|listens| listens.ip().is_loopback()) {
        drift.push(format!("{name}: nobody else can reach it"));
    }
    let check = admin.map(|admin| json!(["CMD", "curl", "--fail", "--silent", format!("http://{admin}/readyz")]));
    if check.is_some_and(|check| service["healthcheck"]["test"] != check) || !dockerfile.contains(" curl ") {
        drift.push(format!("{name}: its health is not asked for"));
    }
    if admin.is_some() {
        let unit = text(&format!("systemd/{built}.service"));
        let limit = service["mem_limit"].as_str().unwrap_or("none").to_uppercase();
        if !unit.lines().any(|line| line.strip_prefix("MemoryMax=") == Some(&limit)) {
            drift.push(format!("{name}: its memory is not limited as in its unit"));
        }
    }
    if built == "footfall-ingest" {
        let journal = format!(":{}", config.ingest.journal);
        let volumes = service["volumes"].as_array().cloned().unwrap_or_default();
        if !volumes.iter().any(|volume| volume.as_str().is_some_and(|volume| volume.ends_with(&journal))) {
            drift.push(format!("{name}: the journal is not on a volume"));
        }
        if !dockerfile.contains(&config.ingest.journal.to_string()) {
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
        ("FOOTFALL_INGEST__LISTEN", "FOOTFALL_INGEST__LISTENS", "did you mean FOOTFALL_INGEST__LISTEN?"),
        ("127.0.0.1:8000:80", "127.0.0.1:8000:81", "nothing listens"),
        ("    FOOTFALL_INGEST__LISTEN: 0.0.0.0:8000\n", "", "nobody else can reach it"),
        ("FOOTFALL_INGEST__LISTEN: 0.0.0.0:8000", "FOOTFALL_INGEST__LISTEN: 0.0.0.0:8080", "ingest1 is not at"),
        ("ipv4_address: 10.0.0.3", "ipv4_address: 10.0.0.33", "dashboard1 is not at"),
        (" ip_range: 10.0.0.128/25,", "", "ingest1: a service that starts earlier may get its address"),
        (
            "ip_range: 10.0.0.128/25",
            "ip_range: 10.0.0.4/30",
            "haproxy: a service that starts earlier may get its address",
        ),
        ("TRUSTED_PROXIES: 10.0.0.4", "TRUSTED_PROXIES: 10.0.0.5", "it is not believed"),
        ("    FOOTFALL_INGEST__VIEWS_PER_SECOND: 50\n", "", "wants other settings"),
        ("NEW_ARTICLES_PER_MINUTE: 300", "NEW_ARTICLES_PER_MINUTE: 30", "wants other settings"),
        ("./docs/examples/haproxy.cfg", "./docs/examples/nginx.conf", "does not have the sample"),
        ("journal:/var/lib/footfall/journal", "journal:/var/lib/journal", "not on a volume"),
        ("mem_limit: 3g", "mem_limit: 2g", "ingest1: its memory is not limited"),
        ("    mem_limit: 1g\n", "", "flusher: its memory is not limited"),
        ("127.0.0.1:8011/readyz", "127.0.0.1:8010/readyz", "flusher: its health is not asked for"),
        ("init: {condition", "initial: {condition", "no service initial"),
    ] {
        let changed = compose.replace(from, to);
        assert_ne!(changed, compose);
        let drift = drift(&changed, &dockerfile);
        assert!(drift.iter().any(|drift| drift.contains(said)), "{said}: {drift:?}");
    }
    let without = dockerfile.replace("target/dist/footfall-ingest", "");
    assert!(drift(&compose, &without).iter().any(|drift| drift.contains("no program footfall-ingest")));
    let without = dockerfile.replace(" curl ", " ");
    assert!(drift(&compose, &without).iter().any(|drift| drift.contains("its health is not asked for")));
    // The Rust that builds the image is the one that the workspace asks for.
    let wanted = text("Cargo.toml");
    let version = wanted.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("a version");
    assert!(dockerfile.contains(&format!("FROM rust:{}-", version.trim_matches('"'))), "{version}");
}

#[test]
fn both_samples_limit_what_one_client_is_counted_for() {
    let [haproxy, nginx] = ["docs/examples/haproxy.cfg", "docs/examples/nginx.conf"].map(|path| beside(&text(path)));
    assert_eq!((&haproxy.http, &haproxy.ingest), (&nginx.http, &nginx.ingest));
    assert!(haproxy.ingest.views_per_second.is_some() && haproxy.ingest.new_articles_per_minute.is_some());
    assert!(!haproxy.http.trusted_proxies.is_empty());
}
