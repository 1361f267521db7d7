//! What the dashboard answers about articles and readers, page by page, against what MySQL says, and while it is written
//! to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::common::{Running, eventually, get, request, start};
use crate::viewer::Viewer;
use footfall_drill::stack::Role;

const PATIENCE: Duration = Duration::from_secs(20);

/// Hits and misses of an interface on the dashboard.
fn reads(running: &mut Running, interface: &str) -> (u64, u64) {
    let admin = running.stack.service(Role::Dashboard, 0).admin();
    let metrics = get(&format!("http://{admin}/metrics")).body;
    let count = |kind: &str| {
        let sample = format!("footfall_read_{kind}_total{{interface=\"{interface}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok()).unwrap_or(0)
    };
    (count("hits"), count("misses"))
}

/// All entries of a list, page by page, while `between` is called.
fn all(running: &Running, path: &str, mut between: impl FnMut()) -> Vec<serde_json::Value> {
    let name = path.split(['?', '&']).next().and_then(|path| path.rsplit('/').next()).expect("a path");
    let mut entries = Vec::new();
    let mut after = String::new();
    loop {
        let separator = if path.contains('?') { '&' } else { '?' };
        let page = get(&format!("{}{path}{separator}limit=7{after}", running.stack.url(Role::Dashboard, 0)));
        assert_eq!(page.status, 200, "{}", page.body);
        let page = page.json();
        entries.extend(page[name].as_array().expect("a page").iter().cloned());
        let Some(next) = page["next"].as_str() else { return entries };
        after = format!("&after={}", percent(next));
        between();
    }
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn lists_are_what_mysql_holds() {
    let mut running = start(|options| options.dashboards = 1);
    running.load("l.tsv", "--views 4000 --articles 60 --users 90 --connections 4 --rate 2000").finish();
    get(&format!("{}/demopage/a%2Fb%20%C3%A4?usrid=odd%2Fuser", running.ingest()));
    running.assert_verified(&["l.tsv"]);

    let sql = "SELECT article, views, readers FROM article_counts";
    let stored: BTreeSet<String> =
        running.stack.mariadb.query(sql).expect("query").iter().map(|row| row.join(" ")).collect();
    let line = |entry: &serde_json::Value| {
        format!("{} {} {}", entry["article"].as_str().expect("a name"), entry["views"], entry["readers"])
    };
    for by in ["views", "readers", "name"] {
        let listed = all(&running, &format!("/v1/articles?by={by}"), || {});
        assert_eq!(listed.iter().map(line).collect::<BTreeSet<_>>(), stored, "by {by}");
        assert_eq!(listed.len(), stored.len(), "by {by}: none twice");
        if by != "name" {
            assert!(listed.windows(2).all(|two| two[0][by].as_u64() >= two[1][by].as_u64()), "by {by}: greatest first");
        }
    }
    let found = all(&running, "/v1/articles?prefix=a/", || {});
    assert_eq!(found.iter().map(line).collect::<Vec<_>>(), ["a/b ä 1 1"]);

    let users = all(&running, "/v1/users", || {});
    assert_eq!(users.len().to_string(), running.sql("SELECT COUNT(*) FROM footfall_users").expect("users"));
    let mut pairs = BTreeMap::new();
    for user in users {
        let user = user["user"].as_str().expect("a name").to_owned();
        for read in all(&running, &format!("/v1/users/{}/articles", percent(&user)), || {}) {
            pairs.insert((read["article"].as_str().expect("a name").to_owned(), user.clone()), read["views"].as_u64());
        }
    }
    let mut read_by = BTreeMap::new();
    for article in all(&running, "/v1/articles", || {}) {
        let article = article["article"].as_str().expect("a name").to_owned();
        for reader in all(&running, &format!("/v1/articles/{}/readers", percent(&article)), || {}) {
            read_by.insert(
                (article.clone(), reader["user"].as_str().expect("a name").to_owned()),
                reader["views"].as_u64(),
            );
        }
    }
    assert_eq!(pairs, read_by);
    let sum: u64 = pairs.values().flatten().sum();
    assert_eq!(sum.to_string(), running.sql("SELECT SUM(views) FROM article_counts").expect("views"));

    let dashboard = running.stack.url(Role::Dashboard, 0);
    let minutes = get(&format!("{dashboard}/v1/minutes?last=60")).json();
    let minutes = minutes["minutes"].as_array().expect("minutes").clone();
    assert_eq!(minutes.len(), 60);
    assert_eq!(minutes.iter().filter_map(|minute| minute["views"].as_u64()).sum::<u64>(), sum);
    let hours = get(&format!("{dashboard}/v1/articles/a%2Fb%20%C3%A4/hours?last=2")).json();
    assert_eq!(
        hours["hours"].as_array().expect("hours").iter().filter_map(|hour| hour["views"].as_u64()).sum::<u64>(),
        1
    );

    assert_eq!(get(&format!("{dashboard}/v1/articles?limit=0")).status, 400);
    assert_eq!(request("POST", &format!("{dashboard}/v1/users"), &[], b"").status, 405);
}

#[test]
fn no_entry_is_listed_twice_or_skipped_while_it_is_written() {
    let running = start(|options| options.dashboards = 1);
    running.load("before.tsv", "--views 2000 --articles 80 --users 40 --connections 4 --rate 2000").finish();
    running.assert_verified(&["before.tsv"]);
    let names = |entries: Vec<serde_json::Value>| {
        entries.iter().map(|entry| entry["article"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    let before: BTreeSet<String> = names(all(&running, "/v1/articles?by=name", || {})).into_iter().collect();
    let load = running.load("during.tsv", "--views 6000 --articles 80 --users 40 --connections 4 --rate 1500");
    for _ in 0..3 {
        let pause = || std::thread::sleep(Duration::from_millis(20));
        // By name all keep their places; by views one may rise past the cursor, but is never seen again.
        let listed = names(all(&running, "/v1/articles?by=name", pause));
        let unique: BTreeSet<String> = listed.iter().cloned().collect();
        assert_eq!(listed.len(), unique.len());
        assert!(unique.is_superset(&before));
        let listed = names(all(&running, "/v1/articles?by=views", pause));
        assert_eq!(listed.len(), listed.iter().collect::<BTreeSet<_>>().len());
    }
    load.finish();
}

#[test]
fn lists_say_that_mysql_is_away_and_come_back() {
    let mut running = start(|options| options.dashboards = 1);
    let dashboard = running.stack.url(Role::Dashboard, 0);
    let users = |limit: u32| get(&format!("{dashboard}/v1/users?limit={limit}"));
    assert_eq!(users(5).status, 200);
    running.stack.mariadb.kill().expect("killed");
    let answer = users(6);
    assert!(answer.status == 503 && answer.head.to_lowercase().contains("retry-after: 1"), "{answer:?}");
    // What was read before is answered still, and says so once it is older than it should be.
    assert_eq!(users(5).status, 200);
    eventually("an old list that says so", PATIENCE, || users(5).json()["degraded"].is_string());
    running.stack.mariadb.restart().expect("started");
    eventually("lists again", PATIENCE, || users(6).status == 200 && users(5).json()["degraded"].is_null());
}

#[test]
fn what_rises_is_listed_and_one_read_answers_all_who_ask() {
    let mut running = start(|options| options.dashboards = 1);
    for reader in 0..3 {
        get(&format!("{}/demopage/new?usrid=u{reader}", running.ingest()));
    }
    get(&format!("{}/demopage/usual?usrid=u0", running.ingest()));
    eventually("views in MySQL", PATIENCE, || {
        running.sql("SELECT SUM(views) FROM footfall_articles").is_some_and(|sum| sum == "4")
    });
    let day = "INSERT INTO footfall_article_hours (article, hour, views) \
               SELECT 'usual', FLOOR(UNIX_TIMESTAMP() / 3600) - 5, 2400";
    running.stack.mariadb.query(day).expect("query");
    let url = format!("{}/v1/articles?by=rise", running.stack.url(Role::Dashboard, 0));
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let risen = get(&url).json();
                let risen = risen["articles"].as_array().expect("articles").clone();
                assert_eq!(risen.len(), 1, "`usual` is read less than it was: {risen:?}");
                assert_eq!((&risen[0]["article"], &risen[0]["day_before"]), (&"new".into(), &0.into()));
                assert!(risen[0]["rise"].as_f64().is_some_and(|rise| rise > 0.0 && rise <= 3.0), "{risen:?}");
            });
        }
    });
    assert_eq!(reads(&mut running, "lists"), (19, 1));
}

