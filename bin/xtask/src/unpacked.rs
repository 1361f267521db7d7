//! Programs of Debian packages that would start a service if they were installed: tests use them from below the target
//! folder, where the packages are unpacked.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use footfall_sandbox::find_program;

/// Packages that are unpacked to one folder.
pub struct Unpacked {
    folder: &'static str,
    /// What has the programs, and the libraries that it needs and few machines have.
    packages: &'static [&'static str],
}

/// `promtool`, `prometheus`
pub const PROMETHEUS: Unpacked = Unpacked { folder: "footfall-prometheus", packages: &["prometheus"] };
/// `haproxy`
pub const HAPROXY: Unpacked = Unpacked {
    folder: "footfall-haproxy",
    packages: &["haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1"],
};
/// `nginx`
pub const NGINX: Unpacked = Unpacked { folder: "footfall-nginx", packages: &["nginx"] };
/// `libgalera_smm.so`, which makes a cluster of MariaDBs
pub const GALERA: Unpacked = Unpacked { folder: "footfall-galera", packages: &["galera-4"] };
/// `dockerd`, `docker`, and what they start
pub const DOCKER: Unpacked =
    Unpacked { folder: "footfall-docker", packages: &["docker.io", "containerd", "tini", "libdevmapper1.02.1"] };

impl Unpacked {
    /// A program, to be given arguments: an installed one, or the one below the target folder, brought there now unless it
    /// is there already. A test may call this too.
    ///
    /// # Errors
    ///
    /// If it cannot be brought there; says what to do by hand.
    pub fn command(&self, name: &str) -> anyhow::Result<Command> {
        if let Some(installed) = find_program(name) {
            return Ok(Command::new(installed));
        }
        let folder = self.folder(name)?;
        let found =
            ["usr/bin", "usr/sbin"].map(|bin| folder.join(bin).join(name)).into_iter().find(|file| file.exists());
        let program =
            found.with_context(|| format!("{name} is not in {}: remove that and try again", folder.display()))?;
        let mut command = Command::new(program);
        give_libraries(&folder, &mut command);
        Ok(command)
    }

    /// Lets `command` find the programs of the packages before any that are installed: for those that must be of one version.
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command).
    pub fn put_first(&self, command: &mut Command) -> anyhow::Result<()> {
        let folder = self.folder(self.packages[0])?;
        let installed = std::env::var_os("PATH").unwrap_or_default();
        let unpacked = ["usr/bin", "usr/sbin"].map(|bin| folder.join(bin));
        command.env("PATH", std::env::join_paths(unpacked.into_iter().chain(std::env::split_paths(&installed)))?);
        give_libraries(&folder, command);
        Ok(())
    }

    /// A file by its whole path: an installed one, or the one below the target folder, brought there as a program is.
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command).
    pub fn file(&self, path: &str) -> anyhow::Result<PathBuf> {
        if Path::new(path).exists() {
            return Ok(path.into());
        }
        let file = self.folder(path)?.join(path.trim_start_matches('/'));
        ensure!(file.exists(), "{} is not there: remove its folder and try again", file.display());
        Ok(file)
    }

    /// Where the packages are unpacked, now at the latest; `wanted` is what they are needed for.
    fn folder(&self, wanted: &str) -> anyhow::Result<PathBuf> {
        let folder = crate::target_dir().join(self.folder);
        // Tests run side by side: one brings it, the others wait.
        fs::create_dir_all(crate::target_dir())?;
        let lock = File::create(folder.with_extension("lock"))?;
        lock.lock()?;
        if !folder.exists() {
            unpack(self.packages, &folder).with_context(|| {
                format!(
                    "{wanted} is missing, and the Debian packages that have it ({}) could not be unpacked; please \
                     install it, or run this and try again:\n\n    sudo apt-get update\n",
                    self.packages.join(", ")
                )
            })?;
        }
        Ok(folder)
    }
}

/// Libraries are in a folder that is named after the architecture.
fn give_libraries(folder: &Path, command: &mut Command) {
    let libraries = fs::read_dir(folder.join("usr/lib")).into_iter().flatten().flatten();
    if let Ok(path) = std::env::join_paths(libraries.map(|entry| entry.path())) {
        command.env("LD_LIBRARY_PATH", path);
    }
}

/// Downloads Debian packages and unpacks them to `folder`, which appears whole or not at all. Nothing of the system is
/// changed but apt's lists, if they do not name the packages.
fn unpack(packages: &[&str], folder: &Path) -> anyhow::Result<()> {
    let (download, partial) = (folder.with_extension("download"), folder.with_extension("partial"));
    for left_over in [&download, &partial] {
        if left_over.exists() {
            fs::remove_dir_all(left_over)?;
        }
    }
    fs::create_dir_all(&download)?;
    println!("Unpacking {} to {} ...", packages.join(", "), folder.display());
    let fetch = || run(Command::new("apt-get").arg("download").args(packages).current_dir(&download));
    fetch().or_else(|error| if crate::packages::update() { fetch() } else { Err(error) })?;
    for file in fs::read_dir(&download)? {
        run(Command::new("dpkg-deb").arg("--extract").args([&file?.path(), &partial]))?;
    }
    fs::rename(&partial, folder)?;
    fs::remove_dir_all(&download)?;
    Ok(())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{} did not start", command.get_program().display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", command.get_program().display(), said.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_leaves_nothing_that_looks_whole() {
        let folder = crate::target_dir().join(format!("footfall-no-package-{}", std::process::id()));
        let error = run(Command::new("dpkg-deb").arg("--extract").args([Path::new("/dev/null"), &folder]))
            .expect_err("that is no package");
        assert!(error.to_string().starts_with("dpkg-deb: "), "{error}");
        assert!(!folder.exists());
        assert!(run(&mut Command::new("/nowhere/apt-get")).is_err());
    }
}
