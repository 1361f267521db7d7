//! Docker's engine with the images that the Dockerfile and compose.yaml ask for.
//!
//! No registry is asked: the images are made here, of Debian's packages and of the Rust that is installed. The engine runs in
//! namespaces of its own, and so changes neither network nor firewall of this machine and meets no containers but its own.

use std::fs::{self, File};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use footfall_sandbox::Process;
use rustix::process::{Pid, Signal, kill_process};
use xtask::packages;
use xtask::unpacked::DOCKER;

use crate::site::say;

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Begins with the engine's configuration. `/run` is where engines find each other.
const START: &str = r#"
mount -t tmpfs tmpfs /run
ip link set lo up
init=$(command -v tini-static)
exec "$init" -- dockerd --config-file "$1" --init-path "$init"
"#;

/// Begins with the name of the image, the name of the Debian and a file. In this machine's network, whose names it needs.
///
/// As in the official image, no package starts a service.
const DEBIAN: &str = r##"
rm -f "$3"
mmdebstrap --quiet --variant=minbase "$2" "$3" \
    --customize-hook='printf "#!/bin/sh\nexit 101\n" > "$1/usr/sbin/policy-rc.d"; chmod +x "$1/usr/sbin/policy-rc.d"'
docker import "$3" "$1"
rm "$3"
"##;

/// Begins with the name of the image, and its target.
const RUST: &str = r#"
docker build --quiet --tag "$1" --target "$2" --file bin/xtask/tests/machine/images/rust.Dockerfile \
    --secret id=authorities,src=/etc/ssl/certs/ca-certificates.crt "$(rustc --print sysroot)"
"#;
const STORE: &str = r#"docker build --quiet --tag "$1" --target "$2" bin/xtask/tests/machine/images"#;

/// An engine that is running. Its images are kept below the target folder for the next one.
pub(crate) struct Engine {
    process: Process,
    /// The first process in its namespaces, as it is numbered here.
    init: Pid,
    folder: PathBuf,
    outside: Option<Process>,
    _lock: File,
}

impl Engine {
    /// One that has all images that are not built from this repository, and reaches the world outside. The images are made first
    /// if they are not there: that takes minutes, and the network.
    ///
    /// # Errors
    ///
    /// If it cannot be had here; says what is missing.
    pub(crate) fn start() -> anyhow::Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "it needs root");
        packages::ensure(packages::CONTAINERS)?;
        let folder = xtask::target_dir().join("footfall-containers");
        fs::create_dir_all(&folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock()?;

        let (socket, configuration) = (folder.join("docker.sock"), folder.join("daemon.json"));
        let _ = fs::remove_file(&socket); // Of the run before.
        let settings = serde_json::json!({
            "data-root": folder.join("data"),
            "hosts": [format!("unix://{}", socket.display())],
            // That of `slirp4netns`, which asks whomever this machine asks.
            "dns": ["10.0.2.3"],
        });
        fs::write(&configuration, settings.to_string())?;
        let mut start = Command::new("unshare");
        start.args(["--mount-proc", "--propagation", "private", "--net", "--ipc", "--pid", "--fork", "--kill-child"]);
        start.args(["sh", "-euc", START, "start"]).arg(configuration);
        DOCKER.put_first(&mut start)?;
        let mut process = Process::spawn(start, &folder.join("log"))?;
        process.wait_until(START_TIMEOUT, || UnixStream::connect(&socket).map(drop))?;
        let init = first_child(process.pid()).context("nothing runs in it")?;

        let mut engine = Self { process, init, folder, outside: None, _lock: lock };
        engine.connect()?;
        engine.make_images()?;
        Ok(engine)
    }

    /// Runs a script at the top of the repository, in the network in which the ports of containers are published, to its first
    /// command that fails; answers what it wrote to its output.
    ///
    /// # Errors
    ///
    /// If it fails; the error has all that it wrote.
    pub(crate) fn run(&self, script: &str, arguments: &[&str]) -> anyhow::Result<String> {
        self.run_in(self.in_its_network(), script, arguments)
    }

    /// The same, where `place` runs what it is given.
    fn run_in(&self, place: Command, script: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let mut shell = place;
        shell.args(["sh", "-euc", script, "run"]).args(arguments).current_dir(xtask::root());
        DOCKER.put_first(&mut shell)?;
        shell.env("DOCKER_HOST", format!("unix://{}", self.folder.join("docker.sock").display()));
        // As newer versions do without being told.
        shell.envs([("DOCKER_BUILDKIT", "1"), ("COMPOSE_DOCKER_CLI_BUILD", "1")]);
        shell.envs([("COMPOSE_PROJECT_NAME", "footfall"), ("FOOTFALL_TOKEN", "6f1c0e9ab7d24835")]);
        let output = shell.output().with_context(|| format!("{} did not start", shell.get_program().display()))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = output.status;
        ensure!(status.success(), "{script}: {status}:\n{said}{}", String::from_utf8_lossy(&output.stderr));
        Ok(said)
    }

    /// To be given a program of here, which then has the engine's network and nothing else of it.
    pub(crate) fn in_its_network(&self) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(format!("--target={}", self.init.as_raw_nonzero())).args(["--net", "--"]);
        nsenter
    }

    /// Containers can ask the world outside, which cannot ask them.
    fn connect(&mut self) -> anyhow::Result<()> {
        let mut slirp = Command::new("slirp4netns");
        slirp.args(["--configure", "--mtu=65520", "--disable-host-loopback"]);
        slirp.args([&self.init.as_raw_nonzero().to_string(), "tap0"]);
        let mut outside = Process::spawn(slirp, &self.folder.join("outside.log"))?;
        outside.wait_until(START_TIMEOUT, || {
            self.run("ip route | grep default", &[]).map(drop).map_err(io::Error::other)
        })?;
        self.outside = Some(outside);
        Ok(())
    }

    /// From now on there is nothing but the containers.
    pub(crate) fn disconnect(&mut self) {
        self.outside = None;
    }

    fn make_images(&self) -> anyhow::Result<()> {
        for image in images()? {
            let (name, tag) = image.split_once(':').context("an image without a version")?;
            let made = match name {
                "debian" if self.run(r#"docker image inspect "$1""#, &[&image]).is_ok() => continue,
                "debian" => {
                    say(&format!("Making {image} ..."));
                    let debian = tag.split('-').next().unwrap_or_default();
                    let file = self.folder.join("debian.tar");
                    self.run_in(Command::new("env"), DEBIAN, &[&image, debian, &file.to_string_lossy()])
                }
                // What has not changed is not made again.
                "rust" => self.run(RUST, &[&image, name]),
                _ => self.run(STORE, &[&image, name]),
            };
            made.with_context(|| format!("the image {image} could not be made"))?;
        }
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Whatever it leaves behind when it is killed goes with its namespaces.
        let _ = kill_process(self.init, Signal::TERM);
        let _ = self.process.wait(STOP_TIMEOUT);
    }
}

/// The images that the Dockerfile and compose.yaml name and do not make, the Debian first, which the others are made of.
fn images() -> anyhow::Result<Vec<String>> {
    let read = |file: &str| fs::read_to_string(xtask::root().join(file));
    let text = read("Dockerfile")? + &read("compose.yaml")?;
    let named = text.lines().filter_map(|line| line.strip_prefix("FROM ").or(line.strip_prefix("    image: ")));
    let mut images: Vec<String> = named.filter_map(|image| image.split(' ').next()).map(str::to_owned).collect();
    images.sort_by_key(|image| !image.starts_with("debian:"));
    Ok(images)
}

fn first_child(parent: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
}
