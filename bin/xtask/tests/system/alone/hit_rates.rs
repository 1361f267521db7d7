//! How much the cache answers, beside counts that are not ours: MySQL's own of the SELECTs that it ran, and Redis's of
//! the keys that it found.
//!
//! `FOOTFALL_TEST_ARTICLES=100000` runs the traffic on the default settings, for minutes; by default there are fewer
//! articles, and values that live shorter in proportion.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Client, Over, Running, Set, eventually, get, start_to_measure};
use footfall_drill::stack::Role;
use footfall_shared::service::random;

/// The rarest article is viewed once in about 1.5 s of the 5 s for which it stays warm; on the default settings at 5,000
/// pages/s, once in 240 s of 600 s.
struct Traffic {
    articles: usize,
    connections: usize,
    /// Pages per second.
    rate: u64,
    /// None: the defaults.
    ttl_ms: Option<(u64, u64)>,
    warm_up: Duration,
    measured: Duration,
}

fn traffic() -> Traffic {
    match std::env::var("FOOTFALL_TEST_ARTICLES").ok().and_then(|articles| articles.parse().ok()) {
        Some(articles) => Traffic {
            articles,
            connections: 32,
            rate: 5_000,
            ttl_ms: None,
            warm_up: Duration::from_secs(630),
            measured: Duration::from_secs(60),
        },
        None => Traffic {
            articles: 250,
            connections: 8,
            rate: 1_000,
            ttl_ms: Some((500, 5_000)),
            warm_up: Duration::from_secs(5),
            measured: Duration::from_secs(5),
        },
    }
}

/// Zipf's law with exponent 1, by the sums of its weights.
fn zipf(articles: usize) -> Vec<f64> {
    let sums = (1..=articles).scan(0.0, |sum, rank| {
        *sum += 1.0 / rank as f64;
        Some(*sum)
    });
    sums.collect()
}

fn draw(sums: &[f64]) -> usize {
    let point = random::number() as f64 / u64::MAX as f64 * sums[sums.len() - 1];
    sums.partition_point(|sum| *sum < point).min(sums.len() - 1)
}

/// What is counted of the reads of articles at one moment, by ingest and by MySQL.
#[derive(Debug, Clone, Copy)]
struct Counts {
    hits: f64,
    misses: f64,
    selects: u64,
}

impl Counts {
    fn of(running: &mut Running) -> Self {
        let hits = running.metric(Role::Ingest, 0, "footfall_read_hits_total");
        let misses = running.metric(Role::Ingest, 0, "footfall_read_misses_total");
        Self { hits, misses, selects: running.mysql_status("Com_select") }
    }

    fn since(&self, before: &Self) -> Self {
        let Self { hits, misses, selects } = *self;
        Self { hits: hits - before.hits, misses: misses - before.misses, selects: selects - before.selects }
    }

    fn percent(&self) -> f64 {
        100.0 * self.hits / (self.hits + self.misses)
    }
}

#[test]
fn the_cache_answers_and_others_count_the_same() {
    let traffic = traffic();
    let mut running = start_to_measure(|options| {
        options.dashboards = 1;
        if let Some((ttl, warm)) = traffic.ttl_ms {
            options.set("FOOTFALL_READS__TTL_MS", &ttl.to_string());
            options.set("FOOTFALL_READS__WARM_TTL_MS", &warm.to_string());
        }
    });
    page_views(&mut running, &traffic);
    the_dashboard_says_the_same(&mut running);
    for service in [Role::Flusher, Role::Dashboard] {
        running.stack.service(service, 0).pause().expect("pause");
    }
    one_select_per_article_and_ttl(&mut running, &traffic);
}

/// The part of all reads that must miss: an article is not cached if nobody has viewed it for `warm` seconds.
fn misses_expected(sums: &[f64], rate: f64, warm: f64) -> f64 {
    let all = sums[sums.len() - 1];
    (1..=sums.len()).map(|rank| 1.0 / (rank as f64 * all)).map(|part| part * (-part * rate * warm).exp()).sum()
}

