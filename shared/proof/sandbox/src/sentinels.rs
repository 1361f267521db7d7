//! A private Redis with two replicas, and three Sentinels that watch over them.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::files::socket_dir;
use crate::group::{self, listen, wait, write_configuration};
use crate::process::Process;
use crate::redis::{self, Redis, RedisOptions};

/// How many servers there are, and how many Sentinels.
const NODES: u16 = 3;
/// The kernel gives ports from here on to nobody by itself.
const FIRST_PORT: u16 = 62_000;

/// Settings of [`Sentinels`].
#[derive(Clone, Debug)]
pub struct SentinelsOptions {
    /// For how long a server may be silent before a Sentinel takes it for down.
    pub down_after: Duration,
    /// For how long a fail-over may take before it is tried again; the next one begins no earlier than twice as long after.
    pub failover_timeout: Duration,
    /// More lines of each server's configuration.
    pub server_lines: Vec<String>,
    /// More lines of each Sentinel's configuration.
    pub sentinel_lines: Vec<String>,
    /// A folder with `ca.pem`, `server.pem` and `server.key`: then all of them are reached over TLS only.
    pub certificates: Option<PathBuf>,
    /// What the servers and the Sentinels ask of clients, and of each other; empty means nothing.
    pub password: String,
}

impl Default for SentinelsOptions {
    fn default() -> Self {
        Self {
            down_after: Duration::from_secs(1),
            failover_timeout: Duration::from_secs(5),
            server_lines: Vec::new(),
            sentinel_lines: Vec::new(),
            certificates: None,
            password: String::new(),
        }
    }
}

/// Three Redis servers, of which one is the master, and three Sentinels that choose another when it fails. Dropping it kills
/// them; the data stay.
#[derive(Debug)]
pub struct Sentinels {
    servers: Vec<Redis>,
    sentinels: Vec<Process>,
    addresses: Vec<SocketAddr>,
    options: SentinelsOptions,
    run: TempDir,
}

impl Sentinels {
    /// What the Sentinels call the master.
    pub const NAME: &str = "sandbox";

    /// The address of this process's own, on which all of them listen.
    pub fn ip() -> IpAddr {
        group::ip()
    }

    /// Starts them below `dir`, new, and waits until all know of each other. The first server is the master.
    pub fn start(dir: &Path, options: &SentinelsOptions) -> io::Result<Self> {
        static STARTED: AtomicU16 = AtomicU16::new(0);
        let first = FIRST_PORT + 2 * NODES * STARTED.fetch_add(1, Ordering::Relaxed);
        let addresses = (first..first + 2 * NODES).map(|port| SocketAddr::new(Self::ip(), port)).collect();
        let mut all = Self {
            servers: Vec::new(),
            sentinels: Vec::new(),
            addresses,
            options: options.clone(),
            run: socket_dir()?,
        };
        for index in 0..usize::from(NODES) {
            let server = all.start_server(&dir.join(format!("server-{index}")), index)?;
            all.servers.push(server);
        }
        wait("replicas", || {
            all.servers[0]
                .query(&["INFO", "replication"])
                .map(|info| info.concat().matches("state=online").count() == usize::from(NODES) - 1)
        })?;
        for index in 0..usize::from(NODES) {
            let sentinel = all.start_sentinel(&dir.join(format!("sentinel-{index}")), index)?;
            all.sentinels.push(sentinel);
        }
        for index in 0..usize::from(NODES) {
            wait("Sentinels that know all others", || {
                let count = |what: &str, field: &str, value: &str| {
                    let said = all.ask(index, &["SENTINEL", what, Self::NAME])?;
                    io::Result::Ok(
                        said.windows(2).filter(|pair| pair[0] == field && pair[1].starts_with(value)).count(),
                    )
                };
                let replicas = count("REPLICAS", "master-link-status", "ok")?;
                Ok((replicas, count("SENTINELS", "flags", "sentinel")?) == (2, 2))
            })?;
        }
        Ok(all)
    }

    /// Host and port of each Sentinel.
    pub fn sentinels(&self) -> &[SocketAddr] {
        &self.addresses[usize::from(NODES)..]
    }

    /// Host and port of each server.
    pub fn servers(&self) -> &[SocketAddr] {
        &self.addresses[..usize::from(NODES)]
    }

