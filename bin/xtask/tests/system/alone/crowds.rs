//! Crowds of connections that want nothing, or want it slowly: an honest view among them is counted at once, what the
//! crowd costs is bounded, and it is gone in time.
//!
//! `FOOTFALL_TEST_IDLE=20000` is the long run: as many as the limit of open files allows, of which the test's own process
//! needs as many as ingest.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use footfall_drill::stack::Role;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use super::viewers::{memory, raise_file_limit};
use crate::access::TOKEN;
use crate::common::{Running, Set, eventually, get, start_to_measure};

const IDLE: u64 = 1_000;
const SLOW: u64 = 200;
const IDLE_LONG: u64 = 18_000;
const SLOW_LONG: u64 = 1_000;
/// What each of the two processes needs beside the crowd: the stores, the admin port, a log, the honest.
const FILES_BESIDE: u64 = 400;
const PIPELINING: u64 = 100;

/// After this a request's head must be there, and a client that takes nothing of its answers is left.
const HEADER_TIMEOUT: Duration = Duration::from_secs(6);
/// A larger crowd takes longer than that to come.
const HEADER_TIMEOUT_LONG: Duration = Duration::from_secs(25);
/// A machine with other things to do is late, at most by this.
const LATE: Duration = Duration::from_secs(8);
/// The usual honest request, and the slowest but one of a hundred on a machine with other things to do.
const HONEST_MS_MAX: (f64, f64) = (100.0, 400.0);
/// What the kernel may hold for one client: twice our 64 KiB for each direction, and what it has on the client's side,
/// which is this machine too.
const KERNEL_BYTES_EACH_MAX: u64 = 512 * 1024;
const SCRIPT: &str = "/footfall.js";

/// Each address of the crowd has at most 200 connections.
fn from(number: u64) -> SocketAddr {
    let [.., high, low] = (number / 200 + 1).to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(127, 77, high, low), 0))
}

async fn connect(number: u64, to: SocketAddr, room: Option<u32>) -> tokio::net::TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    if let Some(room) = room {
        socket.set_recv_buffer_size(room).expect("small buffers");
    }
    socket.bind(from(number)).expect("an address of this machine");
    socket.connect(to).await.expect("it listens")
}

/// What the slow do: the head, the body, or the reading of the answers takes for ever.
#[derive(Clone, Copy)]
enum Slow {
    Head,
    Body,
    Reader,
}

impl Slow {
    async fn go_on(self, mut stream: tokio::net::TcpStream) {
        let begin = match self {
            Self::Head => "GET /v1/articles/a HTTP/1.1\r\nHost: a\r\nX: ".to_owned(),
            Self::Body => "POST /v1/views HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n".to_owned(),
            Self::Reader => format!("GET {SCRIPT} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(200),
        };
        if stream.write_all(begin.as_bytes()).await.is_err() {
            return;
        }
        let mut byte = [0; 1];
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let goes_on = match self {
                Self::Reader => stream.read(&mut byte).await.is_ok_and(|read| read > 0),
                Self::Head | Self::Body => stream.write_all(b" ").await.is_ok(),
            };
            if !goes_on {
                return;
            }
        }
    }
}

/// What the kernel has for all sockets of this machine: connections that their process has closed and that are not over,
/// and bytes of memory.
fn kernel() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/net/sockstat").expect("the kernel's account of its sockets");
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:")).expect("of TCP");
    let words: Vec<&str> = line.split_whitespace().collect();
    let of = |name: &str| {
        let at = words.iter().position(|word| *word == name).expect("a known name");
        words[at + 1].parse::<u64>().expect("a number")
    };
    (of("orphan"), of("mem") * rustix::param::page_size() as u64)
}

fn files(pid: u32) -> u64 {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a process").count() as u64
}

