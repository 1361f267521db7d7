//! Everything that a run measures, started once: our own processes on private stores, the peers, and the load.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use footfall_drill::stack::{Role, Stack, StackOptions};
use footfall_sandbox::Process;

use crate::alone;
use crate::load::{self, Kind};
use crate::measure::cpu_seconds;
use crate::report::Figure;
use crate::rivals::Rivals;
use crate::traffic::{Crowd, Traffic};

/// Views that the flusher has moved to MariaDB.
const FLUSHED: &str = "footfall_flush_views_total";
const ROWS_WRITTEN: &str = "SHOW GLOBAL STATUS LIKE 'Handler_write'";
const FSYNCS: &str = "SHOW GLOBAL STATUS LIKE 'Innodb_data_fsyncs'";
/// Transactions whose old versions of rows are still there.
const OLD_VERSIONS: &str = "SHOW GLOBAL STATUS LIKE 'Innodb_history_list_length'";
/// Longer than any service lets a request wait.
const LOAD_END_TIMEOUT: Duration = Duration::from_secs(30);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(600);
/// How long MariaDB may take to clear up behind a transaction.
const PURGE_TIMEOUT: Duration = Duration::from_secs(5);
/// Old versions of rows, in transactions, that are no work to speak of.
const PURGED: f64 = 20.0;

/// One load: what is sent, over how many connections, at which rate.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// What is asked for.
    pub(crate) kind: Kind,
    /// Views in one request of [`Kind::Batch`].
    pub(crate) batch: usize,
    /// Keep-alive connections.
    pub(crate) connections: usize,
    /// Requests per second on a schedule; as many as are answered if none.
    pub(crate) rate: Option<f64>,
    /// Seconds.
    pub(crate) seconds: f64,
}

/// What a load came to.
pub(crate) struct Sent {
    /// As the load saw it.
    pub(crate) report: load::Report,
    /// CPU seconds per million views, or per million requests if those count none; the sum of all but the load is added.
    pub(crate) cpu: Vec<(Figure, f64)>,
}

impl Sent {
    /// Requests per second.
    pub(crate) fn per_second(&self) -> f64 {
        self.report.requests as f64 / self.report.seconds
    }

    /// CPU seconds per million views of one part.
    pub(crate) fn cpu(&self, wanted: Figure) -> Option<f64> {
        self.cpu.iter().find_map(|(figure, seconds)| (*figure == wanted).then_some(*seconds))
    }
}

/// What became of a load that our ingest got and MariaDB has.
pub(crate) struct Stored {
    /// The load; CPU time up to the moment at which MariaDB was done with it.
    pub(crate) sent: Sent,
    /// Views that waited when the load was over.
    pub(crate) pending: f64,
    /// What was counted meanwhile.
    pub(crate) counts: Counts,
}

/// What our services and MariaDB have counted so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// Views moved to MariaDB.
    pub(crate) views: f64,
    /// Batches that ingest built.
    pub(crate) batches: f64,
    /// Flush transactions.
    pub(crate) transactions: f64,
    /// Rows that MariaDB was given to insert or, where they were there, to change; of any table.
    pub(crate) rows: f64,
    /// Times that MariaDB brought a file to the disk.
    pub(crate) fsyncs: f64,
}

impl Counts {
    /// What was counted since.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            views: self.views - before.views,
            batches: self.batches - before.batches,
            transactions: self.transactions - before.transactions,
            rows: self.rows - before.rows,
            fsyncs: self.fsyncs - before.fsyncs,
        }
    }

    /// Views in a batch, on average.
    pub(crate) fn batch_views(&self) -> f64 {
        self.views / self.batches
    }

    /// Views in a flush transaction, on average.
    pub(crate) fn transaction_views(&self) -> f64 {
        self.views / self.transactions
    }
}

/// What MariaDB alone came to.
pub(crate) struct Upserted {
    /// How long it took.
    pub(crate) seconds: f64,
    /// Rows that MariaDB was given, of any table.
    pub(crate) rows: f64,
    /// CPU seconds of MariaDB per million views.
    pub(crate) cpu: f64,
}

/// All of it.
pub(crate) struct Scene {
    /// Ours, on the stores that it is measured with.
    pub(crate) stack: Stack,
    /// What they are measured beside.
    pub(crate) rivals: Rivals,
    /// Whose views of what all peers get.
    pub(crate) crowd: Crowd,
    dir: PathBuf,
    seed: u64,
    /// Views that the flusher had moved when ingest was last started, and began to count anew.
    flushed_before: f64,
}