    /// A server, to be killed, paused and restarted as a test likes.
    pub fn server(&mut self, index: usize) -> &mut Redis {
        &mut self.servers[index]
    }

    /// A Sentinel, likewise.
    pub fn sentinel(&mut self, index: usize) -> &mut Process {
        &mut self.sentinels[index]
    }

    /// Which server is the master, as the first Sentinel says.
    pub fn master(&self) -> io::Result<usize> {
        let said = self.ask(0, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::NAME])?;
        let address = said.join(":");
        let index = self.addresses.iter().position(|known| known.to_string() == address);
        index.ok_or_else(|| io::Error::other(format!("{address} is no server of this sandbox")))
    }

    /// Makes another server the master, as an operator does; returns when the Sentinels have chosen one.
    pub fn fail_over(&self) -> io::Result<()> {
        /// It gives up where it finds no replica that it knows well enough, and says so only in its log.
        const AGAIN: Duration = Duration::from_secs(3);
        let before = self.master()?;
        let asked = Cell::new(None::<Instant>);
        wait("another master", || {
            if asked.get().is_none_or(|asked| asked.elapsed() >= AGAIN) {
                self.ask(0, &["SENTINEL", "FAILOVER", Self::NAME])?;
                asked.set(Some(Instant::now()));
            }
            Ok(self.master()? != before)
        })
    }

    /// Sends one command to a Sentinel and returns its reply as text.
    pub fn ask<Arg: AsRef<[u8]>>(&self, index: usize, args: &[Arg]) -> io::Result<Vec<String>> {
        redis::query(&self.socket(index), &self.options.password, args)
    }

    fn socket(&self, sentinel: usize) -> PathBuf {
        self.run.path().join(format!("sentinel-{sentinel}.sock"))
    }

    fn start_server(&self, dir: &Path, index: usize) -> io::Result<Redis> {
        let (address, master, password) = (self.addresses[index], self.addresses[0], &self.options.password);
        let mut lines = listen(address, self.options.certificates.as_deref());
        // Announced, because to the others it comes from 127.0.0.1.
        lines.push(format!("replica-announce-ip {}", address.ip()));
        if index > 0 {
            lines.push(format!("replicaof {} {}", master.ip(), master.port()));
        }
        if !password.is_empty() {
            lines.push(format!("masterauth {password}"));
        }
        // A new replica gets its data at once, and without a disk in between.
        lines.extend(["repl-diskless-sync yes", "repl-diskless-sync-delay 0"].map(str::to_owned));
        lines.extend(self.options.server_lines.iter().cloned());
        let configuration = Some(write_configuration(dir, &lines)?);
        Redis::start(dir, &RedisOptions { password: password.clone(), configuration, ..RedisOptions::default() })
    }

    fn start_sentinel(&self, dir: &Path, index: usize) -> io::Result<Process> {
        let (name, password, master) = (Self::NAME, &self.options.password, self.addresses[0]);
        let (address, socket) = (self.sentinels()[index], self.socket(index));
        let (down_after_ms, failover_ms) =
            (self.options.down_after.as_millis(), self.options.failover_timeout.as_millis());
        let mut lines = listen(address, self.options.certificates.as_deref());
        lines.extend([
            format!("unixsocket {}", socket.display()),
            format!("sentinel announce-ip {}", address.ip()),
            format!("sentinel monitor {name} {} {} 2", master.ip(), master.port()),
            format!("sentinel down-after-milliseconds {name} {down_after_ms}"),
            format!("sentinel failover-timeout {name} {failover_ms}"),
        ]);
        if !password.is_empty() {
            lines.push(format!("requirepass {password}"));
            lines.push(format!("sentinel auth-pass {name} {password}"));
        }
        lines.extend(self.options.sentinel_lines.iter().cloned());
        let configuration = write_configuration(dir, &lines)?;
        let mut command = Command::new(redis::server_program(self.run.path())?);
        command.arg(configuration).arg("--sentinel").current_dir(dir);
        let mut process = Process::spawn(command, &dir.join("sentinel.log"))?;
        process.wait_until(group::TIMEOUT, || redis::query(&socket, password, &["PING"]).map(drop))?;
        Ok(process)
    }
}
