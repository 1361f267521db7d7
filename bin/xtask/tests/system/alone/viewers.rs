//! Thousands of viewers at once, a fifth of whom stop reading: what the others notice, and what it costs the dashboard.
//!
//! `FOOTFALL_TEST_VIEWERS=5000` is the long run.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use footfall_drill::stack::Role;
use footfall_shared::service::clock;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use crate::common::{Set, eventually, get, start_to_measure};

const VIEWERS: u32 = 1_000;
/// From here on it lasts long enough that those who do not read must be gone.
const VIEWERS_LONG: u32 = 5_000;
const DELIVERY_MS_MAX: u64 = 250;
const BYTES_PER_VIEWER_MAX: u64 = 20 * 1024;
const DAY_MS: u64 = 86_400_000;

/// What all viewers got.
#[derive(Default)]
struct Received {
    /// The number of a message, and when a viewer had it.
    messages: Vec<(u64, u64)>,
    /// When an update was made: its own `as_of`, the last thing that is known before it is sent.
    made: HashMap<u64, u64>,
    /// Why viewers who read were left.
    lost: Vec<String>,
}

type Shared = Arc<Mutex<Received>>;

#[test]
fn thousands_watch_while_some_have_stopped_reading() {
    let viewers = std::env::var("FOOTFALL_TEST_VIEWERS").map_or(VIEWERS, |viewers| viewers.parse().expect("a number"));
    let is_long = viewers >= VIEWERS_LONG;
    let silent = viewers / 5;
    raise_file_limit(u64::from(viewers) + 500);
    let mut running = start_to_measure(|options| {
        options.dashboards = 1;
        // Here all of them come from one address.
        options.set("FOOTFALL_DASHBOARD__REQUESTS_PER_SECOND", "100000");
        options.set("FOOTFALL_HTTP__CONNECTIONS_PER_ADDRESS_MAX", "10000");
    });
    let dashboard = running.stack.url(Role::Dashboard, 0);
    eventually("a dashboard", Duration::from_secs(15), || get(&format!("{dashboard}/readyz")).status == 200);
    let load = running.load("l.tsv", "--views 1000000 --articles 200 --users 5000 --connections 4 --rate 300");
    let pid = running.stack.service(Role::Dashboard, 0).process().pid();
    let admin = running.stack.service(Role::Dashboard, 0).admin();
    let viewers_now = || -> u32 {
        let metrics = get(&format!("http://{admin}/metrics")).body;
        let now = metrics.lines().find_map(|line| line.strip_prefix("footfall_dashboard_viewers "));
        now.and_then(|now| now.parse().ok()).expect("a number of viewers")
    };

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let host = dashboard.strip_prefix("http://").expect("an HTTP URL");
        // One comes and goes first: what the first one costs is not the price of each.
        drop(open(host, None).await.expect("a viewer"));
        tokio::time::sleep(Duration::from_secs(3)).await;
        let empty = memory(pid);

        let received = Shared::default();
        let mut standing = Vec::new();
        for number in 0..viewers {
            if number % 5 == 0 {
                // Room for few messages, so that they are soon on the dashboard's side.
                standing.push(open(host, Some(4 * 1024)).await.expect("a viewer"));
            } else {
                tokio::spawn(watch(open(host, None).await.expect("a viewer"), Arc::clone(&received)));
            }
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (full, cpu_before, began, begin_ms) = (memory(pid), cpu(pid), Instant::now(), clock::unix_ms());
        let per_viewer = full.saturating_sub(empty) / u64::from(viewers);
        println!("{viewers} viewers, {silent} of them silent: {per_viewer} bytes of memory each ({empty} to {full})");

        let mut greatest = full;
        for _ in 0..if is_long { 70 } else { 4 } {
            tokio::time::sleep(Duration::from_secs(1)).await;
            greatest = greatest.max(memory(pid));
        }
        let used = (cpu(pid) - cpu_before).as_secs_f64() / began.elapsed().as_secs_f64();
        println!("the dashboard used {:.1} % of a core, and at most {greatest} bytes of memory", 100.0 * used);
        let received = std::mem::take(&mut *received.lock().expect("nobody panicked"));
        judge(&received, u64::from(viewers - silent), begin_ms..clock::unix_ms() - 1_000);

        assert!(per_viewer < BYTES_PER_VIEWER_MAX, "{per_viewer} bytes per viewer");
        assert!(greatest < full + 1024 * u64::from(viewers), "memory grows: {full} to {greatest}");
        let left = viewers_now();
        println!("{left} viewers at the end");
        assert!(!is_long || left <= viewers - silent, "{left} viewers: the silent ones are still there");
        assert!(left >= viewers - silent, "{left} viewers: some of those who read are not there any more");
        drop(standing);
    });
    drop(load);
}

