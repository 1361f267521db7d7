//! `footfall-bench load`: sends requests over keep-alive connections and measures how long each answer took.
//!
//! One thread, and as little work per request as possible: what is measured runs on the same cores.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};

use crate::measure::cpu_seconds;
use crate::traffic::{self, Crowd, Traffic};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// `POST /v1/views`, one view.
    Post,
    /// `POST /v1/views`, an array of views.
    Batch,
    /// `GET /v1/articles/{article}`, one of ten articles.
    Read,
}

/// Before the seconds that are measured.
const WARM_UP: Duration = Duration::from_millis(250);
/// Articles that are read: they stay cached.
const READ_ARTICLES: u32 = 10;

/// How to send.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// `host:port` of one or several servers, which get as many connections each.
    #[arg(long = "address", required = true)]
    addresses: Vec<String>,
    #[arg(long, value_enum)]
    kind: Kind,
    /// Views in one request of [`Kind::Batch`].
    #[arg(long)]
    batch: usize,
    /// Keep-alive connections.
    #[arg(long)]
    connections: usize,
    /// Seconds that are measured; before them, some more to warm up.
    #[arg(long)]
    seconds: f64,
    /// Requests per second, on a schedule; as many as are answered if none.
    #[arg(long)]
    rate: Option<f64>,
    #[command(flatten)]
    crowd: Crowd,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What came of it, as one line of JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Requests answered in the measured time.
    pub(crate) requests: u64,
    /// The measured time.
    pub(crate) seconds: f64,
    /// Requests answered, warm-up included.
    pub(crate) all_requests: u64,
    /// Views acknowledged by them.
    pub(crate) views: u64,
    /// CPU time of the load itself.
    pub(crate) cpu_seconds: f64,
    /// From the moment that a request was due to its answer, in microseconds.
    pub(crate) p50_us: u64,
    /// Likewise.
    pub(crate) p99_us: u64,
    /// Likewise.
    pub(crate) max_us: u64,
    /// What the views were drawn with.
    pub(crate) seed: u64,
    /// Views acknowledged to each connection: its first ones.
    pub(crate) connections: Vec<u64>,
}

impl Report {
    /// What was acknowledged, by article and user: drawn once more.
    pub(crate) fn acknowledged(&self, crowd: Crowd) -> HashMap<(u32, u32), u64> {
        let traffic = Traffic::new(crowd, self.seed);
        let mut acknowledged = HashMap::new();
        for (index, views) in self.connections.iter().enumerate() {
            let views = usize::try_from(*views).expect("they were counted in memory");
            for view in of_connection(&traffic, self.seed, index).take(views) {
                *acknowledged.entry(view).or_default() += 1;
            }
        }
        acknowledged
    }
}

/// The views that one connection sends.
fn of_connection(traffic: &Traffic, seed: u64, index: usize) -> Traffic {
    traffic.other(seed * 1_000_003 + index as u64)
}

/// Sends until the time is over, or until SIGTERM, and prints the report.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(send(args))?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

async fn send(args: &Args) -> anyhow::Result<Report> {
    let mut streams = Vec::with_capacity(args.connections);
    for address in args.addresses.iter().cycle().take(args.connections) {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connect {address}"))?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let traffic = Traffic::new(args.crowd, args.seed);
    let start = Instant::now();
    let from = start + WARM_UP;
    let until = from + Duration::from_secs_f64(args.seconds);
    let stop = Arc::new(AtomicBool::new(false));
    let mut told = signal(SignalKind::terminate())?;
    tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            told.recv().await;
            stop.store(true, Ordering::Relaxed);
        }
    });
    let connections = args.connections as f64;
    let tasks: Vec<_> = streams
        .into_iter()
        .enumerate()
        .map(|(index, stream)| {
            let traffic = of_connection(&traffic, args.seed, index);
            let schedule = args.rate.map(|rate| {
                let period = Duration::from_secs_f64(connections / rate);
                (start + period.mul_f64(index as f64 / connections), period)
            });
            let request = Request::new(args, traffic);
            tokio::spawn(Connection { stream, request, schedule, from, until, stop: Arc::clone(&stop) }.run())
        })
        .collect();
    let views = match args.kind {
        Kind::Post => 1,
        Kind::Batch => args.batch as u64,
        Kind::Read => 0,
    };
    let mut all = Measured::new();
    let mut connections = Vec::with_capacity(args.connections);
    for task in tasks {
        let measured = task.await??;
        all.latencies.add(&measured.latencies)?;
        all.requests += measured.requests;
        connections.push(measured.requests * views);
    }
    let quantile = |quantile| all.latencies.value_at_quantile(quantile);
    Ok(Report {
        requests: all.latencies.len(),
        seconds: args.seconds,
        all_requests: all.requests,
        views: connections.iter().sum(),
        cpu_seconds: cpu_seconds(std::process::id())?,
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
        max_us: all.latencies.max(),
        seed: args.seed,
        connections,
    })
}

