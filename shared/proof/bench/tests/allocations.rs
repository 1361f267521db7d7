//! What ingest allocates for a view or a read. A number that no other work on the machine changes: where it grows, the
//! hot path has become dearer, and nobody needs a stopwatch to see it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::thread;

use footfall_drill::stack::{Stack, StackOptions};
use footfall_ingest::Listeners;
use footfall_shared::service::config::Config;
use footfall_shared::service::lifecycle::{self, Lifecycle};
use tokio::sync::Notify;

/// Requests of each kind, one after the other: each is a batch, or a look-up, by itself.
const REQUESTS: u32 = 2_000;
/// Views in a large request.
const MANY: u32 = 1_000;
/// Above what was measured; background work of ingest is counted too.
const TOLERANCE_PERCENT: f64 = 5.0;

/// What is sent, how often, the views or reads in it, and what each of these allocated when it was last looked at.
struct Kind {
    name: &'static str,
    request: fn(u32) -> String,
    requests: u32,
    parts: u32,
    measured: f64,
}

const KINDS: [Kind; 4] = [
    Kind { name: "warm-up", request: post_one, requests: 100, parts: 1, measured: f64::INFINITY },
    Kind { name: "a view by itself", request: post_one, requests: REQUESTS, parts: 1, measured: 42.2 },
    Kind { name: "a view of many in a request", request: post_many, requests: 50, parts: MANY, measured: 2.1 },
    Kind { name: "a read of a cached article", request: read, requests: REQUESTS, parts: 1, measured: 48.0 },
];

fn post_one(number: u32) -> String {
    post(&format!(r#"{{"article":"a{:09}","user":"u{number:09}"}}"#, number % 100))
}

fn post_many(number: u32) -> String {
    let view = |at| format!(r#"{{"article":"a{:09}","user":"u{:09}"}}"#, at % 100, number * MANY + at);
    post(&format!("[{}]", (0..MANY).map(view).collect::<Vec<_>>().join(",")))
}

fn post(body: &str) -> String {
    format!("POST /v1/views HTTP/1.1\r\nHost: ingest\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn read(_: u32) -> String {
    "GET /v1/articles/a000000007 HTTP/1.1\r\nHost: ingest\r\n\r\n".into()
}

#[test]
fn a_request_allocates_no_more_than_before() {
    let dir = tempfile::tempdir().expect("a folder");
    let binaries = Path::new(env!("CARGO_BIN_EXE_footfall-bench")).parent().expect("a program is in a folder");
    let mut options = StackOptions::new(dir.path(), binaries);
    (options.ingests, options.dashboards) = (0, 0);
    let stack = Stack::start(options).expect("the stores and a flusher");
    let mut environment: std::collections::HashMap<_, _> = stack.env().into_iter().collect();
    environment.insert("FOOTFALL_INGEST__JOURNAL".into(), dir.path().join("journal").display().to_string());

    let (answer, addresses) = mpsc::channel();
    let (count, counts) = mpsc::channel();
    let next = Arc::new(Notify::new());
    thread::spawn({
        let next = Arc::clone(&next);
        move || ingest(environment, &answer, &count, &next)
    });
    let address: SocketAddr = addresses.recv().expect("ingest listens");
    let mut dear = vec![];
    for Kind { name, request, requests, parts, measured } in KINDS {
        let mut client = BufReader::new(TcpStream::connect(address).expect("ingest listens"));
        for number in 0..requests {
            ask(&mut client, &request(number));
        }
        next.notify_one();
        let allocations = counts.recv().expect("ingest lives") as f64 / f64::from(requests * parts);
        eprintln!("{name}: {allocations:.2} allocations");
        if allocations > measured * (1.0 + TOLERANCE_PERCENT / 100.0) {
            dear.push(format!("{name}: {allocations:.2} instead of {measured}"));
        }
    }
    assert!(dear.is_empty(), "more allocations than before: {}", dear.join("; "));
}

/// Serves, and tells at each notification how many allocations there were since the last one.
fn ingest(
    environment: std::collections::HashMap<String, String>,
    answer: &mpsc::Sender<SocketAddr>,
    count: &mpsc::Sender<u64>,
    next: &Notify,
) {
    let config = Config::load(None, environment).expect("a good configuration");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (listeners, lifecycle) = runtime.block_on(async {
        let bind = || lifecycle::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
        let (public, admin) = (bind().await.expect("a port"), bind().await.expect("a port"));
        answer.send(public.local_addr().expect("it listens")).expect("the test waits");
        (Listeners { public, admin }, Lifecycle::new().expect("signals"))
    });
    let mut service = pin!(footfall_ingest::run(config, listeners, lifecycle));
    loop {
        let allocations = allocation_counter::measure(|| {
            runtime.block_on(async {
                tokio::select! {
                    ended = &mut service => panic!("ingest has ended: {ended:?}"),
                    () = next.notified() => {}
                }
            });
        });
        if count.send(allocations.count_total).is_err() {
            return; // The test is over.
        }
    }
}

/// Sends a request and reads the answer, which must be a good one.
fn ask(client: &mut BufReader<TcpStream>, request: &str) {
    client.get_mut().write_all(request.as_bytes()).expect("ingest reads");
    let mut length = 0;
    let mut line = String::new();
    let status = read_line(client, &mut line);
    assert!(status.contains(" 200 ") || status.contains(" 204 "), "{status} to {request:.80}");
    while !read_line(client, &mut line).trim().is_empty() {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
    }
    client.read_exact(&mut vec![0; length]).expect("the whole answer");
}

fn read_line<'a>(client: &mut BufReader<TcpStream>, line: &'a mut String) -> &'a str {
    line.clear();
    client.read_line(line).expect("ingest answers");
    line
}
