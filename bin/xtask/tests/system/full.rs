//! A Redis without room: filled by a flood of view ids, or by somebody else. Views are counted all the same, numbers say
//! what they are, and all is well again by itself.
//!
//! `FOOTFALL_TEST_FLOOD_IDS` sets how many ids the flood has; the default keeps the ordinary run short.

use std::time::{Duration, Instant};

use crate::common::{Client, Running, eventually, get, post, start};
use footfall_drill::stack::Role;

const PATIENCE: Duration = Duration::from_secs(30);
/// So little memory for so many ids that, kept as they are, they would fill it.
const MEMORY_PER_ID: u64 = 140;
/// Views in one request of the flood: with ids of 64 bytes no more than a body may have.
const TOGETHER: u64 = 8_000;

fn flood_ids() -> u64 {
    std::env::var("FOOTFALL_TEST_FLOOD_IDS").ok().and_then(|text| text.parse().ok()).unwrap_or(150_000)
}

/// Sends so many views, each with an id of 64 bytes, as fast as one connection takes them; answers how many were counted.
fn flood(url: &str, ids: u64) -> u64 {
    let mut client = Client::new(url);
    let mut counted = 0;
    for from in (0..ids).step_by(TOGETHER as usize) {
        let view = |at| format!(r#"{{"article":"f{}","user":"u","id":"{at:064}"}}"#, at % 100);
        let views: Vec<String> = (from..(from + TOGETHER).min(ids)).map(view).collect();
        let (status, body) = client.post("/v1/views", &views.join("\n"));
        if status == 200 {
            let outcome: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            counted += outcome["accepted"].as_u64().expect("a number");
        }
    }
    counted
}

/// The latency of the load's views that 99 of 100 were below, as its summary says.
fn p99(summary: &str) -> &str {
    summary.split("p99 ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("?")
}

fn is_degraded(running: &Running) -> bool {
    get(&format!("{}/readyz", running.ingest())).body.contains("degraded")
}

#[test]
fn a_flood_of_view_ids_fills_nothing() {
    let ids = flood_ids();
    let memory = ids * MEMORY_PER_ID;
    let mut running = start(|options| {
        options.redis.args = ["--maxmemory".to_owned(), memory.to_string()].into();
        options.dashboards = 1;
    });
    let honest = "--rate 200 --articles 100 --users 1000 --connections 256 --seed";
    let alone = running.load("alone.tsv", &format!("--views 1000 {honest} 1")).finish();

    let views = ids / 20_000 * 200 + 1_000;
    let mut beside = running.load("beside.tsv", &format!("--views {views} {honest} 2"));
    let (ingest, began) = (running.ingest(), Instant::now());
    let flooding = std::thread::spawn(move || (flood(&ingest, ids), began.elapsed()));
    let mut most = 0;
    while beside.is_running() || !flooding.is_finished() {
        most = most.max(running.redis_info("used_memory"));
        std::thread::sleep(Duration::from_millis(100));
    }
    let (counted, took) = flooding.join().expect("the flood");
    let beside = beside.finish();
    let expected = Some((1_000 + views + counted).to_string());
    let stored = |running: &mut Running| running.sql("SELECT SUM(views) FROM article_counts");
    let late = eventually("all is in MySQL", PATIENCE, || stored(&mut running) == expected);
    // The flusher looks at the ids only now and then.
    let (mut remembered, mut early) = (0.0, 0.0);
    eventually("every id is remembered, or was forgotten early", PATIENCE, || {
        remembered = running.metric(Role::Flusher, 0, "footfall_view_ids");
        early = running.metric(Role::Flusher, 0, "footfall_view_ids_forgotten_early");
        remembered + early == counted as f64
    });
    let window = running.metric(Role::Flusher, 0, "footfall_view_ids_window_seconds");
    println!(
        "{counted} of {ids} ids in {took:.1?}; honest p99 {} ms alone, {} ms beside; all stored {late:?} after; Redis at most {most} of \
         {memory} bytes, {} now; {remembered} ids remembered, {early} forgotten early, window {window:.0} s",
        p99(&alone),
        p99(&beside),
        running.redis_info("used_memory"),
    );
    assert_eq!(counted, ids, "all are taken");
    assert!(most < memory * 8 / 10, "at most {most} of {memory}");
    assert!(early > 0.0, "{remembered} remembered, {early} forgotten");
    assert!(window < took.as_secs_f64() + late.as_secs_f64() + 60.0, "{window} s");
    // A machine that is busy with other tests may keep a store from answering for a moment.
    eventually("nothing is wrong", PATIENCE, || !is_degraded(&running));
    // The last ones are known still, and a repeat of them counts nothing.
    let last = format!(r#"{{"article":"f{}","user":"u","id":"{:064}"}}"#, (ids - 1) % 100, ids - 1);
    assert_eq!(post(&format!("{}/v1/views", running.ingest()), &last).status, 204);
    running.assert_verified(&["alone.tsv", "beside.tsv"]);
    assert_eq!(stored(&mut running), expected);
}

#[test]
fn others_fill_redis_and_views_are_counted_all_the_same() {
    const MIB: u64 = 1 << 20;
    let mut running = start(|options| {
        options.redis.args = ["--maxmemory".to_owned(), (128 * MIB).to_string()].into();
        options.dashboards = 1;
        options.env.push(("FOOTFALL_READS__TTL_MS".into(), "1000".into()));
    });
    running.load("before.tsv", "--views 100 --articles 5 --users 50 --connections 2").finish();
    let views = format!("{}/v1/views", running.ingest());
    let stored = |running: &mut Running, article: &str| {
        running.sql(&format!("SELECT views FROM article_counts WHERE article = '{article}'")).unwrap_or_default()
    };
    assert_eq!(post(&views, r#"{"article":"a","user":"u","id":"1"}"#).status, 204);
    eventually("the first one is in MySQL", PATIENCE, || stored(&mut running, "a") == "1");
    let key = "x".repeat(31 * MIB as usize);
    // More than it may have: nothing of it was ours.
    running.stack.redis.query(&["SET", "session:1", &key]).expect("it has room");
    running.stack.redis.query(&["CONFIG", "SET", "maxmemory", &(16 * MIB).to_string()]).expect("CONFIG");
    eventually("it says so", PATIENCE, || is_degraded(&running));

    // A view without an id is in MySQL at once, whatever is waited for otherwise.
    let began = Instant::now();
    assert_eq!(post(&views, r#"{"article":"a","user":"v"}"#).status, 204);
    eventually("it is in MySQL", Duration::from_secs(15), || stored(&mut running, "a") == "2");
    println!("stored after {:?}", began.elapsed());
    // Only Redis can tell whether an id is known: such a view waits in the journal, and the number says that.
    assert_eq!(post(&views, r#"{"article":"a","user":"u","id":"1"}"#).status, 204);
    assert_eq!(post(&views, r#"{"article":"waits","user":"u","id":"2"}"#).status, 204);
    for (article, at_least) in [("a", 2), ("waits", 0)] {
        let numbers = get(&format!("{}/v1/articles/{article}", running.ingest())).json();
        assert!(numbers["views"].is_null() && numbers["at_least"] == at_least, "{numbers}");
    }
    // An ingest that starts now is admitted, and counts.
    running.stack.service(Role::Ingest, 0).kill().expect("kill");
    running.stack.service(Role::Ingest, 0).restart().expect("it is ready");
    let views = format!("{}/v1/views", running.ingest());
    assert_eq!(post(&views, r#"{"article":"a","user":"w"}"#).status, 204);
    eventually("it is in MySQL", Duration::from_secs(15), || stored(&mut running, "a") == "3");
    // Who watches sees it too: the books add up, the processes are there.
    let stats = format!("{}/v1/stats", running.stack.url(Role::Dashboard, 0));
    eventually("the books add up", PATIENCE, || {
        let stats = get(&stats).json();
        let books = |part: &str| stats["conservation"][part].as_i64();
        books("unaccounted") == Some(0) && books("journalled") == Some(2) && stats.to_string().contains("redis is full")
    });

    // Others still take more than is left to new views, but there is room: what waits goes on.
    running.stack.redis.query(&["CONFIG", "SET", "maxmemory", &(37 * MIB).to_string()]).expect("CONFIG");
    eventually("the one with a new id is in MySQL", PATIENCE, || stored(&mut running, "waits") == "1");
    assert!(is_degraded(&running));
    // And when they are gone, all is as ever.
    running.stack.redis.query(&["DEL", "session:1"]).expect("DEL");
    eventually("back by itself", PATIENCE, || !is_degraded(&running));
    let numbers = running.article("a");
    assert!(numbers["views"] == 3 && numbers["degraded"].is_null(), "{numbers}");
    assert_eq!(stored(&mut running, "a"), "3", "the repeat counted nothing");
    running.assert_verified(&["before.tsv"]);
}