struct Measured {
    latencies: Histogram<u32>,
    requests: u64,
}

impl Measured {
    fn new() -> Self {
        Self { latencies: Histogram::new_with_bounds(1, 60_000_000, 2).expect("bounds in order"), requests: 0 }
    }
}

struct Connection {
    stream: TcpStream,
    request: Request,
    /// When the first request is due, and the time between two.
    schedule: Option<(Instant, Duration)>,
    from: Instant,
    until: Instant,
    stop: Arc<AtomicBool>,
}

impl Connection {
    async fn run(mut self) -> anyhow::Result<Measured> {
        let mut measured = Measured::new();
        let mut received = Vec::with_capacity(16 << 10);
        loop {
            let mut due = Instant::now();
            if let Some((next, period)) = &mut self.schedule {
                let wanted = *next;
                *next += *period;
                if wanted > due {
                    tokio::time::sleep_until(wanted.into()).await;
                    // A timer that is late is our fault; an answer that is late is not.
                    due = Instant::now();
                } else {
                    due = wanted;
                }
            }
            if due >= self.until || self.stop.load(Ordering::Relaxed) {
                return Ok(measured);
            }
            self.stream.write_all(self.request.next()).await?;
            received.clear();
            while !is_whole(&received)? {
                if self.stream.read_buf(&mut received).await? == 0 {
                    bail!("the server has closed a connection");
                }
            }
            let now = Instant::now();
            measured.requests += 1;
            if due >= self.from && now <= self.until {
                measured.latencies.saturating_record(u64::try_from((now - due).as_micros()).unwrap_or(u64::MAX));
            }
        }
    }
}

/// Whether a whole answer was received; an error unless it is one of success.
fn is_whole(received: &[u8]) -> io::Result<bool> {
    if received.is_empty() {
        return Ok(false);
    }
    let mut headers = [httparse::EMPTY_HEADER; 24];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(received).map_err(io::Error::other)? else { return Ok(false) };
    if !matches!(head.code, Some(200 | 204)) {
        return Err(io::Error::other(format!("the answer is {}", String::from_utf8_lossy(received))));
    }
    let body = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let body = body.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok()).unwrap_or(0);
    Ok(received.len() >= length + body)
}

/// Makes one request after the other by writing digits over those of the last one.
struct Request {
    bytes: Vec<u8>,
    /// Where digits of articles and users are, in pairs.
    places: Vec<(usize, Option<usize>)>,
    traffic: Traffic,
    articles: u32,
}

impl Request {
    fn new(args: &Args, traffic: Traffic) -> Self {
        const VIEW: &str = r#"{"article":"a000000000","user":"u000000000"}"#;
        let post = |body: &str| {
            let length = body.len();
            format!(
                "POST /v1/views HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            )
        };
        let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: bench\r\n\r\n");
        let text = match args.kind {
            Kind::Post => post(VIEW),
            Kind::Batch => post(&format!("[{}]", vec![VIEW; args.batch].join(","))),
            Kind::Read => get("/v1/articles/a000000000"),
        };
        let at = |id: &str| text.match_indices(id).map(|(at, _)| at + 1).collect::<Vec<_>>();
        let mut users = at("u000000000").into_iter();
        let places = at("a000000000").into_iter().map(|article| (article, users.next())).collect();
        let articles = if args.kind == Kind::Read { READ_ARTICLES } else { args.crowd.articles };
        Self { bytes: text.into_bytes(), places, traffic, articles }
    }

    fn next(&mut self) -> &[u8] {
        for (article_at, user_at) in &self.places {
            let (article, user) = self.traffic.next().expect("it has no end");
            traffic::put(&mut self.bytes[*article_at..*article_at + 9], article % self.articles);
            if let Some(user_at) = user_at {
                traffic::put(&mut self.bytes[*user_at..*user_at + 9], user);
            }
        }
        &self.bytes
    }
}