#[test]
fn one_read_of_an_article_in_mysql_answers_all_who_miss_it() {
    let mut running = start(|options| options.dashboards = 1);
    let dashboard = running.stack.url(Role::Dashboard, 0);
    let url = format!("{dashboard}/v1/articles/nobody%20knows%2Fit");
    eventually("a dashboard", PATIENCE, || get(&format!("{dashboard}/readyz")).status == 200);
    // MySQL takes its time, so that all of them come before its answer.
    running.stack.mariadb.pause().expect("pauses");
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| assert_eq!(get(&url).json()["views"], 0));
        }
        std::thread::sleep(Duration::from_millis(500));
        running.stack.mariadb.resume().expect("goes on");
    });
    assert_eq!(reads(&mut running, "article"), (49, 1));

    let tag = |answer: &crate::common::Answer| {
        let line = answer.head.lines().find(|line| line.to_lowercase().starts_with("etag: ")).expect("an ETag");
        line["etag: ".len()..].trim().to_owned()
    };
    let first = get(&url);
    assert!(first.head.to_lowercase().contains("cache-control: no-cache"), "{}", first.head);
    let again = request("GET", &url, &[("If-None-Match", &tag(&first))], b"");
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    get(&format!("{}/demopage/nobody%20knows%2Fit?usrid=u", running.ingest()));
    let known = tag(&first);
    eventually("new numbers", PATIENCE, || request("GET", &url, &[("If-None-Match", &known)], b"").status == 200);
    eventually("the hit rate of articles", PATIENCE, || {
        get(&format!("{dashboard}/v1/stats")).json()["interface_hits"]["article"]["total"].as_f64().is_some()
    });
}

