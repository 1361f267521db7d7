//! Debian packages: what is missing, and how to get it.

use std::fmt;
use std::process::{Command, Stdio};

use footfall_sandbox::find_program;

/// A Debian package, needed unless one of `programs` is there.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    name: &'static str,
    programs: &'static [&'static str],
}

/// The stores. None of these packages starts a service when it is installed.
pub const STORES: &[Package] = &[
    Package {
        name: "redis-tools",
        // The package has the second one, which is the same program as the first: see `footfall_sandbox::Redis`.
        programs: &["redis-server", "redis-check-rdb"],
    },
    Package { name: "mariadb-server-core", programs: &["mariadbd"] },
    Package { name: "mariadb-client-core", programs: &["mariadb"] },
];

/// A browser that a test can drive.
pub const BROWSER: &[Package] = &[
    Package { name: "chromium", programs: &["chromium"] },
    Package { name: "chromium-driver", programs: &["chromedriver"] },
];

/// Packages are missing and could not be installed; says how to do it by hand.
#[derive(Debug)]
pub struct Missing {
    reason: String,
    command: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, command } = self;
        write!(f, "{reason}; please run this and try again:\n\n    {command}\n")
    }
}

impl std::error::Error for Missing {}

/// Installs what is missing of `wanted`, as root or through a `sudo` that does not ask for a password.
pub fn ensure(wanted: &[Package]) -> Result<(), Missing> {
    let packages = missing(wanted, |program| find_program(program).is_some());
    if packages.is_empty() {
        return Ok(());
    }
    let failed =
        |reason: &str| Missing { reason: format!("{reason} ({})", packages.join(", ")), command: by_hand(&packages) };
    let sudo: &[&str] = if rustix::process::geteuid().is_root() {
        &[]
    } else if sudo_is_free() {
        &["sudo", "-n"]
    } else {
        return Err(failed("Debian packages are missing"));
    };

    println!("Installing {} ...", packages.join(", "));
    for arguments in apt_calls(&packages) {
        let line: Vec<&str> = sudo.iter().copied().chain(arguments).collect();
        let done = Command::new(line[0]).args(&line[1..]).status();
        if !done.is_ok_and(|status| status.success()) {
            return Err(failed("Debian packages could not be installed"));
        }
    }
    // Asked again, because a package that lacks its program would otherwise surface much later.
    if !missing(wanted, |program| find_program(program).is_some()).is_empty() {
        return Err(failed("programs are still missing after installing"));
    }
    Ok(())
}

fn missing(wanted: &[Package], is_there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    wanted
        .iter()
        .filter(|package| !package.programs.iter().any(|program| is_there(program)))
        .map(|package| package.name)
        .collect()
}

fn sudo_is_free() -> bool {
    Command::new("sudo")
        .args(["-n", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The command lines that refresh the package lists and install. The environment is set by `env`, because `sudo` would
/// not pass it on.
fn apt_calls<'a>(packages: &[&'a str]) -> [Vec<&'a str>; 2] {
    let apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
    let install = ["install", "-y", "--no-install-recommends"];
    [[&apt[..], &["update"]].concat(), [&apt[..], &install, packages].concat()]
}

fn by_hand(packages: &[&str]) -> String {
    format!("sudo apt-get update && sudo apt-get install -y --no-install-recommends {}", packages.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_wanted() {
        assert_eq!(missing(STORES, |_| false), ["redis-tools", "mariadb-server-core", "mariadb-client-core"]);
        assert!(missing(STORES, |_| true).is_empty());
        assert_eq!(
            missing(STORES, |program| program == "mariadb" || program == "redis-server"),
            ["mariadb-server-core"],
            "a redis-server in PATH is enough"
        );
    }

    #[test]
    fn nothing_is_asked_and_nothing_extra_is_installed() {
        let [update, install] = apt_calls(&["a", "b"]);
        assert_eq!(update.join(" "), "env DEBIAN_FRONTEND=noninteractive apt-get update");
        assert_eq!(
            install.join(" "),
            "env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends a b"
        );
    }

    #[test]
    fn the_message_holds_the_whole_command() {
        let missing = Missing { reason: "x".to_owned(), command: by_hand(&["a", "b"]) };
        assert!(
            missing
                .to_string()
                .contains("sudo apt-get update && sudo apt-get install -y --no-install-recommends a b\n")
        );
    }
}
