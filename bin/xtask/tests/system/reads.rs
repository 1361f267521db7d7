//! No reader sees a number that goes back, one above the views there were, or a part of them as the whole, whatever happens
//! to the stores.
//!
//! `FOOTFALL_TEST_READS` sets the number of reads; the default keeps the ordinary run short.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Client, Over, Running, Set, eventually, get, output, post, start};
use footfall_drill::stack::Role;
use footfall_shared::service::random;

const INGESTS: usize = 2;
/// Each of them always cached; there are always views of them that wait.
const HOT: usize = 4;
/// However fast reads are: of so many, Redis stands still before one.
const FLUSHALLS_MIN: u32 = 4;
/// Each of them read about as often as it runs out.
const ARTICLES: usize = 2_000;
/// What a read says if a machine stands still for so long that Redis does not answer in time.
const NO_REDIS: &str = "redis cannot be read: views that wait there are missing";
/// Violations that are told of.
const TOLD_MAX: usize = 10;

fn reads() -> u64 {
    std::env::var("FOOTFALL_TEST_READS").ok().and_then(|reads| reads.parse().ok()).unwrap_or(15_000)
}

fn pause_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// What is known of an article from outside.
#[derive(Default)]
struct Known {
    /// Raised before a view is sent.
    attempted: AtomicU64,
    /// Raised after its acknowledgement.
    acknowledged: AtomicU64,
    /// The greatest answers of each ingest: raised after an answer has come in, looked at before a request goes out.
    views: [AtomicU64; INGESTS],
    readers: [AtomicU64; INGESTS],
}

/// What all threads share.
struct Scene {
    articles: Vec<Known>,
    reads: AtomicU64,
    /// Answers that said they were degraded, by reason.
    degraded: Mutex<BTreeMap<String, u64>>,
    unanswered: AtomicU64,
    violations: AtomicU64,
    told: Mutex<Vec<String>>,
    is_over: AtomicBool,
    /// Since when every view goes through Redis: what an ingest has brought to MySQL past it is seen a little later.
    direct_until: Mutex<Instant>,
}

/// How long a cached number may lack what came to MySQL past Redis.
const DIRECT_UNSEEN_MAX: Duration = Duration::from_secs(5);

impl Scene {
    /// Half of all looks are at the few.
    fn any(&self) -> usize {
        let number = random::number() as usize;
        if number.is_multiple_of(2) { number / 2 % HOT } else { number / 2 % ARTICLES }
    }

    fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.violations.fetch_add(1, Ordering::Relaxed) < TOLD_MAX as u64 {
            self.told.lock().expect("told").push(what());
        }
    }

    fn read(&self, ingest: usize, client: &mut Client) {
        let number = self.any();
        let known = &self.articles[number];
        let least = |marks: &[AtomicU64; INGESTS]| marks[ingest].load(Ordering::SeqCst);
        let (least_views, least_readers) = (least(&known.views), least(&known.readers));
        let acknowledged = known.acknowledged.load(Ordering::SeqCst);
        let is_settled = self.direct_until.lock().expect("time").elapsed() > DIRECT_UNSEEN_MAX;
        let (status, body) = client.get(&format!("/v1/articles/a{number}"));
        let attempted = known.attempted.load(Ordering::SeqCst);
        if status != 200 {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let of = |field: &str| answer[field].as_u64();
        let views = of("views").or(of("at_least")).unwrap_or_else(|| panic!("no number: {body}"));
        let readers = of("readers").unwrap_or(least_readers);
        let is_whole = of("views").is_some();
        self.check(is_whole == of("readers").is_some() && is_whole != of("at_least").is_some(), || {
            format!("half: {body}")
        });
        self.check(!is_whole || !is_settled || views >= acknowledged, || {
            format!("{acknowledged} acknowledged views, and a part of them as the whole: {body}")
        });
        self.check(views >= least_views, || format!("{least_views} views went back to {body}"));
        self.check(readers >= least_readers, || format!("{least_readers} readers went back to {body}"));
        self.check(views.max(readers) <= attempted, || format!("after {attempted} views there are {body}"));
        self.check(of("pending").is_none_or(|pending| pending <= views), || {
            format!("more views wait than there are: {body}")
        });
        known.views[ingest].fetch_max(views, Ordering::SeqCst);
        known.readers[ingest].fetch_max(readers, Ordering::SeqCst);
        if let Some(reason) = answer["degraded"].as_str() {
            *self.degraded.lock().expect("degraded").entry(reason.to_owned()).or_default() += 1;
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    fn view(&self, client: &mut Client) {
        let articles: Vec<usize> = (0..10).map(|_| self.any()).collect();
        let line = |number: &usize| format!(r#"{{"article":"a{number}","user":"u{}"}}"#, random::number() % 500);
        let body = articles.iter().map(line).collect::<Vec<_>>().join("\n");
        for number in &articles {
            self.articles[*number].attempted.fetch_add(1, Ordering::SeqCst);
        }
        if client.post("/v1/views", &body).0 == 200 {
            for number in &articles {
                self.articles[*number].acknowledged.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

#[test]
fn no_number_goes_back_or_above_what_was_attempted() {
    let mut running = start(|options| {
        options.ingests = INGESTS;
        options.set("FOOTFALL_READS__TTL_MS", "200");
        options.set("FOOTFALL_READS__WARM_TTL_MS", "400");
        options.set("FOOTFALL_REDIS__TIMEOUT_MS", "500");
    });
    let urls: Vec<String> = (0..INGESTS).map(|ingest| running.stack.url(Role::Ingest, ingest)).collect();
    let scene = Scene {
        articles: (0..ARTICLES).map(|_| Known::default()).collect(),
        reads: AtomicU64::new(0),
        degraded: Mutex::default(),
        unanswered: AtomicU64::new(0),
        violations: AtomicU64::new(0),
        told: Mutex::default(),
        is_over: AtomicBool::new(false),
        direct_until: Mutex::new(Instant::now()),
    };
    let wanted = reads();
    let mut flushalls = 0u32;
    let started = Instant::now();
    std::thread::scope(|threads| {
        let _over = Over(&scene.is_over);
        for thread in 0..4 * INGESTS {
            let (scene, ingest) = (&scene, thread % INGESTS);
            let mut client = Client::new(&urls[ingest]);
            threads.spawn(move || {
                let is_reader = thread < 3 * INGESTS;
                while !scene.is_over.load(Ordering::Relaxed) {
                    if is_reader {
                        scene.read(ingest, &mut client);
                    } else {
                        scene.view(&mut client);
                        pause_ms(5);
                    }
                }
            });
        }
        let count = || scene.reads.load(Ordering::Relaxed);
        // At first nothing fails: values only run out and are flushed. Then what waits is always where it was, and a
        // number that would go back is no loss of Redis's, but a mistake of ours that is covered up.
        let limit = Duration::from_secs(600);
        eventually("the first reads", limit, || count() >= wanted / 5);
        let was_calm = !scene.degraded.lock().expect("degraded").contains_key(NO_REDIS);
        let lifted = lifted(&mut running);
        assert!(lifted == 0.0 || !was_calm, "{lifted} reads had to be lifted although nothing failed");

        let (mut next, mut at) = (count(), Instant::now());
        while count() < wanted || flushalls < FLUSHALLS_MIN {
            pause_ms(20);
            if count() < next || at.elapsed() < Duration::from_millis(1_200) {
                assert!(at.elapsed() < Duration::from_secs(60), "nobody reads any more");
                continue;
            }
            next = count() + (wanted / 5).min(8_000);
            at = Instant::now();
            flushalls += 1;
            // Views pile up in Redis, so that there is something to lose. Then it is lost, or everything is but Redis
            // stands still first and views go another way.
            running.stack.service(Role::Flusher, 0).pause().expect("pause");
            pause_ms(150);
            if flushalls.is_multiple_of(4) {
                running.stack.redis.pause().expect("pause");
                *scene.direct_until.lock().expect("time") = Instant::now() + Duration::from_secs(60);
                pause_ms(700);
                running.stack.redis.resume().expect("resume");
                *scene.direct_until.lock().expect("time") = Instant::now();
            }
            running.stack.redis.query(&["FLUSHALL"]).expect("FLUSHALL");
            pause_ms(50);
            running.stack.service(Role::Flusher, 0).resume().expect("resume");
        }
    });
    let (took, reads) = (started.elapsed(), scene.reads.load(Ordering::Relaxed));
    let lifted = lifted(&mut running);
    let (expired, flushes) =
        (running.redis_info("expired_keys"), running.metric(Role::Flusher, 0, "footfall_flush_transactions_total"));
    println!(
        "{reads} reads in {took:?} ({:.0}/s), {flushalls} FLUSHALLs, {expired} expiries, {flushes} flushes, {} unanswered, \
         {lifted} lifted, degraded: {:#?}",
        reads as f64 / took.as_secs_f64(),
        scene.unanswered.load(Ordering::Relaxed),
        scene.degraded.lock().expect("degraded"),
    );
    let violations = scene.violations.load(Ordering::Relaxed);
    assert!(violations == 0, "{violations} violations: {:#?}", scene.told.lock().expect("told"));
    let was_flushed_between = flushes > f64::from(flushalls);
    assert!(expired > 1_000 && was_flushed_between && lifted > 0.0, "too little has happened");

    // When all is calm again every ingest says the same, and it is the truth.
    settle(&mut running, &scene, &urls);
}

fn lifted(running: &mut Running) -> f64 {
    (0..INGESTS).map(|ingest| running.metric(Role::Ingest, ingest, "footfall_lifted_reads_total")).sum()
}

fn settle(running: &mut Running, scene: &Scene, urls: &[String]) {
    let stored = "SELECT COALESCE(SUM(views), 0) FROM footfall_articles";
    let mut before = None;
    eventually("everything is stored", Duration::from_secs(20), || {
        let now = running.sql(stored);
        pause_ms(300);
        std::mem::replace(&mut before, now.clone()) == now
    });
    for url in urls {
        let mut client = Client::new(url);
        for (number, known) in scene.articles.iter().enumerate() {
            let path = format!("/v1/articles/a{number}");
            let mut body = String::new();
            eventually("an article is as it should be", Duration::from_secs(10), || {
                body = client.get(&path).1;
                let answer: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
                answer["degraded"].is_null() && answer["pending"] == 0
            });
            let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            let views = answer["views"].as_u64().expect("views");
            let allowed = known.acknowledged.load(Ordering::SeqCst)..=known.attempted.load(Ordering::SeqCst);
            assert!(allowed.contains(&views), "{allowed:?}: {body}");
        }
    }
}

/// Only when the counts are deleted do numbers go back, and then at once.
#[test]
fn after_clean_numbers_begin_anew() {
    let mut running = start(|options| options.dashboards = 1);
    let dashboard = running.stack.url(Role::Dashboard, 0);
    let shown = |article: &str| get(&format!("{dashboard}/v1/articles/{article}")).json();
    let views = format!("{}/v1/views", running.ingest());
    eventually("nothing yet", Duration::from_secs(15), || shown("a")["readers"] == 0);
    for user in ["u", "v", "w"] {
        assert_eq!(post(&views, &format!(r#"{{"article":"a","user":"{user}"}}"#)).status, 204);
    }
    // Cached since before the first of them: the flush moves it.
    eventually("three readers", Duration::from_secs(15), || shown("a")["readers"] == 3);
    // Of this one no more is known than that its view waits.
    running.stack.service(Role::Flusher, 0).pause().expect("pause");
    assert_eq!(post(&views, r#"{"article":"b","user":"u"}"#).status, 204);
    eventually("its view", Duration::from_secs(15), || shown("b")["views"] == 1);
    running.stack.service(Role::Flusher, 0).resume().expect("resume");
    eventually("it is stored", Duration::from_secs(15), || {
        running.sql("SELECT views FROM article_counts WHERE article = 'b'").as_deref() == Some("1")
    });
    for role in [Role::Ingest, Role::Flusher] {
        running.stack.service(role, 0).terminate(Duration::from_secs(20)).expect("terminate");
    }
    let mut clean = running.stack.tool();
    clean.args(["clean", "--yes"]);
    let (fine, said) = output(clean);
    assert!(fine, "{said}");
    for article in ["a", "b"] {
        let shown = shown(article);
        // Nobody has opened Redis anew yet, so that is a part.
        assert_eq!((&shown["views"], &shown["at_least"]), (&serde_json::Value::Null, &0.into()), "{shown}");
    }
    for role in [Role::Flusher, Role::Ingest] {
        running.stack.service(role, 0).restart().expect("restart");
    }
    let views = format!("{}/v1/views", running.ingest());
    assert_eq!(post(&views, r#"{"article":"a","user":"x"}"#).status, 204);
    eventually("one view", Duration::from_secs(15), || shown("a")["views"] == 1 && shown("a")["degraded"].is_null());
}
