//! The system tables of a new MariaDB: made once on a machine, copied from then on.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::{as_root, option};
use crate::files::{copy_dir, require_program, socket_dir};
use crate::process::Process;

const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Creates the system tables in `data`, all or nothing: a half-made folder from an interrupted attempt never gets
/// that name.
pub(super) fn install(dir: &Path, data: &Path) -> io::Result<()> {
    let unfinished = dir.join("data.new");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    copy_dir(&template()?, &unfinished)?;
    fs::rename(unfinished, data)
}

/// The folder to copy. It belongs to this user and this server: another version may want other tables.
fn template() -> io::Result<PathBuf> {
    let server = fs::metadata(require_program("mariadbd")?)?;
    let user = rustix::process::geteuid().as_raw();
    // In the folder for what is temporary, so that it is gone some time after the last use.
    let template = format!("/tmp/footfall-sandbox-mariadb-{user}-{}-{}", server.len(), server.mtime());
    let template = PathBuf::from(template);
    if is_own(&template, user) {
        return Ok(template);
    }
    // What installs is a shell script that takes a path with a space for two: it is given one without.
    let made = socket_dir()?;
    run_installer(&made)?;
    match fs::rename(made.path().join("data"), &template) {
        Err(error) if !is_own(&template, user) => Err(error),
        _ => Ok(template), // Or another test was faster.
    }
}

/// Whether it is there, and was not put there by somebody else.
fn is_own(template: &Path, user: u32) -> bool {
    fs::symlink_metadata(template).is_ok_and(|found| found.is_dir() && found.uid() == user)
}

fn run_installer(folder: &TempDir) -> io::Result<()> {
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("tmp"))?;
    let mut command = Command::new(require_program("mariadb-install-db")?);
    command
        .arg("--no-defaults")
        .arg(option("datadir", &path("data")))
        .arg(option("tmpdir", &path("tmp")))
        .args(as_root())
        .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
        .arg("--skip-name-resolve");
    let mut process = Process::spawn(command, &path("install.log"))?;
    let status = process.wait(INSTALL_TIMEOUT)?;
    if !status.success() {
        return Err(process.failure(&format!("failed ({status})")));
    }
    Ok(())
}
