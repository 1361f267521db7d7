//! After a flood of unique articles: lists answer in time or are refused alone, reads that nobody waits for any more end, and
//! what the flood has left is forgotten with the books right.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use footfall_drill::stack::Role;

use crate::common::{Running, Set, eventually, get, start, start_to_measure};
use crate::tool::{sum, tool, view};

const PATIENCE: Duration = Duration::from_secs(20);

/// Reads of a table that MariaDB works at now.
fn reads_of(running: &mut Running, table: &str) -> u64 {
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%FROM {table}%' AND ID <> CONNECTION_ID()"
    );
    sum(running, &sql)
}

/// Asks and goes away at once.
fn ask_and_leave(dashboard: &str, path: &str) -> TcpStream {
    let host = dashboard.strip_prefix("http://").expect("http URL");
    let mut stream = TcpStream::connect(host).expect("connect");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("written");
    stream
}

#[test]
fn what_rises_is_answered_in_time_among_a_million_new_articles() {
    let mut running = start_to_measure(|options| options.dashboards = 1);
    for reader in 0..5 {
        view(&running, "honest", &format!("u{reader}"));
    }
    eventually("views in MySQL", PATIENCE, || sum(&mut running, "SELECT SUM(views) FROM footfall_articles") == 5);
    let flood = "INSERT INTO footfall_article_hours (article, hour, views) SELECT CONCAT('flood-', SHA1(seq)), \
                 FLOOR(UNIX_TIMESTAMP() / 3600) - (seq > 500000), 1 FROM seq_1_to_1000000";
    running.stack.mariadb.query(flood).expect("a flood");
    let url = format!("{}/v1/articles?by=rise", running.stack.url(Role::Dashboard, 0));
    let started = Instant::now();
    let answer = get(&url);
    println!("by=rise among 1,000,000 fresh (article, hour) rows: {:?}", started.elapsed());
    assert_eq!(answer.status, 200, "{}", answer.body);
    let risen = answer.json()["articles"].as_array().expect("articles").clone();
    assert_eq!(risen.len(), 1, "what a flood left rises by no more than what may be left out: {risen:?}");
    assert_eq!(risen[0]["article"], "honest");
}

/// A view that works for minutes at every row stands for a table with too much in it.
#[test]
fn reads_that_nobody_waits_for_end_and_stop_no_others() {
    let mut running = start_to_measure(|options| {
        options.dashboards = 1;
        options.set("FOOTFALL_DATABASE__TIMEOUT_MS", "3000");
    });
    let dashboard = running.stack.url(Role::Dashboard, 0);
    view(&running, "honest", "u");
    eventually("views in MySQL", PATIENCE, || sum(&mut running, "SELECT SUM(views) FROM footfall_articles") == 1);
    running.sql("RENAME TABLE footfall_users TO hidden_users");
    running.sql(
        "CREATE VIEW footfall_users AS SELECT user FROM hidden_users WHERE (SELECT SUM(a.seq * b.seq) FROM \
         seq_1_to_1000000 a, seq_1_to_1000000 b) > 0",
    );
    let streams: Vec<TcpStream> =
        (1..=20).map(|limit| ask_and_leave(&dashboard, &format!("/v1/users?limit={limit}"))).collect();
    eventually("a slow read", PATIENCE, || reads_of(&mut running, "footfall_users") > 0);
    drop(streams);
    let left = Instant::now();
    assert!(reads_of(&mut running, "footfall_users") <= 2, "half of the connections, at most");
    // No other kind is refused or waits.
    for kind in
        ["articles", "articles?by=rise", "articles?by=name", "articles/honest/readers", "users/u/articles", "minutes"]
    {
        let asked = Instant::now();
        let answer = get(&format!("{dashboard}/v1/{kind}"));
        assert_eq!(answer.status, 200, "{kind}: {}", answer.body);
        assert!(asked.elapsed() < Duration::from_secs(2), "{kind} took {:?}", asked.elapsed());
    }
    eventually("no read in MySQL", PATIENCE, || reads_of(&mut running, "footfall_users") == 0);
    println!("20 dropped reads were gone after {:?}", left.elapsed());
    assert!(left.elapsed() < Duration::from_secs(8), "{:?}", left.elapsed());
    let refused = get(&format!("{dashboard}/v1/users?limit=100"));
    assert_eq!(refused.status, 503, "{}", refused.body);
    println!("{}", refused.body);
    for kind in ["articles?limit=3", "minutes?last=3"] {
        assert_eq!(get(&format!("{dashboard}/v1/{kind}")).status, 200, "{kind}: another kind has another breaker");
    }
    running.sql("DROP VIEW footfall_users");
    running.sql("RENAME TABLE hidden_users TO footfall_users");
    eventually("users again", PATIENCE, || get(&format!("{dashboard}/v1/users?limit=100")).status == 200);
}

