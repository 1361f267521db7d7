//! Load, and then the ledger against the stores: nothing acknowledged is lost, nothing is counted twice. Only the faults that
//! the drill has not: `cargo xtask chaos` does those, and its control shows that what the fence prevents would be noticed.
//!
//! `FOOTFALL_TEST_VIEWS` sets the views per load; the default keeps the ordinary run short.

use std::time::Duration;

use crate::common::{Load, Running, Set, eventually, get, start};
use footfall_drill::stack::{Journal, Role};

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

#[test]
fn load_is_counted_to_the_last_view() {
    let running = start(|_| {});
    let count = views(50_000);
    let load = running.load("ledger.tsv", &format!("--views {count} --articles 10000 --users 100000 --connections 64"));
    let summary = load.finish();
    assert!(summary.contains("acknowledged"), "{summary}");
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
        let ready = format!("{}/readyz", running.stack.url(Role::Ingest, ingest));
        eventually("ingests that go on", Duration::from_secs(15), || get(&ready).status == 200);
    }
    // And once more with nothing at all.
    let empty = running.path("empty-redis");
    std::fs::create_dir(&empty).expect("folder");
    running.stack.redis.kill().expect("kill");
    running.stack.redis.restore_data(&empty).expect("empty");
    running.stack.redis.restart().expect("restart");
    pause(1_500);
    eventually("a data set that was opened", Duration::from_secs(15), || {
        running.stack.redis.query(&["HGET", "footfall:{0}:meta", "epoch"]).is_ok_and(|epoch| !epoch.is_empty())
    });
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
