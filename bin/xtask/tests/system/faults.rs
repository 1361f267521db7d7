//! Load, faults, and then the ledger against the stores: nothing acknowledged is lost, nothing is counted twice.
//!
//! `FOOTFALL_TEST_VIEWS` sets the views per load; the default keeps the ordinary run short.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::Command;
use std::time::Duration;

use crate::common::{Load, Running, Set, eventually, get, start};
use footfall_drill::stack::{Journal, Role, StackOptions};
use footfall_sandbox::{AppendFsync, RedisOptions};

fn views(default: u32) -> u32 {
    std::env::var("FOOTFALL_TEST_VIEWS").ok().and_then(|views| views.parse().ok()).unwrap_or(default)
}

/// Load at an even rate, long enough for the faults of a test.
fn load(running: &Running, ledger: &str, views: u32, rate: u32) -> Load {
    running.load(ledger, &format!("--views {views} --rate {rate} --articles 10000 --users 100000 --connections 64"))
}

fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Milliseconds that differ each time, so that the moments of the faults fall anywhere.
fn uneven() -> u64 {
    RandomState::new().build_hasher().finish() % 400
}

fn durable(options: &mut StackOptions) {
    options.redis = RedisOptions { append_fsync: AppendFsync::Always, ..RedisOptions::default() };
}

#[test]
fn load_is_counted_to_the_last_view() {
    let running = start(|_| {});
    let count = views(200_000);
    let load = running.load("ledger.tsv", &format!("--views {count} --articles 10000 --users 100000 --connections 64"));
    let summary = load.finish();
    assert!(summary.contains("acknowledged"), "{summary}");
    running.assert_verified(&["ledger.tsv"]);
}

#[test]
fn kill_9_of_everything_in_turn() {
    let mut running = start(durable);
    let mut load = load(&running, "ledger.tsv", views(120_000), 6_000);
    let mut killed = [0; 4];
    for step in 0..35 {
        if !load.is_running() {
            break;
        }
        pause(100 + uneven());
        // In 35 steps: the flusher 20 times, ingest, Redis and MariaDB 5 times each.
        let victim = match step % 7 {
            1 => 1,
            3 => 2,
            5 => 3,
            _ => 0,
        };
        let stack = &mut running.stack;
        match victim {
            0 | 1 => {
                let service = stack.service(if victim == 0 { Role::Flusher } else { Role::Ingest }, 0);
                service.kill().expect("kill");
                service.restart().expect("restart");
            }
            2 => {
                stack.redis.kill().expect("kill");
                pause(50);
                stack.redis.restart().expect("restart");
            }
            _ => {
                stack.mariadb.kill().expect("kill");
                stack.mariadb.restart().expect("restart");
            }
        }
        killed[victim] += 1;
    }
    println!("killed: flusher {}, ingest {}, Redis {}, MariaDB {}", killed[0], killed[1], killed[2], killed[3]);
    load.finish();
    assert!(killed.iter().all(|count| *count > 0), "the load ended before the faults: {killed:?}");
    running.assert_verified(&["ledger.tsv"]);
}

#[test]
fn two_ingests_and_two_flushers_share_the_work() {
    let running = start(|options| {
        options.ingests = 2;
        options.flushers = 2;
        // Without the lease both flush at every turn: only the fence keeps them from counting twice.
        options.set("FOOTFALL_FLUSHER__LEASE_MS", "0");
    });
    load(&running, "ledger.tsv", views(80_000), 10_000).finish();
    running.assert_verified(&["ledger.tsv"]);
}

#[test]
fn flushall_under_load() {
    let running = start(|options| options.ingests = 2);
    let mut load = load(&running, "ledger.tsv", views(60_000), 6_000);
    for _ in 0..4 {
        pause(1_000 + uneven());
        assert!(load.is_running(), "the load ended before the fault");
        running.stack.redis.query(&["FLUSHALL"]).expect("FLUSHALL");
    }
    load.finish();
    running.assert_verified(&["ledger.tsv"]);
}

#[test]
fn redis_comes_back_with_older_data_under_load() {
    let mut running = start(|options| options.ingests = 2);
    let mut load = load(&running, "ledger.tsv", views(100_000), 6_000);
    pause(2_000);
    let copy = running.path("old-redis");
    running.stack.redis.copy_data(&copy).expect("copy");
    pause(5_000);
    assert!(load.is_running(), "the load ended before the fault");
    running.stack.redis.kill().expect("kill");
    running.stack.redis.restore_data(&copy).expect("restore");
    running.stack.redis.restart().expect("restart");
    pause(1_000);
    for ingest in 0..2 {
        let answer = get(&format!("{}/readyz", running.stack.url(Role::Ingest, ingest)));
        assert_eq!(answer.status, 200, "ingest {ingest} did not go on: {}", answer.body);
    }
    // And once more with nothing at all.
    let empty = running.path("empty-redis");
    std::fs::create_dir(&empty).expect("folder");
    running.stack.redis.kill().expect("kill");
    running.stack.redis.restore_data(&empty).expect("empty");
    running.stack.redis.restart().expect("restart");
    pause(1_500);
    // And with the old files again: since then MySQL was written under a later epoch, so they may not be flushed.
    running.stack.redis.kill().expect("kill");
    running.stack.redis.restore_data(&copy).expect("restore");
    running.stack.redis.restart().expect("restart");
    assert!(load.is_running(), "the load ended before the fault");
    load.finish();
    running.assert_verified(&["ledger.tsv"]);
    let aside = running.stack.redis.query(&["KEYS", "footfall:{0}:aside:*"]).expect("redis");
    assert!(!aside.is_empty(), "the overtaken history was not set aside");
}

