//! What is not known is not answered as a number: the table of docs/operations.md ("What readers see"), walked on real
//! stores. All its cells, as far as they need no stores, are in shared/src/stores/reads/numbers.rs.

use std::time::Duration;

use footfall_drill::stack::Role;
use serde_json::{Value, json};

use crate::common::{Running, Set, eventually, get, post, start};

const SOON: Duration = Duration::from_secs(15);
const NO_REDIS: &str = "redis cannot be read: views that wait there are missing";
const NO_MYSQL: &str =
    "mysql cannot be read, and what it has of this article is not cached: only a part of its views is known";
const NO_MYSQL_CACHED: &str = "mysql cannot be read: readers are those of its last flush";
const NO_STORE: &str = "neither redis nor mysql can be read: only the views shown before are known";
const BEHIND: &str = "some views wait in a journal: only those in redis and mysql are known";

/// Everything of an article is known: views, readers, and how many of the views wait.
fn whole(article: &str, (views, readers, pending): (u64, u64, u64), degraded: Option<&str>, source: &str) -> Value {
    json!({
        "article": article, "views": views, "at_least": null, "readers": readers, "pending": pending, "as_of": "some",
        "degraded": degraded, "source": source,
    })
}

fn part(article: &str, at_least: u64, degraded: &str, source: Option<&str>) -> Value {
    json!({
        "article": article, "views": null, "at_least": at_least, "readers": null, "pending": null, "as_of": null,
        "degraded": degraded, "source": source,
    })
}

