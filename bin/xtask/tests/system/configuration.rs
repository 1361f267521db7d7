//! A configuration that cannot be used: all is said at once, and nothing is started.

use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::common::{eventually, get, program};

const FILE: &str = r#"
shards = 0

[redis]
url = "http://127.0.0.1:6379"
timeout = 5

[database]
url = "mysql://footfall:hunter2@127.0.0.1:3306"
connections_max = "four"

[loging]
level = "debug"

[log]
level = "loud"

[ingest]
journal_bytes_max = 1000

[dashboard]
url = "stats.example"
"#;

const ENVIRONMENT: [(&str, &str); 8] = [
    ("FOOTFALL_INGEST__LISTEN", "localhost"),
    ("FOOTFALL_FLUSHER__UPDATES", "-3"),
    ("FOOTFALL_FLUSHER__POLL", "50"),
    ("FOOTFALL_HTTP__TRUSTED_PROXIES", "10.0.0.0/33"),
    ("FOOTFALL_DASHBOARD__TOKEN", "short"),
    ("FOOTFALL_DASHBOARD__READ_TOKEN_FILE", "/no/such/file"),
    ("FOOTFALL_REDIS", "redis://:hunter2@h"),
    // Of Kubernetes: no mistake.
    ("FOOTFALL_PORT", "tcp://10.0.0.1:8000"),
];

/// How the sentence about each mistake begins; `(FILE:` is before a line of the file.
const MISTAKES: [&str; 16] = [
    "shards (FILE:2) is `0`: it must be a whole number from 1",
    "redis.url cannot be used (it must begin with redis://",
    "redis.timeout (FILE:6) is no setting: did you mean redis.timeout_ms?",
    "database.url cannot be used (it names no database)",
    "database.connections_max (FILE:10) is `\"four\"`: it must be a whole number",
    "loging.level (FILE:13) is no setting: did you mean log.level?",
    "log.level (FILE:16) is `\"loud\"`",
    "ingest.journal_bytes_max (FILE:19) is `1000`: it must be a whole number from 8388608",
    "dashboard.url (FILE:22) is `\"stats.example\"`: it must be a URL",
    "FOOTFALL_INGEST__LISTEN is `localhost`: it must be an address and a port",
    "FOOTFALL_FLUSHER__UPDATES is `-3`: it must be a whole number",
    "FOOTFALL_FLUSHER__POLL is no setting: did you mean FOOTFALL_FLUSHER__POLL_MS?",
    "FOOTFALL_HTTP__TRUSTED_PROXIES is `10.0.0.0/33`: it must be addresses",
    "FOOTFALL_DASHBOARD__TOKEN has fewer than 16 characters",
    "FOOTFALL_DASHBOARD__READ_TOKEN_FILE names /no/such/file, which cannot be read",
    "FOOTFALL_REDIS is no setting, but a section",
];

#[test]
fn all_mistakes_are_said_at_once_and_nothing_is_started() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (file, announced) = (folder.path().join("footfall.toml"), folder.path().join("addresses"));
    fs::write(&file, FILE).expect("written");
    for name in ["footfall-ingest", "footfall-flusher", "footfall-dashboard", "footfall"] {
        let mut command = Command::new(program(name));
        command.env_clear().envs(HashMap::from(ENVIRONMENT)).arg("--config").arg(&file);
        match name {
            "footfall" => command.arg("check-config"),
            _ => command.arg("--announce").arg(&announced),
        };
        let output = command.output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{name}: {said}");
        assert!(output.stdout.is_empty(), "{name}");
        for mistake in MISTAKES {
            let mistake = format!("  - {}", mistake.replace("(FILE:", &format!("({}:", file.display())));
            assert!(said.lines().any(|line| line.starts_with(&mistake)), "{name}: {mistake}: {said}");
        }
        assert_eq!(said.matches("\n  - ").count(), MISTAKES.len(), "{name}: {said}");
        assert!(!said.contains("hunter2"), "{name} shows a password: {said}");
        assert!(!announced.exists(), "{name} listens");
    }
}

/// What `footfall check-config` says on stdout and stderr.
fn check_config(environment: &[(&str, &str)]) -> (String, String) {
    let mut command = Command::new(program("footfall"));
    let output = command.env_clear().envs(environment.iter().copied()).arg("check-config").output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    assert!(output.status.success(), "{}", text(output.stderr));
    (text(output.stdout), text(output.stderr))
}