impl Scene {
    /// Starts everything below `dir`.
    pub(crate) fn start(dir: &Path) -> anyhow::Result<Self> {
        Self::start_spread(dir, 1, 1, 0)
    }

    /// The same with several shards and ingests, whose small batches wait so long for others.
    pub(crate) fn start_spread(dir: &Path, shards: u16, ingests: usize, linger_ms: u64) -> anyhow::Result<Self> {
        let binaries = std::env::current_exe()?;
        let binaries = binaries.parent().context("a program is in a folder")?;
        let mut options = StackOptions::new(dir, binaries);
        (options.dashboards, options.ingests) = (0, ingests);
        options.env.push(("FOOTFALL_SHARDS".to_owned(), shards.to_string()));
        options.env.push(("FOOTFALL_INGEST__LINGER_MS".to_owned(), linger_ms.to_string()));
        // All connections come from one address here.
        options.env.push(("FOOTFALL_HTTP__CONNECTIONS_PER_ADDRESS_MAX".to_owned(), "20000".to_owned()));
        options.mariadb.buffer_pool_mib = 1024;
        let stack = Stack::start(options)?;
        let rivals = Rivals::start(dir, &stack.mariadb.url())?;
        Ok(Self { stack, rivals, crowd: Crowd::USUAL, dir: dir.to_owned(), seed: 0, flushed_before: 0.0 })
    }

    /// Where our first ingest listens.
    pub(crate) fn ingest(&mut self) -> SocketAddr {
        self.ingests()[0]
    }

    /// Where our ingests listen.
    fn ingests(&mut self) -> Vec<SocketAddr> {
        let ingests = 0..self.stack.count(Role::Ingest);
        ingests.map(|index| self.stack.service(Role::Ingest, index).listen().expect("an ingest listens")).collect()
    }

    /// Sends a load to our ingests, and measures all our processes until it was answered.
    pub(crate) fn send_to_ours(&mut self, load: &Load) -> anyhow::Result<Sent> {
        let (addresses, pids) = (self.ingests(), self.our_pids());
        self.send(&addresses, load, &pids, |_| Ok(())).map(|(sent, ())| sent)
    }

    /// Sends a load to our ingests, and measures all our processes until MariaDB has it.
    pub(crate) fn send_and_store(&mut self, load: &Load) -> anyhow::Result<Stored> {
        self.drain()?;
        let before = self.counts()?;
        let (addresses, pids) = (self.ingests(), self.our_pids());
        let (sent, pending) = self.send(&addresses, load, &pids, |scene| {
            let pending = scene.pending()?;
            scene.drain()?;
            Ok(pending)
        })?;
        Ok(Stored { sent, pending, counts: self.counts()?.since(before) })
    }

    /// Sends a load to the limit.
    pub(crate) fn send_to_bare(&mut self, load: &Load) -> anyhow::Result<Sent> {
        let pids = [(Figure::CpuServer, vec![self.rivals.bare.pid()])];
        self.send(&[self.rivals.bare.address], load, &pids, |_| Ok(())).map(|(sent, ())| sent)
    }

    /// Sends a load to one EVALSHA per view, and measures all that takes part until MariaDB has it. Its job is what the
    /// flusher is to us.
    pub(crate) fn send_to_cached(&mut self, load: &Load) -> anyhow::Result<Sent> {
        let pids = [
            (Figure::CpuServer, vec![self.rivals.cached.pid()]),
            (Figure::CpuRedis, vec![self.rivals.redis.process().pid()]),
            (Figure::CpuFlusher, vec![self.rivals.mover.pid()]),
            (Figure::CpuMariaDb, vec![self.stack.mariadb.process().pid()]),
        ];
        let stored = |scene: &mut Self| {
            scene.rivals.drain()?;
            scene.purge()
        };
        self.send(&[self.rivals.cached.address], load, &pids, stored).map(|(sent, ())| sent)
    }

    /// Sends a load to two upserts per view.
    pub(crate) fn send_to_direct(&mut self, load: &Load) -> anyhow::Result<Sent> {
        let mariadb = self.stack.mariadb.process().pid();
        let pids = [(Figure::CpuServer, vec![self.rivals.direct.pid()]), (Figure::CpuMariaDb, vec![mariadb])];
        self.send(&[self.rivals.direct.address], load, &pids, |scene| scene.purge()).map(|(sent, ())| sent)
    }

