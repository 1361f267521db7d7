//! Upgrades: what an earlier version left behind is counted by this one, and two versions work side by side. The other one's
//! programs are built by hand: `FOOTFALL_TEST_OTHER_VERSION=$HOME/footfall-0.1/target/release cargo test --release -p xtask
//! --test system upgrade::two`, before a release.
//!
//! `data/` has what versions left with views in every place: MySQL, Redis, and a journal alone. There is one archive per
//! change of what is stored. When that changes again, `cargo test --release -p xtask --test system upgrade::leave -- --ignored`, with the
//! program as it was before the change, adds the next one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use footfall_drill::stack::{Role, StackOptions};

use crate::common::{Running, eventually, output, post, program, start};

const PATIENCE: Duration = Duration::from_secs(30);
const LEDGERS: [&str; 3] = ["stored.tsv", "waits.tsv", "journalled.tsv"];
/// Counted once before and once after, by its id.
const VIEW_WITH_ID: &str = r#"{"article":"once","user":"u1","id":"5c1d"}"#;
/// Of all ledgers, and the one with an id.
const VIEWS: u64 = 2_000 + 500 + 300 + 1;

fn data() -> PathBuf {
    xtask::root().join("bin/xtask/tests/system/data")
}

/// One or more.
pub(crate) fn archives() -> Vec<PathBuf> {
    let archives: Vec<PathBuf> = fs::read_dir(data()).expect("archives").flatten().map(|entry| entry.path()).collect();
    assert!(!archives.is_empty());
    archives
}

fn tar(folder: &Path, arguments: &[&str], archive: &Path, files: &[&str]) {
    let mut tar = Command::new("tar");
    tar.current_dir(folder).args(arguments).arg("--file").arg(archive).args(files);
    assert!(tar.status().expect("tar starts").success(), "{}", archive.display());
}

/// Statements that make the tables and their rows again, each in a line, as the server reads them at its start.
fn dump(running: &Running) -> String {
    let query = |sql: &str| running.stack.mariadb.query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let mut dump =
        "CREATE DATABASE footfall CHARACTER SET utf8mb4;\nUSE footfall;\nSET foreign_key_checks = 0;\n".to_owned();
    let (tables, views): (Vec<_>, Vec<_>) = query("SHOW FULL TABLES").into_iter().partition(|row| row[1] != "VIEW");
    let views = views.iter().map(|row| query(&format!("SHOW CREATE VIEW {}", row[0]))[0][1].clone());
    let views: String = views.map(|created| format!("{created};\n")).collect();
    for table in tables.iter().map(|row| &row[0]) {
        dump += &format!("{};\n", query(&format!("SHOW CREATE TABLE {table}"))[0][1].replace('\n', " "));
        let columns = query(&format!(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() AND \
             table_name = '{table}' ORDER BY ordinal_position"
        ));
        let columns = columns.concat();
        let values: Vec<String> =
            columns.iter().map(|name| format!("IF({name} IS NULL, 'NULL', QUOTE({name}))")).collect();
        for row in query(&format!("SELECT CONCAT_WS(',', {}) FROM {table}", values.join(","))).concat() {
            dump += &format!("INSERT INTO {table} ({}) VALUES ({row});\n", columns.join(","));
        }
    }
    dump + &views
}

#[test]
#[ignore = "writes an archive for later versions: run when what is stored has changed"]
fn leave() {
    let mut running = start(|_| {});
    let load = |running: &Running, ledger: usize, views: u64| {
        let arguments = format!("--views {views} --articles 50 --users 300 --connections 8 --seed {views}");
        running.load(LEDGERS[ledger], &arguments).finish();
    };
    load(&running, 0, 2_000);
    assert_eq!(post(&format!("{}/v1/views", running.ingest()), VIEW_WITH_ID).status, 204);
    let stored = |running: &mut Running| running.sql("SELECT SUM(views) FROM footfall_article_readers");
    eventually("all is in MySQL", PATIENCE, || stored(&mut running).as_deref() == Some("2001"));
    let dump = dump(&running);
    running.stack.mariadb.kill().expect("kill");
    load(&running, 1, 500);
    running.stack.redis.stop().expect("stop");
    load(&running, 2, 300);
    for service in running.stack.services() {
        service.process().kill().expect("kill");
    }
    fs::write(running.path("mysql.sql"), dump).expect("written");
    fs::create_dir_all(data()).expect("created");
    let version = Command::new("git").args(["describe", "--always"]).output().expect("git starts").stdout;
    let archive = data().join(format!("{}.tar.gz", String::from_utf8_lossy(&version).trim()));
    let arguments = ["--create", "--gzip", "--sparse", "--owner=0", "--group=0"];
    tar(&running.path(""), &arguments, &archive, &[&["redis", "journal", "mysql.sql"], &LEDGERS[..]].concat());
}

