//! Installs Debian packages that are missing.

use std::process::{Command, Stdio};

use footfall_drill::packages::{INSTALL, Missing, Package, missing};

/// Debian's own, because only for this one a Debian package brings what makes environments. Another one in `PATH` may
/// lack it.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// A browser that a test can drive, and the letters of the languages that it shows.
pub const BROWSER: &[Package] = &[
    Package { name: "chromium", programs: &["chromium"] },
    Package { name: "chromium-driver", programs: &["chromedriver"] },
    Package {
        name: "fonts-wqy-microhei",
        programs: &[
            "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
            "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
        ],
    },
];

/// What makes certificates.
pub const CERTIFICATES: &[Package] = &[Package { name: "openssl", programs: &["openssl"] }];

/// What checks units. On a machine that does not run it, it starts nothing.
pub const SYSTEMD: &[Package] = &[Package { name: "systemd", programs: &["systemd-analyze"] }];

/// What a machine in a container is made of and runs on.
pub const MACHINE: &[Package] = &[
    UNPACKING[0],
    Package { name: "e2fsprogs", programs: &["mke2fs"] },
    Package { name: "systemd-container", programs: &["systemd-nspawn"] },
    Package { name: "nbdkit", programs: &["nbdkit"] },
    Package { name: "libnbd-bin", programs: &["nbdfuse"] },
    Package { name: "fuse3", programs: &["fusermount3"] },
];

/// What unpacks packages of another Debian with all that they need.
pub const UNPACKING: &[Package] = &[Package { name: "mmdebstrap", programs: &["mmdebstrap"] }];

/// What Docker's engine needs beside itself to run and fill containers that see nothing of this machine. `docker-compose` reads
/// compose.yaml.
pub const CONTAINERS: &[Package] = &[
    UNPACKING[0],
    Package { name: "docker-compose", programs: &["docker-compose"] },
    Package { name: "runc", programs: &["runc"] },
    Package { name: "iptables", programs: &["iptables"] },
    Package { name: "iproute2", programs: &["ip"] },
    Package { name: "slirp4netns", programs: &["slirp4netns"] },
];

/// Installs what is missing of `wanted`, as root or through a `sudo` that does not ask for a password.
pub fn ensure(wanted: &[Package]) -> Result<(), Missing> {
    install(|| missing(wanted))
}

/// The same for a Python that can make virtual environments: that is a package without a program.
pub(crate) fn ensure_python() -> Result<(), Missing> {
    let mut can = Command::new(PYTHON);
    can.args(["-c", "import ensurepip"]).stdout(Stdio::null()).stderr(Stdio::null());
    install(|| if can.status().is_ok_and(|status| status.success()) { vec![] } else { vec!["python3-venv"] })
}

fn install(mut missing: impl FnMut() -> Vec<&'static str>) -> Result<(), Missing> {
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    let Some(sudo) = sudo() else {
        return Err(Missing::new("Debian packages are missing", &packages));
    };
    println!("Installing {} ...", packages.join(", "));
    if !apt_calls(&packages).iter().all(|call| succeeds(sudo, call)) {
        return Err(Missing::new("Debian packages could not be installed", &packages));
    }
    // Asked again, because a package that lacks its program would otherwise surface much later.
    if !missing().is_empty() {
        return Err(Missing::new("programs are still missing after installing", &packages));
    }
    Ok(())
}

/// Has apt's lists brought up to date; answers whether they are.
pub(crate) fn update() -> bool {
    let [update, _] = apt_calls(&[]);
    sudo().is_some_and(|sudo| succeeds(sudo, &update))
}

/// What makes a command run as root, if anything does.
fn sudo() -> Option<&'static [&'static str]> {
    let is_free = || {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        sudo.status().is_ok_and(|status| status.success())
    };
    if rustix::process::geteuid().is_root() {
        Some(&[])
    } else if is_free() {
        Some(&["sudo", "-n"])
    } else {
        None
    }
}

fn succeeds(sudo: &[&str], call: &[&str]) -> bool {
    let line = [sudo, call].concat();
    Command::new(line[0]).args(&line[1..]).status().is_ok_and(|status| status.success())
}

/// The command lines that refresh the package lists and install. The environment is set by `env`, because `sudo` would
/// not pass it on.
fn apt_calls<'a>(packages: &[&'a str]) -> [Vec<&'a str>; 2] {
    let apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
    [[&apt[..], &["update"]].concat(), [&apt[..], &INSTALL, packages].concat()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_asked_and_nothing_extra_is_installed() {
        let [update, install] = apt_calls(&["a", "b"]);
        assert_eq!(update.join(" "), "env DEBIAN_FRONTEND=noninteractive apt-get update");
        assert_eq!(
            install.join(" "),
            "env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends a b"
        );
    }
}