    /// Gives views to a Redis that does nothing but store them, in batches of that size; answers CPU seconds per million
    /// views.
    pub(crate) fn redis_alone(&mut self, batch_views: f64, views: u64) -> anyhow::Result<f64> {
        let redis = &mut self.rivals.redis;
        let (url, pid) = (redis.url(), redis.process().pid());
        let traffic = self.traffic();
        let before = cpu_seconds(pid)?;
        alone::redis(&url, traffic, batch_views.round() as usize, views)?;
        let used = cpu_seconds(pid)? - before;
        self.rivals.redis.query(&["FLUSHALL"])?;
        Ok(used / (views as f64 / 1e6))
    }

    /// Writes views into the tables of our MariaDB by hand, so many in a transaction.
    pub(crate) fn mariadb_alone(&mut self, transaction_views: f64, views: u64) -> anyhow::Result<Upserted> {
        self.drain()?;
        let (url, pid, traffic) = (self.stack.mariadb.url(), self.stack.mariadb.process().pid(), self.traffic());
        let (rows, cpu) = (self.mysql_number(ROWS_WRITTEN)?, cpu_seconds(pid)?);
        let took = alone::mariadb(&url, traffic, transaction_views.round() as usize, views)?;
        self.purge()?;
        Ok(Upserted {
            seconds: took.as_secs_f64(),
            cpu: (cpu_seconds(pid)? - cpu) / (views as f64 / 1e6),
            rows: self.mysql_number(ROWS_WRITTEN)? - rows,
        })
    }

    /// Starts a load that goes on until it is ended.
    pub(crate) fn start_load(&mut self, address: SocketAddr, load: &Load) -> anyhow::Result<Process> {
        let command = self.load_command(&[address], load)?;
        Ok(Process::spawn(command, &self.dir.join("logs/load.log"))?)
    }

    /// Ends such a load, which then says what came of it.
    pub(crate) fn end_load(mut load: Process) -> anyhow::Result<load::Report> {
        load.stop(LOAD_END_TIMEOUT)?;
        let said = fs::read_to_string(load.log())?;
        serde_json::from_str(said.lines().last().unwrap_or_default()).context("the load's report")
    }

    /// Views that nobody got yet.
    fn traffic(&mut self) -> Traffic {
        self.seed += 1;
        Traffic::new(self.crowd, self.seed)
    }

    fn our_pids(&mut self) -> Vec<(Figure, Vec<u32>)> {
        let ingests = 0..self.stack.count(Role::Ingest);
        let ingests = ingests.map(|index| self.stack.service(Role::Ingest, index).process().pid()).collect();
        vec![
            (Figure::CpuServer, ingests),
            (Figure::CpuRedis, vec![self.stack.redis.process().pid()]),
            (Figure::CpuFlusher, vec![self.pid(Role::Flusher)]),
            (Figure::CpuMariaDb, vec![self.stack.mariadb.process().pid()]),
        ]
    }