#[test]
fn what_a_flood_left_is_forgotten_while_others_are_counted() {
    let mut running = start(|options| options.set("FOOTFALL_SHARDS", "4"));
    running.load("before.tsv", "--views 3000 --articles 30 --users 50 --connections 4 --seed 1").finish();
    for number in 0..40 {
        view(&running, &format!("flood-{number}"), &format!("flooder-{number}"));
        view(&running, &format!("flood-{number}"), "honest-reader");
    }
    view(&running, "floo", "honest-reader");
    view(&running, "flood", "flooder-0");
    running.sql(
        "INSERT INTO footfall_quarantine (shard, epoch, position, article, user, views, reason) VALUES (0, 1, 1, 'flood-q', 'u', 7, 'x')",
    );
    // What is in quarantine has come from somewhere.
    running.sql("INSERT INTO footfall_direct_fence (shard, producer, batch, views) VALUES (0, 4711, 1, 7)");
    running.assert_verified(&["before.tsv"]);
    eventually("everything is in MySQL", PATIENCE, || {
        sum(&mut running, "SELECT SUM(views) FROM footfall_articles") == 3_082
    });
    eventually("numbers are served", PATIENCE, || running.article("flood-3")["views"] == 2);

    assert_eq!(tool(&running, &["forget"]).0, 2);
    assert_eq!(tool(&running, &["forget", "--article", "a", "--prefix", "b"]).0, 2);
    let (code, said) = tool(&running, &["forget", "--prefix", "", "--yes"]);
    assert!(code == 2 && said.contains("every name begins with"), "{said}");
    let (code, said) = tool(&running, &["forget", "--prefix", "flood-"]);
    assert!(code == 2 && said.contains("--yes") && said.contains("nothing was forgotten"), "{said}");
    for which in [["--article", "flood-"], ["--prefix", "nobody-"]] {
        let (code, said) = tool(&running, &["forget", which[0], which[1], "--yes"]);
        assert!(code == 1 && said.contains("NOT FOUND"), "{said}");
    }

    let load = running.load("during.tsv", "--views 6000 --articles 30 --users 50 --connections 4 --rate 2000 --seed 2");
    let (code, said) = tool(&running, &["forget", "--prefix", "flood-", "--yes"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.ends_with("forgotten: 40 articles, 80 readers, 87 views; 39 users had read nothing else\n"),
        "`flooder-0` has read `flood` too: {said}"
    );
    let (code, said) = tool(&running, &["forget", "--prefix", "flood-", "--yes"]);
    assert!(code == 1 && said.contains("NOT FOUND"), "{said}");
    let (code, said) = tool(&running, &["verify", "--live", "--seconds", "3"]);
    assert!(code == 0 && said.contains("0 checks FAILED"), "{said}");
    load.finish();
    running.assert_verified(&["before.tsv", "during.tsv"]);

    for table in ["articles", "article_readers", "article_hours", "quarantine"] {
        let left = format!("SELECT COUNT(*) FROM footfall_{table} WHERE article LIKE 'flood-%'");
        assert_eq!(sum(&mut running, &left), 0, "{table}");
    }
    assert_eq!(sum(&mut running, "SELECT COUNT(*) FROM footfall_users WHERE user LIKE 'flooder-%'"), 1);
    assert_eq!(sum(&mut running, "SELECT COUNT(*) FROM footfall_users WHERE user = 'honest-reader'"), 1);
    assert_eq!(sum(&mut running, "SELECT SUM(dropped) FROM footfall_shard_fence"), 87);
    eventually("what is served", PATIENCE, || running.article("flood-3")["views"] == 0);

    // What comes later is new.
    view(&running, "flood-3", "flooder-3");
    eventually("a new view", PATIENCE, || running.article("flood-3")["views"] == 1);
    eventually("in MySQL", PATIENCE, || {
        sum(&mut running, "SELECT views FROM footfall_articles WHERE article = 'flood-3'") == 1
    });
    let (code, said) = tool(&running, &["forget", "--article", "flood-3", "--yes"]);
    assert!(
        code == 0 && said.ends_with("forgotten: 1 article, 1 reader, 1 view; 1 user had read nothing else\n"),
        "{said}"
    );
    running.assert_verified(&["before.tsv", "during.tsv"]);
}
