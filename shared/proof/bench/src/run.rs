//! The rounds: in each, every peer under every load, one after the other, so that a noisy minute meets all of them.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use footfall_drill::stack::Role;
use indicatif::{ProgressBar, ProgressStyle};

use crate::load::Kind;
use crate::measure::{memory_mib, raise_file_limit};
use crate::names::{ALWAYS, BARE, BATCHES, CACHED, DIRECT, LATENCY, LIMITS, POWER, QUEUE, READS, STEADY, VIEWS, WHOLE};
use crate::report::{Figure, Report, Row, thousands};
use crate::scene::{Load, Scene, Sent, Stored};
use crate::{lines, targets};

/// How long, and what.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Every peer under every load so many times
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Seconds of each of them that are measured
    #[arg(long, value_name = "S", default_value_t = 1.2)]
    seconds: f64,
    /// Let so many views wait before they are drained [default: what comes in a measurement's seconds]
    #[arg(long, value_name = "N")]
    pub(crate) backlog_views: Option<u64>,
    /// Seconds of the steady rate: several flushes of a second's worth
    #[arg(long, value_name = "S", default_value_t = 4.0)]
    steady_seconds: f64,
    /// How long MariaDB is away, up to 300
    #[arg(long, value_name = "S", default_value_t = 15.0)]
    pub(crate) outage_seconds: f64,
    /// How often what moves views to MariaDB is killed
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) kills: usize,
    /// Look at growth from 100,000 stored rows up to so many, ten times as many at each step
    #[arg(long, value_name = "ROWS", default_value_t = 1_000_000)]
    pub(crate) growth: u64,
    /// Only these parts; repeat it for several [default: all but memory, growth and spread]
    #[arg(long = "part", value_name = "PART", value_enum)]
    parts: Vec<Part>,
    /// Where report.json and report.md go [default: a folder in target]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A part of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Single views beside the limits and what people run
    Views,
    /// Many views in one request, beside the limits
    Batch,
    /// Answer times at half of the maximal rate
    Latency,
    /// Reads of cached articles
    Read,
    /// A backlog: its memory in Redis, and how fast it is drained, beside MariaDB alone
    Backlog,
    /// A steady 20,000 views/s: what they cost, beside the limits
    Steady,
    /// MariaDB is away for a while: how soon all is as before
    Outage,
    /// The process that moves views to MariaDB is killed under load, ours and the peer's: what is lost and doubled
    Kills,
    /// Memory of ingest, by connections; only when it is named
    Memory,
    /// What a view costs when there are more rows, beside MariaDB alone; only when it is named
    Growth,
    /// Single views over several shards and ingests; only when it is named
    Spread,
}

/// Views in one request where there are many.
const BATCH_VIEWS: usize = 1_000;
/// The rate of what is steady.
pub(crate) const STEADY_VIEWS: f64 = 20_000.0;
/// What Redis alone gets at least: fewer are too fast for the kernel's clock of CPU time.
const REDIS_VIEWS_MIN: u64 = 100_000;
/// Batches bring many more views in a second, and MariaDB has to write all of them before the next measurement.
const BATCH_SHORTER: f64 = 3.0;
/// Rows of readers that are stored before each of [`WRITING`].
pub(crate) const ROWS_BEFORE: f64 = 1_000_000.0;
/// Tables whose loads end in MariaDB.
const WRITING: [&str; 4] = [VIEWS, BATCHES, LATENCY, STEADY];
/// Below the 20,000 that ingest allows by default.
const IDLE_CONNECTIONS: usize = 19_000;

