//! The operator's tool beside a running system: quarantine, erasure, and `verify --live` under faults.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use footfall_drill::stack::Role;

use crate::common::{Running, eventually, output, post, start};

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the tool; answers its exit code and what it printed.
pub(crate) fn tool(running: &Running, arguments: &[&str]) -> (i32, String) {
    let mut command = running.stack.tool();
    let output = command.args(arguments).stdin(Stdio::null()).output().expect("the tool starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

pub(crate) fn view(running: &Running, article: &str, user: &str) {
    let body = format!(r#"{{"article":"{article}","user":"{user}"}}"#);
    assert_eq!(post(&format!("{}/v1/views", running.ingest()), &body).status, 204);
}

pub(crate) fn sum(running: &mut Running, sql: &str) -> u64 {
    running.sql(sql).and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[test]
fn poison_is_quarantined_and_replayed_once_mysql_takes_it() {
    let mut running = start(|_| {});
    running.sql("ALTER TABLE footfall_article_readers ADD CONSTRAINT nope CHECK (user <> 'poison')");
    for _ in 0..3 {
        view(&running, "yumo", "poison");
        view(&running, "yumo", "fine");
    }
    let quarantined = "SELECT SUM(views) FROM footfall_quarantine";
    eventually("three views in quarantine", PATIENCE, || sum(&mut running, quarantined) == 3);
    assert_eq!(sum(&mut running, "SELECT views FROM article_counts"), 3, "all others count");

    let (code, list) = tool(&running, &["quarantine", "list"]);
    assert!(code == 0 && list.contains("yumo, poison") && list.contains("nope"), "{list}");
    let (code, json) = tool(&running, &["quarantine", "list", "--json"]);
    assert_eq!(code, 0, "{json}");
    // A flush may have come between the views: then there is more than one row.
    let row: serde_json::Value = serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
    let id = row["id"].as_str().expect("an id").to_owned();
    assert_eq!((&row["user"], &row["kind"]), (&"poison".into(), &"row".into()));
    let (code, shown) = tool(&running, &["quarantine", "show", &id]);
    assert!(code == 0 && shown.contains("CONSTRAINT"), "{shown}");

    let (code, said) = tool(&running, &["quarantine", "replay", &id]);
    assert!(code == 2 && said.contains("--yes"), "{said}");
    let (code, said) = tool(&running, &["quarantine", "replay", &id, "--yes"]);
    assert!(code == 1 && said.contains("still refuses"), "{said}");
    assert_eq!(sum(&mut running, quarantined), 3);
    let (code, said) = tool(&running, &["verify", "--live", "--seconds", "3"]);
    assert!(code == 0 && said.contains("0 checks FAILED"), "{said}");

    running.sql("ALTER TABLE footfall_article_readers DROP CONSTRAINT nope");
    let (code, said) = tool(&running, &["quarantine", "replay", "--all", "--yes"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(sum(&mut running, "SELECT views FROM article_counts"), 6);
    assert_eq!(sum(&mut running, "SELECT readers FROM article_counts"), 2);
    assert_eq!(sum(&mut running, quarantined), 0);
    assert!(tool(&running, &["quarantine", "list"]).1.contains("nothing is in quarantine"));
    assert_eq!(tool(&running, &["quarantine", "show", &id]).0, 2);
    eventually("the numbers that are served", PATIENCE, || running.article("yumo")["views"] == 6);

    // Dropped views stay in the books.
    running.sql("ALTER TABLE footfall_article_readers ADD CONSTRAINT nope CHECK (user <> 'venom')");
    view(&running, "yumo", "venom");
    eventually("one view in quarantine", PATIENCE, || sum(&mut running, quarantined) == 1);
    let (code, said) = tool(&running, &["quarantine", "drop", "--all", "--yes"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(sum(&mut running, "SELECT SUM(dropped) FROM footfall_shard_fence"), 1);
    let (code, said) = tool(&running, &["verify", "--live", "--seconds", "3"]);
    assert!(code == 0 && said.contains("0 checks FAILED"), "{said}");
}

/// What was exported is imported into stores that were emptied, beside running services, and once more for nothing.
#[test]
fn an_export_is_imported_once() {
    let mut running = start(|_| {});
    running.load("load.tsv", "--views 20000 --articles 40 --users 1000 --connections 8 --seed 1").finish();
    view(&running, r#"a, \"b\""#, "somebody");
    eventually("everything is in MySQL", PATIENCE, || {
        sum(&mut running, "SELECT SUM(views) FROM footfall_shard_fence") == 20_001
    });
    let counts = |running: &mut Running| {
        running.sql(
            "SELECT CONCAT_WS(' ', SUM(views), SUM(readers), COUNT(*), BIT_XOR(CRC32(CONCAT_WS(' ', article, views, \
                     readers)))) FROM footfall_articles",
        )
    };
    let before = counts(&mut running);
    let file = running.path("export.csv").display().to_string();
    let (code, said) = tool(&running, &["export", "--output", &file]);
    assert_eq!(code, 0, "{said}");
    assert_ne!(tool(&running, &["export", "--output", &file]).0, 0, "it never writes over a file");
    let (_, printed) = tool(&running, &["export"]);
    assert!(printed.starts_with(&fs::read_to_string(&file).expect("the file")), "the same on the standard output");

    for role in [Role::Ingest, Role::Flusher] {
        running.stack.service(role, 0).terminate(PATIENCE).expect("terminate");
    }
    assert_eq!(tool(&running, &["clean", "--yes"]).0, 0);
    for role in [Role::Flusher, Role::Ingest] {
        running.stack.service(role, 0).restart().expect("restart");
    }
    assert_eq!(tool(&running, &["import", &file]).0, 2, "it asks first");
    for _ in 0..2 {
        let (code, said) = tool(&running, &["import", &file, "--yes"]);
        assert!(code == 0 && said.contains("20,001 views"), "{said}");
        assert_eq!(counts(&mut running), before);
    }
    eventually("it is served", PATIENCE, || running.article("a,%20%22b%22")["views"] == 1);
    let (code, said) = tool(&running, &["verify", "--live", "--seconds", "3"]);
    assert!(code == 0 && said.contains("0 checks FAILED"), "{said}");

    fs::write(&file, "article,views\nyumo,7\nyumo,x\n").expect("written");
    let (code, said) = tool(&running, &["import", &file, "--user", "before", "--yes"]);
    assert!(code == 2 && said.contains("line 3") && said.contains("nothing was counted"), "{said}");
    assert_eq!(counts(&mut running), before);
}

/// The load's views of one user are refused: they are accounted for, not missing.
#[test]
fn verify_knows_what_is_in_quarantine() {
    let mut running = start(|_| {});
    running.load("first.tsv", "--views 200 --articles 2 --users 4 --connections 2 --seed 1").finish();
    running.assert_verified(&["first.tsv"]);
    let user = running.sql("SELECT user FROM footfall_article_readers ORDER BY user LIMIT 1").expect("a reader");
    // For new rows only: those that are there have to stay.
    running.sql(&format!(
        "ALTER TABLE footfall_article_readers ADD CONSTRAINT nope CHECK (user <> '{user}' OR views < 200)"
    ));
    let load = running.load("second.tsv", "--views 2000 --articles 2 --users 4 --connections 4 --seed 1");
    load.finish();
    running.assert_verified(&["first.tsv", "second.tsv"]);
    assert!(sum(&mut running, "SELECT SUM(views) FROM footfall_quarantine") > 0);
    running.sql("ALTER TABLE footfall_article_readers DROP CONSTRAINT nope");
    assert_eq!(tool(&running, &["quarantine", "replay", "--all", "--yes"]).0, 0);
    running.assert_verified(&["first.tsv", "second.tsv"]);
}

/// A Redis of before comes back after another history was flushed: what only it has is counted by a replay, once.
#[test]
fn a_log_that_was_set_aside_is_replayed_under_its_own_numbers() {
    let mut running = start(|_| {});
    view(&running, "yumo", "first");
    eventually("it is in MySQL", PATIENCE, || sum(&mut running, "SELECT views FROM article_counts") == 1);
    eventually("and Redis knows it", PATIENCE, || running.article("yumo")["pending"] == 0);

    // Three views that only this Redis has, once the ingest and its journal are gone.
    running.stack.service(Role::Flusher, 0).pause().expect("paused");
    for user in ["u1", "u2", "secret-reader"] {
        view(&running, "old", user);
    }
    let data = running.path("redis/data");
    let copy = running.path("redis-of-before");
    copy_folder(&data, &copy);
    running.stack.service(Role::Ingest, 0).kill().expect("killed");
    running.stack.redis.kill().expect("killed");
    fs::remove_dir_all(running.stack.journal().expect("a journal")).expect("removed");
    fs::remove_dir_all(&data).expect("removed");
    fs::create_dir(&data).expect("created");
    running.stack.redis.restart().expect("empty");
    running.stack.service(Role::Flusher, 0).resume().expect("resumed");
    running.stack.service(Role::Ingest, 0).restart().expect("restarted");
    running.stack.service(Role::Ingest, 0).wait_ready(PATIENCE).expect("ready");
    view(&running, "yumo", "second");
    let yumo = "SELECT views FROM article_counts WHERE article = 'yumo'";
    eventually("another history is flushed", PATIENCE, || sum(&mut running, yumo) == 2);

    running.stack.redis.kill().expect("killed");
    fs::remove_dir_all(&data).expect("removed");
    copy_folder(&copy, &data);
    running.stack.redis.restart().expect("restarted");
    eventually("it is set aside", PATIENCE, || {
        tool(&running, &["quarantine", "list"]).1.contains("3 batches with 3 views")
    });
    let json = tool(&running, &["quarantine", "list", "--json"]).1;
    let log: serde_json::Value = serde_json::from_str(json.trim()).expect("one line of JSON");
    let id = log["id"].as_str().expect("an id").to_owned();

    // Erased from it as well.
    let (code, said) = tool(&running, &["erase", "--user", "secret-reader", "--yes"]);
    assert!(code == 0 && said.contains("1 batch changed"), "{said}");
    let shown = tool(&running, &["quarantine", "show", &id]).1;
    assert!(shown.contains("erased-") && !shown.contains("secret-reader"), "{shown}");

    let (code, said) = tool(&running, &["quarantine", "replay", &id, "--yes"]);
    assert_eq!(code, 0, "{said}");
    let old = "SELECT views FROM article_counts WHERE article = 'old'";
    assert_eq!(sum(&mut running, old), 3);
    assert_eq!(tool(&running, &["quarantine", "replay", &id, "--yes"]).0, 2, "it is gone");
    let (code, said) = tool(&running, &["verify", "--live", "--seconds", "3"]);
    assert!(code == 0 && said.contains("0 checks FAILED"), "{said}");
}

#[test]
fn an_erased_reader_is_nowhere_and_all_totals_stay() {
    const READER: &str = "somebody-who-wants-to-be-forgotten";
    let mut running = start(|_| {});
    let load = running.load("l.tsv", "--views 3000 --articles 20 --users 50 --connections 4 --rate 1000");
    for article in ["one", "two", "three", "one"] {
        view(&running, article, READER);
    }
    load.finish();
    let totals = "SELECT CONCAT(SUM(views), ' ', SUM(readers)) FROM article_counts";
    running.assert_verified(&["l.tsv"]);
    let before = running.sql(totals);
    view(&running, "one", READER); // Still on its way when the command begins.

    let (code, said) = tool(&running, &["erase", "--user", READER, "--yes"]);
    assert_eq!(code, 0, "{said}");
    for table in ["footfall_article_readers", "footfall_users", "footfall_quarantine"] {
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE user = '{READER}'");
        assert_eq!(sum(&mut running, &sql), 0, "{table}");
    }
    assert!(!redis_holds(&running, READER));
    let after = running.sql(totals).expect("totals");
    let (views, readers) = before.as_deref().and_then(|text| text.split_once(' ')).expect("two numbers");
    assert_eq!(after, format!("{} {readers}", views.parse::<u64>().expect("a number") + 1));
    assert_eq!(
        sum(&mut running, "SELECT views FROM footfall_article_readers WHERE article = 'one' AND user LIKE 'erased-%'"),
        3
    );
    running.assert_verified(&["l.tsv"]);

    let journal = running.stack.journal().expect("a journal");
    eventually("gone from the journal", PATIENCE, || !folder_holds(&journal, READER.as_bytes()));
    let redis = running.path("redis");
    assert!(!folder_holds(&redis, READER.as_bytes()), "the append-only file was written anew");

    // Safe to repeat; and a flusher that stands still is told from success.
    let (code, said) = tool(&running, &["erase", "--user", READER, "--yes"]);
    assert!(code == 1 && said.contains("NOT FOUND"), "{said}");
    running.stack.service(Role::Flusher, 0).pause().expect("paused");
    view(&running, "one", READER);
    let (code, said) = tool(&running, &["erase", "--user", READER, "--yes", "--wait", "3"]);
    assert!(code == 1 && said.contains("NOT ERASED"), "{said}");
    running.stack.service(Role::Flusher, 0).resume().expect("resumed");
    assert_eq!(tool(&running, &["erase", "--user", READER, "--yes"]).0, 0);
}

/// No false alarm, whatever happens to stores and services.
#[test]
fn verify_live_runs_beside_traffic_and_faults() {
    let mut running = start(|options| {
        options.ingests = 2;
        options.flushers = 2;
    });
    let load =
        running.load("l.tsv", "--views 120000 --articles 300 --users 2000 --connections 16 --rate 4000 --batch 10");
    let mut live: Command = running.stack.tool();
    live.args(["verify", "--live", "--seconds", "32"]);
    let live = std::thread::spawn(move || output(live));
    let pause = || std::thread::sleep(Duration::from_secs(3));

    pause();
    running.stack.redis.query(&["FLUSHALL"]).expect("emptied");
    pause();
    running.stack.service(Role::Flusher, 0).kill().expect("killed");
    running.stack.service(Role::Ingest, 1).kill().expect("killed");
    pause();
    running.stack.service(Role::Ingest, 1).restart().expect("restarted");
    running.stack.service(Role::Flusher, 0).restart().expect("restarted");
    running.stack.redis.kill().expect("killed");
    pause();
    running.stack.redis.restart().expect("restarted");
    pause();
    running.stack.mariadb.kill().expect("killed");
    pause();
    running.stack.mariadb.restart().expect("restarted");

    load.finish();
    let (fine, report) = live.join().expect("no panic");
    assert!(fine && report.contains("0 checks FAILED"), "{report}");
    assert!(report.contains("cannot look"), "both stores were away: {report}");
    running.assert_verified(&["l.tsv"]);
}

/// The control: damage that a person makes is found.
#[test]
fn verify_live_notices_damage() {
    let mut running = start(|_| {});
    view(&running, "yumo", "u");
    eventually("it is in MySQL", PATIENCE, || sum(&mut running, "SELECT views FROM article_counts") == 1);
    running.sql("UPDATE footfall_article_readers SET views = views + 1");
    let (code, report) = tool(&running, &["verify", "--live", "--seconds", "4"]);
    assert!(code == 1 && report.contains("FAILED  I4") && report.contains("FAILED  I9"), "{report}");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for entry in fs::read_dir(from).expect("readable").flatten() {
        let target = to.join(entry.file_name());
        match entry.path() {
            path if path.is_dir() => copy_folder(&path, &target),
            path => drop(fs::copy(path, target).expect("copied")),
        }
    }
}

/// Whether any file below the folder holds these bytes.
fn folder_holds(folder: &Path, bytes: &[u8]) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| {
        if path.is_dir() {
            return folder_holds(&path, bytes);
        }
        let content = fs::read(path).unwrap_or_default(); // It may just have been removed.
        content.windows(bytes.len()).any(|window| window == bytes)
    })
}

/// Whether any key of Redis holds it, in its name or in its value.
fn redis_holds(running: &Running, what: &str) -> bool {
    let query = |arguments: &[&str]| running.stack.redis.query(arguments).expect("an answer").join("\n");
    let keys = query(&["KEYS", "*"]);
    keys.contains(what)
        || keys.lines().any(|key| {
            let value = match query(&["TYPE", key]).as_str() {
                "list" => query(&["LRANGE", key, "0", "-1"]),
                "hash" => query(&["HGETALL", key]),
                "set" => query(&["SMEMBERS", key]),
                _ => query(&["GET", key]),
            };
            value.contains(what)
        })
}
