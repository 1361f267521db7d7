//! What happens while a store is away: nobody is turned away, reads answer, and afterwards every view is there, once.
//!
//! `FOOTFALL_TEST_OUTAGE_SECONDS` sets how long a store is away; the default keeps the ordinary run short.

use std::time::{Duration, Instant};

use crate::common::{Running, Set, eventually, get, post, start};
use footfall_drill::stack::{Journal, Role};
use footfall_sandbox::{AppendFsync, RedisOptions};

const OUTAGE_LONG: u64 = 30;

fn outage_seconds() -> u64 {
    std::env::var("FOOTFALL_TEST_OUTAGE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// Views per second. The long run has the machine for itself.
fn rate(seconds: u64) -> u64 {
    if seconds >= OUTAGE_LONG { 5_000 } else { 1_000 }
}

fn pause_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

fn degraded(running: &Running) -> bool {
    let answer = get(&format!("{}/readyz", running.ingest()));
    assert_eq!(answer.status, 200, "ingest must stay ready: {}", answer.body);
    answer.body.contains("degraded")
}

/// Away, under load, with an article read all the while.
fn outage(running: &mut Running, name: &str, away: fn(&mut Running), back: fn(&mut Running)) {
    let (seconds, rate) = (outage_seconds(), rate(outage_seconds()));
    let ledger = format!("{name}.tsv");
    let arguments =
        format!("--views {} --rate {rate} --articles 1000 --users 10000 --connections 256", rate * (seconds + 4));
    let hot = format!("{}/v1/articles/hot", running.ingest());
    assert_eq!(post(&format!("{}/v1/views", running.ingest()), r#"{"article":"hot","user":"u"}"#).status, 204);
    eventually("a first read", Duration::from_secs(15), || get(&hot).status == 200);
    let load = running.load(&ledger, &arguments);
    pause_ms(1_500);
    away(running);
    eventually("it says so", Duration::from_secs(15), || degraded(running));
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        let asked = Instant::now();
        let answer = get(&hot);
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(asked.elapsed() < Duration::from_secs(2), "a read took {:?}", asked.elapsed());
        pause_ms(100);
    }
    back(running);
    let took = eventually("back to normal by itself", Duration::from_secs(10), || !degraded(running));
    let summary = load.finish();
    println!("{name}: back after {took:?}\n{summary}");
    let ledger_text = std::fs::read_to_string(running.path(&ledger)).expect("ledger");
    assert_eq!(ledger_text.matches("\tunknown").count(), 0, "a request failed:\n{summary}");
    assert_eq!(ledger_text.matches("\tacknowledged").count() as u64, rate * (seconds + 4), "{summary}");
    running.assert_verified(&[&ledger]);
}

fn stop(process: &mut footfall_sandbox::Process) {
    process.pause().expect("pause");
}

#[test]
fn redis_stands_still_and_nobody_is_turned_away() {
    let mut running = start(|_| {});
    outage(
        &mut running,
        "redis",
        |running| stop(running.stack.redis.process()),
        |running| running.stack.redis.resume().expect("resume"),
    );
}

#[test]
fn both_stores_stand_still_and_nobody_is_turned_away() {
    let mut running = start(|_| {});
    outage(
        &mut running,
        "both",
        |running| {
            stop(running.stack.mariadb.process());
            stop(running.stack.redis.process());
        },
        |running| {
            running.stack.redis.resume().expect("resume");
            running.stack.mariadb.resume().expect("resume");
        },
    );
}

#[test]
fn mariadb_stands_still_and_views_wait_in_redis() {
    let mut running = start(|_| {});
    let seconds = outage_seconds();
    let hot = format!("{}/v1/articles/hot", running.ingest());
    assert_eq!(post(&format!("{}/v1/views", running.ingest()), r#"{"article":"hot","user":"u"}"#).status, 204);
    eventually("a first read", Duration::from_secs(15), || get(&hot).json()["source"] == "cache");
    let (rate, count) = (rate(seconds), rate(seconds) * (seconds + 3));
    let load = running
        .load("mariadb.tsv", &format!("--views {count} --rate {rate} --articles 1000 --users 10000 --connections 64"));
    pause_ms(1_000);
    running.stack.mariadb.pause().expect("pause");
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        let answer = get(&hot);
        assert_eq!((answer.status, &answer.json()["views"]), (200, &1.into()), "{}", answer.body);
        pause_ms(100);
    }
    running.stack.mariadb.resume().expect("resume");
    let summary = load.finish();
    println!("{summary}");
    let ledger = std::fs::read_to_string(running.path("mariadb.tsv")).expect("ledger");
    assert_eq!(ledger.matches("\tacknowledged").count() as u64, count, "{summary}");
    running.assert_verified(&["mariadb.tsv"]);
}

/// `kill -9` of every process at once, ten times in a row, under load.
#[test]
fn everything_is_killed_ten_times_in_a_row() {
    for (fsync, journal) in [(AppendFsync::EverySecond, Journal::On), (AppendFsync::Always, Journal::Off)] {
        let mut running = start(|options| {
            options.ingests = 2;
            options.journal = journal.clone();
            options.redis = RedisOptions { append_fsync: fsync, ..RedisOptions::default() };
        });
        let mut load =
            running.load("ledger.tsv", "--views 40000 --rate 2000 --articles 1000 --users 10000 --connections 32");
        for _ in 0..10 {
            pause_ms(700);
            assert!(load.is_running(), "the load ended before the faults");
            for (role, index) in [(Role::Ingest, 0), (Role::Ingest, 1), (Role::Flusher, 0)] {
                running.stack.service(role, index).kill().expect("kill");
            }
            running.stack.redis.kill().expect("kill");
            running.stack.mariadb.kill().expect("kill");
            running.stack.redis.restart().expect("restart");
            running.stack.mariadb.restart().expect("restart");
            for (role, index) in [(Role::Ingest, 0), (Role::Ingest, 1), (Role::Flusher, 0)] {
                running.stack.service(role, index).restart().expect("restart");
            }
        }
        println!("{fsync:?}, {journal:?}\n{}", load.finish());
        running.assert_verified(&["ledger.tsv"]);
    }
}

/// The cell of the table in docs/guarantees.md that says what a journal is for: without one, what MySQL did not have is lost; nothing
/// else is, and nothing is doubled.
#[test]
fn without_a_journal_the_loss_is_what_mysql_did_not_have() {
    let mut running = start(|options| {
        options.journal = Journal::Off;
        options.ingests = 2;
    });
    let mut load = running.load("ledger.tsv", "--views 12000 --rate 3000 --articles 100 --users 1000 --connections 32");
    pause_ms(1_500);
    // Views pile up in Redis, so that there is something to lose.
    running.stack.service(Role::Flusher, 0).pause().expect("pause");
    pause_ms(500);
    for ingest in 0..2 {
        running.stack.service(Role::Ingest, ingest).kill().expect("kill");
    }
    running.stack.redis.query(&["FLUSHALL"]).expect("FLUSHALL");
    running.stack.service(Role::Flusher, 0).resume().expect("resume");
    for ingest in 0..2 {
        running.stack.service(Role::Ingest, ingest).restart().expect("restart");
    }
    assert!(load.is_running(), "the load ended before the fault");
    load.finish();
    let mut verify = running.stack.tool();
    verify.args(["verify", "--wait", "3", "--ledger"]).arg(running.path("ledger.tsv"));
    let (fine, report) = crate::common::output(verify);
    assert!(!fine && report.contains(" missing, 0 extra"), "{report}");
    assert!(!report.contains("invariants FAILED") && !report.contains("invariant FAILED"), "{report}");
}

#[test]
fn a_view_with_an_id_counts_once_whoever_is_asked() {
    let mut running = start(|options| {
        options.ingests = 2;
        options.set("FOOTFALL_REDIS__TIMEOUT_MS", "500");
    });
    let urls: Vec<String> = (0..2).map(|n| format!("{}/v1/views", running.stack.url(Role::Ingest, n))).collect();
    let named = |id: &str| format!(r#"{{"article":"a","user":"u","id":"{id}"}}"#);
    for url in urls.iter().chain(&urls) {
        assert_eq!(post(url, &named("one")).status, 204);
    }
    // Twice in one request, and one that is known already.
    let many = [named("two"), named("two"), named("one"), named("three")].join("\n");
    assert_eq!(post(&urls[0], &many).json()["accepted"], 4);
    assert_eq!(running.article("a")["views"], 3);

    // While Redis is away nobody can tell: the views wait in the journals, and count once all the same.
    running.stack.redis.pause().expect("pause");
    for url in &urls {
        assert_eq!(post(url, &named("four")).status, 204);
        assert_eq!(post(url, &named("one")).status, 204);
    }
    assert_eq!(post(&urls[0], r#"{"article":"a","user":"v"}"#).status, 204, "one without an id");
    running.stack.redis.resume().expect("resume");
    let stored = "SELECT views FROM article_counts WHERE article = 'a'";
    eventually("four with an id and one without", Duration::from_secs(10), || {
        running.sql(stored).as_deref() == Some("5")
    });
    pause_ms(1_500);
    assert_eq!(running.sql(stored).as_deref(), Some("5"));
    assert_eq!(running.sql("SELECT SUM(repeats) FROM footfall_producer_fence").as_deref(), Some("8"));
}

/// The equation on the WebSocket's snapshot and as metrics, with views in each of its places.
#[test]
fn the_books_show_where_every_view_is() {
    let mut running = start(|options| options.dashboards = 1);
    let stats = format!("{}/v1/stats", running.stack.url(Role::Dashboard, 0));
    running.sql("ALTER TABLE footfall_article_readers ADD CONSTRAINT nope CHECK (user <> 'poison')");
    let views = format!("{}/v1/views", running.ingest());
    for user in ["fine", "poison", "fine"] {
        assert_eq!(post(&views, &format!(r#"{{"article":"a","user":"{user}"}}"#)).status, 204);
    }
    let books = |part: &str| get(&stats).json()["conservation"][part].as_u64();
    eventually("one in quarantine", Duration::from_secs(10), || books("quarantined") == Some(1));
    assert_eq!((books("accepted"), books("stored"), books("unaccounted")), (Some(3), Some(2), Some(0)));
    running.stack.service(Role::Flusher, 0).pause().expect("pause");
    assert_eq!(post(&views, r#"{"article":"a","user":"late"}"#).status, 204);
    eventually("one pending", Duration::from_secs(15), || books("pending") == Some(1));
    assert_eq!((books("accepted"), books("unaccounted")), (Some(4), Some(0)));
    running.stack.service(Role::Flusher, 0).resume().expect("resume");
    eventually("stored", Duration::from_secs(15), || books("stored") == Some(3));
    let admin = running.stack.service(Role::Dashboard, 0).admin();
    let metrics = get(&format!("http://{admin}/metrics")).body;
    assert!(metrics.contains(r#"footfall_conservation_views{part="accepted"} 4"#), "{metrics}");
}
