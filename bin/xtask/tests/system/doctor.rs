//! `footfall doctor`: it finds nothing wrong with what is well, and names what is broken, one thing after the other.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use footfall_drill::stack::Role;
use serde_json::Value;

use crate::common::{Running, eventually, start};
use crate::tool::{sum, tool, view};

const PATIENCE: Duration = Duration::from_secs(30);

/// What it said, and its exit code.
struct Said {
    code: i32,
    lines: Vec<Value>,
}

impl Said {
    /// Whether a line about this has this level and these words.
    fn has(&self, check: &str, level: &str, words: &str) -> bool {
        self.lines.iter().any(|line| {
            let text = format!("{} -> {}", line["what"], line["next"]);
            line["check"] == check && line["level"] == level && text.contains(words)
        })
    }

    #[track_caller]
    fn assert(&self, code: i32, check: &str, level: &str, words: &str) {
        assert!(
            self.code == code && self.has(check, level, words),
            "{check}: {level}: {words}\n{}: {self:#?}",
            self.code
        );
    }
}

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.lines.iter().map(ToString::to_string)).finish()
    }
}

fn doctor(running: &mut Running, arguments: &[&str], env: &[(&str, &str)]) -> (i32, String) {
    let mut command = running.stack.tool();
    // What the services were told on their own.
    command.env("FOOTFALL_INGEST__JOURNAL", running.stack.journal().expect("it has one"));
    for (role, name) in [(Role::Ingest, "INGEST"), (Role::Flusher, "FLUSHER"), (Role::Dashboard, "DASHBOARD")] {
        let admin = running.stack.service(role, 0).admin().to_string();
        command.env(format!("FOOTFALL_{name}__ADMIN"), admin);
    }
    command.arg("doctor").args(arguments).envs(env.iter().copied()).stdin(Stdio::null());
    let output = command.output().expect("the tool starts");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).expect("text"))
}

fn redis(running: &Running, words: &[&str]) {
    running.stack.redis.query(words).expect("an answer");
}

fn said(running: &mut Running, env: &[(&str, &str)]) -> Said {
    let (code, text) = doctor(running, &["--json"], env);
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    Said { code, lines }
}

/// What was mended is found to be well, when the services have noticed.
#[track_caller]
fn assert_well(running: &mut Running, what: &str) {
    let mut last = None;
    let mut is_well = || {
        let said = said(running, &[]);
        let is_well = said.code == 0 && said.lines.iter().all(|line| line["level"] == "ok");
        last = Some(said);
        is_well
    };
    let deadline = std::time::Instant::now() + PATIENCE;
    while !is_well() && std::time::Instant::now() < deadline {}
    let last = last.expect("it was asked");
    assert!(last.code == 0, "{what} is mended: {last:#?}");
}