#[test]
fn one_article_can_be_watched() {
    let mut running = start(|options| options.dashboards = 1);
    let dashboard = running.stack.url(Role::Dashboard, 0);
    eventually("a dashboard", PATIENCE, || get(&format!("{dashboard}/readyz")).status == 200);
    let mut viewers: Vec<Viewer> = (0..3).map(|_| Viewer::open(&dashboard, "/realtime?article=a%2Fb")).collect();
    let mut other = Viewer::open(&dashboard, "/realtime?article=other");
    for reader in 0..5 {
        get(&format!("{}/demopage/a%2Fb?usrid=u{reader}", running.ingest()));
    }
    for viewer in &mut viewers {
        let seen = viewer.until_views(5);
        assert_eq!((&seen["article"], &seen["degraded"]), (&"a/b".into(), &serde_json::Value::Null));
    }
    other.until_views(0);
    let watched = |running: &mut Running| {
        let admin = running.stack.service(Role::Dashboard, 0).admin();
        let metrics = get(&format!("http://{admin}/metrics")).body;
        metrics.lines().find_map(|line| line.strip_prefix("footfall_dashboard_watched_articles ").map(str::to_owned))
    };
    assert_eq!(watched(&mut running).as_deref(), Some("2"));
    drop((viewers, other));
    eventually("nobody watches", PATIENCE, || watched(&mut running).as_deref() == Some("0"));

    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for (query, status) in [("article=", 422), ("article=%00", 422), ("article=a&article=b", 400), ("user=a", 400)] {
        assert_eq!(request("GET", &format!("{dashboard}/realtime?{query}"), &upgrade, b"").status, status, "{query}");
    }
}
