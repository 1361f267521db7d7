//! What ours is measured beside: the bare server, what people run, and a Redis of their own. They write to the same
//! MariaDB, into the same tables.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use footfall_sandbox::{Process, Redis, RedisOptions};

use crate::peers::{DIRTY, PASSES};

const START_TIMEOUT: Duration = Duration::from_secs(10);
const MOVE_TIMEOUT: Duration = Duration::from_secs(120);

/// A server that ours is compared with.
pub(crate) struct Server {
    process: Process,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

/// All of them, running.
pub(crate) struct Rivals {
    /// The limit.
    pub(crate) bare: Server,
    /// One EVALSHA per view ...
    pub(crate) cached: Server,
    /// ... and the job that moves what it counts into MySQL.
    pub(crate) mover: Process,
    /// Two upserts per view.
    pub(crate) direct: Server,
    /// What they count in, and what is measured by itself.
    pub(crate) redis: Redis,
}

impl Rivals {
    /// Starts all of them below `dir`.
    pub(crate) fn start(dir: &Path, mysql: &str) -> anyhow::Result<Self> {
        let redis = Redis::start(&dir.join("redis-of-peers"), &RedisOptions::default())?;
        let url = redis.url();
        Ok(Self {
            bare: Server::start(dir, "bare", &[])?,
            cached: Server::start(dir, "cached", &["--redis", &url])?,
            mover: Process::spawn(
                command("mover", &["--redis", &url, "--mysql", mysql])?,
                &dir.join("logs/mover.log"),
            )?,
            direct: Server::start(dir, "direct", &["--mysql", mysql])?,
            redis,
        })
    }

    /// How often the job has moved all that there was.
    pub(crate) fn passes(&mut self) -> anyhow::Result<u64> {
        ensure!(self.mover.is_running(), self.mover.failure("has ended"));
        Ok(self.redis.query(&["GET", PASSES])?.first().map_or(Ok(0), |passes| passes.parse())?)
    }

    /// Waits until the job has moved so many times all that there was.
    pub(crate) fn wait_passes(&mut self, wanted: u64) -> anyhow::Result<()> {
        let (before, deadline) = (self.passes()?, Instant::now() + MOVE_TIMEOUT);
        while self.passes()? < before + wanted {
            ensure!(Instant::now() < deadline, "the peer's job has not moved everything within {MOVE_TIMEOUT:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until MariaDB has all that was counted before.
    pub(crate) fn drain(&mut self) -> anyhow::Result<()> {
        // The pass that is under way may have begun too early to see all of it.
        self.wait_passes(2)?;
        let dirty = self.redis.query(&["SCARD", DIRTY])?;
        ensure!(dirty == ["0"], "{dirty:?} articles of the peer are dirty, and no load runs");
        Ok(())
    }
}

impl Server {
    fn start(dir: &Path, name: &str, stores: &[&str]) -> anyhow::Result<Self> {
        let announcement = dir.join(format!("{name}.address"));
        let mut command = command(name, stores)?;
        command.arg("--announce").arg(&announcement);
        let mut process = Process::spawn(command, &dir.join(format!("logs/{name}.log")))?;
        let mut address = None;
        process.wait_until(START_TIMEOUT, || {
            address = Some(fs::read_to_string(&announcement)?.parse().map_err(std::io::Error::other)?);
            Ok(())
        })?;
        Ok(Self { process, address: address.expect("wait_until succeeded") })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

fn command(name: &str, stores: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("a program knows its path")?);
    command.args(["peer", name]).args(stores);
    Ok(command)
}
