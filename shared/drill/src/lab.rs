//! A running stack to be hurt.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use footfall_sandbox::{Action, Injection, Message};
use tempfile::TempDir;

use crate::probe::{self, Target};
use crate::scripts::Scripts;
use crate::setting::{Mount, Setting};
use crate::stack::{Links, Role, Stack, StackOptions};

/// How long a fault waits for the moment that it was made for.
const OCCASION: Duration = Duration::from_secs(6);
const POLL: Duration = Duration::from_millis(2);

/// How far a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// For CI and for a look: a few seconds per fault.
    Short,
    /// The real lengths: 30 s of standing still, a million readers.
    Long,
}

/// The moment that a fault was made for did not come.
#[derive(Debug)]
pub(crate) struct NotHit(&'static str);

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

/// One of the stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    Redis,
    MySql,
}

/// A stack with its folder, and what faults must know of the run.
#[derive(Debug)]
pub(crate) struct Lab {
    /// Dropped first: the services end before their disk goes.
    pub(crate) stack: Stack,
    _mount: Option<Mount>,
    pub(crate) scripts: Scripts,
    pub(crate) scale: Scale,
    pub(crate) setting: Setting,
    /// What the articles of the present load begin with.
    pub(crate) article_prefix: String,
    /// See [`crate::run::Measured::untold`]: of the present run.
    pub(crate) untold: u64,
    /// Counts what is put into the folder.
    files: u32,
    dir: TempDir,
}

impl Lab {
    /// Starts a stack in a temporary folder. `change` may alter its options.
    pub(crate) fn start(
        setting: Setting,
        scale: Scale,
        binaries: &Path,
        scripts: &Scripts,
        change: impl FnOnce(&mut StackOptions),
    ) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("footfall-drill-").tempdir()?;
        let mount = setting.prepare(dir.path())?;
        let mut options = setting.options(dir.path(), binaries);
        change(&mut options);
        let stack = Stack::start(options)?;
        let scripts = scripts.clone();
        Ok(Self {
            stack,
            _mount: mount,
            scripts,
            scale,
            setting,
            article_prefix: String::new(),
            untold: 0,
            files: 0,
            dir,
        })
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

    /// `short` in a short run, `long` in a long one.
    pub(crate) fn scaled<T>(&self, short: T, long: T) -> T {
        match self.scale {
            Scale::Short => short,
            Scale::Long => long,
        }
    }

    /// The proxies of all services of a kind, in order.
    pub(crate) fn links(&mut self, role: Role) -> Vec<&Links> {
        self.stack.services().iter().filter(|service| service.role() == role).map(|service| service.links()).collect()
    }

    /// Puts a rule into the proxy of every service of a kind, for so many times each.
    pub(crate) fn inject_all(
        &mut self,
        role: Role,
        store: Store,
        matcher: &(impl Fn(&Message) -> bool + Clone + Send + 'static),
        action: fn() -> Action,
        times: u64,
    ) -> Vec<Injection> {
        self.links(role)
            .into_iter()
            .map(|links| {
                let proxy = match store {
                    Store::Redis => &links.redis,
                    Store::MySql => &links.mysql,
                };
                proxy.inject(matcher.clone(), action(), times)
            })
            .collect()
    }

    /// Waits until one of the services of a kind is about to do what matches, or has done it (`HoldReply`), and holds it
    /// there; answers which one. The others go on.
    pub(crate) fn catch(
        &mut self,
        role: Role,
        store: Store,
        what: &'static str,
        matcher: impl Fn(&Message) -> bool + Clone + Send + 'static,
        action: fn() -> Action,
    ) -> anyhow::Result<(usize, Injection)> {
        let mut rules = self.inject_all(role, store, &matcher, action, 1);
        let caught = wait(|| rules.iter().position(|rule| rule.held() > 0));
        for (index, rule) in rules.iter().enumerate() {
            rule.remove();
            if Some(index) != caught {
                rule.release();
            }
        }
        let caught = caught.ok_or(NotHit(what))?;
        Ok((caught, rules.swap_remove(caught)))
    }

    /// Waits until a rule was at work on at least one of the proxies.
    pub(crate) fn wait_fired(&self, what: &'static str, rules: &[Injection]) -> anyhow::Result<()> {
        let fired = wait(|| rules.iter().position(|rule| rule.fired() > 0));
        Ok(fired.map(drop).ok_or(NotHit(what))?)
    }

    /// Waits until a condition is there that the fault cannot do without.
    pub(crate) fn wait_for(&self, what: &'static str, mut is_so: impl FnMut() -> bool) -> anyhow::Result<()> {
        Ok(wait(|| is_so().then_some(())).ok_or(NotHit(what))?)
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
        for service in self.stack.services() {
            service.links().redis.heal()?;
            service.links().mysql.heal()?;
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

    /// Runs statements as the administrator of MariaDB.
    pub(crate) fn sql(&self, sql: &str) -> anyhow::Result<()> {
        self.stack.mariadb.query(sql).map(drop).with_context(|| sql.to_owned())
    }

    /// One number from MariaDB.
    pub(crate) fn number(&self, sql: &str) -> anyhow::Result<i64> {
        let rows = self.stack.mariadb.query(sql)?;
        let value = rows.first().and_then(|row| row.last()).with_context(|| format!("{sql}: no answer"))?;
        value.parse().with_context(|| format!("{sql}: {value:?} is not a number"))
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