/// How long messages of the span of time took to each viewer, from their making and from the moment at which the first
/// viewer had them. One that a viewer did not get, because it was late and got a snapshot instead, counts as late.
fn judge(received: &Received, viewers: u64, span: std::ops::Range<u64>) {
    assert!(received.lost.is_empty(), "{} viewers were left: {}", received.lost.len(), received.lost[0]);
    let mut first: HashMap<u64, u64> = HashMap::new();
    for (seq, at) in &received.messages {
        let known = first.entry(*seq).or_insert(*at);
        *known = (*at).min(*known);
    }
    first.retain(|_, at| span.contains(at));
    let numbers: HashSet<u64> = first.keys().copied().collect();
    let delays = |since: &HashMap<u64, u64>| {
        let judged = numbers.iter().filter(|seq| since.contains_key(seq)).count() as u64;
        let mut delays: Vec<u64> = received
            .messages
            .iter()
            .filter(|(seq, _)| numbers.contains(seq))
            .filter_map(|(seq, at)| Some(at.saturating_sub(*since.get(seq)?)))
            .collect();
        let missed = (judged * viewers).saturating_sub(delays.len() as u64);
        delays.extend((0..missed).map(|_| u64::MAX));
        delays.sort_unstable();
        let at = |share: usize| delays[(delays.len() - 1) * share / 1_000];
        println!(
            "{judged} messages, {missed} of {} not received; ms: p50 {}, p99 {}, p99.9 {}, max {}",
            delays.len(),
            at(500),
            at(990),
            at(999),
            at(1_000)
        );
        (judged, at(990))
    };
    print!("from the first viewer to each: ");
    let (all, after_first) = delays(&first);
    print!("from the making to each:       ");
    let (judged, after_making) = delays(&received.made);
    assert!(all >= (span.end - span.start) * 3 / 1_000, "fewer than 3 messages per second");
    assert!(judged > all / 2, "most messages have no time at which they were made");
    assert!(after_first.max(after_making) < DELIVERY_MS_MAX, "the p99 of delivery");
}

/// A WebSocket, the answer to the upgrade read; the kernel keeps `room` for what is not read yet.
async fn open(host: &str, room: Option<u32>) -> io::Result<BufReader<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    if let Some(room) = room {
        socket.set_recv_buffer_size(room)?;
    }
    let mut stream = BufReader::with_capacity(2 * 1024, socket.connect(host.parse().expect("an address")).await?);
    let head = format!(
        "GET /realtime HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    assert!(line.starts_with("HTTP/1.1 101"), "{line}");
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).await?;
    }
    Ok(stream)
}

async fn watch(mut stream: BufReader<TcpStream>, received: Shared) {
    loop {
        let message = message(&mut stream).await;
        let at = clock::unix_ms();
        let mut received = received.lock().expect("nobody panicked");
        let text = match &message {
            Ok(text) => text,
            Err(error) => return received.lost.push(error.to_string()),
        };
        let seq = after(text, "\"seq\":").split([',', '}']).next().and_then(|seq| seq.parse().ok());
        let seq = seq.unwrap_or_else(|| panic!("no number: {text}"));
        received.messages.push((seq, at));
        if text.starts_with("{\"type\":\"update\"") && text.contains("\"as_of\":\"") {
            received.made.entry(seq).or_insert_with(|| time(after(text, "\"as_of\":\"")));
        }
    }
}

/// The next text. Pings are answered.
async fn message(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    loop {
        let [kind, len] = [stream.read_u8().await?, stream.read_u8().await?];
        let len = if len == 126 { stream.read_u16().await? } else { u16::from(len) };
        let mut bytes = vec![0; usize::from(len)];
        stream.read_exact(&mut bytes).await?;
        match kind {
            0x81 => return String::from_utf8(bytes).map_err(io::Error::other),
            0x89 => stream.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await?,
            kind => return Err(io::Error::other(format!("a message of kind {kind:#x}: {}", bytes.escape_ascii()))),
        }
    }
}

fn after<'a>(text: &'a str, key: &str) -> &'a str {
    text.split_once(key).map_or("", |(_, rest)| rest)
}

/// The milliseconds since 1970 of `2026-01-31T12:34:56.789Z`, which was less than half a day ago.
fn time(text: &str) -> u64 {
    let number = |range| text.get(range).and_then(|digits: &str| digits.parse::<u64>().ok()).expect("a time");
    let of_day = (number(11..13) * 3_600 + number(14..16) * 60 + number(17..19)) * 1_000 + number(20..23);
    let now = clock::unix_ms();
    let today = now - now % DAY_MS + of_day;
    if today > now + DAY_MS / 2 { today - DAY_MS } else { today }
}

/// Bytes that a process has in memory.
pub(crate) fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// The time for which a process was on a core.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    // The 14th and 15th field of proc(5), in hundredths of a second.
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

pub(crate) fn raise_file_limit(needed: u64) {
    let limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    assert!(allowed >= needed, "{needed} open files are needed, and {allowed} allowed: raise the limit (`ulimit -Hn`)");
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("up to the hard limit");
}
