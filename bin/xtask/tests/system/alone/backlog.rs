//! A read costs the same however much waits for MySQL.
//!
//! `FOOTFALL_TEST_OUTAGE_SECONDS` sets how long MySQL is away; the default keeps the ordinary run short.

use std::time::{Duration, Instant};

use crate::common::{Client, Running, Set, eventually, start_to_measure};
use footfall_drill::stack::Role;

const RATE: u64 = 5_000;
/// Windows so short that some are disturbed by nobody else on the machine: the best of each number is ours.
const WINDOWS: usize = 50;
const READS: usize = 100;

/// What reads of one cached article cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    p50_us: u128,
    p99_us: u128,
    /// Redis's own time for the script.
    script_us: f64,
}

fn cost(running: &Running) -> Cost {
    let mut client = Client::new(&running.ingest());
    let mut best = Cost { p50_us: u128::MAX, p99_us: u128::MAX, script_us: f64::MAX };
    let calls = || {
        let info = running.stack.redis.query(&["INFO", "commandstats"]).expect("INFO").join("\n");
        let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:")).expect("scripts").to_owned();
        let field = |name: &str| line.split(',').find_map(|field| field.strip_prefix(name)?.parse::<f64>().ok());
        (field("calls=").expect("calls"), field("usec=").expect("usec"))
    };
    for _ in 0..WINDOWS {
        let before = calls();
        let mut took: Vec<u128> = (0..READS)
            .map(|_| {
                let asked = Instant::now();
                let (status, body) = client.get("/v1/articles/hot");
                assert!(status == 200 && body.contains(r#""source":"cache""#), "{body}");
                asked.elapsed().as_micros()
            })
            .collect();
        let after = calls();
        assert!(after.0 - before.0 >= READS as f64, "a read without a script");
        took.sort_unstable();
        best.p50_us = best.p50_us.min(took[READS / 2]);
        best.p99_us = best.p99_us.min(took[READS * 99 / 100]);
        best.script_us = best.script_us.min((after.1 - before.1) / (after.0 - before.0));
    }
    best
}

#[test]
fn a_read_costs_the_same_behind_a_long_outage() {
    let seconds = std::env::var("FOOTFALL_TEST_OUTAGE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5u64);
    let mut running = start_to_measure(|options| {
        options.set("FOOTFALL_READS__TTL_MS", "3600000");
    });
    let mut client = Client::new(&running.ingest());
    assert_eq!(client.post("/v1/views", r#"{"article":"hot","user":"u"}"#).0, 204);
    eventually("it is stored and cached", Duration::from_secs(10), || {
        let (_, body) = client.get("/v1/articles/hot");
        body.contains(r#""pending":0"#) && body.contains(r#""source":"cache""#)
    });
    let before = cost(&running);
    running.stack.mariadb.pause().expect("pause");
    running
        .load(
            "ledger.tsv",
            &format!("--views {} --rate {RATE} --articles 10000 --users 100000 --connections 64", RATE * seconds),
        )
        .finish();
    let mut client = Client::new(&running.ingest()); // The other one was idle for too long.
    for number in 0..3 {
        assert_eq!(client.post("/v1/views", &format!(r#"{{"article":"hot","user":"v{number}"}}"#)).0, 204);
    }
    let entries = running.stack.redis.query(&["LLEN", "footfall:{0}:log"]).expect("LLEN").concat();
    let mut after = cost(&running);
    // Neighbours on the machine can only make it dearer, for longer than all windows last: then it is measured again.
    for _ in 0..3 {
        if after.p99_us > 2 * before.p99_us {
            let again = cost(&running);
            after.p50_us = after.p50_us.min(again.p50_us);
            after.p99_us = after.p99_us.min(again.p99_us);
            after.script_us = after.script_us.min(again.script_us);
        }
    }
    println!("before: {before:?}\n{seconds} s later, behind {entries} entries: {after:?}");
    assert!(entries.parse::<u64>().expect("a number") >= 500, "only {entries} entries wait");
    assert!(after.script_us <= 2.0 * before.script_us, "{before:?} became {after:?}");
    assert!(after.p99_us <= 2 * before.p99_us, "{before:?} became {after:?}");

    running.stack.mariadb.resume().expect("resume");
    let limit = Duration::from_secs(60 + seconds);
    let took = eventually("all is stored", limit, || running.metric(Role::Flusher, 0, "footfall_log_entries") == 0.0);
    println!("stored within {took:?}");
    running.assert_verified(&["ledger.tsv"]);
}
