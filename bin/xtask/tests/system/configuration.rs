//! A configuration that cannot be used: all is said at once, and nothing is started.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use crate::common::program;

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

const ENVIRONMENT: [(&str, &str); 6] = [
    ("FOOTFALL_INGEST__LISTEN", "localhost:8000"),
    ("FOOTFALL_FLUSHER__UPDATES", "-3"),
    ("FOOTFALL_FLUSHER__POLL", "50"),
    ("FOOTFALL_HTTP__TRUSTED_PROXIES", "10.0.0.0/33"),
    ("FOOTFALL_DASHBOARD__TOKEN", "short"),
    ("FOOTFALL_DASHBOARD__READ_TOKEN_FILE", "/no/such/file"),
];

/// How the sentence about each mistake begins.
const MISTAKES: [&str; 15] = [
    "shards is 0",
    "redis.url cannot be used",
    "redis.timeout: unknown field `timeout`",
    "database.url cannot be used (it names no database)",
    r#"database.connections_max: string "four" is not an integer"#,
    "loging.level: unknown field `loging`",
    "log.level is `loud`",
    "ingest.journal_bytes_max is 1000",
    "dashboard.url is `stats.example`",
    "FOOTFALL_INGEST__LISTEN: ",
    r#"FOOTFALL_FLUSHER__UPDATES: string "-3" is not"#,
    "FOOTFALL_FLUSHER__POLL: unknown field `poll`",
    "FOOTFALL_HTTP__TRUSTED_PROXIES: `10.0.0.0/33`",
    "dashboard.token has fewer than 16 characters",
    "FOOTFALL_DASHBOARD__READ_TOKEN_FILE names /no/such/file",
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
            assert!(said.lines().any(|line| line.starts_with(&format!("  - {mistake}"))), "{name}: {mistake}: {said}");
        }
        assert_eq!(said.matches("\n  - ").count(), MISTAKES.len(), "{name}: {said}");
        assert!(!said.contains("hunter2"), "{name} shows a password: {said}");
        assert!(!announced.exists(), "{name} listens");
    }

    // The same without its mistakes.
    let mut command = Command::new(program("footfall"));
    command.env_clear().args(["check-config"]);
    assert!(command.status().expect("it starts").success());
}
