//! The rounds: in each, every peer under every load, one after the other, so that a noisy minute meets all of them.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use footfall_drill::stack::Role;
use indicatif::{ProgressBar, ProgressStyle};

use crate::load::{BATCH_VIEWS, Kind};
use crate::measure::{cpu_seconds, memory_mib, raise_file_limit};
use crate::report::{Figure, Report, Row, Wanted};
use crate::scene::{Load, Scene, Sent};

/// How long, and what.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Every peer under every load so many times
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Seconds of each of them that are measured
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    seconds: f64,
    /// Only these parts; repeat it for several [default: all]
    #[arg(long = "part", value_name = "PART", value_enum)]
    parts: Vec<Part>,
    /// Where report.json and report.md go [default: a folder in target]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A part of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Single views beside the limit and what most would write
    Views,
    /// Many views in one request
    Batch,
    /// Answer times at half of the maximal rate
    Latency,
    /// Reads of cached articles
    Read,
    /// A backlog: its memory in Redis, and how fast it is drained
    Backlog,
    /// A steady 20,000 views/s: what they cost MariaDB
    Steady,
    /// Memory of ingest, by connections
    Memory,
}

const BARE: &str = "bare hyper server: the limit";
const ONE_SCRIPT: &str = "one EVALSHA per view";
const QUEUE: &str = "Footfall, flusher stopped";
const ALWAYS: &str = "the same, `appendfsync always`";
const WHOLE: &str = "Footfall, all of it";

const VIEWS: &str = "Single views";
const BATCHES: &str = "1,000 views in a request";
const LATENCY: &str = "Answer times on a schedule";
const READS: &str = "Reads of cached articles";
const STEADY: &str = "A steady 20,000 views/s, 1,000 in a request";
/// Below the 20,000 that ingest allows by default.
const IDLE_CONNECTIONS: usize = 19_000;
/// The rate of it.
const STEADY_VIEWS: f64 = 20_000.0;
const DRAINS: &str = "Views that waited, on their way to MariaDB";

/// Rows that MariaDB was given to insert or, where they were there, to change; of any table.
const ROWS_WRITTEN: &str = "SHOW GLOBAL STATUS LIKE 'Handler_write'";
/// Times that MariaDB brought a file to the disk.
const FSYNCS: &str = "SHOW GLOBAL STATUS LIKE 'Innodb_data_fsyncs'";

/// Measures, prints, writes.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let started = Instant::now();
    let dir = tempfile::tempdir()?;
    eprintln!("Starting Redis, MariaDB, the services and the peers ...");
    let mut bench = Bench { args, scene: Scene::start(dir.path())?, report: Report::default(), bar: bar() };
    if args.parts.is_empty() || args.parts.contains(&Part::Memory) {
        bench.memory()?;
    }
    bench.rounds()?;
    bench.bar.finish_and_clear();
    let mut report = bench.report;
    targets(&mut report);
    report.notes.push(format!(
        "{} rounds of {} s each, in {:.0} s",
        args.rounds,
        args.seconds,
        started.elapsed().as_secs_f64()
    ));
    let out = match &args.out {
        Some(out) => out.clone(),
        None => {
            std::env::current_exe()?.ancestors().nth(2).context("a program is below target")?.join("footfall-bench")
        }
    };
    fs::create_dir_all(&out)?;
    let markdown = report.markdown();
    fs::write(out.join("report.md"), &markdown)?;
    fs::write(out.join("report.json"), serde_json::to_vec_pretty(&report)?)?;
    println!("{markdown}\nAll numbers are in {}.", out.join("report.json").display());
    Ok(())
}

fn bar() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:30} {pos} of {len}, {eta} left: {msg}").expect("the template is valid");
    ProgressBar::new(0).with_style(style)
}

struct Bench<'a> {
    args: &'a Args,
    scene: Scene,
    report: Report,
    bar: ProgressBar,
}