/// Starts on what is in an archive, all but MariaDB's files, which it makes.
fn start_on(archive: &Path) -> Running {
    start(|options| {
        tar(&options.dir, &["--extract", "--gzip"], archive, &[]);
        options.mariadb.args.push(format!("--init-file={}", options.dir.join("mysql.sql").display()));
    })
}

#[test]
fn what_earlier_versions_left_behind_is_counted() {
    for archive in archives() {
        let mut running = start_on(&archive);
        let views = |running: &mut Running| running.sql("SELECT SUM(views) FROM footfall_article_readers");
        eventually("all is in MySQL", PATIENCE, || views(&mut running) == Some(VIEWS.to_string()));
        // Redis knows its id still.
        assert_eq!(post(&format!("{}/v1/views", running.ingest()), VIEW_WITH_ID).status, 204);
        running.load("after.tsv", "--views 1000 --articles 50 --users 300 --connections 8").finish();
        eventually("all is in MySQL", PATIENCE, || views(&mut running) == Some((VIEWS + 1_000).to_string()));
        running.assert_verified(&[&LEDGERS[..], &["after.tsv"]].concat());
        assert_eq!(running.article("once")["views"], 1);
    }
}

/// The folder with another version's programs. Without it this version works beside itself.
const OTHER: &str = "FOOTFALL_TEST_OTHER_VERSION";

#[test]
fn two_versions_work_side_by_side_while_tables_are_upgraded() {
    let other = std::env::var_os(OTHER).map_or_else(|| program("."), PathBuf::from);
    let mut running = start(|options: &mut StackOptions| options.binaries = other);
    let shape = "--articles 500 --users 5000 --connections 16";
    let old = running.load("old.tsv", &format!("--views 30000 --rate 2500 {shape} --seed 1"));
    std::thread::sleep(Duration::from_secs(1));

    running.stack.use_programs(program("."));
    let (started, mut init) = (Instant::now(), running.stack.tool());
    let (fine, said) = {
        init.arg("init");
        output(init)
    };
    assert!(fine, "{said}");
    println!("init under load: {:?}", started.elapsed());
    // What the other version's flusher makes of that; its ingest goes on.
    std::thread::sleep(Duration::from_secs(3));
    println!("views that wait: {}", running.metric(Role::Flusher, 0, "footfall_pending_views"));

    running.stack.add(Role::Flusher).expect("a new flusher");
    running.stack.service(Role::Flusher, 0).terminate(PATIENCE).expect("terminate");
    running.stack.add(Role::Ingest).expect("a new ingest");
    let url = running.stack.url(Role::Ingest, 1);
    let new = running.load_at(&url, "new.tsv", &format!("--views 15000 --rate 2500 {shape} --seed 2"));
    // The other version's ingest may not be able to open it again: then what it takes waits in its journal.
    running.stack.redis.kill().expect("kill");
    running.stack.redis.restart().expect("restart");
    let flusher = running.stack.service(Role::Flusher, 1);
    flusher.process().kill().expect("kill");
    flusher.restart().expect("restart");
    println!("{}", old.finish());
    running.stack.service(Role::Ingest, 0).terminate(PATIENCE).expect("terminate");
    println!("{}", new.finish());
    running.assert_verified(&["old.tsv", "new.tsv"]);
}
