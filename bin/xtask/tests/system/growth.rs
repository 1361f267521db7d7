//! What a view costs does not depend on how much was counted before.

use std::time::{Duration, Instant};

use crate::common::{Set, eventually, post, start};

/// Seconds that MySQL takes for a flush of 10 changed readers of one article: the median of several.
fn flush_seconds(running: &mut crate::common::Running) -> f64 {
    let url = format!("{}/v1/views", running.ingest());
    let total = |running: &mut crate::common::Running| {
        running.sql("SELECT views FROM shard_fence").and_then(|views| views.parse().ok()).unwrap_or(0u64)
    };
    let mut seconds = Vec::new();
    for round in 0..25 {
        let before = (total(running), flush_sum(running));
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
        eventually("the flush", Duration::from_secs(5), || total(running) == before.0 + 10);
        eventually("its duration", Duration::from_secs(5), || flush_sum(running) > before.1);
        seconds.push(flush_sum(running) - before.1);
    }
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// The sum of all flush durations as the flusher measures them.
fn flush_sum(running: &mut crate::common::Running) -> f64 {
    let admin = running.stack.url(footfall_drill::stack::Role::Flusher, 0);
    let metrics = crate::common::get(&format!("{admin}/metrics")).body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("footfall_flush_seconds_sum "));
    line.and_then(|sum| sum.parse().ok()).unwrap_or(0.0)
}

#[test]
fn a_flush_costs_the_same_with_a_million_readers() {
    let mut running = start(|options| options.set("FOOTFALL_FLUSHER__UPDATES", "10"));
    let small = flush_seconds(&mut running);

    // 10 million views of one article by 1 million readers, through the front door's own tables.
    let started = Instant::now();
    for statement in [
        "INSERT INTO article_readers (article, user, views) SELECT 'big', CONCAT('u', seq), 10 FROM seq_0_to_999999 \
         ON DUPLICATE KEY UPDATE views = article_readers.views + 10",
        "INSERT IGNORE INTO users SELECT CONCAT('u', seq) FROM seq_0_to_999999",
        "UPDATE articles SET views = (SELECT SUM(views) FROM article_readers), readers = (SELECT COUNT(*) FROM article_readers)",
        "UPDATE shard_fence SET views = (SELECT SUM(views) FROM article_readers), readers = (SELECT COUNT(*) FROM article_readers), \
         users = (SELECT COUNT(*) FROM users)",
    ] {
        running.sql(statement);
    }
    println!("a million readers in {:?}", started.elapsed());
    // The pages that this has changed are written out before the clock runs.
    running.stack.mariadb.stop().expect("stop");
    running.stack.mariadb.restart().expect("restart");
    running.stack.redis.query(&["DEL", "footfall:{0}:live:1:big"]).expect("redis");
    eventually("nothing pending", Duration::from_secs(5), || running.article("big")["pending"] == 0);

    let large = flush_seconds(&mut running);
    println!(
        "flush of 10 readers: {:.2} ms on an empty table, {:.2} ms beside a million readers, ratio {:.2}",
        small * 1e3,
        large * 1e3,
        large / small
    );
    assert!(large / small <= 1.5, "{small} s became {large} s");
    let numbers = running.article("big");
    assert_eq!(
        (numbers["views"].as_u64(), numbers["readers"].as_u64()).0.map(|views| views > 10_000_000),
        Some(true),
        "{numbers}"
    );
}
