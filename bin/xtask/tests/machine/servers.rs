//! Stores of other makes and versions than those of Debian: the drill hurts them as it hurts those, and no view may be lost
//! or doubled. They are unpacked from a newer Debian below the target folder, and run with the libraries that they bring.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use xtask::packages;

use crate::site::{binaries, say};

/// Begins with the folder, the name of the Debian, and the package. What a mirror has of a Debian that is not released may be older
/// than that Debian allows.
const UNPACK: &str = r#"
rm -rf "$1.partial"
mmdebstrap --quiet --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' --include="$3" "$2" "$1.partial"
mkdir "$1.partial/programs"
mv "$1.partial" "$1"
"#;

struct Server {
    name: &'static str,
    debian: &'static str,
    package: &'static str,
    /// By which names the drill starts it: files in the folder beside this one. Its version is asked of the first.
    programs: &'static [&'static str],
    /// What it says of its version.
    version: &'static str,
    /// What `cargo xtask chaos` is to do.
    chaos: &'static [&'static str],
    /// Faults that need what only Debian's own has. Where there are any, each other one is named.
    without: &'static [&'static str],
}

const REDIS_8: Server = Server {
    name: "redis-8",
    debian: "trixie",
    package: "redis-tools",
    programs: &["redis-server"],
    version: "Redis server v=8.",
    chaos: &["--share"],
    without: &[],
};
const VALKEY_8: Server = Server {
    name: "valkey-8",
    debian: "trixie",
    package: "valkey-tools",
    programs: &["redis-server"],
    version: "Valkey server v=8.",
    chaos: &["--share"],
    without: &[],
};
/// Without a share of topologies: Galera is MariaDB's.
const MYSQL_9: Server = Server {
    name: "mysql-9",
    debian: "sid",
    package: "mysql-server-core",
    programs: &["mariadbd", "mariadb-install-db"],
    version: "Ver 9.",
    chaos: &["--rounds=1", "--schedules=10", "--seed=1", "--stacks=3"],
    // MariaDB counts deadlocks for whoever asks, and can be told not to look at rows that a new constraint forbids.
    without: &["deadlocks", "poison-rows"],
};

#[test]
#[ignore = "takes minutes"]
fn redis_8_loses_and_doubles_nothing() {
    REDIS_8.is_hurt();
}

#[test]
#[ignore = "takes minutes"]
fn valkey_8_loses_and_doubles_nothing() {
    VALKEY_8.is_hurt();
}

#[test]
#[ignore = "takes minutes"]
fn mysql_9_loses_and_doubles_nothing() {
    MYSQL_9.is_hurt();
}

impl Server {
    fn is_hurt(&self) {
        let programs = match self.unpacked() {
            Ok(programs) => programs,
            Err(why) => return say(&format!("NOT CHECKED: {} ({why:#})", self.name)),
        };
        let started = programs.with_file_name("started");
        let _ = fs::remove_file(&started); // By the run before.
        let installed = std::env::var_os("PATH").unwrap_or_default();
        let paths = [programs].into_iter().chain(std::env::split_paths(&installed));
        let mut chaos = Command::new(env!("CARGO_BIN_EXE_xtask"));
        chaos.arg("chaos").args(self.chaos).arg("--binaries").arg(binaries());
        if !self.without.is_empty() {
            let names = footfall_proof::of(None).map(|recipe| recipe.name).filter(|name| !self.without.contains(name));
            chaos.args(names.flat_map(|name| ["--fault", name]));
        }
        chaos.env("PATH", std::env::join_paths(paths).expect("no path here has a colon"));
        let output = chaos.output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let times = fs::read_to_string(started).unwrap_or_default().lines().count();
        assert!(times > 10, "{} was started {times} times", self.name);
        let summary = said.lines().find(|line| line.contains(" runs in ")).unwrap_or_default();
        say(&format!("{}, started {times} times: {summary}", self.name));
    }

    /// The folder of its programs.
    fn unpacked(&self) -> anyhow::Result<PathBuf> {
        ensure!(rustix::process::geteuid().is_root(), "it needs root");
        packages::ensure(packages::UNPACKING)?;
        let folder = xtask::target_dir().join("footfall-servers").join(self.name);
        fs::create_dir_all(folder.parent().expect("it has one"))?;
        let lock = File::create(folder.with_extension("lock"))?;
        lock.lock()?;
        if !folder.exists() {
            say(&format!("Unpacking {} to {} ...", self.package, folder.display()));
            let mut unpack = Command::new("sh");
            unpack.args(["-euc", UNPACK, "unpack"]).arg(&folder).args([self.debian, self.package]);
            said(&mut unpack)?;
        }
        let (scripts, programs) = (xtask::root().join("bin/xtask/tests/machine/servers"), folder.join("programs"));
        for program in self.programs {
            fs::copy(scripts.join(program), programs.join(program))?;
        }
        let version = said(Command::new(programs.join(self.programs[0])).arg("--version"))?;
        ensure!(version.contains(self.version), "it is another version: {version}");
        Ok(programs)
    }
}

/// What a program writes to its output.
fn said(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{} did not start", command.get_program().display()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