/// Page views by Zipf's law, each of which counts a view and reads its article.
fn page_views(running: &mut Running, traffic: &Traffic) {
    let (url, sums) = (running.ingest(), zipf(traffic.articles));
    let (sent, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let started = Instant::now();
    let (counts, rate) = std::thread::scope(|threads| {
        let _over = Over(&is_over);
        for _ in 0..traffic.connections {
            threads.spawn(|| {
                let mut client = Client::new(&url);
                while !is_over.load(Ordering::Relaxed) {
                    let due = started
                        + Duration::from_secs_f64(sent.fetch_add(1, Ordering::Relaxed) as f64 / traffic.rate as f64);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let (article, user) = (draw(&sums), random::number() % 100_000);
                    let (status, page) = client.get(&format!("/demopage/z{article}?usrid=u{user}"));
                    assert_eq!(status, 200, "{page}");
                }
            });
        }
        let mut before = Counts::of(running);
        while started.elapsed() + Duration::from_secs(60) < traffic.warm_up {
            std::thread::sleep(Duration::from_secs(60));
            let now = Counts::of(running);
            let minute = now.since(&before);
            println!(
                "after {:3} s: {:.2} % of a minute's reads, {minute:?}",
                started.elapsed().as_secs(),
                minute.percent()
            );
            before = now;
        }
        std::thread::sleep(traffic.warm_up.saturating_sub(started.elapsed()));
        let (from, before) = (Instant::now(), Counts::of(running));
        std::thread::sleep(traffic.measured);
        let counts = Counts::of(running).since(&before);
        let rate = (counts.hits + counts.misses) / from.elapsed().as_secs_f64();
        (counts, rate)
    });
    let stats = get(&format!("{}/v1/stats", running.stack.url(Role::Dashboard, 0))).json();
    let minute = stats["interface_hits"]["article"]["minute"].as_f64().unwrap_or_default();
    let warm = traffic.ttl_ms.map_or(600_000, |(_, warm)| warm) as f64 / 1_000.0;
    let reads = counts.hits + counts.misses;
    let expected = reads * misses_expected(&sums, rate, warm);
    println!(
        "{} articles, {rate:.0} pages/s: {:.2} % of {reads} reads from the cache, {} misses of {expected:.0} to be expected, \
         {} SELECTs by all services, {} keys in Redis; the dashboard says {minute} % of the last minute",
        traffic.articles,
        counts.percent(),
        counts.misses,
        counts.selects,
        running.stack.redis.query(&["DBSIZE"]).expect("DBSIZE").concat(),
    );
    // First views were not long ago, a flush takes its time, and chance has its part.
    assert!(counts.misses <= 2.0 * expected + 20.0, "{counts:?}, {expected} misses were to be expected");
    // Slower traffic leaves more time between the views of an article: below about 3,000 pages/s no cache could do it.
    if expected < 0.006 * reads {
        assert!(counts.percent() >= 99.0, "{counts:?}: {:.2} %", counts.percent());
        assert!(traffic.ttl_ms.is_some() || minute >= 99.0, "the dashboard says {minute} % of the last minute");
    } else {
        println!("the machine was too slow to judge {:.2} %", counts.percent());
    }
}

fn the_dashboard_says_the_same(running: &mut Running) {
    let stats = format!("{}/v1/stats", running.stack.url(Role::Dashboard, 0));
    let said = |hits: &str| get(&stats).json()[hits]["total"].as_f64();
    let Counts { hits, misses, .. } = Counts::of(running);
    let percent = (hits / (hits + misses) * 10_000.0).floor() / 100.0;
    eventually("the dashboard has heard of all reads", Duration::from_secs(10), || {
        get(&stats).json()["interface_hits"]["article"]["total"].as_f64() == Some(percent)
    });
    assert_eq!(said("query_hits"), Some(percent));

    // Redis counts on meanwhile, so what the dashboard has lies between two looks.
    let of_redis = |running: &Running| ["keyspace_hits", "keyspace_misses"].map(|field| running.redis_info(field));
    let before = of_redis(running);
    std::thread::sleep(Duration::from_millis(2_500));
    let admin = running.stack.service(Role::Dashboard, 0).admin();
    let metrics = get(&format!("http://{admin}/metrics")).body;
    let said = ["hits", "misses"].map(|result| {
        let name = format!("footfall_redis_keyspace{{result=\"{result}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok()).expect("the metric")
    });
    let percent = get(&stats).json()["redis_hits"]["total"].as_f64().expect("percent");
    let after = of_redis(running);
    for ((before, said), after) in before.into_iter().zip(said).zip(after) {
        assert!((before..=after).contains(&said), "{before} <= {said} <= {after}");
    }
    let share = |hits: u64, misses: u64| 100.0 * hits as f64 / (hits + misses) as f64;
    let (least, most) = (share(before[0], after[1]), share(after[0], before[1]));
    assert!(least - 0.01 <= percent && percent <= most + 0.01, "{percent} % is not within {least} and {most} %");
    println!("Redis: {after:?} hits and misses; the dashboard says {percent} %, it is {least:.2} to {most:.2} %");
}

/// Nobody but ingest asks MySQL now, so its count of SELECTs must be ours of misses: one for each article and round,
/// however many ask at once, and for an article that does not exist too.
fn one_select_per_article_and_ttl(running: &mut Running, traffic: &Traffic) {
    const ARTICLES: usize = 20;
    const ROUNDS: u64 = 4;
    let (url, ttl) = (running.ingest(), Duration::from_millis(traffic.ttl_ms.map_or(10_000, |(ttl, _)| ttl)));
    let before = Counts::of(running);
    let together = Barrier::new(traffic.connections);
    std::thread::scope(|threads| {
        for _ in 0..traffic.connections {
            threads.spawn(|| {
                for _ in 0..ROUNDS {
                    // Anew each time: one that is idle for longer than `ingest.header_timeout_ms` is closed.
                    let mut client = Client::new(&url);
                    for article in 0..ARTICLES {
                        together.wait();
                        for _ in 0..2 {
                            assert_eq!(client.get(&format!("/v1/articles/unknown{article}")).0, 200);
                        }
                    }
                    std::thread::sleep(ttl.mul_f64(1.2));
                }
            });
        }
    });
    let counts = Counts::of(running).since(&before);
    println!("{ARTICLES} articles, {ROUNDS} times to live, {} at once: {counts:?}", traffic.connections);
    assert_eq!(counts.selects, ROUNDS * ARTICLES as u64, "{counts:?}");
    assert_eq!(counts.misses, counts.selects as f64, "{counts:?}");
    assert_eq!(counts.hits + counts.misses, (2 * traffic.connections * ARTICLES) as f64 * ROUNDS as f64, "{counts:?}");
}