/// One measurement of a round.
type Step<'a> = (&'static str, String, Box<dyn Fn(&mut Bench<'a>, &str) -> anyhow::Result<()>>);

impl<'a> Bench<'a> {
    fn rounds(&mut self) -> anyhow::Result<()> {
        let steps = self.steps();
        self.bar.set_length((steps.len() * self.args.rounds) as u64);
        for _ in 0..self.args.rounds {
            for (peer, load, step) in &steps {
                self.bar.set_message(format!("{peer}, {load}"));
                step(self, load)?;
                self.bar.inc(1);
            }
        }
        Ok(())
    }

    /// What connections cost ingest, once, while it is young.
    fn memory(&mut self) -> anyhow::Result<()> {
        raise_file_limit()?;
        let (address, pid) = (self.scene.ingest(), self.scene.pid(Role::Ingest));
        self.scene.send_to_ours(&self.load(Kind::Post, 512))?;
        let (_, busy) = memory_mib(pid)?;
        let idle: Vec<TcpStream> =
            (0..IDLE_CONNECTIONS).map(|_| TcpStream::connect(address)).collect::<Result<_, _>>()?;
        // Until the last one was taken in.
        std::thread::sleep(Duration::from_secs(1));
        let (with_idle, _) = memory_mib(pid)?;
        drop(idle);
        self.scene.drain()?;
        self.report.target("ingest's memory with 512 busy connections, in MiB", Wanted::AtMost(64.0), Some(busy));
        let what = "ingest's memory with 19,000 idle connections, in MiB";
        self.report.target(what, Wanted::AtMost(300.0), Some(with_idle));
        Ok(())
    }

    /// Everything that a round consists of; each limit before what is compared with it.
    fn steps(&self) -> Vec<Step<'a>> {
        let is_wanted = |part| self.args.parts.is_empty() || self.args.parts.contains(&part);
        let mut steps: Vec<Step<'a>> = vec![];
        if is_wanted(Part::Views) {
            for (kind, connections) in [(Kind::Post, 64), (Kind::Post, 512), (Kind::Pixel, 64), (Kind::Pixel, 512)] {
                let load = self.load(kind, connections);
                let verb = if kind == Kind::Post { "POST" } else { "GET" };
                let name = format!("{verb}, {connections} connections");
                for peer in [BARE, ONE_SCRIPT, QUEUE, ALWAYS, WHOLE] {
                    let load = load.clone();
                    steps.push((peer, name.clone(), Box::new(move |bench, name| bench.views(peer, &load, name))));
                }
            }
        }
        if is_wanted(Part::Batch) {
            let load = self.load(Kind::Batch, 8);
            steps.push((WHOLE, "8 connections".to_owned(), Box::new(move |bench, name| bench.batches(&load, name))));
        }
        if is_wanted(Part::Latency) {
            let load = self.load(Kind::Post, 64);
            let name = "POST, 64 connections, half of the maximal rate".to_owned();
            steps.push((WHOLE, name, Box::new(move |bench, name| bench.latency(&load, name))));
        }
        if is_wanted(Part::Read) {
            let load = self.load(Kind::Read, 64);
            for peer in [BARE, WHOLE] {
                let load = load.clone();
                steps.push((
                    peer,
                    "GET, 64 connections".to_owned(),
                    Box::new(move |bench, name| bench.reads(peer, &load, name)),
                ));
            }
        }
        if is_wanted(Part::Backlog) {
            let load = self.load(Kind::Batch, 8);
            let name = "of 1,000 in a request".to_owned();
            steps.push((WHOLE, name, Box::new(move |bench, name| bench.backlog(&load, name))));
        }
        if is_wanted(Part::Steady) {
            let load = Load { rate: Some(STEADY_VIEWS / BATCH_VIEWS as f64), ..self.load(Kind::Batch, 8) };
            steps.push((WHOLE, "steady".to_owned(), Box::new(move |bench, _| bench.steady(&load))));
        }
        steps
    }

    fn load(&self, kind: Kind, connections: usize) -> Load {
        Load { kind, connections, rate: None, seconds: self.args.seconds }
    }

    fn views(&mut self, peer: &'static str, load: &Load, name: &str) -> anyhow::Result<()> {
        let sent = match peer {
            BARE => self.scene.send_to_bare(load)?,
            ONE_SCRIPT => self.scene.send_to_one_script(load)?,
            WHOLE => {
                let sent = self.scene.send_to_ours(load)?;
                let pending = self.scene.pending()? / sent.per_second();
                self.scene.drain()?;
                let row = self.add(VIEWS, peer, name, &sent);
                row.figures.entry(Figure::PendingSeconds).or_default().push(pending);
                return Ok(());
            }
            _ => {
                self.scene.append_fsync(if peer == ALWAYS { "always" } else { "everysec" })?;
                self.scene.pause_flusher(true)?;
                let sent = self.scene.send_to_ours(load);
                self.scene.pause_flusher(false)?;
                self.scene.append_fsync("everysec")?;
                self.scene.drain()?;
                sent?
            }
        };
        self.add(VIEWS, peer, name, &sent);
        Ok(())
    }

    fn batches(&mut self, load: &Load, name: &str) -> anyhow::Result<()> {
        let mut sent = self.scene.send_to_ours(load)?;
        self.scene.drain()?;
        sent.report.requests *= BATCH_VIEWS as u64;
        self.add(BATCHES, WHOLE, name, &sent);
        Ok(())
    }

    fn latency(&mut self, load: &Load, name: &str) -> anyhow::Result<()> {
        let most = self.scene.send_to_ours(load)?.per_second();
        self.scene.drain()?;
        let sent = self.scene.send_to_ours(&Load { rate: Some(most / 2.0), ..load.clone() })?;
        self.scene.drain()?;
        self.add(LATENCY, WHOLE, name, &sent);
        Ok(())
    }

    fn reads(&mut self, peer: &'static str, load: &Load, name: &str) -> anyhow::Result<()> {
        let sent = match peer {
            BARE => self.scene.send_to_bare(load)?,
            _ => self.scene.send_to_ours(load)?,
        };
        self.add(READS, peer, name, &sent);
        Ok(())
    }

    /// Lets views wait in Redis, and looks at what they take there; then at how fast the flusher moves them.
    fn backlog(&mut self, load: &Load, name: &str) -> anyhow::Result<()> {
        self.scene.drain()?;
        self.scene.pause_flusher(true)?;
        let empty = self.scene.redis_bytes()?;
        let sent = self.scene.send_to_ours(load);
        let full = self.scene.redis_bytes();
        self.scene.pause_flusher(false)?;
        let views = sent?.report.views as f64;
        let [flusher, mariadb] = [self.scene.pid(Role::Flusher), self.scene.stack.mariadb.process().pid()];
        let before = [cpu_seconds(flusher)?, cpu_seconds(mariadb)?];
        let began = Instant::now();
        self.scene.drain()?;
        let per_second = views / began.elapsed().as_secs_f64();
        let millions = views / 1e6;
        let figures = [
            (Figure::PerSecond, per_second),
            (Figure::CpuFlusher, (cpu_seconds(flusher)? - before[0]) / millions),
            (Figure::CpuMariaDb, (cpu_seconds(mariadb)? - before[1]) / millions),
            (Figure::RedisBytes, (full? - empty) / views),
            (Figure::MemoryMib, memory_mib(flusher)?.1),
        ];
        self.report.add(DRAINS, WHOLE, name, &figures);
        Ok(())
    }

    fn steady(&mut self, load: &Load) -> anyhow::Result<()> {
        self.scene.drain()?;
        let count = |scene: &mut Scene| -> anyhow::Result<[f64; 3]> {
            let transactions = scene.metric(Role::Flusher, "footfall_flush_transactions_total")?;
            Ok([transactions, scene.mysql_number(ROWS_WRITTEN)?, scene.mysql_number(FSYNCS)?])
        };
        let before = count(&mut self.scene)?;
        let sent = self.scene.send_to_ours(load)?;
        self.scene.drain()?;
        let after = count(&mut self.scene)?;
        let [transactions, rows, fsyncs] = [0, 1, 2].map(|at| after[at] - before[at]);
        let views = sent.report.views as f64;
        let mut figures = vec![
            (Figure::PerSecond, sent.per_second() * BATCH_VIEWS as f64),
            // In as much time as the schedule gives these views, those of the last ones too.
            (Figure::TransactionsPerSecond, transactions / (views / STEADY_VIEWS)),
            (Figure::RowsPerView, rows / views),
            (Figure::FsyncsPerMillion, fsyncs / views * 1e6),
        ];
        figures.extend(&sent.cpu);
        self.report.add(STEADY, WHOLE, "8 connections", &figures);
        Ok(())
    }

    /// Notes what a peer came to, beside the limit of the same round if there is one.
    fn add(&mut self, table: &'static str, peer: &'static str, load: &str, sent: &Sent) -> &mut Row {
        let limit = self.report.row(table, BARE, load);
        let limit = limit.and_then(|limit| limit.figures.get(&Figure::PerSecond)?.last().copied());
        let mut figures = vec![
            (Figure::PerSecond, sent.per_second()),
            (Figure::P50Ms, sent.report.p50_us as f64 / 1e3),
            (Figure::P99Ms, sent.report.p99_us as f64 / 1e3),
        ];
        figures.extend(limit.filter(|_| peer != BARE).map(|limit| (Figure::OfLimit, sent.per_second() / limit)));
        figures.extend(&sent.cpu);
        self.report.add(table, peer, load, &figures)
    }
}

