//! The programs of Debian's package `prometheus`, which tests use. It is unpacked below the target folder instead of being
//! installed, because installing it starts a service.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use footfall_sandbox::find_program;

use crate::packages;

const PACKAGE: &str = "prometheus";

/// Answers the path of `prometheus` or `promtool`: of an installed one, or of the one below the target folder, brought
/// there now unless it is there already. A test may call this too.
///
/// # Errors
///
/// If it cannot be brought there; says how to install it by hand.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    if let Some(installed) = find_program(name) {
        return Ok(installed);
    }
    let folder = crate::target_dir().join("footfall-prometheus");
    let program = folder.join("usr/bin").join(name);
    // Tests run side by side: one brings it, the others wait.
    fs::create_dir_all(crate::target_dir())?;
    let lock = File::create(folder.with_extension("lock"))?;
    lock.lock()?;
    if !folder.exists() {
        unpack(PACKAGE, &folder).with_context(|| {
            format!(
                "{name} is missing, and the Debian package {PACKAGE}, which has it, could not be unpacked; please put \
                 {name} into PATH, or run this and try again:\n\n    sudo apt-get update\n"
            )
        })?;
    }
    ensure!(program.exists(), "{} is missing: remove {} and try again", program.display(), folder.display());
    Ok(program)
}

/// Downloads a Debian package and unpacks it to `folder`, which appears whole or not at all. Nothing of the system is
/// changed but apt's lists, if they do not name the package.
fn unpack(package: &str, folder: &Path) -> anyhow::Result<()> {
    let (download, partial) = (folder.with_extension("download"), folder.with_extension("partial"));
    for left_over in [&download, &partial] {
        if left_over.exists() {
            fs::remove_dir_all(left_over)?;
        }
    }
    fs::create_dir_all(&download)?;
    println!("Unpacking the Debian package {package} to {} ...", folder.display());
    let fetch = || run(Command::new("apt-get").args(["download", package]).current_dir(&download));
    fetch().or_else(|error| if packages::update() { fetch() } else { Err(error) })?;
    let file = fs::read_dir(&download)?.next().context("apt-get has downloaded nothing")??.path();
    run(Command::new("dpkg-deb").arg("--extract").args([&file, &partial]))?;
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
