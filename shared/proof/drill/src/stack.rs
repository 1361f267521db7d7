//! All of Footfall on private stores: a Redis, a MariaDB, and as many of each service as wanted.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use footfall_sandbox::{MariaDb, MariaDbOptions, Process, Redis, RedisOptions};

use service::{Launch, ServiceAddresses};
pub use service::{Links, Service};

mod service;

const INIT_TIMEOUT: Duration = Duration::from_secs(60);
const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// One of the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `footfall-ingest`
    Ingest,
    /// `footfall-flusher`
    Flusher,
    /// `footfall-dashboard`
    Dashboard,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ingest => "ingest",
            Self::Flusher => "flusher",
            Self::Dashboard => "dashboard",
        })
    }
}

/// Where the services listen. By default each on a free port of 127.0.0.1, as several of a kind must.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// `footfall-ingest`, public
    pub ingest: SocketAddr,
    /// `footfall-ingest`, metrics
    pub ingest_admin: SocketAddr,
    /// `footfall-flusher`, metrics
    pub flusher_admin: SocketAddr,
    /// `footfall-dashboard`, public
    pub dashboard: SocketAddr,
    /// `footfall-dashboard`, metrics
    pub dashboard_admin: SocketAddr,
}

impl Default for Addresses {
    fn default() -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { ingest: free, ingest_admin: free, flusher_admin: free, dashboard: free, dashboard_admin: free }
    }
}

/// Where ingests keep what MySQL does not have yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Journal {
    /// In the stack's folder `journal`, all ingests together: one adopts what another left.
    #[default]
    On,
    /// Nowhere.
    Off,
    /// In this folder, all ingests together.
    At(PathBuf),
}

/// The MariaDB user that may do everything.
const ADMINISTRATOR: &str = "root";

/// What a [`Stack`] consists of.
#[derive(Clone, Debug)]
pub struct StackOptions {
    /// Data below `redis/`, `mariadb/` and `journal/`, kept from one stack to the next; logs below `logs/`.
    pub dir: PathBuf,
    /// The folder with the built programs.
    pub binaries: PathBuf,
    /// Settings of the Redis.
    pub redis: RedisOptions,
    /// Settings of the MariaDB.
    pub mariadb: MariaDbOptions,
    /// How many `footfall-ingest` to start.
    pub ingests: usize,
    /// How many `footfall-flusher` to start.
    pub flushers: usize,
    /// How many `footfall-dashboard` to start.
    pub dashboards: usize,
    /// Where the services listen.
    pub addresses: Addresses,
    /// Where ingests keep their journals.
    pub journal: Journal,
    /// Whether each service reaches the stores through proxies of its own: see [`Service::links`].
    pub proxies: bool,
    /// The MariaDB user of the services and of the tool. Any but `root` is created with rights in this database alone:
    /// an administrator's would reach past `read_only`.
    pub database_user: String,
    /// More environment for the services and the tool. It wins over the stack's own.
    pub env: Vec<(String, String)>,
}

impl StackOptions {
    /// One of each service, stores with default settings.
    pub fn new(dir: impl Into<PathBuf>, binaries: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            binaries: binaries.into(),
            redis: RedisOptions::default(),
            mariadb: MariaDbOptions { database: "footfall".to_owned(), ..MariaDbOptions::default() },
            ingests: 1,
            flushers: 1,
            dashboards: 1,
            addresses: Addresses::default(),
            journal: Journal::default(),
            proxies: false,
            database_user: ADMINISTRATOR.to_owned(),
            env: Vec::new(),
        }
    }
}

/// Running stores and services. Dropping it kills them all; [`stop`](Self::stop) ends them gracefully.
#[derive(Debug)]
pub struct Stack {
    // Declared, and therefore dropped, before the stores that they use.
    services: Vec<Service>,
    /// The Redis, to be killed, paused and restarted as a test likes.
    pub redis: Redis,
    /// The MariaDB, likewise.
    pub mariadb: MariaDb,
    options: StackOptions,
}