#[test]
fn what_can_be_used_is_shown_with_its_dangers_and_without_its_secrets() {
    let (shown, warnings) = check_config(&[]);
    assert!(shown.starts_with("# ok: ") && shown.contains("poll_ms = 50\n"), "{shown}");
    assert_eq!(warnings, "");
    let (shown, warnings) = check_config(&[
        ("FOOTFALL_REDIS__URL", "redis://:hunter2@redis.example:6379/0"),
        ("FOOTFALL_DATABASE__URL", "mysql://u:hunter2@db.example/footfall"),
        ("FOOTFALL_INGEST__LISTEN", "localhost:8000"),
        ("FOOTFALL_PORT", "tcp://10.0.0.1:8000"),
        ("FOOTFALL_SERVICE_HOST", "10.0.0.1"),
    ]);
    assert!(shown.contains("listen = \"127.0.0.1:8000\"\n"), "{shown}");
    assert!(shown.contains("# not read") && shown.contains("FOOTFALL_PORT, FOOTFALL_SERVICE_HOST"), "{shown}");
    for store in ["redis.url leads to redis.example without TLS", "database.url leads to db.example without TLS"] {
        assert!(warnings.contains(&format!("warning: {store}")), "{warnings}");
    }
    assert!(!shown.contains("hunter2") && !warnings.contains("hunter2"), "{shown}{warnings}");
}

/// A service that was started for a test and ends with it.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill(); // May have ended by itself.
        let _ = self.0.wait();
    }
}

#[test]
fn why_a_store_cannot_be_reached_is_said_at_once_and_to_the_operator_only() {
    let folder = tempfile::tempdir().expect("temporary folder");
    // Was given to this process, and nobody listens there now.
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let environment = [
        ("FOOTFALL_REDIS__URL", format!("redis://:hunter2@{closed}/0")),
        ("FOOTFALL_DATABASE__URL", format!("mysql://operator:hunter2@{closed}/footfall")),
        ("FOOTFALL_INGEST__JOURNAL", folder.path().display().to_string()),
        ("FOOTFALL_INGEST__LISTEN", "localhost:0".to_owned()),
        ("FOOTFALL_INGEST__ADMIN", "localhost:0".to_owned()),
        ("FOOTFALL_FLUSHER__ADMIN", "localhost:0".to_owned()),
        ("FOOTFALL_DASHBOARD__LISTEN", "localhost:0".to_owned()),
        ("FOOTFALL_DASHBOARD__ADMIN", "localhost:0".to_owned()),
    ];
    for name in ["footfall-ingest", "footfall-flusher", "footfall-dashboard"] {
        let (announced, log) =
            (folder.path().join(format!("{name}.addresses")), folder.path().join(format!("{name}.log")));
        let mut command = Command::new(program(name));
        command.env_clear().envs(environment.clone()).arg("--announce").arg(&announced);
        let service = command.stderr(fs::File::create(&log).expect("a log")).spawn().expect("it starts");
        let _service = Service(service);
        let patience = Duration::from_secs(20);
        eventually("its addresses", patience, || announced.exists());
        let since = Instant::now();
        let addresses = fs::read_to_string(&announced).expect("addresses");
        let ready = |kind: &str| {
            let address = addresses.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix('='));
            address.map(|address| get(&format!("http://{address}/readyz")).body)
        };
        let refused = format!("{closed}: Connection refused");
        eventually("the reason", patience, || ready("admin").is_some_and(|body| body.contains(&refused)));
        assert!(since.elapsed() < Duration::from_secs(2), "{name}: {:?}", since.elapsed());
        let said = fs::read_to_string(&log).expect("a log");
        for store in [format!("redis: {refused}"), format!("mysql at {refused}")] {
            assert!(said.contains(&store), "{name}: {said}");
        }
        if let Some(public) = ready("listen") {
            assert!(
                public.contains("ready") && !public.contains("127.0.0.1") && !public.contains("refused"),
                "{public}"
            );
        }
        if name == "footfall-dashboard" {
            let page = addresses.lines().find_map(|line| line.strip_prefix("listen=")).expect("a page");
            let stats = get(&format!("http://{page}/v1/stats")).json();
            assert_eq!(stats["mysql"]["state"], "down");
            assert!(stats["mysql"]["reason"].as_str().is_some_and(|reason| reason.contains(&refused)), "{stats}");
        }
        assert!(!said.contains("hunter2") && !said.contains("operator"), "{said}");
    }
}
