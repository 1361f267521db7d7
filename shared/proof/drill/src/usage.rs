//! What a process and a folder take up, as the kernel counts it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Resident.
    pub(crate) memory_bytes: u64,
    /// File descriptors: sockets too.
    pub(crate) files: u64,
}

impl Usage {
    /// Now.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let resident_kib: u64 = resident
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| io::Error::other(format!("process {pid} has no memory: it is ending")))?;
        let files = fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
        Ok(Self { memory_bytes: resident_kib * 1024, files })
    }
}

/// The disk that a folder takes up. What goes while it is counted may be counted or not.
pub(crate) fn disk_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Some(entries) = unless_gone(fs::read_dir(&folder))? else { continue };
        for entry in entries {
            let Some(entry) = unless_gone(entry)? else { continue };
            let Some(found) = unless_gone(entry.metadata())? else { continue };
            bytes += found.blocks() * 512;
            if found.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(bytes)
}

fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_up_is_seen() -> io::Result<()> {
        const MIB: usize = 1024 * 1024;
        let before = Usage::of(std::process::id())?;
        let held: Vec<fs::File> = (0..64).map(|_| tempfile::tempfile()).collect::<io::Result<_>>()?;
        let memory = std::hint::black_box(vec![1_u8; 64 * MIB]);
        let meanwhile = Usage::of(std::process::id())?;
        assert!(meanwhile.files >= before.files + 32, "{before:?} {meanwhile:?}");
        assert!(meanwhile.memory_bytes >= before.memory_bytes + 32 * MIB as u64, "{before:?} {meanwhile:?}");
        drop((held, memory));

        let dir = tempfile::tempdir()?;
        fs::create_dir(dir.path().join("below"))?;
        fs::write(dir.path().join("below/file"), vec![1; MIB])?;
        let disk = disk_bytes(dir.path())?;
        assert!((MIB as u64..2 * MIB as u64).contains(&disk), "{disk}");
        assert_eq!(disk_bytes(&dir.path().join("nowhere"))?, 0);
        Ok(())
    }
}
