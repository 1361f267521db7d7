//! What one client is counted for, with the limits that the samples of load balancers ask for: a flood from one address is
//! held to its share, straight to ingest and through each balancer, and nobody else notices.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use footfall_drill::stack::Role;
use footfall_shared::service::config::Config;

use crate::balancer::{start_haproxy, start_nginx};
use crate::common::{Client, Over, Set, connect_from, eventually, exchange, get, start_to_measure};
use crate::tool::{sum, tool};

const SOON: Duration = Duration::from_secs(20);
const FLOOD: Duration = Duration::from_secs(3);
/// Views in each request of the connections that flood.
const SIZES: [usize; 4] = [1, 1, 1, 50];
const HONEST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const SERVER_OF_THE_SITE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);

/// What became of views.
#[derive(Debug, Default, Clone, Copy)]
struct Sent {
    junk: usize,
    known: usize,
    refused_requests: usize,
}

/// Views of articles that nobody has written in the first half of the time, of one that is known in the second, each by
/// another reader; with a header that names another client each time, as somebody writes it who wants to be many.
fn flood(from: Ipv4Addr, front: &str, connection: usize) -> Sent {
    let mut client = Client::from(from, front);
    let started = Instant::now();
    let mut sent = Sent::default();
    for number in 0.. {
        let elapsed = started.elapsed();
        if elapsed > FLOOD {
            break;
        }
        let is_junk = elapsed < FLOOD / 2;
        let view = |at: usize| {
            let name = format!("{from}-{connection}-{number}-{at}");
            let article = if is_junk { &*name } else { "known" };
            format!(r#"{{"article":"{article}","user":"{name}"}}"#)
        };
        let size = SIZES[connection];
        let body = format!("[{}]", (0..size).map(view).collect::<Vec<_>>().join(","));
        client.headers = format!("X-Forwarded-For: 10.0.{}.{}\r\n", number / 256 % 256, number % 256);
        match client.post("/v1/views", &body).0 {
            200 if is_junk => sent.junk += size,
            200 => sent.known += size,
            429 => sent.refused_requests += 1,
            status => panic!("{status}"),
        }
    }
    sent
}

/// A view of one article every 50 ms, each of which must count; the longest time that one took.
fn honest(front: &str, over: &AtomicBool) -> (usize, Duration) {
    let mut client = Client::from(HONEST, front);
    let (mut counted, mut longest) = (0, Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let view = format!(r#"{{"article":"honest","user":"{front}-{counted}"}}"#);
        assert_eq!(client.post("/v1/views", &view).0, 204, "an honest view");
        longest = longest.max(asked.elapsed());
        counted += 1;
        thread::sleep(Duration::from_millis(50));
    }
    (counted, longest)
}

fn many(article: &str, views: usize) -> String {
    (0..views).map(|number| format!("{{\"article\":\"{article}\",\"user\":\"u{number}\"}}\n")).collect()
}

#[test]
fn one_client_is_counted_its_share_and_nobody_else_waits() {
    let sample = fs::read_to_string(xtask::root().join("docs/examples/haproxy.cfg")).expect("the sample");
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(xtask::settings_beside(&sample).as_bytes()).expect("written");
    let config = Config::load(Some(file.path()), HashMap::<String, String>::new()).expect("settings").ingest;
    let [views_per_second, new_articles_per_minute] = [config.views_per_second, config.new_articles_per_minute]
        .map(|limit| limit.expect("the sample sets a limit").get());
    let mut running = start_to_measure(|options| {
        options.dashboards = 1;
        options.set("FOOTFALL_INGEST__VIEWS_PER_SECOND", &views_per_second.to_string());
        options.set("FOOTFALL_INGEST__NEW_ARTICLES_PER_MINUTE", &new_articles_per_minute.to_string());
        // Where the balancers are here, and the server of the site.
        options.set("FOOTFALL_HTTP__TRUSTED_PROXIES", "127.0.0.1");
    });
    let (per_second, per_minute) = (f64::from(views_per_second), f64::from(new_articles_per_minute));
    let address = |role| running.stack.url(role, 0).replace("http://", "");
    let (ingest, dashboard) = (address(Role::Ingest), address(Role::Dashboard));
    let logs = running.path("logs");
    let (_haproxy, haproxy) = start_haproxy(&logs, 61_091, [&ingest, &ingest], &dashboard, &[]);
    let (_nginx, nginx) = start_nginx(&logs, 61_092, [&ingest, &ingest], &dashboard);
    eventually("haproxy has found it", SOON, || get(&format!("{haproxy}/footfall.js")).status == 200);

    let (mut counted, mut refused) = (0, 0);
    // The site's own server: known to ingest, it sends for all readers, as it may.
    for (number, front) in [&running.ingest(), &haproxy, &nginx].into_iter().enumerate() {
        let mut server = Client::from(SERVER_OF_THE_SITE, front);
        for article in ["known", "honest"] {
            let (status, said) =
                server.post("/v1/views", &many(&format!("{article}{}", ["", "2", "3"][number]), 5_000));
            assert_eq!(status, 200, "{front}: {said}");
            counted += 5_000;
        }
    }
    for (front, last) in [(running.ingest(), 11), (haproxy, 12), (nginx, 13)] {
        let from = Ipv4Addr::new(127, 0, 0, last);
        let over = AtomicBool::new(false);
        let started = Instant::now();
        let (flooded, (honest, longest)) = thread::scope(|scope| {
            let honest = scope.spawn(|| honest(&front, &over));
            let end = Over(&over);
            let floods: Vec<_> = (0..SIZES.len())
                .map(|at| {
                    scope.spawn({
                        let front = &front;
                        move || flood(from, front, at)
                    })
                })
                .collect();
            let flooded: Vec<Sent> = floods.into_iter().map(|flood| flood.join().expect("a flood")).collect();
            drop(end);
            (flooded, honest.join().expect("honest views"))
        });
        let seconds = started.elapsed().as_secs_f64();
        let of = |part: fn(&Sent) -> usize| flooded.iter().map(part).sum::<usize>();
        let (junk, known, refusals) = (of(|sent| sent.junk), of(|sent| sent.known), of(|sent| sent.refused_requests));
        println!(
            "{front}: of a flood of {seconds:.1} s {junk} views of new articles and {known} others were counted, {refusals} \
             requests refused; {honest} honest views, the slowest in {longest:?}"
        );
        // Each budget, what has come since, and the last request that found one left.
        assert!(junk as f64 <= per_minute + per_minute / 60.0 * seconds, "{junk} in {seconds} s");
        assert!((junk + known) as f64 <= per_second * (10.0 + seconds), "{junk} + {known} in {seconds} s");
        assert!(junk >= 200 && known >= 1 && refusals > 100, "{junk}, {known}, {refusals}");
        assert!(honest > 20, "{honest}");
        counted += junk + known + honest;
        refused += refusals;
    }

    // What it is told, and whoever runs the system.
    let host = ingest.as_str();
    let ask = |from: u8, body: &str| {
        let head =
            format!("POST /v1/views HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}", body.len());
        exchange(connect_from(Ipv4Addr::new(127, 0, 0, from), host), format!("{head}\r\n\r\n{body}").as_bytes())
    };
    let most = usize::try_from(views_per_second * 10).expect("a number");
    let never = ask(14, &many("known", most + 1));
    assert_eq!((never.status, never.header("Retry-After")), (413, None), "{}", never.body);
    assert_eq!(ask(14, &many("known", most)).status, 200, "the refused one has taken nothing");
    counted += most;
    let later = ask(14, &many("known", most / 2));
    assert_eq!((later.status, later.header("Retry-After")), (429, Some("5")), "{}", later.body);
    assert!(
        later.body.contains("too many views from the address 127.0.0.14: send them again in 5 s"),
        "{}",
        later.body
    );
    refused += 1;
    let metric = r#"footfall_views_rejected_total{reason="too_often"}"#;
    assert_eq!(running.metric(Role::Ingest, 0, metric), refused as f64);
    for gauge in ["footfall_seen_articles", r#"footfall_limited_addresses{limit="views"}"#] {
        assert!(running.metric(Role::Ingest, 0, gauge) > 0.0, "{gauge}");
    }
    let instances = || get(&format!("http://{dashboard}/v1/stats")).json()["instances"].to_string();
    eventually("the dashboard says it", SOON, || instances().contains("one address sends more than"));

    // MySQL has what was counted, and no more: refused views left nothing.
    eventually("all is in MySQL", SOON, || {
        sum(&mut running, "SELECT SUM(views) FROM footfall_articles") == counted as u64
    });
    let readers = sum(&mut running, "SELECT COUNT(*) FROM footfall_article_readers");
    println!("{readers} rows of readers in MySQL");
    assert!(readers <= counted as u64, "{readers}");
    let (code, report) = tool(&running, &["verify", "--live", "--seconds", "2"]);
    assert!(code == 0 && report.contains("0 checks FAILED"), "{report}");
}
