//! What a view costs does not depend on how much was counted before.

use std::time::{Duration, Instant};

use crate::common::{Running, Set, eventually, post, start};
use footfall_drill::stack::Role;

/// What MySQL does for a flush of 10 changed readers of one article.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Rows that MySQL reads. This is what is compared: it does not depend on what else the machine is doing.
    rows: i64,
    /// For information.
    seconds: f64,
}

/// By key, one after the other, or all of a table.
const ROWS: &str = "Handler_read%";

/// The medians of several flushes.
fn flush_cost(running: &mut Running) -> Cost {
    let url = format!("{}/v1/views", running.ingest());
    let stored = |running: &mut Running| {
        running.sql("SELECT views FROM footfall_shard_fence").and_then(|views| views.parse().ok()).unwrap_or(0u64)
    };
    // Looking at the fence reads its row too: only between flushes that are known to be over.
    let (mut rows, mut seconds) = (Vec::new(), Vec::new());
    for round in 0..25 {
        let (views, sum) = (stored(running), flush_sum(running));
        // The question itself reads rows too.
        let (asked, rows_before) = (running.mysql_status(ROWS), running.mysql_status(ROWS));
        // Half of them new readers, half known ones.
        let body: Vec<String> = (0..10)
            .map(|user| {
                format!(
                    r#"{{"article":"big","user":"u{}"}}"#,
                    if user % 2 == 0 { 1_000_000 + round * 10 + user } else { user }
                )
            })
            .collect();
        assert_eq!(post(&url, &body.join("\n")).status, 200);
        eventually("the flush", Duration::from_secs(10), || flush_sum(running) > sum);
        // Signed: now and then the flusher looks at its tables, which reads rows too.
        let [asked, rows_before, rows_after] =
            [asked, rows_before, running.mysql_status(ROWS)].map(|rows| i64::try_from(rows).expect("a small number"));
        rows.push(rows_after - rows_before - (rows_before - asked));
        assert_eq!(stored(running), views + 10, "all in one flush");
        seconds.push(flush_sum(running) - sum);
    }
    rows.sort_unstable();
    seconds.sort_by(f64::total_cmp);
    Cost { rows: rows[rows.len() / 2], seconds: seconds[seconds.len() / 2] }
}

/// The sum of all flush durations as the flusher measures them.
fn flush_sum(running: &mut Running) -> f64 {
    running.metric(Role::Flusher, 0, "footfall_flush_seconds_sum")
}

#[test]
fn a_flush_costs_the_same_with_a_million_readers() {
    let mut running = start(|options| options.set("FOOTFALL_FLUSHER__UPDATES", "10"));
    let small = flush_cost(&mut running);

    // 10 million views of one article by 1 million readers, through the front door's own tables.
    let started = Instant::now();
    for statement in [
        "INSERT INTO footfall_article_readers (article, user, views) SELECT 'big', CONCAT('u', seq), 10 FROM seq_0_to_999999 \
         ON DUPLICATE KEY UPDATE views = footfall_article_readers.views + 10",
        "INSERT IGNORE INTO footfall_users SELECT CONCAT('u', seq) FROM seq_0_to_999999",
        "UPDATE footfall_articles SET views = (SELECT SUM(views) FROM footfall_article_readers), readers = (SELECT COUNT(*) FROM footfall_article_readers)",
        "UPDATE footfall_shard_fence SET views = (SELECT SUM(views) FROM footfall_article_readers), readers = (SELECT COUNT(*) FROM footfall_article_readers), \
         users = (SELECT COUNT(*) FROM footfall_users)",
    ] {
        running.sql(statement);
    }
    println!("a million readers in {:?}", started.elapsed());
    // The pages that this has changed are written out before the time is taken.
    running.stack.mariadb.stop().expect("stop");
    running.stack.mariadb.restart().expect("restart");
    running.stack.redis.query(&["DEL", "footfall:{0}:live:1:0:big"]).expect("redis");
    eventually("nothing pending", Duration::from_secs(15), || running.article("big")["pending"] == 0);

    let large = flush_cost(&mut running);
    for (where_, Cost { rows, seconds }) in [("on an empty table", small), ("beside a million readers", large)] {
        println!("flush of 10 readers {where_}: {rows} rows read, {:.2} ms", seconds * 1e3);
    }
    // A few may be those of a look at the version in between.
    assert!(large.rows <= small.rows + 10, "{small:?} became {large:?}");
    let numbers = running.article("big");
    assert_eq!(
        (numbers["views"].as_u64(), numbers["readers"].as_u64()).0.map(|views| views > 10_000_000),
        Some(true),
        "{numbers}"
    );
}
