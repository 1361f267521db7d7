//! A machine, with the package on it and ready to count.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use footfall_sandbox::{Process, Signal};
use tempfile::TempDir;
use xtask::machine::Machine;
use xtask::package;

/// Views per second that a machine takes beside all else.
pub(crate) const RATE: u64 = 500;

const SET_UP: &str = "
apt-get install -y -q ./footfall_1.0.deb
echo 'mysql://footfall:s3cret@127.0.0.1:3306/footfall' > /etc/footfall/database.url
mariadb --execute \"CREATE DATABASE footfall; CREATE USER footfall@127.0.0.1 IDENTIFIED BY 's3cret';
    GRANT ALL ON footfall.* TO footfall@127.0.0.1\"
sed -i 's/^\\[ingest\\]$/&\\ndurability = \"process\"/' /etc/footfall/footfall.toml
";

const READY: &str = "
for port in 8010 8011 8012; do
    until curl -s http://127.0.0.1:$port/readyz | grep -x ready; do sleep 0.5; done
done";

pub(crate) struct Site {
    pub(crate) machine: Machine,
    pub(crate) folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// One at a time: a machine takes all that there is.
static TURN: Mutex<()> = Mutex::new(());

/// The folder of the programs that were built with this test.
pub(crate) fn binaries() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its program");
    test.parent().and_then(Path::parent).expect("tests are built into target/PROFILE/deps").to_owned()
}

/// Not by the macros, which tests keep to themselves while they pass: somebody must see it.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

impl Site {
    /// A machine that has just been started; none where that cannot be had.
    pub(crate) fn bare() -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner); // A failed test has had its turn too.
        let folder = tempfile::tempdir_in(xtask::target_dir()).expect("a temporary folder");
        let machine = match Machine::new(folder.path()) {
            Ok(machine) => machine,
            Err(why) => {
                say(&format!("NOT CHECKED: a machine of its own ({why:#})"));
                return None;
            }
        };
        let mut site = Self { machine, folder, _turn: turn };
        site.boot();
        Some(site)
    }

    /// The same with the package, installed and set up by the runbook.
    pub(crate) fn new() -> Option<Self> {
        let site = Self::bare()?;
        site.bring("1.0");
        site.run(SET_UP);
        site.run(&xtask::commands_of_runbook("Installing"));
        site.await_ready();
        Some(site)
    }

    /// Packs the programs, as this version, and copies the package into the machine's first folder.
    pub(crate) fn bring(&self, version: &str) {
        let tree = self.folder.path().join("tree");
        if !tree.exists() {
            package::lay_out(&binaries(), version, &tree).expect("laid out");
        }
        let control = tree.join("DEBIAN/control");
        let text = fs::read_to_string(&control).expect("text");
        let text = text.lines().map(|line| match line.split_once(": ") {
            Some(("Version", _)) => format!("Version: {version}\n"),
            _ => format!("{line}\n"),
        });
        fs::write(&control, text.collect::<String>()).expect("written");
        let package = self.folder.path().join("footfall.deb");
        package::pack(&tree, &package).expect("packed");
        self.machine.copy(&package, &format!("footfall_{version}.deb")).expect("copied");
    }

    pub(crate) fn boot(&mut self) {
        let started = Instant::now();
        self.machine.boot().unwrap_or_else(|error| panic!("{error:#}"));
        say(&format!("booted in {:.0} s", started.elapsed().as_secs_f64()));
    }

    /// What a script of root's wrote; each of its commands succeeds.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> String {
        self.machine.run(script).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Waits until each of the three says that all is well.
    #[track_caller]
    pub(crate) fn await_ready(&self) {
        let states = "systemctl status 'footfall-*' redis-server mariadb --no-pager --lines 5; \
                      for port in 8010 8011 8012; do curl -s http://127.0.0.1:$port/readyz; echo; done";
        self.run(&format!("timeout 300 sh -c '{READY}' || {{ {states}; exit 1; }}"));
    }

    /// Starts `footfall load`, from outside, and returns when it is under way.
    pub(crate) fn load(&self, name: &str) -> Load {
        let mut tool = self.machine.in_its_network().expect("it runs");
        tool.arg(binaries().join("footfall"));
        Load::start(tool, "http://127.0.0.1:8000", RATE, &self.ledger(name))
    }

    /// A file that is none of the machine's.
    pub(crate) fn ledger(&self, name: &str) -> PathBuf {
        self.folder.path().join(name).with_extension("tsv")
    }

    /// What `footfall verify` finds in it: see [`found`].
    #[track_caller]
    pub(crate) fn verify(&self, ledger: &Path) -> (u64, u64) {
        self.machine.copy(ledger, "ledger.tsv").expect("copied");
        found(&self.run(". /etc/footfall/env; footfall verify --wait 20 --ledger ledger.tsv 2>&1 || true"))
    }
}

/// What `footfall verify` says: acknowledged views that are missing, and views that are too many.
#[track_caller]
pub(crate) fn found(said: &str) -> (u64, u64) {
    let line = said.lines().rfind(|line| line.contains(" missing, ")).unwrap_or_else(|| panic!("{said}"));
    let mut numbers = line.split(", ").map(|part| part.split(' ').next().unwrap_or_default().replace(',', ""));
    let mut number = || numbers.next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{line}"));
    let (missing, extra) = (number(), number());
    if line != "0 missing, 0 extra" {
        say(said);
    }
    (missing, extra)
}

/// A load under way.
pub(crate) struct Load {
    process: Process,
    ledger: PathBuf,
}

impl Load {
    /// By this tool, to the ingests at these addresses, so many views per second; returns when it is under way.
    pub(crate) fn start(mut tool: Command, urls: &str, rate: u64, ledger: &Path) -> Self {
        tool.args(["load", "--url", urls, "--ledger"]).arg(ledger);
        tool.args(["--rate", &rate.to_string(), "--views", &(rate * 3_600).to_string()]);
        tool.args(["--articles", "200", "--users", "2000", "--connections", "32", "--patience", "300"]);
        let mut process = Process::spawn(tool, &ledger.with_extension("log")).expect("footfall load starts");
        let begun = || match fs::read_to_string(ledger).unwrap_or_default().matches("\tacknowledged").count() {
            0 => Err(io::Error::other("nothing is counted")),
            _ => Ok(()),
        };
        process.wait_until(Duration::from_secs(60), begun).expect("it counts");
        Self { process, ledger: ledger.to_owned() }
    }

    /// Ends it; answers its ledger, and how many views were acknowledged.
    pub(crate) fn finish(mut self) -> (PathBuf, usize) {
        self.process.signal(Signal::INT).expect("it runs");
        let status = self.process.wait(Duration::from_secs(60)).expect("it ends");
        assert!(status.success(), "{}", self.process.failure("failed"));
        let acknowledged = fs::read_to_string(&self.ledger).expect("a ledger").matches("\tacknowledged").count();
        (self.ledger, acknowledged)
    }
}
