//! Writes the ledger, counts, and shows the progress: one task for all connections.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use footfall_proof::ledger::{self, Entry, Outcome};
use hdrhistogram::Histogram;
use indicatif::HumanCount;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::plan::{Ids, Plan};
use crate::Result;
use crate::failure::Failure;
use crate::terminal::Progress;

/// How long an entry stays in memory, at most.
const FLUSH: Duration = Duration::from_millis(200);
/// Records taken from the channel at once.
const RECORDS_AT_ONCE: usize = 256;

/// Latencies are told apart up to one hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// What became of the views of one request.
pub(super) struct Record {
    pub(super) views: Range<u64>,
    pub(super) outcome: Outcome,
    pub(super) latency: Duration,
}

/// The only writer of the ledger.
pub(super) struct Recorder {
    path: PathBuf,
    file: BufWriter<File>,
    plan: Arc<Plan>,
    ids: Ids,
    totals: Totals,
}

impl Recorder {
    /// Creates the ledger. Nothing is sent before there is a place to write it down.
    pub(super) fn create(path: &Path, force: bool, plan: Arc<Plan>) -> Result<Self> {
        if !force && path.metadata().is_ok_and(|file| file.len() > 0) {
            return Err(Failure::Usage(format!(
                "{} exists, and a ledger is the only proof of its run: name another file, or give --force to write over it",
                path.display()
            )));
        }
        let write = |path: &Path| -> io::Result<BufWriter<File>> {
            let mut file = BufWriter::new(File::create(path)?);
            writeln!(file, "{}", ledger::head(plan.seed, plan.views, rand::random()))?;
            file.flush()?;
            Ok(file)
        };
        let file = write(path).map_err(|error| cannot_write(path, &error))?;
        Ok(Self { path: path.to_owned(), file, plan, ids: Ids::default(), totals: Totals::start() })
    }

    /// Records until all connections have ended; then the whole ledger is on the disk.
    pub(super) async fn run(mut self, records: mpsc::Receiver<Record>) -> Result<Totals> {
        match self.record_all(records).await {
            Ok(()) => Ok(self.totals),
            Err(error) => Err(cannot_write(&self.path, &error)),
        }
    }

    async fn record_all(&mut self, mut records: mpsc::Receiver<Record>) -> io::Result<()> {
        let mut progress = Progress::new(Some(self.plan.views), "view");
        let mut flush = tokio::time::interval(FLUSH);
        let mut some = Vec::with_capacity(RECORDS_AT_ONCE);
        loop {
            tokio::select! {
                count = records.recv_many(&mut some, RECORDS_AT_ONCE) => {
                    if count == 0 {
                        break;
                    }
                    for record in some.drain(..) {
                        self.record(&record)?;
                    }
                }
                _ = flush.tick() => {
                    self.file.flush()?;
                    progress.show(self.totals.attempted(), &self.totals.trouble());
                }
            }
        }
        progress.end();
        self.totals.seconds = self.totals.started.elapsed().as_secs_f64();
        writeln!(self.file, "{}", ledger::END)?;
        self.file.flush()?;
        self.file.get_ref().sync_all()
    }

    fn record(&mut self, record: &Record) -> io::Result<()> {
        self.totals.add(record);
        for view in record.views.clone() {
            self.plan.write_ids(view, &mut self.ids);
            let entry = Entry { article: &self.ids.article, user: &self.ids.user, outcome: record.outcome };
            writeln!(self.file, "{entry}")?;
        }
        Ok(())
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::file(format_args!("write the ledger {}", path.display()), error)
}

/// What became of all views.
pub(super) struct Totals {
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    pub(super) unknown: u64,
    started: Instant,
    seconds: f64,
    /// Microseconds, of the views that were answered or given up.
    latencies: Histogram<u64>,
}

impl Totals {
    fn start() -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are in order");
        Self { acknowledged: 0, refused: 0, unknown: 0, started: Instant::now(), seconds: 0.0, latencies }
    }

    /// Views that were sent.
    pub(super) fn attempted(&self) -> u64 {
        self.acknowledged + self.refused + self.unknown
    }

    /// What is to be shown beside the progress.
    fn trouble(&self) -> String {
        match self.unknown + self.refused {
            0 => String::new(),
            _ => format!("({} unknown, {} refused)", HumanCount(self.unknown), HumanCount(self.refused)),
        }
    }

    fn add(&mut self, record: &Record) {
        let views = record.views.end - record.views.start;
        match record.outcome {
            Outcome::Acknowledged => self.acknowledged += views,
            Outcome::Refused => self.refused += views,
            Outcome::Unknown => self.unknown += views,
        }
        let latency_us = u64::try_from(record.latency.as_micros()).unwrap_or(u64::MAX);
        self.latencies.saturating_record_n(latency_us, views);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, refused, unknown, seconds, latencies, .. } = self;
        let per_second = (self.attempted() as f64 / seconds.max(1e-6)).round() as u64;
        let ms = |latency_us: u64| latency_us as f64 / 1_000.0;
        let (attempted, acknowledged) = (HumanCount(self.attempted()), HumanCount(*acknowledged));
        let (refused, unknown) = (HumanCount(*refused), HumanCount(*unknown));
        writeln!(
            f,
            "views      {attempted} attempted: {acknowledged} acknowledged, {refused} refused, {unknown} unknown"
        )?;
        writeln!(f, "rate       {} views/s for {seconds:.1} s", HumanCount(per_second))?;
        write!(f, "latency    ")?;
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
            write!(f, "{name} {:.1}  ", ms(latencies.value_at_quantile(quantile)))?;
        }
        writeln!(f, "max {:.1} ms", ms(latencies.max()))
    }
}
