//! Debian packages: what is missing, and the command that brings it.

use std::fmt;
use std::path::Path;

use footfall_sandbox::find_program;

/// A Debian package, needed unless one of `programs` is there.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// As apt knows it.
    pub name: &'static str,
    /// Any of these shows that it, or one that does as well, is installed: a program's name, or the whole path of a file.
    pub programs: &'static [&'static str],
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

/// Moves the clock of single processes. Faults that need it are skipped without it.
pub const CLOCK: &[Package] = &[Package { name: "faketime", programs: &["faketime"] }];

/// Packages are missing and could not be installed; says how to do it by hand.
#[derive(Debug)]
pub struct Missing {
    reason: String,
    command: String,
}

impl Missing {
    /// For these packages, and why.
    pub fn new(reason: &str, packages: &[&str]) -> Self {
        Self { reason: format!("{reason} ({})", packages.join(", ")), command: by_hand(packages) }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, command } = self;
        write!(f, "{reason}; please run this and try again:\n\n    {command}\n")
    }
}

impl std::error::Error for Missing {}

/// The names of the packages that are wanted and not there.
pub fn missing(wanted: &[Package]) -> Vec<&'static str> {
    missing_unless(wanted, |program| {
        let path = Path::new(program);
        if path.is_absolute() { path.exists() } else { find_program(program).is_some() }
    })
}

/// Fails if any of `wanted` is missing.
pub fn require(wanted: &[Package]) -> Result<(), Missing> {
    let packages = missing(wanted);
    if packages.is_empty() { Ok(()) } else { Err(Missing::new("Debian packages are missing", &packages)) }
}

fn missing_unless(wanted: &[Package], is_there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    wanted
        .iter()
        .filter(|package| !package.programs.iter().any(|program| is_there(program)))
        .map(|package| package.name)
        .collect()
}

/// The options with which apt installs nothing extra.
pub const INSTALL: [&str; 3] = ["install", "-y", "--no-install-recommends"];

fn by_hand(packages: &[&str]) -> String {
    format!("sudo apt-get update && sudo apt-get {} {}", INSTALL.join(" "), packages.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_wanted() {
        assert_eq!(missing_unless(STORES, |_| false), ["redis-tools", "mariadb-server-core", "mariadb-client-core"]);
        assert!(missing_unless(STORES, |_| true).is_empty());
        assert_eq!(
            missing_unless(STORES, |program| program == "mariadb" || program == "redis-server"),
            ["mariadb-server-core"],
            "a redis-server in PATH is enough"
        );
    }

    #[test]
    fn a_file_shows_it_as_a_program_does() {
        let package = |file| Package { name: "x", programs: std::slice::from_ref(file) };
        assert!(missing(&[package(&"/proc/self/status")]).is_empty());
        assert_eq!(missing(&[package(&"/no/such/file")]), ["x"]);
    }

    #[test]
    fn the_message_holds_the_whole_command() {
        let missing = Missing::new("x", &["a", "b"]).to_string();
        assert!(
            missing.starts_with("x (a, b);")
                && missing.contains("sudo apt-get update && sudo apt-get install -y --no-install-recommends a b\n"),
            "{missing}"
        );
    }
}
