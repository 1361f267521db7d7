//! Counts at their limits, and rows and tables that MySQL refuses for whatever reason: nobody else stands still for them, and
//! an outage never puts views into quarantine.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use footfall_drill::stack::Role;

use crate::common::{Running, Set, eventually, get, start};
use crate::tool::{sum, tool, view};

const PATIENCE: Duration = Duration::from_secs(20);
/// The most that can be counted: 2^53 - 1.
const MOST: u64 = 9_007_199_254_740_991;

#[track_caller]
fn assert_right(running: &Running) {
    let (code, said) = tool(running, &["verify", "--live", "--seconds", "2"]);
    assert!(code == 0 && said.contains("0 checks FAILED"), "{said}");
}

fn quarantined(running: &mut Running) -> u64 {
    sum(running, "SELECT COUNT(*) FROM footfall_quarantine")
}

fn counted(running: &mut Running, article: &str) -> String {
    running.sql(&format!("SELECT views FROM footfall_articles WHERE article = '{article}'")).unwrap_or_default()
}

fn import(running: &Running, rows: &str) -> (i32, String) {
    let file = running.path("import.csv");
    fs::write(&file, format!("article,user,views\n{rows}")).expect("written");
    tool(running, &["import", &file.display().to_string(), "--yes"])
}

#[test]
fn an_article_is_filled_to_its_last_view_and_stops_nobody() {
    let mut running = start(|options| {
        options.dashboards = 1;
        options.set("FOOTFALL_REDIS__TIMEOUT_MS", "500");
    });
    for views in [1_000_000_000_001, MOST, MOST + 2, (1 << 63) - 1, 1 << 63, u64::MAX] {
        let (code, said) = import(&running, &format!("fine,u,1\nv,u,{views}\n"));
        assert!(code == 2 && said.contains("line 3") && said.contains("1000000000000"), "{said}");
    }
    assert_eq!(sum(&mut running, "SELECT COUNT(*) FROM footfall_articles"), 0, "nothing was counted");

    // The same reader in many rows, together one less than the most.
    let mut rows = "full,u,1000000000000\n".repeat(9_007);
    writeln!(rows, "full,u,{}", MOST - 1 - 9_007_000_000_000_000).expect("a string");
    let (code, said) = import(&running, &rows);
    assert!(code == 0 && said.contains("with 9,007,199,254,740,990 views counted; "), "{said}");
    let (code, said) = import(&running, &rows);
    assert!(code == 0 && said.contains("nothing was counted now"), "{said}");
    assert_eq!(running.article("full")["views"], MOST - 1);
    view(&running, "full", "last");
    eventually("the last view", PATIENCE, || counted(&mut running, "full") == MOST.to_string());
    for _ in 0..3 {
        view(&running, "full", "too-late");
        view(&running, "other", "u");
        assert_eq!(running.article("full")["views"], MOST, "exactly, however often it is read");
    }
    eventually("all others count", PATIENCE, || counted(&mut running, "other") == "3");
    eventually("three views in quarantine", PATIENCE, || {
        sum(&mut running, "SELECT SUM(views) FROM footfall_quarantine") == 3
    });
    assert_eq!(running.article("full")["views"], MOST);
    let reason = running.sql("SELECT reason FROM footfall_quarantine LIMIT 1").expect("a reason");
    assert!(reason.contains("9007199254740991, the most that can be counted"), "{reason}");

    // What an import brings for it goes there too, and the command says so.
    let (code, said) = import(&running, "full,v,5\nother,v,2\n");
    assert!(
        code == 1 && said.contains("2 views are counted, 5 views NOT: MySQL refused them, and they are in quarantine"),
        "{said}"
    );
    let (code, said) = tool(&running, &["quarantine", "replay", "--all", "--yes"]);
    assert!(code == 1 && said.contains("the most that can be counted"), "{said}");

    // Directly to MySQL, while Redis is away. What was on its way to Redis stays there.
    let before = sum(&mut running, "SELECT SUM(views) FROM footfall_quarantine");
    let direct = sum(&mut running, "SELECT SUM(views) FROM footfall_direct_fence");
    running.stack.redis.pause().expect("pause");
    view(&running, "other", "u");
    let readyz = format!("{}/readyz", running.ingest());
    eventually("ingest does without redis", PATIENCE, || get(&readyz).body.contains("degraded"));
    for article in ["full", "other"] {
        view(&running, article, "direct");
    }
    eventually("they are there", PATIENCE, || {
        sum(&mut running, "SELECT SUM(views) FROM footfall_direct_fence") == direct + 2
    });
    assert_eq!(sum(&mut running, "SELECT SUM(views) FROM footfall_quarantine"), before + 1);
    running.stack.redis.resume().expect("resume");
    eventually("all others count", PATIENCE, || counted(&mut running, "other") == "7");
    eventually("redis is back", PATIENCE, || running.article("full")["degraded"].is_null());
    assert_right(&running);
    let (code, said) = tool(&running, &["quarantine", "drop", "--all", "--yes"]);
    assert_eq!(code, 0, "{said}");
    assert_right(&running);
}