/// Measures, prints, writes.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let started = Instant::now();
    let dir = tempfile::tempdir()?;
    eprintln!("Starting Redis, MariaDB, the services and the peers ...");
    let mut bench = Bench { args, scene: Scene::start(dir.path())?, report: Report::default(), bar: bar() };
    if args.wants(Part::Memory) {
        bench.memory()?;
    }
    bench.rounds()?;
    if args.wants(Part::Spread) {
        bench.spread()?;
    }
    if args.wants(Part::Backlog) {
        bench.scene.renew_tables(ROWS_BEFORE)?;
        bench.backlog()?;
    }
    if args.wants(Part::Outage) {
        bench.scene.renew_tables(ROWS_BEFORE)?;
        bench.outage()?;
    }
    // These take away all rows, and after the last one our flusher's metrics have begun anew.
    if args.wants(Part::Growth) {
        bench.growth()?;
    }
    if args.wants(Part::Kills) {
        bench.kills()?;
    }
    bench.bar.finish_and_clear();
    let mut report = bench.report;
    targets::compare(&mut report, lines::of_the_path()?);
    report.notes.push(format!(
        "{} rounds of {} s each, {} s of the steady rate, in {:.0} s",
        args.rounds,
        args.seconds,
        args.steady_seconds,
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

impl Args {
    fn wants(&self, part: Part) -> bool {
        let is_usual = !matches!(part, Part::Memory | Part::Growth | Part::Spread);
        (self.parts.is_empty() && is_usual) || self.parts.contains(&part)
    }
}

/// A run.
pub(crate) struct Bench<'a> {
    pub(crate) args: &'a Args,
    pub(crate) scene: Scene,
    pub(crate) report: Report,
    pub(crate) bar: ProgressBar,
}

/// One measurement of a round: its table, its peer, its load.
type Measurement<'a> = (&'static str, &'static str, String, Box<dyn Fn(&mut Bench<'a>, &str) -> anyhow::Result<()>>);

