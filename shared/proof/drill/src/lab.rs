//! A running stack to be hurt.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use footfall_proof::{Setup, Store, Who};
use footfall_sandbox::{Action, Injection, MariaDb, Message};
use tempfile::TempDir;

use crate::probe::{self, Target};
use crate::scripts::Scripts;
use crate::setting::{self, Mount};
use crate::several::{self, Several};
use crate::stack::{Links, Role, Service, Stack};

/// How long a fault waits for the moment that it was made for.
const OCCASION: Duration = Duration::from_secs(6);
const POLL: Duration = Duration::from_millis(2);

/// Whether a message is the one that is meant.
pub(crate) type Matcher = Arc<dyn Fn(&Message) -> bool + Send + Sync>;

/// The moment that a fault was made for did not come.
#[derive(Debug)]
pub(crate) struct NotHit(pub(crate) String);

impl std::fmt::Display for NotHit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it did not come to {} within {} s", self.0, OCCASION.as_secs())
    }
}

impl std::error::Error for NotHit {}

/// This fault cannot be had here, and why.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// A stack with its folder, and what faults must know of the run.
#[derive(Debug)]
pub(crate) struct Lab {
    /// Dropped first: the services end before their disk goes.
    pub(crate) stack: Stack,
    /// The stores that it uses instead of its own, if they are of several servers.
    pub(crate) several: Option<Several>,
    _mount: Option<Mount>,
    pub(crate) scripts: Scripts,
    pub(crate) setup: Setup,
    /// What the articles of the present load begin with.
    pub(crate) article_prefix: String,
    /// How often shards got another server in the present run; those are named whose server something was done to at all.
    pub(crate) changes: BTreeMap<u16, u64>,
    /// See [`crate::run::Measured::untold`]: of the present run.
    pub(crate) untold: u64,
    /// Counts what is put into the folder.
    files: u32,
    dir: TempDir,
}

impl Lab {
    /// Starts a stack in a temporary folder.
    pub(crate) fn start(
        setup: Setup,
        binaries: &Path,
        scripts: &Scripts,
        galera: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("footfall-drill-").tempdir()?;
        let mount = setting::prepare(setup, dir.path())?;
        let mut options = setting::options(setup, dir.path(), binaries);
        let several = setup.topology().map(|topology| Several::start(topology, dir.path(), galera, &mut options));
        let several = several.transpose()?;
        let mut stack = Stack::start(options)?;
        if let Some(several) = &several {
            several.complete(&mut stack)?;
        }
        Ok(Self {
            stack,
            several,
            _mount: mount,
            scripts: scripts.clone(),
            setup,
            article_prefix: String::new(),
            changes: BTreeMap::new(),
            untold: 0,
            files: 0,
            dir,
        })
    }

    /// How many shards there are.
    pub(crate) fn shards(&self) -> u16 {
        self.setup.topology().map_or(1, several::shards)
    }

    /// The folder with all data and logs.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends everything and leaves the folder behind.
    pub(crate) fn keep(mut self) -> PathBuf {
        if let Some(journal) = self.stack.journal().filter(|_| self._mount.is_some()) {
            // What is on the small disk goes with it. A copy is a help, no more.
            let _ = std::process::Command::new("cp").arg("-a").arg(journal).arg(self.path("journal")).output();
        }
        self.dir.disable_cleanup(true);
        self.dir.path().to_owned()
    }

    /// A path in the folder that nobody has used yet.
    pub(crate) fn path(&mut self, name: &str) -> PathBuf {
        self.files += 1;
        self.dir.path().join(format!("{name}-{}", self.files))
    }

    /// Everyone of those that are meant.
    pub(crate) fn each(&self, who: Who) -> Vec<Who> {
        let ingests = || (0..self.stack.count(Role::Ingest)).map(Who::Ingest);
        let flushers = || (0..self.stack.count(Role::Flusher)).map(Who::Flusher);
        match who {
            Who::All => ingests().chain(flushers()).collect(),
            Who::Ingests => ingests().collect(),
            Who::Flushers => flushers().collect(),
            Who::Ingest(_) | Who::Flusher(_) => vec![who],
            Who::Reader => vec![],
        }
    }

    /// The services that are meant.
    pub(crate) fn services(&self, who: Who) -> Vec<(Role, usize)> {
        let service = |who| match who {
            Who::Ingest(index) => Some((Role::Ingest, index)),
            Who::Flusher(index) => Some((Role::Flusher, index)),
            _ => None,
        };
        self.each(who).into_iter().filter_map(service).collect()
    }

