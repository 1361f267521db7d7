//! Small helpers around files and folders.

use std::env;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Finds an executable in `PATH`, then in the folders where Debian puts servers.
///
/// The second step is for people who are not root: their `PATH` has no `/usr/sbin`, which is where `mariadbd` lives.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0))
}

/// Like [`find_program`], with an error that names what is missing.
pub(crate) fn require_program(name: &str) -> io::Result<PathBuf> {
    find_program(name).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{name} is not installed")))
}

/// A folder for sockets with a short name, removed when dropped.
///
/// Socket addresses hold 107 bytes, and data folders are easily deeper than that; nor can the system's temporary
/// folder be trusted to be short, hence the fixed `/tmp`.
pub(crate) fn socket_dir() -> io::Result<TempDir> {
    tempfile::Builder::new().prefix("sandbox-").tempdir_in("/tmp")
}

/// Copies a folder and everything in it. `to` must not exist, so that nothing older is mixed into the copy.
pub(crate) fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The last lines of a file, for error messages; empty when it cannot be read.
pub(crate) fn tail(file: &Path) -> String {
    const BYTES: i64 = 4096;
    const LINES: usize = 20;

    let read = || -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(file)?;
        let mut bytes = Vec::new();
        // Fails when the file is shorter than that; reading then starts at the beginning, as it should.
        let _ = file.seek(SeekFrom::End(-BYTES));
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
