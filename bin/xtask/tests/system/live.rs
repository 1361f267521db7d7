//! What the dashboard's snapshot says of the system around the numbers: who is there, what waits, what happened.

use std::time::Duration;

use footfall_drill::stack::Role;
use serde_json::Value;

use crate::common::{Running, eventually, get, post, start};

const PATIENCE: Duration = Duration::from_secs(20);

fn snapshot(running: &Running) -> Value {
    get(&format!("{}/v1/stats", running.stack.url(Role::Dashboard, 0))).json()
}

/// The state of the only process of a role; none if there is none.
fn state(snapshot: &Value, role: &str) -> Option<String> {
    let instances = snapshot["instances"].as_array().expect("instances");
    let of_role: Vec<&Value> = instances.iter().filter(|instance| instance["role"] == role).collect();
    assert!(of_role.len() <= 1, "{instances:?}");
    of_role.first().map(|instance| instance["state"].as_str().expect("a state").to_owned())
}

/// What happened, oldest first, of those that are about a role, or about nobody.
fn events(snapshot: &Value, role: &str) -> Vec<String> {
    let events = snapshot["events"].as_array().expect("events").iter().rev();
    let of_role = events.filter(|event| event["name"].as_str().is_some_and(|name| name.starts_with(role)));
    of_role.map(|event| event["text"].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn who_is_there_and_what_happened_is_told() {
    let mut running = start(|options| options.dashboards = 1);
    let dashboard = running.stack.url(Role::Dashboard, 0);
    eventually("a dashboard", PATIENCE, || get(&format!("{dashboard}/readyz")).status == 200);
    eventually("all three are well", PATIENCE, || {
        let snapshot = snapshot(&running);
        ["ingest", "flusher", "dashboard"].iter().all(|role| state(&snapshot, role).as_deref() == Some("ok"))
    });

    running.stack.service(Role::Ingest, 0).pause().expect("pauses");
    eventually("a silent ingest is down", PATIENCE, || state(&snapshot(&running), "ingest").as_deref() == Some("down"));
    running.stack.service(Role::Ingest, 0).resume().expect("goes on");
    eventually("it has recovered", PATIENCE, || state(&snapshot(&running), "ingest").as_deref() == Some("ok"));
    // Redis loses everything, the reports too: nobody has come or gone for that.
    running.stack.redis.query(&["FLUSHALL"]).expect("redis");
    get(&format!("{}/demopage/yumo?usrid=1", running.ingest()));
    eventually("live numbers again", PATIENCE, || {
        let snapshot = snapshot(&running);
        snapshot["stale"].is_null() && snapshot["views"] == 1 && state(&snapshot, "ingest").as_deref() == Some("ok")
    });
    let ended = running.stack.service(Role::Ingest, 0).terminate(PATIENCE).expect("ends");
    assert!(ended.success(), "{ended}");
    eventually("an ingest that has ended is gone", PATIENCE, || state(&snapshot(&running), "ingest").is_none());
    running.stack.service(Role::Ingest, 0).restart().expect("starts");
    eventually("a new one is there", PATIENCE, || state(&snapshot(&running), "ingest").as_deref() == Some("ok"));
    let told = events(&snapshot(&running), "ingest");
    // Whether the dashboard saw it start depends on which of the two was first.
    let told: Vec<&str> = told.iter().map(String::as_str).skip_while(|text| *text == "has started").collect();
    // And whether it saw that ingest stood without Redis's data for a moment, on which of the two looked first.
    let told = told.join(", ").replace("is degraded, has recovered, ", "");
    assert_eq!(told, "is down, has recovered, has stopped, has started");

    running.stack.service(Role::Flusher, 0).pause().expect("pauses");
    get(&format!("{}/demopage/yumo?usrid=2", running.ingest()));
    eventually("what waits in its shard", PATIENCE, || {
        let shards = snapshot(&running)["shards"].clone();
        shards[0]["pending_views"] == 1 && shards[0]["lag_ms"].as_u64() > Some(0) && shards[1].is_null()
    });
    running.stack.service(Role::Flusher, 0).resume().expect("goes on");
    eventually("nothing waits", PATIENCE, || snapshot(&running)["shards"][0]["pending_views"] == 0);

    let history = get(&format!("{dashboard}/v1/history")).json();
    let samples = history["samples"].as_array().expect("samples");
    assert!(samples.len() >= 2 && history["period_ms"] == 5_000, "{history}");
    assert_eq!((&samples[0]["views"], samples[0]["at"].is_string()), (&0.into(), true), "{history}");
}

/// The sum of what waits is known at once, and what waits of an article when the log was read: never less as if it were all.
#[test]
fn a_dashboard_that_starts_behind_a_backlog_shows_what_is_known() {
    const REQUESTS: u64 = 150;
    let mut running = start(|options| options.dashboards = 1);
    let dashboard = running.stack.url(Role::Dashboard, 0);
    let ingest = format!("{}/v1/views", running.ingest());
    assert_eq!(post(&ingest, r#"{"article":"hot","user":"u"}"#).status, 204);
    let is_live = || get(&format!("{dashboard}/readyz")).status == 200 && snapshot(&running)["stored_views"] == 1;
    eventually("it is stored", PATIENCE, is_live);
    running.stack.service(Role::Flusher, 0).pause().expect("pauses");
    running.stack.service(Role::Dashboard, 0).terminate(PATIENCE).expect("ends");
    for request in 0..REQUESTS {
        let view = |at| format!(r#"{{"article":"hot","user":"reader {at}"}}"#);
        let views: Vec<String> = (1_000 * request..1_000 * (request + 1)).map(view).collect();
        let answer = post(&ingest, &format!("[{}]", views.join(",")));
        assert_eq!((answer.status, &answer.json()["accepted"]), (200, &1_000.into()), "{}", answer.body);
    }

    running.stack.service(Role::Dashboard, 0).restart().expect("starts");
    eventually("a dashboard", PATIENCE, || get(&format!("{dashboard}/readyz")).status == 200);
    let all = 1_000 * REQUESTS + 1;
    let mut parts = 0;
    let took = eventually("all views of an article", PATIENCE, || {
        let snapshot = snapshot(&running);
        assert_eq!(snapshot["views"], all, "known from the first number on: {snapshot}");
        assert_eq!(snapshot["pending_views"], all - 1);
        let line = &snapshot["top"][0];
        parts += u32::from(line["at_least"].is_u64());
        assert!(line["views"].is_null() || line["views"] == all, "a part as the whole: {line}");
        line["views"] == all
    });
    println!("all views of the article after {took:?}; {parts} looks saw a part");
    running.stack.service(Role::Flusher, 0).resume().expect("goes on");
    eventually("all is stored", PATIENCE, || {
        let snapshot = snapshot(&running);
        assert!(snapshot["views"].is_null() || snapshot["views"] == all, "{snapshot}");
        snapshot["stored_views"] == all && snapshot["top"][0]["views"] == all
    });
}