    /// Their proxies, in the same order.
    pub(crate) fn links(&mut self, who: Who) -> Vec<&Links> {
        let meant = self.services(who);
        let all = self.stack.services();
        let of = |&(role, index)| all.iter().filter(|service| service.role() == role).nth(index);
        meant.iter().filter_map(of).filter_map(Service::links).collect()
    }

    /// Puts a rule into the proxy of each of these services, for so many times each.
    pub(crate) fn inject_all(
        &mut self,
        who: Who,
        store: Store,
        matcher: &Matcher,
        action: Action,
        times: u64,
    ) -> Vec<Injection> {
        let inject = |links: &Links| {
            let matcher = matcher.clone();
            let proxy = match store {
                Store::Redis => &links.redis,
                Store::MySql => &links.mysql,
            };
            proxy.inject(move |message| matcher(message), action, times)
        };
        self.links(who).into_iter().map(inject).collect()
    }

    /// Waits until one of these services is about to do what matches, or has done it (`HoldReply`), and holds it there;
    /// answers which one. The others go on.
    pub(crate) fn catch(
        &mut self,
        who: Who,
        store: Store,
        what: impl std::fmt::Display,
        matcher: &Matcher,
        action: Action,
    ) -> anyhow::Result<(Who, Injection)> {
        let mut rules = self.inject_all(who, store, matcher, action, 1);
        let caught = wait(|| rules.iter().position(|rule| rule.held() > 0));
        for (index, rule) in rules.iter().enumerate() {
            rule.remove();
            if Some(index) != caught {
                rule.release();
            }
        }
        let caught = caught.ok_or_else(|| NotHit(what.to_string()))?;
        let victim = self.each(who).into_iter().nth(caught).expect("each of them has a rule");
        Ok((victim, rules.swap_remove(caught)))
    }

    /// Waits until a condition is there that the fault cannot do without.
    pub(crate) fn wait_for(&self, what: &str, mut is_so: impl FnMut() -> bool) -> anyhow::Result<()> {
        Ok(wait(|| is_so().then_some(())).ok_or_else(|| NotHit(what.to_owned()))?)
    }

    /// What to ask about how all are.
    pub(crate) fn targets(&mut self) -> Vec<Target> {
        let services = self.stack.services().iter();
        services
            .map(|service| Target {
                address: service.listen().unwrap_or_else(|| service.admin()),
                serves_clients: service.role() == Role::Ingest,
            })
            .collect()
    }

    /// Ends whatever a fault left in the proxies, and waits until everything is as at the beginning.
    pub(crate) fn wait_well(&mut self, timeout: Duration) -> anyhow::Result<()> {
        for links in self.stack.services().iter().filter_map(Service::links) {
            links.redis.heal()?;
            links.mysql.heal()?;
        }
        if let Some(several) = &mut self.several {
            several.settle()?;
        }
        let article = format!("{}1", self.article_prefix);
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(what) = self.stack.ended() {
                bail!("{what}");
            }
            let targets = self.targets();
            let Some(ill) = targets.iter().position(|target| !probe::is_well(*target, &article)) else { return Ok(()) };
            if Instant::now() >= deadline {
                let service = &self.stack.services()[ill];
                let said = crate::http::get(targets[ill].address, "/readyz", POLL * 250);
                let said = said.map_or_else(|error| error.to_string(), |answer| answer.body);
                bail!("{} is not well {} s after the last healing: {}", service.name(), timeout.as_secs(), said.trim());
            }
            thread::sleep(POLL * 10);
        }
    }

    /// A MariaDB that has everything.
    pub(crate) fn database(&self) -> &MariaDb {
        let node = match &self.several {
            Some(Several::MySql(galera)) => galera.nodes().next().map(|(_, node)| node),
            _ => None,
        };
        node.unwrap_or(&self.stack.mariadb)
    }

    /// Runs statements as the administrator of MariaDB.
    pub(crate) fn sql(&self, sql: &str) -> anyhow::Result<()> {
        self.database().query(sql).map(drop).with_context(|| sql.to_owned())
    }

    /// One number from MariaDB.
    pub(crate) fn number(&self, sql: &str) -> anyhow::Result<i64> {
        let rows = self.database().query(sql)?;
        let value = rows.first().and_then(|row| row.last()).with_context(|| format!("{sql}: no answer"))?;
        value.parse().with_context(|| format!("{sql}: {value:?} is not a number"))
    }

    /// Views in quarantine.
    pub(crate) fn quarantined(&self) -> anyhow::Result<u64> {
        let sum = self.number("SELECT CAST(COALESCE(SUM(views), 0) AS SIGNED) FROM footfall_quarantine")?;
        Ok(u64::try_from(sum)?)
    }
}

fn wait<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + OCCASION;
    loop {
        match look() {
            None if Instant::now() < deadline => thread::sleep(POLL),
            found => return found,
        }
    }
}