/// As a version without limits has left it: 2^64 - 1 views of `w`, 2^63 of `v`, and as many again in quarantine.
#[test]
fn counts_of_a_version_without_limits_stop_nobody() {
    let mut running = start(|options| options.dashboards = 1);
    for (producer, article, views) in [(1, "w", u64::MAX), (2, "v", 1 << 63)] {
        for sql in [
            format!("INSERT INTO footfall_articles (article, views, readers) VALUES ('{article}', {views}, 1)"),
            format!("INSERT INTO footfall_article_readers VALUES ('{article}', 'u', {views})"),
            format!("INSERT INTO footfall_article_hours VALUES ('{article}', UNIX_TIMESTAMP() DIV 3600, {views})"),
            format!("INSERT INTO footfall_direct_fence VALUES (0, {producer}, 1, {views})"),
            format!(
                "UPDATE footfall_shard_fence SET version = version + 1, articles = articles + 1, readers = readers + 1, \
                 views = {}",
                u64::MAX
            ),
        ] {
            running.sql(&sql);
        }
    }
    running.sql(&format!("INSERT INTO footfall_site_minutes VALUES (UNIX_TIMESTAMP() DIV 60, 0, {})", u64::MAX));
    running.sql("INSERT INTO footfall_users VALUES ('u')");
    running.sql("UPDATE footfall_shard_fence SET users = users + 1");
    running.sql(&format!("INSERT INTO footfall_direct_fence VALUES (0, 3, 1, {})", u64::MAX));
    running.sql(&format!(
        "INSERT INTO footfall_quarantine (shard, epoch, position, article, user, views, reason) VALUES (0, 1, 0, 'v', 'u', {}, 'x')",
        u64::MAX
    ));
    running.stack.service(Role::Dashboard, 0).kill().expect("kill");
    running.stack.service(Role::Dashboard, 0).restart().expect("a dashboard that starts");

    view(&running, "another", "u");
    eventually("another article", PATIENCE, || counted(&mut running, "another") == "1");
    running.stack.service(Role::Flusher, 0).pause().expect("pause");
    view(&running, "w", "u");
    view(&running, "another", "u");
    assert_eq!(running.article("w")["views"], MOST, "while a view waits");
    running.stack.service(Role::Flusher, 0).resume().expect("resume");
    eventually("another article", PATIENCE, || counted(&mut running, "another") == "2");
    eventually("the view that has no room", PATIENCE, || quarantined(&mut running) == 2);
    assert_eq!(running.article("v")["views"], MOST);

    let dashboard = running.stack.url(Role::Dashboard, 0);
    for path in [
        "articles",
        "articles?by=readers",
        "articles?by=rise",
        "articles/w/readers",
        "articles/w/hours",
        "minutes",
        "users/u/articles",
        "stats",
    ] {
        let answer = get(&format!("{dashboard}/v1/{path}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let mut numbers =
            answer.body.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u64>().ok());
        assert!(numbers.all(|number| number <= MOST), "{path}: {}", answer.body);
    }
    let listed = get(&format!("{dashboard}/v1/articles?limit=1")).json();
    let next =
        get(&format!("{dashboard}/v1/articles?limit=1&after={}", listed["next"].as_str().expect("a cursor"))).json();
    assert_eq!((&listed["articles"][0]["article"], &next["articles"][0]["article"]), (&"w".into(), &"v".into()));
    eventually("books that add up", PATIENCE, || {
        let books = get(&format!("{dashboard}/v1/stats")).json()["conservation"].clone();
        (&books["pending"], &books["unaccounted"]) == (&0.into(), &0.into())
    });
    assert_right(&running);
    let (code, said) = tool(&running, &["export"]);
    assert!(code == 0 && said.contains("w,u,18446744073709551615"), "{said}");
    let (code, said) = tool(&running, &["quarantine", "replay", "--all", "--yes"]);
    assert!(code == 1 && said.contains("0 entries counted, 2 entries stayed"), "{said}");
    let (code, said) = tool(&running, &["quarantine", "drop", "--all", "--yes"]);
    assert!(code == 0 && said.contains("2 entries dropped"), "{said}");
    let (code, said) = tool(&running, &["erase", "--user", "u", "--yes"]);
    assert_eq!(code, 0, "{said}");
    assert_right(&running);
    running.stack.service(Role::Dashboard, 0).kill().expect("kill");
    running.stack.service(Role::Dashboard, 0).restart().expect("a dashboard that starts");
}

/// What MySQL answers an upsert of a reader's row, by a trigger: any number for any rows.
fn refuse(running: &mut Running, code: u32, rows: &str) {
    running.sql(&format!(
        "DELIMITER //\nCREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON footfall_article_readers FOR EACH ROW \
         IF {rows} THEN SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'no'; END IF//"
    ));
}

#[test]
fn one_rows_trouble_never_stops_a_shard_and_an_outage_is_no_rows_trouble() {
    let mut running = start(|_| {});
    let mut expected = 0;
    // A number that nobody knows, and one that is about values, alone in its flush and among others.
    for (code, user) in [(30_001, "odd"), (1264, "bad")] {
        refuse(&mut running, code, &format!("NEW.user = '{user}'"));
        let before = quarantined(&mut running);
        view(&running, "a", user);
        eventually("it is in quarantine", PATIENCE, || quarantined(&mut running) == before + 1);
        for user in [user, "fine", "good"] {
            view(&running, "a", user);
        }
        expected += 2;
        eventually("all others count", PATIENCE, || counted(&mut running, "a") == expected.to_string());
        eventually("it is in quarantine", PATIENCE, || {
            sum(&mut running, "SELECT SUM(views) FROM footfall_quarantine") >= before + 2
        });
    }

    // Every row is refused: no row is to blame. Nor is any for a full disk, a read-only server or a killed query.
    let in_quarantine = sum(&mut running, "SELECT SUM(views) FROM footfall_quarantine");
    let admin = running.stack.service(Role::Flusher, 0).admin();
    let readyz = format!("http://{admin}/readyz");
    for code in [30_001, 1264, 1644, 1021, 1290, 1317] {
        refuse(&mut running, code, "TRUE");
        view(&running, "a", "waits");
        expected += 1;
        let says = |text: &str| get(&readyz).body.contains(text);
        eventually("it says why it waits", PATIENCE, || says("no") && get(&readyz).status == 503);
        if [30_001, 1264, 1644].contains(&code) {
            eventually("it says that no row is to blame", PATIENCE, || says("refuses every row"));
        }
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(sum(&mut running, "SELECT SUM(views) FROM footfall_quarantine"), in_quarantine, "{code}");
        running.sql("DROP TRIGGER refuse");
        eventually("it goes on", PATIENCE, || counted(&mut running, "a") == expected.to_string());
    }
    assert_eq!(sum(&mut running, "SELECT SUM(views) FROM footfall_quarantine"), in_quarantine);

    // Hours are only shown: a view counts without one.
    running.sql("ALTER TABLE footfall_article_hours ADD CONSTRAINT nope CHECK (article <> 'timeless')");
    running.sql(
        "CREATE TRIGGER no_minutes BEFORE INSERT ON footfall_site_minutes FOR EACH ROW \
         SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1264, MESSAGE_TEXT = 'no'",
    );
    for article in ["timeless", "a"] {
        view(&running, article, "u");
    }
    eventually("both count", PATIENCE, || {
        counted(&mut running, "timeless") == "1" && counted(&mut running, "a") == (expected + 1).to_string()
    });
    assert_eq!(sum(&mut running, "SELECT SUM(views) FROM footfall_article_hours WHERE article = 'a'"), expected + 1);
    assert_eq!(sum(&mut running, "SELECT SUM(views) FROM footfall_quarantine"), in_quarantine);
    assert_right(&running);
}