#[test]
fn what_is_broken_is_named_with_the_next_step() {
    let mut running = start(|options| {
        options.dashboards = 1;
        options.mariadb.flush_log_at_commit = 1;
        // An administrator's rights would reach past `read_only`.
        options.database_user = "counting".to_owned();
    });
    for user in ["one", "two", "three"] {
        view(&running, "yumo", user);
    }
    eventually("stored", PATIENCE, || sum(&mut running, "SELECT SUM(views) FROM article_counts") == 3);
    assert_well(&mut running, "nothing was broken, and all");
    let (code, report) = doctor(&mut running, &[], &[]);
    assert!(code == 0 && report.ends_with("all is ok\n") && !report.contains('\x1b'), "{report}");
    assert!(report.contains("accepted 3 = stored 3 + pending 0"), "{report}");
    println!("{report}");

    redis(&running, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    said(&mut running, &[]).assert(69, "redis settings", "problem", "set it to noeviction");
    redis(&running, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    redis(&running, &["CONFIG", "SET", "appendfsync", "no"]);
    said(&mut running, &[]).assert(1, "redis settings", "warning", "appendfsync");
    redis(&running, &["CONFIG", "SET", "appendfsync", "everysec"]);
    // As a replica without its master, too few replicas and a disk that fails do, it refuses what may write.
    redis(&running, &["CONFIG", "SET", "min-replicas-to-write", "1"]);
    said(&mut running, &[]).assert(69, "redis", "problem", "NOREPLICAS");
    redis(&running, &["CONFIG", "SET", "min-replicas-to-write", "0"]);

    running.sql("SET GLOBAL read_only = 1");
    let read_only = said(&mut running, &[]);
    read_only.assert(69, "mysql", "problem", "--read-only");
    assert!(
        read_only.has("mysql settings", "warning", "replica") && read_only.has("redis", "ok", ""),
        "{read_only:#?}"
    );
    running.sql("SET GLOBAL read_only = 0");
    running.sql("REVOKE DELETE ON footfall.* FROM counting@localhost");
    said(&mut running, &[]).assert(69, "mysql", "problem", "DELETE");
    running.sql("GRANT ALL ON footfall.* TO counting@localhost");
    running.sql("ALTER TABLE footfall_users RENAME TO elsewhere");
    said(&mut running, &[]).assert(69, "tables", "problem", "footfall_users is missing");
    running.sql("ALTER TABLE elsewhere RENAME TO footfall_users");

    let too_large = [("FOOTFALL_INGEST__JOURNAL_BYTES_MAX", "1000000000000000")];
    said(&mut running, &too_large).assert(1, "disk", "warning", "ingest.journal_bytes_max");
    let journal = running.stack.journal().expect("it has one");
    fs::set_permissions(&journal, Permissions::from_mode(0o770)).expect("it is ours");
    said(&mut running, &[]).assert(69, "journal", "problem", "chmod 700");
    fs::set_permissions(&journal, Permissions::from_mode(0o700)).expect("it is ours");

    running.sql("UPDATE footfall_shard_fence SET views = views - 1");
    said(&mut running, &[]).assert(69, "books", "problem", "1 view missing");
    running.sql("UPDATE footfall_shard_fence SET views = views + 1");

    let mistakes = [("FOOTFALL_REDIS__URL", "nowhere"), ("FOOTFALL_INGEST__LISTEN", "here")];
    let wrong = said(&mut running, &mistakes);
    wrong.assert(78, "configuration", "problem", "redis.url");
    wrong.assert(78, "configuration", "problem", "FOOTFALL_INGEST__LISTEN");
    assert_eq!(wrong.lines.len(), 2, "{wrong:#?}");
    assert_well(&mut running, "all of that");
}

#[test]
fn what_is_down_keeps_nothing_else_from_being_looked_at() {
    let mut running = start(|options| {
        options.dashboards = 1;
        options.mariadb.flush_log_at_commit = 1;
    });
    running.sql("ALTER TABLE footfall_article_readers ADD CONSTRAINT nope CHECK (user <> 'poison')");
    view(&running, "yumo", "poison");
    eventually("quarantined", PATIENCE, || sum(&mut running, "SELECT SUM(views) FROM footfall_quarantine") == 1);
    eventually("a warning", PATIENCE, || said(&mut running, &[]).code == 1);
    said(&mut running, &[]).assert(1, "quarantine", "warning", "footfall quarantine list");
    redis(&running, &["RPUSH", "footfall:{0}:aside:7:1", "a batch of an overtaken history"]);
    redis(&running, &["SET", "footfall:{0}:live:1:0:x}:aside:7:1", "an article of that name"]);
    said(&mut running, &[]).assert(1, "quarantine", "warning", "1 log set aside");
    redis(&running, &["DEL", "footfall:{0}:aside:7:1", "footfall:{0}:live:1:0:x}:aside:7:1"]);
    running.sql("ALTER TABLE footfall_article_readers DROP CONSTRAINT nope");
    assert_eq!(tool(&running, &["quarantine", "replay", "--all", "--yes"]).0, 0);
    assert_well(&mut running, "the quarantine");

    // An ingest that has ended, and has left what MySQL does not have.
    running.stack.service(Role::Flusher, 0).kill().expect("killed");
    view(&running, "yumo", "late");
    running.stack.service(Role::Ingest, 0).kill().expect("killed");
    eventually("its journal", PATIENCE, || {
        let dead = said(&mut running, &[]);
        dead.code == 69
            && dead.has("journal", "warning", "1 batch with 1 view")
            && dead.has("ingest", "problem", "systemctl start footfall-ingest")
            && dead.has("flusher", "problem", "FootfallFlusherDown")
            && dead.has("backlog", "ok", "1 batch with 1 view")
            && dead.has("books", "ok", "pending 1")
    });
    for role in [Role::Flusher, Role::Ingest] {
        running.stack.service(role, 0).restart().expect("started");
    }
    assert_well(&mut running, "the journal of the dead");

    running.stack.redis.kill().expect("killed");
    let down = said(&mut running, &[]);
    down.assert(69, "redis", "problem", "After a power cut");
    assert!(down.has("mysql", "ok", "") && down.has("tables", "ok", "") && down.has("journal", "ok", ""), "{down:#?}");
    assert!(down.has("books", "warning", "without Redis") && down.has("clocks", "ok", "MySQL"), "{down:#?}");
    running.stack.redis.restart().expect("restarted");
    assert_well(&mut running, "Redis");

    // It hangs, with its socket open.
    running.stack.redis.pause().expect("paused");
    let hangs = said(&mut running, &[]);
    running.stack.redis.resume().expect("resumed");
    hangs.assert(69, "redis", "problem", "hangs");
    assert!(hangs.has("mysql", "ok", ""), "{hangs:#?}");
    assert_well(&mut running, "a pause");

    running.stack.mariadb.kill().expect("killed");
    let down = said(&mut running, &[]);
    down.assert(69, "mysql", "problem", "FootfallMySQLUnreachable");
    assert!(down.has("redis", "ok", "") && down.has("quarantine", "warning", "without MySQL"), "{down:#?}");
    running.stack.mariadb.restart().expect("restarted");
    assert_well(&mut running, "MySQL");
}
