//! Bodies that never end, and bodies of nonsense: neither takes the memory, nor the time of whoever sends one view.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use footfall_drill::stack::Role;

use crate::common::{Over, Running, Set, eventually, get, post, raw, start_to_measure};
use crate::tool::tool;

const MIB: usize = 1 << 20;
const UNFINISHED: usize = 300;
const BUDGET_MIB: usize = 16;
/// What ingest takes without clients in the dev build, hyper's buffers for each of them, and the budget twice.
const MEMORY_MAX: u64 = ((40 + 2 * BUDGET_MIB) * MIB) as u64 + (UNFINISHED as u64) * (64 << 10);

/// Bytes that a process has in memory.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Sends all but the last byte of a body of 1 MiB, as long as it is taken.
fn unfinished(host: &str) -> TcpStream {
    let mut stream = TcpStream::connect(host).expect("connect");
    stream.set_write_timeout(Some(Duration::from_millis(200))).expect("time-out");
    let head = format!("POST /v1/views HTTP/1.1\r\nHost: a\r\nContent-Length: {MIB}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("a head is taken");
    let _ = stream.write_all(&vec![b' '; MIB - 1]); // Most are answered before.
    stream
}

/// Sends one view after the other, each over a connection of its own; how long the answers took, in order.
fn honest(views: &str, span: Duration) -> Vec<Duration> {
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < span {
        let asked = Instant::now();
        assert_eq!(post(views, r#"{"article":"honest","user":"u"}"#).status, 204);
        times.push(asked.elapsed());
        thread::sleep(Duration::from_millis(20));
    }
    times.sort_unstable();
    times
}

#[track_caller]
fn report(what: &str, times: &[Duration]) -> Duration {
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!("{what}: {} views, p50 {:?}, p99 {:?}, max {:?}", times.len(), at(50), at(99), at(100));
    at(99)
}

#[test]
fn bodies_without_end_and_without_sense_take_nothing_from_others() {
    let mut running: Running = start_to_measure(|options| {
        options.set("FOOTFALL_INGEST__BODIES_BYTES_MAX", &(BUDGET_MIB * MIB).to_string());
        options.set("FOOTFALL_INGEST__BODY_TIMEOUT_MS", "4000");
    });
    let views = format!("{}/v1/views", running.ingest());
    let host = running.ingest().strip_prefix("http://").expect("an HTTP URL").to_owned();
    let pid = running.stack.service(Role::Ingest, 0).process().pid();
    let quiet = honest(&views, Duration::from_secs(1));
    let mut counted = quiet.len();
    report("alone", &quiet);
    let before = memory(pid);

    // Bodies without end.
    let greatest = AtomicU64::new(before);
    let over = AtomicBool::new(false);
    let watch = || {
        while !over.load(Ordering::Relaxed) {
            greatest.fetch_max(memory(pid), Ordering::Relaxed);
            thread::sleep(Duration::from_millis(10));
        }
    };
    thread::scope(|scope| {
        let _over = Over(&over);
        scope.spawn(watch);
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let host = host.clone();
                scope.spawn(move || (0..UNFINISHED / 4).map(|_| unfinished(&host)).collect::<Vec<_>>())
            })
            .collect();
        let times = honest(&views, Duration::from_secs(3));
        counted += times.len();
        assert!(report("beside unfinished bodies", &times) < Duration::from_secs(1), "{times:?}");
        let mut held: Vec<TcpStream> = senders.into_iter().flat_map(|sender| sender.join().expect("sent")).collect();
        // Each is answered: with 503 and an end at once, or with 408 later.
        let mut answers = [0; 3];
        for stream in &mut held {
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("time-out");
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer); // A reset after the answer is no loss of it.
            let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
            let kind = match answer.split(' ').nth(1) {
                Some("503") => {
                    assert!(
                        answer.contains("\r\nretry-after: ") && answer.contains("\r\nconnection: close"),
                        "{answer}"
                    );
                    0
                }
                Some("408") => 1,
                _ => 2,
            };
            answers[kind] += 1;
        }
        println!(
            "of {UNFINISHED} unfinished bodies: {} x 503, {} x 408, {} without an answer",
            answers[0], answers[1], answers[2]
        );
        assert!(answers[0] > UNFINISHED / 4 && answers[1] > 0, "{answers:?}");
    });
    let greatest = greatest.load(Ordering::Relaxed);
    println!("memory: {} KiB before, at most {} KiB, allowed {} KiB", before >> 10, greatest >> 10, MEMORY_MAX >> 10);
    assert!(greatest < MEMORY_MAX, "{greatest}");
    assert!(running.metric(Role::Ingest, 0, "footfall_bodies_refused_total") > 0.0);
    eventually("nothing is held for them", Duration::from_secs(10), || {
        running.metric(Role::Ingest, 0, "footfall_bodies_bytes") == 0.0
    });

    // Bodies without sense.
    let body = format!("[{}1]", "1,".repeat(MIB / 2 - 2));
    let head =
        format!("POST /v1/views HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    let flood = [head.as_bytes(), body.as_bytes()].concat();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let over_at_end = Over(&over);
        let senders: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut sent = 0;
                    while !over.load(Ordering::Relaxed) {
                        assert_eq!(raw(&host, &flood).status, 413);
                        sent += 1;
                        thread::sleep(Duration::from_millis(100));
                    }
                    sent
                })
            })
            .collect();
        let times = honest(&views, Duration::from_secs(3));
        counted += times.len();
        let p99 = report("beside nonsense", &times);
        drop(over_at_end);
        let sent: usize = senders.into_iter().map(|sender| sender.join().expect("refused")).sum();
        println!("{sent} MiB of nonsense; memory {} KiB", memory(pid) >> 10);
        assert!(p99 < Duration::from_secs(1), "{times:?}");
    });
    assert!(memory(pid) < MEMORY_MAX);
    eventually("each honest view is stored", Duration::from_secs(10), || {
        running.sql("SELECT SUM(views) FROM article_counts") == Some(counted.to_string())
    });
    assert_eq!(get(&format!("{}/readyz", running.ingest())).status, 200);
    let (code, said) = tool(&running, &["verify", "--live", "--seconds", "2"]);
    assert!(code == 0 && said.contains("0 checks FAILED"), "{said}");
}