impl<'a> Bench<'a> {
    fn rounds(&mut self) -> anyhow::Result<()> {
        let steps = self.steps();
        self.bar.set_length((steps.len() * self.args.rounds) as u64);
        for _ in 0..self.args.rounds {
            let mut table = None;
            for (of, peer, load, step) in &steps {
                // Rows that an earlier table has left would make a later one's dearer, round by round.
                if table != Some(*of) && WRITING.contains(of) {
                    self.scene.renew_tables(ROWS_BEFORE)?;
                }
                table = Some(*of);
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
        let idle = thousands(IDLE_CONNECTIONS as f64);
        self.report.notes.push(format!(
            "ingest's memory: {busy:.1} MiB with 512 busy connections, {with_idle:.1} MiB with {idle} idle ones"
        ));
        Ok(())
    }

    /// Everything that a round consists of; each limit before what is compared with it.
    fn steps(&self) -> Vec<Measurement<'a>> {
        let mut steps: Vec<Measurement<'a>> = vec![];
        if self.args.wants(Part::Views) {
            for connections in [64, 512] {
                let load = self.load(Kind::Post, connections);
                let name = format!("POST, {connections} connections");
                for peer in [BARE, CACHED, DIRECT, QUEUE, ALWAYS, POWER, WHOLE] {
                    let load = load.clone();
                    steps.push((
                        VIEWS,
                        peer,
                        name.clone(),
                        Box::new(move |bench, name| bench.views(peer, &load, name)),
                    ));
                }
            }
        }
        if self.args.wants(Part::Batch) {
            for peer in [BARE, WHOLE] {
                let (name, load) = ("8 connections".to_owned(), self.load(Kind::Batch, 8));
                steps.push((
                    BATCHES,
                    peer,
                    name,
                    Box::new(move |bench, name| bench.batches(BATCHES, peer, &load, name)),
                ));
            }
        }
        if self.args.wants(Part::Latency) {
            let load = self.load(Kind::Post, 64);
            let name = "POST, 64 connections, half of the maximal rate".to_owned();
            steps.push((LATENCY, WHOLE, name, Box::new(move |bench, name| bench.latency(&load, name))));
        }
        if self.args.wants(Part::Read) {
            let load = self.load(Kind::Read, 64);
            for peer in [BARE, WHOLE] {
                let load = load.clone();
                steps.push((
                    READS,
                    peer,
                    "GET, 64 connections".to_owned(),
                    Box::new(move |bench, name| bench.reads(peer, &load, name)),
                ));
            }
        }
        if self.args.wants(Part::Steady) {
            for peer in [BARE, WHOLE] {
                let (name, load) = ("8 connections".to_owned(), self.steady_load());
                steps.push((STEADY, peer, name, Box::new(move |bench, name| bench.batches(STEADY, peer, &load, name))));
            }
        }
        steps
    }

    pub(crate) fn load(&self, kind: Kind, connections: usize) -> Load {
        let seconds = if kind == Kind::Batch { self.args.seconds / BATCH_SHORTER } else { self.args.seconds };
        Load { kind, batch: BATCH_VIEWS, connections, rate: None, seconds }
    }

    /// 20,000 views/s.
    pub(crate) fn steady_load(&self) -> Load {
        let rate = Some(STEADY_VIEWS / BATCH_VIEWS as f64);
        Load { rate, seconds: self.args.steady_seconds, ..self.load(Kind::Batch, 8) }
    }

    fn views(&mut self, peer: &'static str, load: &Load, name: &str) -> anyhow::Result<()> {
        let sent = match peer {
            BARE => self.scene.send_to_bare(load)?,
            CACHED => self.scene.send_to_cached(load)?,
            DIRECT => self.scene.send_to_direct(load)?,
            WHOLE => {
                let stored = self.scene.send_and_store(load)?;
                let row = self.add(VIEWS, peer, name, &stored.sent);
                row.push(Figure::PendingSeconds, stored.pending / stored.sent.per_second());
                // Once is enough: what the stores need alone hardly depends on how many connections there are.
                if load.connections == 64 {
                    self.limits(VIEWS, name, &stored)?;
                }
                return Ok(());
            }
            _ => {
                match peer {
                    ALWAYS => self.scene.append_fsync("always")?,
                    POWER => self.scene.durability("power")?,
                    _ => {}
                }
                self.scene.pause_flusher(true)?;
                let sent = self.scene.send_to_ours(load);
                self.scene.pause_flusher(false)?;
                match peer {
                    ALWAYS => self.scene.append_fsync("everysec")?,
                    POWER => self.scene.durability("process")?,
                    _ => {}
                }
                self.scene.drain()?;
                sent?
            }
        };
        self.add(VIEWS, peer, name, &sent);
        Ok(())
    }

    /// Many views in a request, as many requests as are answered or a steady number of them.
    fn batches(&mut self, table: &'static str, peer: &'static str, load: &Load, name: &str) -> anyhow::Result<()> {
        let per_second = |sent: &Sent| (Figure::PerSecond, sent.per_second() * load.batch as f64);
        if peer == BARE {
            let sent = self.scene.send_to_bare(load)?;
            let mut figures = sent.cpu.clone();
            figures.push(per_second(&sent));
            self.report.add(table, peer, name, &figures);
            return Ok(());
        }
        self.scene.watch_scripts()?;
        let stored = self.scene.send_and_store(load)?;
        let (sent, counts) = (&stored.sent, stored.counts);
        let mut figures = sent.cpu.clone();
        figures.push((Figure::HeldMs, self.scene.longest_script_ms()?));
        figures.extend([per_second(sent), (Figure::P50Ms, sent.report.p50_us as f64 / 1e3)]);
        figures.push((Figure::P99Ms, sent.report.p99_us as f64 / 1e3));
        if load.rate.is_some() {
            figures.extend([
                // In as much time as the schedule gives these views, those of the last ones too.
                (Figure::TransactionsPerSecond, counts.transactions / (counts.views / STEADY_VIEWS)),
                (Figure::RowsPerView, counts.rows / counts.views),
                (Figure::FsyncsPerMillion, counts.fsyncs / counts.views * 1e6),
            ]);
        }
        self.report.add(table, peer, name, &figures);
        self.limits(table, name, &stored)
    }

    /// What the stores alone need for as many views in the same batches and transactions, and the sum with what the bare
    /// server needed in this round.
    fn limits(&mut self, table: &'static str, name: &str, stored: &Stored) -> anyhow::Result<()> {
        let Stored { sent, counts, .. } = stored;
        let (batch, transaction, views) = (counts.batch_views(), counts.transaction_views(), sent.report.views);
        let redis = self.scene.redis_alone(batch, views.max(REDIS_VIEWS_MIN))?;
        let mariadb = self.scene.mariadb_alone(transaction, views)?.cpu;
        let sizes = [(Figure::BatchViews, batch), (Figure::TransactionViews, transaction)];
        self.report.add(table, WHOLE, name, &sizes);
        let bare = self.report.row(table, BARE, name).and_then(|row| row.last(Figure::CpuServer));
        if let Some((bare, ours)) = bare.zip(sent.cpu(Figure::CpuAll)) {
            let all = bare + redis + mariadb;
            self.report.add(table, WHOLE, name, &[(Figure::CpuOfLimits, ours / all)]);
            let cpu = [
                (Figure::CpuServer, bare),
                (Figure::CpuRedis, redis),
                (Figure::CpuMariaDb, mariadb),
                (Figure::CpuAll, all),
            ];
            self.report.add(table, LIMITS, name, &cpu);
        }
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

    /// Notes what a peer came to, beside the limit of the same round if there is one.
    fn add(&mut self, table: &'static str, peer: &'static str, load: &str, sent: &Sent) -> &mut Row {
        let limit = self.report.row(table, BARE, load);
        let limit = limit.and_then(|limit| limit.last(Figure::PerSecond));
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