impl Stack {
    /// Starts the stores, runs `footfall init`, starts the services and waits until all are ready.
    pub fn start(options: StackOptions) -> anyhow::Result<Self> {
        // The services are told of it in their settings, which are text.
        ensure!(options.dir.to_str().is_some(), "{} is not UTF-8: use another folder", options.dir.display());
        let logs = options.dir.join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        let mariadb =
            MariaDb::start(&options.dir.join("mariadb"), &options.mariadb).context("MariaDB did not start")?;
        let redis = Redis::start(&options.dir.join("redis"), &options.redis).context("Redis did not start")?;
        let mut stack = Self { services: Vec::new(), redis, mariadb, options };
        stack.create_user()?;
        stack.init()?;

        // Ingest last: it is told where the dashboard is, and lets the traffic in.
        for (role, count) in [
            (Role::Dashboard, stack.options.dashboards),
            (Role::Flusher, stack.options.flushers),
            (Role::Ingest, stack.options.ingests),
        ] {
            for _ in 0..count {
                stack.launch(role)?;
            }
        }
        // Only now, so that they start side by side.
        for service in &mut stack.services {
            service.wait_ready(START_TIMEOUT)?;
        }
        Ok(stack)
    }

    /// Starts one more service and waits until it is ready.
    pub fn add(&mut self, role: Role) -> anyhow::Result<&mut Service> {
        let service = self.launch(role)?;
        service.wait_ready(START_TIMEOUT)?;
        Ok(service)
    }

    /// The service of that kind and number, counted from 0 in the order of starting.
    ///
    /// # Panics
    ///
    /// If there is no such service.
    pub fn service(&mut self, role: Role, index: usize) -> &mut Service {
        self.services
            .iter_mut()
            .filter(|service| service.role() == role)
            .nth(index)
            .unwrap_or_else(|| panic!("there is no {role} number {index}"))
    }

    /// From here on services that are added, and the tool, are the programs in another folder.
    pub fn use_programs(&mut self, binaries: PathBuf) {
        self.options.binaries = binaries;
    }

    /// From here on services that are added, and the tool, have this in their environment.
    pub fn set(&mut self, name: &str, value: &str) {
        self.options.env.push((name.to_owned(), value.to_owned()));
    }

    /// How many services of a kind there are.
    pub fn count(&self, role: Role) -> usize {
        self.services.iter().filter(|service| service.role() == role).count()
    }

    /// All services, in the order of starting.
    pub fn services(&mut self) -> &mut [Service] {
        &mut self.services
    }

    /// `http://host:port` of a service. Panics as [`service`](Self::service) does.
    pub fn url(&self, role: Role, index: usize) -> String {
        let mut services = self.services.iter().filter(|service| service.role() == role);
        match services.nth(index) {
            Some(service) => service.url(),
            None => panic!("there is no {role} number {index}"),
        }
    }