#[test]
fn a_full_ingest_goes_on_after_the_outage() {
    let mut running = start(|options| {
        options.journal = Journal::Off;
        options.set("FOOTFALL_INGEST__RETAINED_BYTES_MAX", "50000");
        options.set("FOOTFALL_INGEST__ANSWER_TIMEOUT_MS", "200");
    });
    running.stack.mariadb.kill().expect("kill");
    let load = load(&running, "outage.tsv", 2_000, 1_000);
    load.finish();
    let ledger = std::fs::read_to_string(running.path("outage.tsv")).expect("ledger");
    let acknowledged = ledger.matches("\tacknowledged").count();
    assert!((200..2_000).contains(&acknowledged), "{acknowledged}: Redis takes views, until ingest can keep no more");

    // Redis restarts meanwhile: what ingest keeps gets new positions, which must not keep it for ever.
    running.stack.redis.kill().expect("kill");
    running.stack.redis.restart().expect("restart");
    running.stack.mariadb.restart().expect("restart");
    let after = self::load(&running, "after.tsv", 10_000, 5_000).finish();
    println!("{after}");
    running.assert_verified(&["outage.tsv", "after.tsv"]);
    let ledger = std::fs::read_to_string(running.path("after.tsv")).expect("ledger");
    assert!(ledger.matches("\tacknowledged").count() > 5_000, "{after}");
    let admin = format!("http://{}/metrics", running.stack.service(Role::Ingest, 0).admin());
    eventually("nothing is kept any more", Duration::from_secs(5), || {
        get(&admin).body.lines().any(|line| line == r#"footfall_retained_bytes{shard="0"} 0"#)
    });
}

#[test]
fn a_mysql_that_went_back_stops_the_shard_and_loses_nothing() {
    let mut running = start(|_| {});
    let copy = |running: &Running, from: &str, to: &str| {
        std::fs::remove_dir_all(running.path(to)).ok();
        let status = Command::new("cp").arg("-a").args([running.path(from), running.path(to)]).status().expect("cp");
        assert!(status.success());
    };
    load(&running, "before.tsv", 2_000, 4_000).finish();
    running.assert_verified(&["before.tsv"]);
    running.stack.mariadb.stop().expect("stop");
    copy(&running, "mariadb", "backup");
    running.stack.mariadb.restart().expect("restart");
    load(&running, "flushed.tsv", 2_000, 4_000).finish();
    running.assert_verified(&["before.tsv", "flushed.tsv"]);

    running.stack.mariadb.stop().expect("stop");
    copy(&running, "mariadb", "newest");
    copy(&running, "backup", "mariadb");
    running.stack.mariadb.restart().expect("restart");
    load(&running, "waiting.tsv", 2_000, 4_000).finish();
    let flusher = running.stack.url(Role::Flusher, 0);
    eventually("the flusher says so", Duration::from_secs(5), || {
        let answer = get(&format!("{flusher}/readyz"));
        answer.status == 503 && answer.body.contains("MySQL is older than Redis")
    });
    let stored = running.sql("SELECT SUM(views) FROM reader_counts");
    assert_eq!(stored.as_deref(), Some("2000"), "nothing was added to the older counts");

    // With the newest data back, it goes on by itself.
    running.stack.mariadb.stop().expect("stop");
    copy(&running, "newest", "mariadb");
    running.stack.mariadb.restart().expect("restart");
    running.assert_verified(&["before.tsv", "flushed.tsv", "waiting.tsv"]);
}

#[test]
fn without_its_fence_the_same_flusher_is_caught() {
    let mut running = start(|options| {
        options.flusher = "footfall-flusher-unfenced".to_owned();
        options.flushers = 2;
        options.set("FOOTFALL_FLUSHER__LEASE_MS", "0");
    });
    let mut load = load(&running, "ledger.tsv", 60_000, 6_000);
    while load.is_running() {
        pause(200);
        let flusher = running.stack.service(Role::Flusher, 0);
        flusher.kill().expect("kill");
        flusher.restart().expect("restart");
    }
    load.finish();
    let (fine, report) = running.verify(&["ledger.tsv"]);
    assert!(!fine, "views were counted twice and nobody noticed:\n{report}");
}