/// Both ingests answer so, and soon, with any time where there is one.
#[track_caller]
fn assert_read(running: &Running, what: &str, expected: &Value) {
    for ingest in 0..2 {
        let url = format!(
            "{}/v1/articles/{}",
            running.stack.url(Role::Ingest, ingest),
            expected["article"].as_str().expect("a name")
        );
        let mut answer = Value::Null;
        let read = || {
            let found = get(&url);
            assert_eq!(found.status, 200, "{what}: {}", found.body);
            answer = found.json();
            if answer["as_of"].is_string() {
                answer["as_of"] = "some".into();
            }
            if answer == *expected {
                return true;
            }
            // Until then it may say less, but nothing that is wrong.
            let known = expected["views"].as_u64().or(expected["at_least"].as_u64()).expect("a number");
            assert!(answer["views"].is_null() || answer["views"] == known, "{what}: {answer}, not {expected}");
            false
        };
        let mut read = read;
        for _ in 0..150 {
            if read() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(answer, *expected, "{what}, ingest {ingest}");
    }
}

fn send(running: &Running, article: &str, users: &[&str]) {
    let views = format!("{}/v1/views", running.ingest());
    for user in users {
        assert_eq!(post(&views, &json!({"article": article, "user": user}).to_string()).status, 204);
    }
}

fn stats(running: &Running) -> Value {
    get(&format!("{}/v1/stats", running.stack.url(Role::Dashboard, 0))).json()
}

#[track_caller]
fn assert_stats(running: &Running, what: &str, expected: &Value) {
    let fields: Vec<&String> = expected.as_object().expect("fields").keys().collect();
    let mut seen = Value::Null;
    for _ in 0..150 {
        let all = stats(running);
        seen = fields.iter().map(|field| ((*field).clone(), all[field.as_str()].clone())).collect();
        if seen == *expected {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(seen, *expected, "{what}");
}

fn metrics(running: &mut Running, role: Role) -> String {
    get(&format!("http://{}/metrics", running.stack.service(role, 0).admin())).body
}

#[test]
fn what_is_not_known_is_not_answered_as_a_number() {
    let mut running = start(|options| {
        (options.ingests, options.dashboards) = (2, 1);
        // An administrator writes to a MariaDB that is read-only.
        options.database_user = "footfall".to_owned();
        options.set("FOOTFALL_READS__TTL_MS", "300");
    });
    send(&running, "a", &["u", "v", "w", "u", "u"]);
    send(&running, "b", &["u", "v", "u", "u"]);
    eventually("stored", SOON, || running.sql("SELECT SUM(views) FROM article_counts").as_deref() == Some("9"));
    eventually("a is cached", SOON, || {
        let numbers = running.article("a");
        numbers["pending"] == 0 && numbers["source"] == "cache" && numbers["readers"] == 3
    });
    let minutes = |running: &Running| get(&format!("{}/v1/minutes?last=3", running.stack.url(Role::Dashboard, 0)));
    eventually("all minutes are known", SOON, || {
        let listed = minutes(&running).json();
        let spans = listed["minutes"].as_array().expect("minutes").clone();
        listed["degraded"].is_null() && spans.iter().filter_map(|span| span["views"].as_u64()).sum::<u64>() == 9
    });
    assert_stats(&running, "well", &json!({"views": 9, "at_least": null, "pending_views": 0, "readers": 3}));
    eventually("books", SOON, || stats(&running)["conservation"]["is_current"] == true);

    // Read-only: nothing is flushed, everything is known.
    running.sql("SET GLOBAL read_only = 1");
    send(&running, "a", &["x"]);
    assert_read(&running, "read-only", &whole("a", (6, 3, 1), None, "cache"));
    // What waits for more than a moment is missing in a history, and is not drawn as if nobody had come.
    eventually("minutes that lack views are not known", SOON, || {
        let listed = minutes(&running).json();
        let last = listed["minutes"][2].clone();
        last["views"].is_null() && last["at_least"].is_u64() && listed["degraded"].is_string()
    });

    // MySQL away: what is cached is right though its time is over; of the rest no more is known than what waits.
    let cached = running.stack.redis.query(&["KEYS", "footfall:{0}:live:*:b"]).expect("redis");
    cached.iter().for_each(|key| drop(running.stack.redis.query(&["DEL", key]).expect("redis")));
    running.stack.mariadb.kill().expect("killed");
    send(&running, "b", &["x"]);
    std::thread::sleep(Duration::from_millis(400));
    let a = whole("a", (6, 3, 1), Some(NO_MYSQL_CACHED), "cache");
    assert_read(&running, "MySQL away, cached", &a);
    assert_read(&running, "MySQL away, not cached", &part("b", 1, NO_MYSQL, Some("cache")));
    assert_read(&running, "MySQL away, never read", &part("c", 0, NO_MYSQL, Some("cache")));
    let ingest = running.stack.service(Role::Ingest, 1);
    ingest.kill().expect("killed");
    ingest.restart().expect("restarted");
    assert_read(&running, "MySQL away, an ingest restarted", &a);
    assert_read(&running, "MySQL away, an ingest restarted", &part("b", 1, NO_MYSQL, Some("cache")));
    let known = json!({"views": 11, "at_least": null, "pending_views": 2, "stored_views": 9, "readers": 3,
        "stored_views_per_second": null});
    assert_stats(&running, "MySQL away", &known);
    eventually("the books are old", SOON, || stats(&running)["conservation"]["is_current"] == false);
    assert!(!metrics(&mut running, Role::Dashboard).contains("footfall_conservation_views{"));
    assert!(metrics(&mut running, Role::Dashboard).contains("footfall_as_of_timestamp_seconds{of=\"conservation\"}"));
    let dashboard = running.stack.service(Role::Dashboard, 0);
    dashboard.kill().expect("killed");
    dashboard.restart().ok();
    assert_stats(&running, "MySQL away, the dashboard restarted", &known);
    assert_eq!(stats(&running)["top_as_of"], Value::Null);

    // Both away.
    running.stack.redis.kill().expect("killed");
    assert_read(&running, "both away", &part("a", 6, NO_STORE, None));
    assert_read(&running, "both away, nothing known", &part("d", 0, NO_STORE, None));
    let unknown = json!({"views": null, "at_least": 11, "pending_views": null, "log_entries": null, "lag_ms": null,
        "views_per_second": null, "stored_views_per_second": null, "redis_hits": {"minute": null, "total": null},
        "query_hits": {"minute": null, "total": null}, "interface_hits": {}});
    assert_stats(&running, "both away", &unknown);
    assert_stats(&running, "both away", &json!({"stored_views": null, "readers": null, "articles": null}));
    eventually("the flusher says no more what waits", SOON, || {
        let waiting = metrics(&mut running, Role::Flusher);
        !waiting.contains("footfall_pending_views{") && !waiting.contains("footfall_flush_lag_seconds{")
    });

    // Redis away: what waits there is missing.
    running.stack.service(Role::Flusher, 0).pause().expect("pauses");
    running.stack.mariadb.restart().expect("restarted");
    assert_read(&running, "Redis away", &part("a", 6, NO_REDIS, Some("database")));
    assert_read(&running, "Redis away", &part("b", 4, NO_REDIS, Some("database")));
    assert_stats(&running, "Redis away", &unknown);
    assert_stats(&running, "Redis away", &json!({"stored_views": 9, "readers": 3, "articles": 2}));

    // It comes back, and is emptied while nobody can send again what it had.
    running.stack.redis.restart().expect("restarted");
    assert_read(&running, "all there again", &whole("a", (6, 3, 1), None, "cache"));
    for ingest in 0..2 {
        running.stack.service(Role::Ingest, ingest).pause().expect("pauses");
    }
    running.stack.redis.query(&["FLUSHALL"]).expect("redis");
    running.stack.service(Role::Flusher, 0).resume().expect("goes on");
    let of_dashboard = format!("{}/v1/articles/b", running.stack.url(Role::Dashboard, 0));
    // A dashboard that has never been asked for it, so that it cannot know what is missing.
    eventually("opened, and not all there", SOON, || {
        let answer = get(&of_dashboard).json();
        assert!(answer["views"].is_null() || answer["views"] == 5, "{answer}");
        answer["degraded"] == BEHIND && answer["at_least"] == 4
    });
    for ingest in 0..2 {
        running.stack.service(Role::Ingest, ingest).resume().expect("goes on");
    }
    assert_read(&running, "sent again", &whole("a", (6, 4, 0), None, "cache"));

    // Full: wherever a view goes, it is in the answer or the answer is a part.
    running.stack.redis.query(&["CONFIG", "SET", "maxmemory", "1"]).expect("redis");
    std::thread::sleep(Duration::from_millis(700));
    send(&running, "a", &["y"]);
    std::thread::sleep(Duration::from_millis(700));
    for _ in 0..10 {
        let answer = get(&format!("{}/v1/articles/a", running.ingest())).json();
        assert!(answer["views"] == 7 || (answer["views"].is_null() && answer["at_least"].is_u64()), "{answer}");
        assert!(answer["views"] == 7 || answer["degraded"].is_string(), "{answer}");
        std::thread::sleep(Duration::from_millis(100));
    }
    running.stack.redis.query(&["CONFIG", "SET", "maxmemory", "0"]).expect("redis");
    eventually("all there", SOON, || {
        let answer = get(&format!("{}/v1/articles/a", running.ingest())).json();
        answer["views"] == 7 && answer["degraded"].is_null()
    });
}
