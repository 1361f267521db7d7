//! What an operator installs: units that systemd understands and that confine their services, and a Debian package that
//! comes, is upgraded, and goes without a trace.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use footfall_shared::redis::follower::FOLLOWED_BYTES_MAX;
use footfall_shared::service::config::Config;
use tempfile::TempDir;
use xtask::notices;
use xtask::package::{self, PROGRAMS};

const SERVICES: [&str; 3] = ["footfall-ingest", "footfall-flusher", "footfall-dashboard"];

/// The folder of the programs that were built with this test.
fn binaries() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its program");
    test.parent().and_then(Path::parent).expect("tests are built into target/PROFILE/deps").to_owned()
}

/// Whether it succeeded, and all that it said.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[track_caller]
fn succeed(command: &mut Command) -> String {
    let (ok, said) = run(command);
    assert!(ok, "{command:?}: {said}");
    said
}

// ---- units ----

/// The units, changed, with the programs where they are now; answers what `systemd-analyze` finds in them.
fn findings(change: impl Fn(String) -> String) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut units = Vec::new();
    for name in SERVICES.map(|service| format!("{service}.service")).into_iter().chain(["footfall.target".into()]) {
        let text = fs::read_to_string(xtask::root().join("systemd").join(&name)).expect("a unit");
        let built = change(text).replace("/usr/bin/", &format!("{}/", binaries().display()));
        units.push(folder.path().join(name));
        fs::write(units.last().expect("just pushed"), built).expect("written");
    }
    // It warns of what it does not know, and calls that a success.
    let (verified, said) = run(Command::new("systemd-analyze").arg("verify").args(&units));
    let mut findings: Vec<String> = said.lines().map(str::to_owned).collect();
    if !verified {
        findings.push("systemd-analyze verify fails".into());
    }
    for unit in units.iter().filter(|unit| unit.extension().is_some_and(|kind| kind == "service")) {
        // Of 100; most services of a Debian have above 90.
        let (below, said) =
            run(Command::new("systemd-analyze").args(["security", "--offline=yes", "--threshold=15"]).arg(unit));
        if !below {
            findings.push(format!("exposed: {}", said.lines().last().unwrap_or_default()));
        }
    }
    findings
}

#[test]
fn the_units_are_valid_and_confine() {
    assert_eq!(findings(|unit| unit), [""; 0]);
    for (from, to, said) in [
        ("RestartSec=1", "RestartSecs=1", "RestartSecs"),
        ("/usr/bin/footfall-", "/usr/bin/footfalls-", "not executable"),
        ("CapabilityBoundingSet=\n", "", "exposed"),
        ("DynamicUser=yes\n", "", "exposed"),
    ] {
        let findings = findings(|unit| unit.replace(from, to));
        assert!(findings.iter().any(|finding| finding.contains(said)), "{from} -> {to}: {findings:?}");
    }
}

#[test]
fn what_a_service_held_in_memory_is_not_written_to_a_file() {
    for service in SERVICES {
        let unit = fs::read_to_string(xtask::root().join(format!("systemd/{service}.service"))).expect("a unit");
        assert!(unit.lines().any(|line| line == "LimitCORE=0"), "{service}");
    }
}

/// Each unit bounds its memory, with room for what the default limits let others take: the sums are in the units.
#[test]
fn a_service_cannot_take_the_machines_memory() {
    const KIB: u64 = 1 << 10;
    const ITSELF: u64 = 64 << 20;
    let Config { ingest, flusher, dashboard, .. } = Config::default();
    let bytes = |number: usize| u64::try_from(number).expect("a number");
    let most = |number: NonZeroUsize| bytes(number.get());
    for (service, needed) in [
        (
            "footfall-ingest",
            most(ingest.connections_max) * 64 * KIB
                + 2 * most(ingest.bodies_bytes_max)
                + most(ingest.queue_views_max) * KIB
                + most(ingest.retained_bytes_max)
                + bytes(FOLLOWED_BYTES_MAX),
        ),
        ("footfall-flusher", 2 * flusher.transaction_views_max.get() * KIB),
        ("footfall-dashboard", most(dashboard.connections_max) * 64 * KIB + bytes(FOLLOWED_BYTES_MAX)),
    ] {
        let unit = fs::read_to_string(xtask::root().join(format!("systemd/{service}.service"))).expect("a unit");
        let allowed =
            unit.lines().find_map(|line| line.strip_prefix("MemoryMax=")?.strip_suffix('G')?.parse::<u64>().ok());
        let allowed = allowed.unwrap_or_else(|| panic!("{service}: no MemoryMax in G")) << 30;
        let needed = needed + ITSELF;
        assert!(needed <= allowed, "{service}: {needed} bytes can be needed, and {allowed} are allowed");
    }
}

// ---- the package ----

