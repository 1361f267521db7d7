//! The kinds of stack that faults need. Faults of the same kind share one stack, one after the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use footfall_proof::{Setup, Topology};
use footfall_sandbox::{AppendFsync, MariaDbOptions, RedisOptions, find_program};

use crate::stack::{Journal, StackOptions};

/// How long a lease lasts in a drill: short, so that another flusher takes over within a short run.
pub(crate) const LEASE: Duration = Duration::from_millis(800);
/// Size of the disk that is filled up.
const SMALL_DISK: &str = "64m";
/// Where Debian's package puts it, below a folder that is named after the machine's kind.
const FAKETIME: &str = "faketime/libfaketimeMT.so.1";

/// Why this kind of stack cannot be had on this machine, if it cannot.
pub(crate) fn obstacle(setup: Setup, galera: Option<&Path>) -> Option<String> {
    match setup {
        Setup::Usual | Setup::NoLeases | Setup::Several(Topology::Sentinel | Topology::Cluster) => None,
        Setup::Several(Topology::Galera) => {
            galera.is_none().then(|| "Galera's library is not installed (sudo apt-get install -y galera-4)".to_owned())
        }
        Setup::SmallDisk => {
            let dir = tempfile::tempdir().ok()?;
            let mounted = Mount::tmpfs(dir.path());
            mounted.err().map(|error| format!("a small disk cannot be mounted ({error:#})"))
        }
        Setup::Clock => faketime()
            .is_none()
            .then(|| "the package faketime is not installed (sudo apt-get install -y faketime)".to_owned()),
        Setup::Simulated(_) => Some("this plan is for the simulation".to_owned()),
    }
}

/// The stack's options.
pub(crate) fn options(setup: Setup, dir: &Path, binaries: &Path) -> StackOptions {
    let mut options = StackOptions {
        redis: RedisOptions { append_fsync: AppendFsync::Always, ..RedisOptions::default() },
        mariadb: MariaDbOptions { buffer_pool_mib: 128, ..StackOptions::new(dir, binaries).mariadb },
        ingests: 2,
        flushers: 2,
        dashboards: 0,
        proxies: setup.topology().is_none(),
        database_user: "footfall".to_owned(),
        ..StackOptions::new(dir, binaries)
    };
    let mut set = |name: &str, value: String| options.env.push((format!("FOOTFALL_{name}"), value));
    // Shorter than usual, so that what hangs is noticed within a short run.
    set("REDIS__TIMEOUT_MS", "500".to_owned());
    set("DATABASE__TIMEOUT_MS", "1000".to_owned());
    set("INGEST__DRAIN_MS", "600".to_owned());
    set("FLUSHER__LEASE_MS", LEASE.as_millis().to_string());
    match setup {
        Setup::Usual | Setup::Several(_) | Setup::Simulated(_) => {}
        Setup::NoLeases => {
            set("FLUSHER__LEASE_MS", "0".to_owned());
            options.flushers = 3;
        }
        Setup::SmallDisk => options.journal = Journal::At(dir.join("small")),
        Setup::Clock => {
            let library = faketime().expect("this setup has no obstacle");
            for (name, value) in [
                ("LD_PRELOAD", library.display().to_string()),
                ("FAKETIME_TIMESTAMP_FILE", clock_file(dir).display().to_string()),
                // Only the time of day changes, and not how long a wait lasts, as when somebody sets a machine's clock.
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
                ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ] {
                options.env.push((name.to_owned(), value));
            }
        }
    }
    options
}

/// What must be there before the stack is started, and is taken away after it has ended.
pub(crate) fn prepare(setup: Setup, dir: &Path) -> anyhow::Result<Option<Mount>> {
    match setup {
        Setup::Usual | Setup::NoLeases | Setup::Several(_) | Setup::Simulated(_) => Ok(None),
        Setup::SmallDisk => {
            let small = dir.join("small");
            fs::create_dir(&small)?;
            Mount::tmpfs(&small).map(Some)
        }
        Setup::Clock => {
            set_clock(dir, 0)?;
            Ok(None)
        }
    }
}

fn faketime() -> Option<PathBuf> {
    find_program("faketime")?;
    let folders = fs::read_dir("/usr/lib").ok()?.flatten();
    folders.map(|folder| folder.path().join(FAKETIME)).find(|library| library.exists())
}

fn clock_file(dir: &Path) -> PathBuf {
    dir.join("clock")
}

/// Moves the services' clock so many seconds away from the machine's. They look every second.
pub(crate) fn set_clock(dir: &Path, seconds: i64) -> anyhow::Result<()> {
    let new = dir.join("clock.new");
    fs::write(&new, format!("{seconds:+}\n"))?;
    // At once, so that nobody reads half of it.
    fs::rename(new, clock_file(dir)).context("the clock could not be set")
}

/// A small disk in memory, gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Mount(PathBuf);

impl Mount {
    fn tmpfs(at: &Path) -> anyhow::Result<Self> {
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={SMALL_DISK},mode=700"), "tmpfs"])
            .arg(at)
            .output()
            .context("mount did not start")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a killed process may not be gone entirely. Nothing could be done about a failure.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}
