//! One service of a stack.

use std::env;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use footfall_sandbox::{MariaDb, Process, Protocol, Proxy, Redis, Upstream};

use super::{Role, START_TIMEOUT};
use crate::http;

/// A service that accepts and does not answer is asked again after this.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// A service's own ways to the stores, to be disturbed without touching those of the others. They outlive its restarts.
#[derive(Debug)]
pub struct Links {
    /// Between it and Redis.
    pub redis: Proxy,
    /// Between it and MariaDB.
    pub mysql: Proxy,
}

impl Links {
    pub(super) fn start(redis: &Redis, mariadb: &MariaDb) -> io::Result<Self> {
        Ok(Self {
            redis: Proxy::start(Upstream::from(redis.socket()), Protocol::Redis)?,
            mysql: Proxy::start(Upstream::from(mariadb.socket()), Protocol::MySql)?,
        })
    }
}

/// A running, or killed, service.
#[derive(Debug)]
pub struct Service {
    launch: Launch,
    process: Process,
    addresses: ServiceAddresses,
}

impl Service {
    /// Starts it and waits until it listens.
    pub(super) fn start(launch: Launch, wanted: ServiceAddresses) -> io::Result<Self> {
        let (process, addresses) = launch.run(wanted)?;
        Ok(Self { launch, process, addresses })
    }

    /// What kind of service it is.
    pub fn role(&self) -> Role {
        self.launch.role
    }

    /// `ingest`, `ingest-1`, ...
    pub fn name(&self) -> &str {
        &self.launch.name
    }

    /// The public address; none for a flusher.
    pub fn listen(&self) -> Option<SocketAddr> {
        self.addresses.listen
    }

    /// The address of the metrics.
    pub fn admin(&self) -> SocketAddr {
        self.addresses.admin
    }

    /// `http://host:port`, public if it has a public address, else that of the metrics.
    pub fn url(&self) -> String {
        format!("http://{}", self.addresses.main())
    }

    /// A metric, the sum of all its labels; 0 if there is none of that name.
    pub fn metric(&self, name: &str) -> io::Result<f64> {
        let text = http::get(self.admin(), "/metrics", PROBE_TIMEOUT)?.body;
        let is_meant = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        Ok(text.lines().filter(is_meant).filter_map(value).sum())
    }

    /// Its own proxies to the stores, if the stack was started with [`proxies`](super::StackOptions::proxies).
    pub fn links(&self) -> Option<&Links> {
        self.launch.links.as_ref()
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.kill().map(drop)
    }

    /// Asks it to end (SIGTERM) and waits for that.
    pub fn terminate(&mut self, timeout: Duration) -> io::Result<ExitStatus> {
        self.process.terminate(timeout)
    }

    /// Makes it stand still, sockets open.
    pub fn pause(&mut self) -> io::Result<()> {
        self.process.pause()
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&mut self) -> io::Result<()> {
        self.process.resume()
    }

    /// A variable of its environment, from its next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.launch.env.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it again after it has ended, on the addresses that it had before, so that its clients find it, and waits
    /// until it listens. Whether it is *ready* depends on the stores too: see [`wait_ready`](Self::wait_ready).
    pub fn restart(&mut self) -> io::Result<()> {
        if self.process.is_running() {
            return Err(self.process.failure("is still running"));
        }
        (self.process, self.addresses) = self.launch.run(self.addresses)?;
        Ok(())
    }

    /// Waits until `GET /readyz` answers 200.
    pub fn wait_ready(&mut self, timeout: Duration) -> io::Result<()> {
        let address = self.addresses.main();
        self.process.wait_until(timeout, || probe(address))
    }

    /// The process itself: its id, its log, signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// How to run a service.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) role: Role,
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) env: Vec<(String, String)>,
    pub(super) links: Option<Links>,
    pub(super) log: PathBuf,
    /// The file in which the service says where it listens, because it may have been told "any free port".
    pub(super) announcement: PathBuf,
}

impl Launch {
    fn run(&self, wanted: ServiceAddresses) -> io::Result<(Process, ServiceAddresses)> {
        // That of an earlier run would be believed.
        match fs::remove_file(&self.announcement) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let setting = |name| format!("FOOTFALL_{}__{name}", self.role.to_string().to_uppercase());
        let mut command = Command::new(&self.program);
        forget_settings(&mut command);
        command.arg("--announce").arg(&self.announcement).env(setting("ADMIN"), wanted.admin.to_string());
        if let Some(listen) = wanted.listen {
            command.env(setting("LISTEN"), listen.to_string());
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));

        let mut process = Process::spawn(command, &self.log)?;
        let mut announced = None;
        process.wait_until(START_TIMEOUT, || {
            announced = Some(ServiceAddresses::parse(&fs::read_to_string(&self.announcement)?)?);
            Ok(())
        })?;
        Ok((process, announced.expect("wait_until succeeded")))
    }
}

/// Where one service listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServiceAddresses {
    pub(super) listen: Option<SocketAddr>,
    pub(super) admin: SocketAddr,
}

impl ServiceAddresses {
    /// Reads what a service announces: lines `listen=ADDRESS`, if it has one, and `admin=ADDRESS`.
    fn parse(text: &str) -> io::Result<Self> {
        let find = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .map(|address| address.trim().parse().map_err(io::Error::other))
                .transpose()
        };
        Ok(Self {
            listen: find("listen")?,
            admin: find("admin")?.ok_or_else(|| io::Error::other("no admin address was announced"))?,
        })
    }

    /// The address to talk to. "All interfaces" is not an address to talk to, loopback is one of them.
    fn main(self) -> SocketAddr {
        let mut address = self.listen.unwrap_or(self.admin);
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        address
    }
}

/// Hides our own `FOOTFALL_...` variables from `command`: somebody's shell may hold those of a production system.
pub(super) fn forget_settings(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("FOOTFALL_") {
            command.env_remove(name);
        }
    }
}

/// Asks for `/readyz`; anything but a 200 is an error, with the reason that is given.
fn probe(address: SocketAddr) -> io::Result<()> {
    match http::get(address, "/readyz", PROBE_TIMEOUT)? {
        http::Answer { status: 200, .. } => Ok(()),
        http::Answer { status, body, .. } => {
            Err(io::Error::other(format!("/readyz answers {status}: {}", body.trim())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_are_understood() -> Result<(), Box<dyn std::error::Error>> {
        let both = ServiceAddresses::parse("listen=127.0.0.1:1\nadmin=127.0.0.1:2\n")?;
        assert_eq!(both.listen, Some("127.0.0.1:1".parse()?));
        assert_eq!(both.main(), "127.0.0.1:1".parse()?);
        let flusher = ServiceAddresses::parse("admin=0.0.0.0:2\n")?;
        assert_eq!(flusher.listen, None);
        assert_eq!(flusher.main(), "127.0.0.1:2".parse()?);
        assert!(ServiceAddresses::parse("listen=127.0.0.1:1\n").is_err());
        assert!(ServiceAddresses::parse("admin=somewhere\n").is_err());
        Ok(())
    }
}