/// Each package of others in the programs, with its licence, and its text if it has one; nothing of our own.
#[test]
fn the_package_says_what_is_in_it() {
    let notices = notices::of(&PROGRAMS).expect("cargo knows");
    let list = notices.split("\n\n").nth(1).expect("the list");
    let has = |name: &str| list.lines().any(|line| line.split(' ').next() == Some(name));
    for built_in in ["hyper", "tokio", "redis", "sea-orm", "sqlx-mysql", "tokio-tungstenite", "prometheus", "clap"] {
        assert!(has(built_in), "{built_in} is missing");
    }
    for other in ["footfall-shared", "proptest", "stateright", "mlua", "fantoccini"] {
        assert!(!has(other), "{other} is not of others, or only of tests");
    }
    assert!(list.lines().all(|line| line.starts_with("    by ") || line.contains(": ")), "{list}");
    // In programs of this kind there are hundreds; each with its text, or its authors.
    assert!(list.lines().count() > 100 && notices.matches("Permission is hereby granted").count() > 10);
}

/// Where packages are installed that are not meant to stay.
struct Root {
    /// The whole of it.
    path: PathBuf,
    /// What was changed in it.
    changes: PathBuf,
    /// Keeps the mounts while it runs; they are in a namespace of its own and end with it.
    mounts: Option<(Child, String)>,
    _folder: TempDir,
}

impl Drop for Root {
    fn drop(&mut self) {
        if let Some((holder, _)) = &mut self.mounts {
            drop(holder.stdin.take()); // The end of its input is its end.
            let _ = holder.wait();
        }
    }
}

const MOUNTS: &str = "mount -t tmpfs footfall \"$0\"\n\
    cd \"$0\"; mkdir changes work root\n\
    mount -t overlay footfall -o lowerdir=/,upperdir=changes,workdir=work root\n\
    mount -t proc proc root/proc; mount --rbind /dev root/dev\n\
    echo mounted; read -r end || true";

impl Root {
    /// This machine, as it is, with all changes kept in memory; or why that cannot be had.
    fn of_this_machine() -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private", "sh", "-ec", MOUNTS]).arg(folder.path());
        unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = unshare.spawn().map_err(|error| error.to_string())?;
        let mut said = String::new();
        BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut said).expect("read");
        if said != "mounted\n" {
            let output = holder.wait_with_output().expect("it has ended");
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        let inside = folder.path().join("root").display().to_string();
        // Its mounts can be seen from here, in this way only.
        let seen = PathBuf::from(format!("/proc/{}/root{}", holder.id(), folder.path().display()));
        let (path, changes) = (seen.join("root"), seen.join("changes"));
        Ok(Self { path, changes, mounts: Some((holder, inside)), _folder: folder })
    }

    /// An empty folder that `dpkg` takes for a machine without any package. Needs no rights.
    fn empty() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().to_owned();
        for made in ["info", "updates", "triggers"] {
            fs::create_dir_all(path.join("var/lib/dpkg").join(made)).expect("a folder");
        }
        fs::write(path.join("var/lib/dpkg/status"), "").expect("written");
        Self { changes: path.clone(), path, mounts: None, _folder: folder }
    }

    /// A program of the root, run in it.
    fn command(&self, program: &str) -> Command {
        let mut command;
        match &self.mounts {
            Some((holder, inside)) => {
                command = Command::new("nsenter");
                command.arg(format!("--mount=/proc/{}/ns/mnt", holder.id())).args(["chroot", inside, program]);
            }
            None => command = Command::new(self.path.join(program.trim_start_matches('/'))),
        }
        command
    }

    /// `dpkg` as nobody sits before it: who has changed a file keeps it.
    #[track_caller]
    fn dpkg(&self, arguments: &[&str]) {
        let mut dpkg;
        if self.mounts.is_some() {
            dpkg = self.command("dpkg");
        } else {
            dpkg = Command::new("dpkg");
            dpkg.arg(format!("--root={}", self.path.display()));
            dpkg.args(["--force-not-root", "--force-script-chrootless", "--force-depends"]);
        }
        dpkg.args(["--force-confdef", "--force-confold"]).args(arguments);
        // It looks for programs of an administrator.
        dpkg.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        println!("{}", succeed(&mut dpkg));
    }

    /// Installs a package, which is not left in the root.
    #[track_caller]
    fn install(&self, package: &Path) {
        if self.mounts.is_none() {
            return self.dpkg(&["--install", &package.display().to_string()]);
        }
        fs::copy(package, self.path.join("footfall.deb")).expect("copied");
        self.dpkg(&["--install", "/footfall.deb"]);
        fs::remove_file(self.path.join("footfall.deb")).expect("removed");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path.join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
        fs::write(path, text).expect("written");
    }

    /// What was changed but for dpkg's own books: files, and folders that were made for us.
    fn traces(&self) -> Vec<String> {
        fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(folder).expect("a folder").flatten() {
                let path = entry.path();
                let below = path.strip_prefix(root).expect("it is below").display().to_string();
                let is_folder = entry.file_type().expect("a kind").is_dir();
                if ["var/lib/dpkg", "var/log"].contains(&below.as_str()) {
                    continue;
                }
                if is_folder {
                    walk(root, &path, found);
                }
                if !is_folder || below.contains("footfall") {
                    found.push(below);
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.changes, &self.changes, &mut found);
        found
    }
}

