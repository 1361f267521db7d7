//! MySQL comes back from a backup, and the newer data are gone for good.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use footfall_drill::stack::Role;

use crate::common::{Running, eventually, get, post, start};

const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the command; answers its exit code and what it printed.
fn accept_restore(running: &Running, arguments: &[&str]) -> (i32, String) {
    let mut command = running.stack.tool();
    let output = command.arg("accept-restore").args(arguments).stdin(Stdio::null()).output().expect("the tool starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

/// As many views of articles that no load has.
fn views(running: &Running, count: usize) {
    let views: Vec<String> = (0..count).map(|n| format!(r#"{{"article":"later","user":"u{}"}}"#, n % 97)).collect();
    let answer = post(&format!("{}/v1/views", running.ingest()), &format!("[{}]", views.join(",")));
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn sum(running: &mut Running, sql: &str) -> u64 {
    running.sql(sql).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn stored(running: &mut Running) -> u64 {
    sum(running, "SELECT SUM(views) FROM footfall_article_readers")
}

/// Views while Redis is away go to MySQL directly, but for a first one, if nothing else has told that Redis is away.
fn views_without_redis(running: &mut Running, count: usize) {
    let before = stored(running);
    running.stack.redis.kill().expect("kill");
    views(running, 1);
    views(running, count - 1);
    eventually("MySQL has them", PATIENCE, || stored(running) >= before + count as u64 - 1);
    running.stack.redis.restart().expect("restart");
    eventually("MySQL has all", PATIENCE, || stored(running) == before + count as u64);
}

/// Whether the flusher says so of itself.
fn says(running: &mut Running, what: &str) -> bool {
    let admin = running.stack.service(Role::Flusher, 0).admin();
    get(&format!("http://{admin}/readyz")).body.contains(what)
}

fn load(running: &Running, ledger: &str, views: u64) {
    running.load(ledger, &format!("--views {views} --articles 50 --users 500 --connections 8 --seed {views}")).finish();
}

/// Where MariaDB has its files, and where the backup is.
fn folders(running: &Running) -> [PathBuf; 2] {
    ["mariadb/data", "backup"].map(|name| running.path(name))
}

fn back_up(running: &mut Running) {
    let [data, backup] = folders(running);
    running.stack.mariadb.stop().expect("stop");
    assert!(Command::new("cp").arg("-a").args([data, backup]).status().expect("cp").success());
    running.stack.mariadb.restart().expect("restart");
}

/// MariaDB must have ended.
fn restore(running: &mut Running) {
    let [data, backup] = folders(running);
    fs::remove_dir_all(&data).expect("remove");
    fs::rename(backup, data).expect("rename");
    running.stack.mariadb.restart().expect("restart");
}

/// Everything before the backup and everything that was not flushed is counted once; the rest is in quarantine.
#[test]
fn a_restore_is_accepted() {
    let mut running = start(|_| {});
    load(&running, "before.tsv", 3_000);
    eventually("all is in MySQL", PATIENCE, || stored(&mut running) == 3_000);
    views_without_redis(&mut running, 100);
    back_up(&mut running);

    views(&running, 2_000);
    eventually("all is in MySQL", PATIENCE, || stored(&mut running) == 5_100);
    views_without_redis(&mut running, 300);
    let directly = |running: &Running| {
        let said = running.stack.redis.query(&["HVALS", "footfall:{0}:stored"]).expect("HVALS");
        said.iter().any(|said| said.ends_with(":398"))
    };
    eventually("ingest says what MySQL has", PATIENCE, || directly(&running));

    running.stack.mariadb.stop().expect("stop");
    load(&running, "waits.tsv", 2_500);
    restore(&mut running);
    eventually("the flusher stands still", PATIENCE, || says(&mut running, "accept-restore"));
    assert_eq!(stored(&mut running), 3_100);

    let (code, said) = accept_restore(&running, &["--dry-run"]);
    assert!(code == 1 && said.contains("2,300 views"), "{said}");
    assert_eq!(accept_restore(&running, &[]).0, 2, "it asks first");
    assert_eq!(sum(&mut running, "SELECT COUNT(*) FROM footfall_quarantine"), 0);
    let (code, said) = accept_restore(&running, &["--yes"]);
    assert!(code == 0 && said.contains("2,300 views"), "{said}");
    eventually("what waited is in MySQL", PATIENCE, || stored(&mut running) == 5_600);
    assert_eq!(sum(&mut running, "SELECT SUM(views) FROM footfall_quarantine"), 2_300);

    // On both paths.
    load(&running, "after.tsv", 1_500);
    eventually("all is in MySQL", PATIENCE, || stored(&mut running) == 7_100);
    views_without_redis(&mut running, 50);
    running.assert_verified(&["before.tsv", "waits.tsv", "after.tsv"]);
    eventually("it is served", PATIENCE, || running.article("later")["views"] == 150);
    let (code, said) = accept_restore(&running, &["--yes"]);
    assert!(code == 0 && said.contains("has everything"), "{said}");
}

/// Only the ingest knows what MySQL once had.
#[test]
fn a_restore_is_accepted_when_redis_is_lost_too() {
    let mut running = start(|_| {});
    load(&running, "before.tsv", 3_000);
    eventually("all is in MySQL", PATIENCE, || stored(&mut running) == 3_000);
    back_up(&mut running);
    views(&running, 2_000);
    eventually("all is in MySQL", PATIENCE, || stored(&mut running) == 5_000);
    // So that the ingest has heard of it too.
    let forgotten = |running: &mut Running| running.metric(Role::Ingest, 0, "footfall_retained_batches") == 0.0;
    eventually("ingest keeps nothing", PATIENCE, || forgotten(&mut running));

    running.stack.mariadb.stop().expect("stop");
    load(&running, "waits.tsv", 2_500);
    running.stack.redis.query(&["FLUSHALL"]).expect("FLUSHALL");
    restore(&mut running);
    let lost = || accept_restore(&running, &["--dry-run"]);
    eventually("the ingest says what it knows", PATIENCE, || lost().1.contains("2,000 views"));
    assert_eq!(stored(&mut running), 3_000, "it stands still");

    let (code, said) = accept_restore(&running, &["--yes"]);
    assert!(code == 0 && said.contains("2,000 views"), "{said}");
    eventually("what waited is in MySQL", PATIENCE, || stored(&mut running) == 5_500);
    assert_eq!(sum(&mut running, "SELECT SUM(views) FROM footfall_quarantine"), 2_000);
    load(&running, "after.tsv", 1_500);
    running.assert_verified(&["before.tsv", "waits.tsv", "after.tsv"]);
}