    /// Sends a load, and measures processes until that was done which comes after it.
    fn send<T>(
        &mut self,
        addresses: &[SocketAddr],
        load: &Load,
        pids: &[(Figure, Vec<u32>)],
        after: impl FnOnce(&mut Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<(Sent, T)> {
        let mut command = self.load_command(addresses, load)?;
        let used = |pids: &[u32]| pids.iter().map(|pid| cpu_seconds(*pid)).sum::<std::io::Result<f64>>();
        let before: Vec<f64> = pids.iter().map(|(_, pids)| used(pids)).collect::<Result<_, _>>()?;
        let output = command.output()?;
        if !output.status.success() {
            bail!("the load failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let report: load::Report = serde_json::from_slice(&output.stdout).context("the load's report")?;
        let came_after = after(self)?;
        let millions = report.views.max(report.all_requests) as f64 / 1e6;
        let mut cpu = Vec::new();
        for ((figure, pids), before) in pids.iter().zip(before) {
            cpu.push((*figure, (used(pids)? - before) / millions));
        }
        cpu.push((Figure::CpuAll, cpu.iter().map(|(_, seconds)| seconds).sum()));
        cpu.push((Figure::CpuLoad, report.cpu_seconds / millions));
        Ok((Sent { report, cpu }, came_after))
    }

    fn load_command(&mut self, addresses: &[SocketAddr], load: &Load) -> anyhow::Result<Command> {
        self.seed += 1;
        let mut command = Command::new(std::env::current_exe()?);
        let kind = clap::ValueEnum::to_possible_value(&load.kind).expect("no kind is skipped");
        command.args(["load", "--kind", kind.get_name()]);
        for address in addresses {
            command.args(["--address", &address.to_string()]);
        }
        command.args(["--batch", &load.batch.to_string(), "--connections", &load.connections.to_string()]);
        command.args(["--seconds", &load.seconds.to_string(), "--seed", &self.seed.to_string()]);
        command.args(["--articles", &self.crowd.articles.to_string(), "--users", &self.crowd.users.to_string()]);
        if let Some(rate) = load.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        Ok(command)
    }

    /// The process id of the only service of that kind.
    pub(crate) fn pid(&mut self, role: Role) -> u32 {
        self.stack.service(role, 0).process().pid()
    }

    /// A metric of all services of that kind, added up.
    pub(crate) fn metric(&mut self, role: Role, name: &str) -> anyhow::Result<f64> {
        let services = 0..self.stack.count(role);
        Ok(services.map(|index| self.stack.service(role, index).metric(name)).sum::<Result<f64, _>>()?)
    }

    /// The first number that MariaDB answers.
    pub(crate) fn mysql_number(&self, sql: &str) -> anyhow::Result<f64> {
        let rows = self.stack.mariadb.query(sql)?;
        Ok(rows.first().and_then(|row| row.last()).with_context(|| format!("no answer to {sql}"))?.parse()?)
    }

    /// What was counted so far.
    pub(crate) fn counts(&mut self) -> anyhow::Result<Counts> {
        Ok(Counts {
            views: self.metric(Role::Flusher, FLUSHED)?,
            batches: self.metric(Role::Ingest, "footfall_batches_total")?,
            transactions: self.metric(Role::Flusher, "footfall_flush_transactions_total")?,
            rows: self.mysql_number(ROWS_WRITTEN)?,
            fsyncs: self.mysql_number(FSYNCS)?,
        })
    }

    /// Memory that Redis has in use, in bytes.
    pub(crate) fn redis_bytes(&self) -> anyhow::Result<f64> {
        let info = self.stack.redis.query(&["INFO", "memory"])?.join("\n");
        let used = info.lines().find_map(|line| line.trim().strip_prefix("used_memory:"));
        Ok(used.context("INFO says what memory is used")?.parse()?)
    }

    /// Makes the flusher stand still, or go on.
    pub(crate) fn pause_flusher(&mut self, pause: bool) -> anyhow::Result<()> {
        let flusher = self.stack.service(Role::Flusher, 0);
        let done = if pause { flusher.pause() } else { flusher.resume() };
        done.context("the flusher")
    }

    /// Views that ingest has acknowledged and the flusher has not moved yet.
    pub(crate) fn pending(&mut self) -> anyhow::Result<f64> {
        let accepted = self.metric(Role::Ingest, "footfall_views_accepted_total")?;
        Ok(accepted + self.flushed_before - self.metric(Role::Flusher, FLUSHED)?)
    }

    /// Waits until MariaDB has everything, and has cleared up behind it.
    pub(crate) fn drain(&mut self) -> anyhow::Result<()> {
        self.flush()?;
        self.purge()
    }

    /// Waits until MariaDB has everything.
    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while self.pending()? > 0.0 {
            if Instant::now() > deadline {
                bail!("the flusher has not drained Redis within {DRAIN_TIMEOUT:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until MariaDB has removed old versions of rows: what one leaves to do would be counted as the next one's.
    fn purge(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PURGE_TIMEOUT;
        while self.mysql_number(OLD_VERSIONS)? > PURGED && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Starts our ingest anew with this `ingest.durability`.
    pub(crate) fn durability(&mut self, value: &str) -> anyhow::Result<()> {
        self.drain()?;
        self.flushed_before = self.metric(Role::Flusher, FLUSHED)?;
        let ingest = self.stack.service(Role::Ingest, 0);
        ingest.terminate(Duration::from_secs(20))?;
        ingest.set("FOOTFALL_INGEST__DURABILITY", value);
        ingest.restart()?;
        ingest.wait_ready(Duration::from_secs(20))?;
        Ok(())
    }

    /// Sets Redis's `appendfsync`.
    pub(crate) fn append_fsync(&self, value: &str) -> anyhow::Result<()> {
        self.stack.redis.query(&["CONFIG", "SET", "appendfsync", value])?;
        Ok(())
    }
}
