//! A whole Debian, booted by systemd in a container, whose power can be cut.
//!
//! Its disk is a file behind a server that keeps what was written in memory until it is told to flush, as the cache of a real
//! disk does. When the power is cut, all processes are killed, and that server with them: what was in the kernel's page cache
//! and in the disk's is gone, and whoever said "it is on the disk" too early is found out. The kernel is that of this machine.

mod image;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use footfall_sandbox::Process;
use rustix::process::{Pid, Signal, kill_process};

const DISK_TIMEOUT: Duration = Duration::from_secs(10);
const BOOT_TIMEOUT: Duration = Duration::from_secs(180);

/// Begins with the folder. Mounts and processes are in namespaces of their own: all of them go with the one that begins it.
///
/// The server's disk becomes a file, the file a device, the device a root file system. `nbdfuse` does not see that file system:
/// when it is killed as the last one that does, the kernel unmounts it there, and waits for what only `nbdfuse` could answer.
const START: &str = r#"
cd "$1"
nbdfuse "$1/device/disk" --unix "$1/disk.socket" &
until [ -e device/disk ]; do sleep 0.05; done
exec unshare --mount --propagation private sh -euc '
    mount -o loop device/disk root
    exec systemd-nspawn --quiet --boot --directory "$1/root" --machine machine --private-network --register=no --keep-unit \
        --link-journal=no --resolv-conf=off --timezone=off
' start "$1"
"#;

/// A machine, with a disk of its own. It has no power before [`boot`](Machine::boot).
pub struct Machine {
    folder: PathBuf,
    power: Option<Power>,
}

struct Power {
    disk: Process,
    container: Process,
    /// The first process of the machine, as it is numbered here.
    init: Pid,
}

impl Machine {
    /// One that has not been started yet, in an empty folder. The image that it begins with is made first, if it is not there:
    /// that takes a minute or two, and the network.
    ///
    /// # Errors
    ///
    /// If it cannot be had here; says what is missing.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let image = image::cached()?;
        for made in ["device", "root"] {
            fs::create_dir(folder.join(made))?;
        }
        let copied = Command::new("cp").arg("--sparse=always").args([&image, &folder.join("disk")]).status()?;
        ensure!(copied.success(), "{} could not be copied to {}", image.display(), folder.display());
        Ok(Self { folder: folder.to_owned(), power: None })
    }

    /// Switches it on, and waits until systemd has started what it starts.
    ///
    /// # Errors
    ///
    /// If it does not come up; shows what it said last.
    pub fn boot(&mut self) -> anyhow::Result<()> {
        self.power = None;
        let disk = self.start_disk()?;
        let mut start = Command::new("unshare");
        start.args(["--mount-proc", "--propagation", "private", "--pid", "--fork", "--kill-child"]);
        start.args(["sh", "-euc", START, "start"]).arg(&self.folder);
        let mut container = Process::spawn(start, &self.folder.join("console"))?;
        let pid = container.pid();
        let mut init = None;
        container.wait_until(BOOT_TIMEOUT, || {
            init = first_of_container(pid);
            init.map(drop).ok_or_else(|| std::io::Error::other("nothing runs in it"))
        })?;
        let init = init.context("nothing runs in it")?;
        let Power { container, .. } = self.power.insert(Power { disk, container, init });
        let manager = root_of(init).join("run/systemd/private");
        container.wait_until(BOOT_TIMEOUT, || UnixStream::connect(&manager).map(drop))?;
        // `degraded` is an answer too: what has not started is for the caller to find out.
        self.run(&format!("timeout {} systemctl is-system-running --wait || [ $? -lt 124 ]", BOOT_TIMEOUT.as_secs()))?;
        Ok(())
    }

    /// Its power is gone.
    pub fn cut(&mut self) -> anyhow::Result<()> {
        let mut power = self.take_power()?;
        // The kernel ends all others with the first. Meanwhile nothing gets to the disk any more.
        kill_process(power.init, Signal::KILL)?;
        power.disk.kill()?;
        power.container.kill()?;
        Ok(())
    }

    /// Shuts it down as its administrator does.
    pub fn shut_down(&mut self, limit: Duration) -> anyhow::Result<()> {
        self.run("systemctl poweroff --no-block")?;
        let mut power = self.take_power()?;
        power.container.wait(limit).context("the machine has not shut down")?;
        Ok(())
    }

    /// Runs a script in it, as root, to its first command that fails; answers what it wrote to its output.
    ///
    /// # Errors
    ///
    /// If it fails; the error has all that it wrote.
    pub fn run(&self, script: &str) -> anyhow::Result<String> {
        let mut shell = self.enter(&["--mount", "--uts", "--ipc", "--net", "--pid", "--root"])?;
        shell.args(["env", "-i", "HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]);
        shell.args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-euc", &format!("cd\n{script}")]);
        let output = shell.output().context("nsenter did not start")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = output.status;
        ensure!(status.success(), "{script}: {status}:\n{said}{}", String::from_utf8_lossy(&output.stderr));
        Ok(said)
    }

    /// To be given a program of here, which then has the machine's network and nothing else of it: it outlives a cut.
    pub fn in_its_network(&self) -> anyhow::Result<Command> {
        self.enter(&["--net"])
    }

    /// Copies a file into the first folder of its root.
    pub fn copy(&self, from: &Path, name: &str) -> anyhow::Result<()> {
        fs::copy(from, self.path(&format!("/root/{name}"))?).with_context(|| from.display().to_string())?;
        Ok(())
    }

    /// Where a file of it is to be found here, until its power is gone.
    pub fn path(&self, file: &str) -> anyhow::Result<PathBuf> {
        Ok(root_of(self.power()?.init).join(file.trim_start_matches('/')))
    }

    fn enter(&self, what: &[&str]) -> anyhow::Result<Command> {
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(format!("--target={}", self.power()?.init.as_raw_nonzero())).args(what).arg("--");
        Ok(nsenter)
    }

    fn power(&self) -> anyhow::Result<&Power> {
        self.power.as_ref().context("the machine has no power")
    }

    fn take_power(&mut self) -> anyhow::Result<Power> {
        let Some(power) = self.power.take() else { bail!("the machine has no power") };
        Ok(power)
    }

    /// What is written stays in the server until it is told to flush, and is gone if it is killed before.
    fn start_disk(&self) -> anyhow::Result<Process> {
        let socket = self.folder.join("disk.socket");
        let _ = fs::remove_file(&socket); // Of the run before.
        let mut nbdkit = Command::new("nbdkit");
        nbdkit.args(["--foreground", "--unix"]).arg(&socket);
        nbdkit.args(["--filter=cache", "file"]).arg(self.folder.join("disk"));
        nbdkit.args(["cache=writeback", "cache-min-block-size=4096"]).env("TMPDIR", &self.folder);
        let mut disk = Process::spawn(nbdkit, &self.folder.join("disk.log"))?;
        disk.wait_until(DISK_TIMEOUT, || UnixStream::connect(&socket).map(drop))?;
        Ok(disk)
    }
}

/// Where its files are to be seen from here.
fn root_of(init: Pid) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root", init.as_raw_nonzero()))
}

/// The child of `systemd-nspawn`, which has taken the place of the shell that `unshare` started.
fn first_of_container(unshare: u32) -> Option<Pid> {
    let child = |parent: &str, name: &str| {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
        let is_it =
            |child: &&str| fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|comm| comm.trim() == name);
        children.split_whitespace().find(is_it).map(str::to_owned)
    };
    let nspawn = child(&unshare.to_string(), "systemd-nspawn")?;
    Pid::from_raw(child(&nspawn, "systemd")?.parse().ok()?)
}