/// What Footfall aims at, beside what was measured.
fn targets(report: &mut Report) {
    let median = |report: &Report, table, peer, load: &str, figure| report.row(table, peer, load)?.median(figure);
    for verb in ["POST", "GET"] {
        for connections in [64, 512] {
            let load = format!("{verb}, {connections} connections");
            let of_limit = |report: &Report, peer| median(report, VIEWS, peer, &load, Figure::OfLimit);
            let cpu = |report: &Report, peer| median(report, VIEWS, peer, &load, Figure::CpuAll);
            let queue = of_limit(report, QUEUE);
            report.target(format!("{load}: {QUEUE}, of the limit"), Wanted::AtLeast(0.85), queue);
            let ratio = cpu(report, QUEUE).zip(cpu(report, BARE)).map(|(ours, bare)| ours / bare);
            report.target(format!("{load}: CPU of ingest and Redis, of the limit's"), Wanted::AtMost(1.3), ratio);
            let always = of_limit(report, ALWAYS);
            let wanted = if connections == 64 { 0.55 } else { 0.80 };
            report.target(format!("{load}: {ALWAYS}, of the limit"), Wanted::AtLeast(wanted), always);
            let whole = of_limit(report, WHOLE);
            report.target(format!("{load}: {WHOLE}, of the limit"), Wanted::AtLeast(0.70), whole);
            let one = of_limit(report, ONE_SCRIPT);
            let ratio = whole.zip(one).map(|(whole, one)| whole / one);
            report.target(format!("{load}: {WHOLE}, of {ONE_SCRIPT}"), Wanted::AtLeast(1.8), ratio);
        }
    }
    let batches = median(report, BATCHES, WHOLE, "8 connections", Figure::PerSecond);
    let single = median(report, VIEWS, WHOLE, "POST, 64 connections", Figure::PerSecond);
    let ratio = batches.zip(single).map(|(batches, single)| batches / single);
    report.target("views/s by 1,000 in a request, of single ones", Wanted::AtLeast(8.0), ratio);
    let p99 = median(report, LATENCY, WHOLE, "POST, 64 connections, half of the maximal rate", Figure::P99Ms);
    report.target("p99 at half of the maximal rate, in ms", Wanted::AtMost(5.0), p99);
    let reads = median(report, READS, WHOLE, "GET, 64 connections", Figure::OfLimit);
    report.target("reads of a cached article, of the limit", Wanted::AtLeast(0.75), reads);

    let redis = median(report, DRAINS, WHOLE, "of 1,000 in a request", Figure::RedisBytes);
    report.target("Redis, bytes per view that waits, ids of 10 bytes", Wanted::AtMost(40.0), redis);
    let flusher = median(report, DRAINS, WHOLE, "of 1,000 in a request", Figure::MemoryMib);
    report.target("the flusher's memory while it drains, in MiB", Wanted::AtMost(128.0), flusher);
    let steady = |report: &Report, figure| median(report, STEADY, WHOLE, "8 connections", figure);
    let transactions = steady(report, Figure::TransactionsPerSecond);
    report.target("transactions per second at 20,000 views/s", Wanted::AtMost(20.0), transactions);
    let rows = steady(report, Figure::RowsPerView);
    report.target("rows that MariaDB writes per view at 20,000 views/s", Wanted::AtMost(1.15), rows);
}