/// Milliseconds of 100 requests, each over a connection of its own and one after the other: median and p99.
fn honest(what: &str, host: &str, request: &str, status: &str) -> (f64, f64) {
    let mut times: Vec<f64> = (0..100)
        .map(|_| {
            let began = Instant::now();
            let mut stream = TcpStream::connect(host).expect("a place");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("time-out");
            stream.write_all(request.as_bytes()).expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            began.elapsed().as_secs_f64() * 1_000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{what}: median {:.1} ms, p99 {:.1} ms, longest {:.1} ms", times[49], times[98], times[99]);
    (times[49], times[98])
}

fn is_fast((median, p99): (f64, f64)) -> bool {
    median < HONEST_MS_MAX.0 && p99 < HONEST_MS_MAX.1
}

fn honest_views(what: &str, host: &str) -> (f64, f64) {
    let body = r#"{"article":"a","user":"u"}"#;
    let request = format!(
        "POST /v1/views HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    honest(what, host, &request, "204")
}

fn honest_pages(what: &str, host: &str) -> (f64, f64) {
    honest(what, host, &format!("GET /login HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"), "200")
}

/// Waits until the crowd is gone, as the server sees it; answers after how long since it began.
fn gone(what: &str, pid: u32, before: u64, began: Instant, timeout: Duration) {
    eventually(&format!("{what} is gone"), timeout + LATE, || files(pid) <= before + 10);
    println!("{what}: gone {:.1} s after the first came", began.elapsed().as_secs_f64());
}

#[test]
fn an_honest_view_is_counted_at_once_among_a_crowd() {
    let allowed = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let wanted = std::env::var("FOOTFALL_TEST_IDLE").map_or(IDLE, |idle| idle.parse().expect("a number"));
    let (slow, timeout) = if wanted >= IDLE_LONG { (SLOW_LONG, HEADER_TIMEOUT_LONG) } else { (SLOW, HEADER_TIMEOUT) };
    let idle = wanted.min(allowed.saturating_sub(slow + FILES_BESIDE));
    raise_file_limit(idle + slow + FILES_BESIDE);
    let mut running = start_to_measure(|options| {
        options.dashboards = 1;
        // Else it is open on loopback, and has no page to log in.
        options.set("FOOTFALL_DASHBOARD__TOKEN", TOKEN);
        options.set("FOOTFALL_DASHBOARD__REQUESTS_PER_SECOND", "100000");
        options.set("FOOTFALL_INGEST__HEADER_TIMEOUT_MS", &timeout.as_millis().to_string());
    });
    let url = running.ingest();
    let host = url.strip_prefix("http://").expect("an HTTP URL");
    let dashboard = running.stack.url(Role::Dashboard, 0);
    eventually("a dashboard", Duration::from_secs(15), || get(&format!("{dashboard}/readyz")).status == 200);
    let pid = running.stack.service(Role::Ingest, 0).process().pid();
    let before = files(pid);
    let alone = honest_views("alone", host);
    let empty = memory(pid);

    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let began = Instant::now();
    let mut crowd = JoinSet::new();
    let to: SocketAddr = host.parse().expect("an address");
    let standing = runtime.block_on(async {
        for number in 0..slow {
            let what = [Slow::Head, Slow::Body, Slow::Reader][usize::try_from(number % 3).expect("small")];
            let room = matches!(what, Slow::Reader).then_some(4 * 1024);
            crowd.spawn(what.go_on(connect(number, to, room).await));
        }
        let mut standing = Vec::new();
        for number in 0..idle {
            standing.push(connect(slow + number, to, None).await);
        }
        standing
    });
    println!(
        "{idle} idle and {slow} slow connections after {:.1} s, of {wanted} wanted",
        began.elapsed().as_secs_f64()
    );
    let there = files(pid).saturating_sub(before);
    let among = honest_views("among them", host);
    let (full, (_, held)) = (memory(pid), kernel());
    println!("{there} there; ingest's memory {empty} to {full} bytes; the kernel's {held}");
    assert!(there >= (idle + slow) * 9 / 10, "{there} are there: they were not let in");
    assert!(is_fast(among), "{among:?} ms, alone {alone:?}");
    gone("the crowd", pid, before, began, timeout);
    drop((standing, crowd));
    running.article("a");
    pipelines(&mut running, timeout);
}

/// 100 connections of each kind ask for more than any buffer has room for, and take nothing.
fn pipelines(running: &mut Running, timeout: Duration) {
    let dashboard = running.stack.url(Role::Dashboard, 0);
    let servers = [
        (Role::Ingest, running.ingest(), [SCRIPT, "/demopage/a?usrid=u"]),
        (Role::Dashboard, dashboard, ["/login", "/assets/app.js"]),
    ];
    let began = Instant::now();
    let (orphans_before, held_before) = kernel();
    let (mut standing, mut crowds) = (vec![], vec![]);
    for (role, url, paths) in servers {
        let pid = running.stack.service(role, 0).process().pid();
        let before = files(pid);
        let host = url.strip_prefix("http://").expect("an HTTP URL").to_owned();
        // More than a server reads ahead: what it has not read when it closes has the kernel forget the rest at once. And
        // so few that all of them are read: then the kernel goes on offering the answers.
        for asked in [3_000, 100] {
            standing.extend((0..PIPELINING).map(|number| {
                let path = paths[usize::from(number % 2 == 1)];
                ask_and_take_nothing(number, &host, path, asked)
            }));
        }
        crowds.push((format!("{} that ask {role} and do not read", 2 * PIPELINING), role, host, pid, before));
    }
    for (what, role, host, ..) in &crowds {
        let times = if *role == Role::Ingest { honest_views(what, host) } else { honest_pages(what, host) };
        assert!(is_fast(times), "{what}: {times:?} ms");
    }
    let held = kernel().1.saturating_sub(held_before);
    println!("the kernel holds {} KiB for {} that do not read", held / 1024, standing.len());
    assert!(held < standing.len() as u64 * KERNEL_BYTES_EACH_MAX, "{held} bytes");
    for (what, _, _, pid, before) in &crowds {
        gone(what, *pid, *before, began, timeout);
    }
    let orphans = || kernel().0.saturating_sub(orphans_before);
    println!("{} closed and not over", orphans());
    eventually("the kernel has given them up", timeout + LATE, || orphans() < PIPELINING / 10);
    println!("over after {:.1} s", began.elapsed().as_secs_f64());
}

/// One connection that has asked so many times, or as often as was taken from it.
fn ask_and_take_nothing(number: u64, host: &str, path: &str, times: usize) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let to = host.parse().expect("an address");
    let stream = runtime.block_on(connect(number, to, Some(4 * 1024))).into_std().expect("a socket");
    // Not blocking: what does not fit is not sent.
    let mut requests = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").repeat(times).into_bytes();
    while let Ok(sent @ 1..) = (&stream).write(&requests) {
        requests.drain(..sent);
    }
    stream
}
