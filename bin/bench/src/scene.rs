//! Everything that a run measures, started once: our own processes on private stores, the peers, and the load.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use footfall_drill::stack::{Role, Stack, StackOptions};
use footfall_sandbox::{Process, Redis, RedisOptions};

use crate::load::{self, Kind};
use crate::measure::cpu_seconds;
use crate::report::Figure;

const START_TIMEOUT: Duration = Duration::from_secs(10);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(300);

/// One load: what is sent, over how many connections, at which rate.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// What is asked for.
    pub(crate) kind: Kind,
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
}

/// A server that ours is compared with.
pub(crate) struct Peer {
    process: Process,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

/// All of it.
pub(crate) struct Scene {
    /// Ours, on the stores that it is measured with.
    pub(crate) stack: Stack,
    /// The limit.
    pub(crate) bare: Peer,
    /// What most would write, with a Redis of its own.
    pub(crate) one_script: Peer,
    peers_redis: Redis,
    seed: u64,
}

impl Scene {
    /// Starts everything below `dir`.
    pub(crate) fn start(dir: &Path) -> anyhow::Result<Self> {
        let binaries = std::env::current_exe()?;
        let binaries = binaries.parent().context("a program is in a folder")?;
        let mut options = StackOptions::new(dir, binaries);
        options.dashboards = 0;
        options.mariadb.buffer_pool_mib = 1024;
        let stack = Stack::start(options)?;
        let peers_redis = Redis::start(&dir.join("redis-of-peer"), &RedisOptions::default())?;
        let bare = Peer::start(dir, "bare", None)?;
        let one_script = Peer::start(dir, "one-script", Some(&peers_redis.url()))?;
        Ok(Self { stack, bare, one_script, peers_redis, seed: 0 })
    }

    /// Where our ingest listens.
    pub(crate) fn ingest(&mut self) -> SocketAddr {
        self.stack.service(Role::Ingest, 0).listen().expect("an ingest listens")
    }

    /// Sends a load to our ingest, and measures all our processes.
    pub(crate) fn send_to_ours(&mut self, load: &Load) -> anyhow::Result<Sent> {
        let address = self.ingest();
        let pids = [
            (Figure::CpuServer, self.pid(Role::Ingest)),
            (Figure::CpuRedis, self.stack.redis.process().pid()),
            (Figure::CpuFlusher, self.pid(Role::Flusher)),
            (Figure::CpuMariaDb, self.stack.mariadb.process().pid()),
        ];
        self.send(address, load, &pids)
    }

    /// Sends a load to the limit.
    pub(crate) fn send_to_bare(&mut self, load: &Load) -> anyhow::Result<Sent> {
        let pids = [(Figure::CpuServer, self.bare.process.pid())];
        self.send(self.bare.address, load, &pids)
    }

    /// Sends a load to what most would write, and forgets what it counted.
    pub(crate) fn send_to_one_script(&mut self, load: &Load) -> anyhow::Result<Sent> {
        let redis = self.peers_redis.process().pid();
        let pids = [(Figure::CpuServer, self.one_script.process.pid()), (Figure::CpuRedis, redis)];
        let sent = self.send(self.one_script.address, load, &pids)?;
        self.peers_redis.query(&["FLUSHALL"])?;
        Ok(sent)
    }

    fn send(&mut self, address: SocketAddr, load: &Load, pids: &[(Figure, u32)]) -> anyhow::Result<Sent> {
        self.seed += 1;
        let mut command = Command::new(std::env::current_exe()?);
        let kind = clap::ValueEnum::to_possible_value(&load.kind).expect("no kind is skipped");
        command.args(["load", "--address", &address.to_string(), "--kind", kind.get_name()]);
        command.args(["--connections", &load.connections.to_string(), "--seconds", &load.seconds.to_string()]);
        command.args(["--seed", &self.seed.to_string()]);
        if let Some(rate) = load.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        let before: Vec<f64> = pids.iter().map(|(_, pid)| cpu_seconds(*pid)).collect::<Result<_, _>>()?;
        let output = command.output()?;
        if !output.status.success() {
            bail!("the load failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let report: load::Report = serde_json::from_slice(&output.stdout).context("the load's report")?;
        let millions = report.views.max(report.all_requests) as f64 / 1e6;
        let mut cpu = Vec::new();
        for ((figure, pid), before) in pids.iter().zip(before) {
            cpu.push((*figure, (cpu_seconds(*pid)? - before) / millions));
        }
        cpu.push((Figure::CpuAll, cpu.iter().map(|(_, seconds)| seconds).sum()));
        cpu.push((Figure::CpuLoad, report.cpu_seconds / millions));
        Ok(Sent { report, cpu })
    }

    /// The process id of the only service of that kind.
    pub(crate) fn pid(&mut self, role: Role) -> u32 {
        self.stack.service(role, 0).process().pid()
    }

    /// A metric of the only service of that kind.
    pub(crate) fn metric(&mut self, role: Role, name: &str) -> anyhow::Result<f64> {
        Ok(self.stack.service(role, 0).metric(name)?)
    }

    /// The first number that MariaDB answers.
    pub(crate) fn mysql_number(&self, sql: &str) -> anyhow::Result<f64> {
        let rows = self.stack.mariadb.query(sql)?;
        Ok(rows.first().and_then(|row| row.last()).with_context(|| format!("no answer to {sql}"))?.parse()?)
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
        Ok(accepted - self.metric(Role::Flusher, "footfall_flush_views_total")?)
    }

    /// Waits until MySQL has everything.
    pub(crate) fn drain(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while self.pending()? > 0.0 {
            if Instant::now() > deadline {
                bail!("the flusher has not drained Redis within {DRAIN_TIMEOUT:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Sets Redis's `appendfsync`.
    pub(crate) fn append_fsync(&self, value: &str) -> anyhow::Result<()> {
        self.stack.redis.query(&["CONFIG", "SET", "appendfsync", value])?;
        Ok(())
    }
}

impl Peer {
    fn start(dir: &Path, name: &str, redis: Option<&str>) -> anyhow::Result<Self> {
        let announcement = dir.join(format!("{name}.address"));
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["peer", name, "--announce"]).arg(&announcement);
        if let Some(redis) = redis {
            command.args(["--redis", redis]);
        }
        let mut process = Process::spawn(command, &dir.join(format!("logs/{name}.log")))?;
        let mut address = None;
        process.wait_until(START_TIMEOUT, || {
            address = Some(fs::read_to_string(&announcement)?.parse().map_err(std::io::Error::other)?);
            Ok(())
        })?;
        Ok(Self { process, address: address.expect("wait_until succeeded") })
    }
}