    /// The environment that points services and the `footfall` tool to this stack: the stores, the first ingest and the
    /// first dashboard as far as they are started, and what the options add.
    pub fn env(&self) -> Vec<(String, String)> {
        let url = |role| {
            let first = self.services.iter().find(|service| service.role() == role);
            first.map(Service::url)
        };
        [
            ("FOOTFALL_REDIS__URL", Some(self.redis.url())),
            ("FOOTFALL_DATABASE__URL", Some(self.database_url())),
            ("FOOTFALL_INGEST__URL", url(Role::Ingest)),
            ("FOOTFALL_DASHBOARD__URL", url(Role::Dashboard)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .chain(self.options.env.iter().cloned())
        .collect()
    }

    /// The `footfall` tool, to be given arguments and run against this stack.
    pub fn tool(&self) -> Command {
        let mut command = Command::new(self.options.binaries.join("footfall"));
        service::forget_settings(&mut command);
        command.envs(self.env());
        command
    }

    /// Restarts everything gracefully, one after the other, as an upgrade does.
    pub(crate) fn roll(&mut self) -> anyhow::Result<()> {
        for service in &mut self.services {
            service.process().stop(STOP_TIMEOUT)?;
            service.restart()?;
            service.wait_ready(START_TIMEOUT)?;
        }
        self.redis.stop()?;
        self.redis.restart()?;
        self.mariadb.stop()?;
        Ok(self.mariadb.restart()?)
    }

    /// Takes from Redis all that it holds.
    pub(crate) fn flush_redis(&self) -> anyhow::Result<()> {
        Ok(self.redis.query(&["FLUSHALL"]).map(drop)?)
    }

    /// Ends everything gracefully, in the direction in which the data flow: the services by SIGTERM, then the stores.
    /// Goes on after a failure and returns the first one. What does not end in time is killed.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let mut result = Ok(());
        // `and` takes its argument by value: every stop is carried out, whatever came of those before.
        for role in [Role::Ingest, Role::Flusher, Role::Dashboard] {
            for service in self.services.iter_mut().filter(|service| service.role() == role) {
                result = result.and(service.process().stop(STOP_TIMEOUT));
            }
        }
        result = result.and(self.redis.stop());
        result = result.and(self.mariadb.stop());
        Ok(result?)
    }

    /// What has ended without being asked to, if anything has, and where its log is.
    pub fn ended(&mut self) -> Option<String> {
        let stores = [("Redis", self.redis.process()), ("MariaDB", self.mariadb.process())];
        let stores = stores.map(|(name, process)| (name.to_owned(), process));
        let services = self.services.iter_mut();
        let services = services.map(|service| (service.name().to_owned(), service.process()));
        let (name, process) = stores
            .into_iter()
            .chain(services)
            .find_map(|(name, process)| (!process.is_running()).then_some((name, process)))?;
        Some(format!("{name} has ended (its log is {})", process.log().display()))
    }

    /// The folder with the journals of the ingests, if they keep any.
    pub fn journal(&self) -> Option<PathBuf> {
        match &self.options.journal {
            Journal::On => Some(self.options.dir.join("journal")),
            Journal::Off => None,
            Journal::At(dir) => Some(dir.clone()),
        }
    }

    fn database_url(&self) -> String {
        as_user(&self.options.database_user, &self.mariadb.url())
    }

    fn create_user(&self) -> anyhow::Result<()> {
        let StackOptions { database_user: user, mariadb: MariaDbOptions { database, .. }, .. } = &self.options;
        if user != ADMINISTRATOR {
            // The proxies come through the socket too, so to the server everybody is local.
            let sql =
                format!("CREATE USER IF NOT EXISTS {user}@localhost; GRANT ALL ON {database}.* TO {user}@localhost");
            self.mariadb.query(&sql).context("the services' database user could not be created")?;
        }
        Ok(())
    }

    fn init(&self) -> anyhow::Result<()> {
        let mut command = self.tool();
        command.arg("init");
        let mut process = Process::spawn(command, &self.options.dir.join("logs/init.log"))?;
        let status = process.wait(INIT_TIMEOUT)?;
        if !status.success() {
            return Err(process.failure(&format!("init failed ({status})")).into());
        }
        Ok(())
    }

    /// Starts a service and waits until it listens.
    fn launch(&mut self, role: Role) -> anyhow::Result<&mut Service> {
        let index = self.count(role);
        let name = if index == 0 { role.to_string() } else { format!("{role}-{index}") };
        let addresses = &self.options.addresses;
        let (listen, admin) = match role {
            Role::Ingest => (Some(addresses.ingest), addresses.ingest_admin),
            Role::Flusher => (None, addresses.flusher_admin),
            Role::Dashboard => (Some(addresses.dashboard), addresses.dashboard_admin),
        };
        let links = self.options.proxies.then(|| Links::start(&self.redis, &self.mariadb)).transpose()?;
        let mut env = self.env();
        if role == Role::Ingest {
            let journal = self.journal().map_or_else(|| "off".to_owned(), |dir| dir.display().to_string());
            env.insert(0, ("FOOTFALL_INGEST__JOURNAL".to_owned(), journal));
        }
        if let Some(links) = &links {
            let StackOptions { database_user, mariadb: MariaDbOptions { database, .. }, .. } = &self.options;
            let mysql = as_user(database_user, &links.mysql.mysql_url(database));
            env.push(("FOOTFALL_REDIS__URL".to_owned(), links.redis.redis_url()));
            env.push(("FOOTFALL_DATABASE__URL".to_owned(), mysql));
        }
        let launch = Launch {
            role,
            program: self.options.binaries.join(format!("footfall-{role}")),
            env,
            links,
            log: self.options.dir.join(format!("logs/{name}.log")),
            announcement: self.options.dir.join(format!("logs/{name}.addresses")),
            name,
        };
        let service = Service::start(launch, ServiceAddresses { listen, admin })?;
        self.services.push(service);
        Ok(self.services.last_mut().expect("just pushed"))
    }
}

/// The URL of the sandbox, which is the administrator's, for another user.
fn as_user(user: &str, url: &str) -> String {
    url.replacen(&format!("//{ADMINISTRATOR}@"), &format!("//{user}@"), 1)
}