/// Two versions of the package; the second one brings changed samples.
fn packages(folder: &Path) -> [PathBuf; 2] {
    let tree = folder.join("tree");
    package::lay_out(&binaries(), "1.0", &tree).expect("laid out");
    let packages = ["1.0", "1.1"].map(|version| folder.join(format!("footfall_{version}.deb")));
    package::pack(&tree, &packages[0]).expect("packed");
    let change = |name: &str, change: fn(String) -> String| {
        let text = fs::read_to_string(tree.join(name)).expect("text");
        fs::write(tree.join(name), change(text)).expect("written");
    };
    change("DEBIAN/control", |text| text.replace("Version: 1.0\n", "Version: 1.1\n"));
    change("etc/footfall/footfall.toml", |text| text + "# of 1.1\n");
    change("etc/footfall/env", |text| text + "# of 1.1\n");
    package::pack(&tree, &packages[1]).expect("packed");
    packages
}

/// Install, set up, upgrade, remove, purge.
fn live(root: &Root, [first, second]: &[PathBuf; 2]) {
    // What a Footfall that lived on this machine has left is not this test's.
    for of_another in ["etc/footfall", "var/lib/footfall", "var/lib/private/footfall"] {
        let _ = fs::remove_dir_all(root.path.join(of_another)); // It is rarely there.
    }
    let before = root.traces();

    root.install(first);
    let version = |said: String| said.split_whitespace().last().map(str::to_owned);
    for program in PROGRAMS {
        let said = succeed(root.command(&format!("/usr/bin/{program}")).arg("--version"));
        assert_eq!(version(said).as_deref(), Some(env!("CARGO_PKG_VERSION")), "{program}");
    }
    assert!(root.read("usr/share/doc/footfall/third-party-licences").contains("\nhyper "));
    for secret in ["redis.url", "database.url", "dashboard.token"] {
        let mode = fs::metadata(root.path.join("etc/footfall").join(secret)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    // What postinst says, and nothing is enabled before.
    assert!(!root.path.join("etc/systemd/system/multi-user.target.wants/footfall.target").is_symlink());
    succeed(
        Command::new("systemctl").arg(format!("--root={}", root.path.display())).args(["enable", "footfall.target"]),
    );
    assert!(root.path.join("etc/systemd/system/multi-user.target.wants/footfall.target").is_symlink());
    for service in SERVICES {
        let link = root.path.join(format!("etc/systemd/system/footfall.target.wants/{service}.service"));
        assert!(link.is_symlink(), "{service} is started by the target");
    }

    // An operator, and a life. The folder of systemd's own is not ours to remove.
    let (settings, url) =
        (root.read("etc/footfall/footfall.toml") + "\nx = 1\n", "mysql://footfall:s3cret@db/footfall\n");
    root.write("etc/footfall/footfall.toml", &settings);
    root.write("etc/footfall/database.url", url);
    root.write("etc/footfall/ca.pem", "a certificate");
    root.write("var/lib/private/footfall/journal/00", "views");
    symlink("private/footfall", root.path.join("var/lib/footfall")).expect("a link");

    root.install(second);
    assert!(root.read("var/lib/dpkg/status").contains("Version: 1.1\n"));
    assert_eq!(root.read("etc/footfall/footfall.toml"), settings, "what was changed is kept");
    assert_eq!(root.read("etc/footfall/database.url"), url, "what was changed is kept");
    assert!(root.read("etc/footfall/env").ends_with("# of 1.1\n"), "what was not changed is new");
    assert_eq!(root.read("var/lib/footfall/journal/00"), "views");

    root.dpkg(&["--remove", "footfall"]);
    assert!(!root.path.join("usr/bin/footfall").exists());
    assert_eq!(root.read("etc/footfall/footfall.toml"), settings);
    assert_eq!(root.read("var/lib/footfall/journal/00"), "views");

    root.dpkg(&["--purge", "footfall"]);
    assert_eq!(root.traces(), before, "it leaves nothing behind");
}

#[test]
fn the_package_lives_and_goes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let packages = packages(folder.path());
    live(&Root::empty(), &packages);
    let root = match Root::of_this_machine() {
        Ok(root) => root,
        Err(why) => {
            // Not by the macros, which tests keep to themselves while they pass: somebody must see it.
            let _ = writeln!(
                io::stderr(),
                "NOT CHECKED: the package in an overlay of this machine, which needs root and mount namespaces ({why}). \
                 Checked all the same, in an empty root: install, programs, upgrade, remove, purge. Not checked: its \
                 dependencies, its scripts in their own root, and its configuration under /etc."
            );
            return;
        }
    };
    live(&root, &packages);

    // Where /etc is the root's own: what the samples say is what is in force.
    root.install(&packages[0]);
    let checked = |root: &Root| run(root.command("sh").args(["-c", ". /etc/footfall/env; footfall check-config"]));
    let (ok, said) = checked(&root);
    assert!(ok && said.starts_with("# ok: "), "{said}");
    root.write("etc/footfall/database.url", "mysql://footfall:s3cret@db.example/footfall\n");
    let (ok, said) = checked(&root);
    assert!(ok && said.contains("db.example") && !said.contains("s3cret"), "{said}");
}
