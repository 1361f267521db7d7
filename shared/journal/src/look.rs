//! A look at a folder of journals from outside, beside the processes that use it: nothing is created, changed or kept.

use std::collections::BTreeMap;
use std::fs::{self, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};

use crate::adopt::DAMAGED;
use crate::disk::{LOCK, WRITABLE_BY_OTHERS, open};
use crate::segment::{SegmentId, parse_life, parse_segment};
use crate::{Disk, Folder};

/// What is in a folder of journals.
#[derive(Debug, Default)]
pub struct Look {
    /// The permissions that it has, if others than its owner may write into it: ingest refuses it then.
    pub open_mode: Option<u32>,
    /// Every life that has a segment, in the order of their names.
    pub lives: Vec<LifeSeen>,
    /// How many stretches were kept that could not be read.
    pub damaged_files: usize,
}

/// What is there of one life.
#[derive(Debug)]
pub struct LifeSeen {
    /// Its name.
    pub name: String,
    /// Whether a process holds it: its own, or one that has adopted it.
    pub is_held: bool,
    /// The size of its segments, in bytes.
    pub bytes: u64,
    segments: Vec<SegmentId>,
}

/// The space of the file system that a folder is on, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What those who are not root may still write.
    pub free_bytes: u64,
    /// Files that may still be created; none where the file system has no such limit.
    pub free_files: Option<u64>,
    /// Nobody can write to it.
    pub is_read_only: bool,
}

impl Folder {
    /// Looks into a folder. `NotFound` if there is none: an ingest makes it.
    pub fn look(path: &Path) -> io::Result<Look> {
        let mode = fs::metadata(path)?.mode() & 0o777;
        let mut look = Look { open_mode: (mode & WRITABLE_BY_OTHERS != 0).then_some(mode), ..Look::default() };
        let folder = Folder::seen(path);
        for name in folder.list("")? {
            if name == DAMAGED {
                look.damaged_files = folder.list(DAMAGED)?.len();
            } else if let Some(life) = parse_life(&name) {
                look.lives.extend(LifeSeen::look(path, &folder, name, life)?);
            }
        }
        look.lives.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(look)
    }

    /// The space there is for a folder, whether or not it is there yet.
    pub fn space(path: &Path) -> io::Result<Space> {
        let mut there = path;
        let found = loop {
            match (statvfs(there), there.parent()) {
                (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => there = parent,
                // Of a relative path.
                _ if there.as_os_str().is_empty() => break statvfs("."),
                (found, _) => break found,
            }
        }?;
        Ok(Space {
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            free_files: (found.f_files > 0).then_some(found.f_favail),
            is_read_only: found.f_flag.contains(StatVfsMountFlags::RDONLY),
        })
    }
}

impl LifeSeen {
    /// None without a segment: it begins just now, or somebody is about to remove it.
    fn look(root: &Path, folder: &Folder, name: String, life: u64) -> io::Result<Option<Self>> {
        let files = match folder.list(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            files => files?,
        };
        let mut segments: Vec<SegmentId> = files.iter().filter_map(|file| parse_segment(life, file)).collect();
        if segments.is_empty() {
            return Ok(None);
        }
        segments.sort_unstable_by_key(|id| (id.shard, id.sequence));
        let size = |id: &SegmentId| fs::metadata(root.join(id.path())).map_or(0, |file| file.len());
        let bytes = segments.iter().map(size).sum();
        Ok(Some(Self { is_held: is_held(&root.join(&name))?, name, bytes, segments }))
    }

    /// Calls back with the shard and the payload of each record; released ones may be among them, and repeats. Answers why
    /// segments could not be read, by their path, until `each` answers false. What is removed meanwhile is left out, and so
    /// is what is torn: a process may be writing it.
    pub fn records(&self, root: &Path, mut each: impl FnMut(u16, &[u8]) -> bool) -> BTreeMap<String, String> {
        let (folder, mut unreadable) = (Folder::seen(root), BTreeMap::new());
        for id in &self.segments {
            let bytes = match folder.read(&id.path()) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    unreadable.insert(id.path(), error.to_string());
                    continue;
                }
            };
            match id.scan(&bytes) {
                Ok(scan) => {
                    if !scan.damaged.is_empty() {
                        let damaged: u64 = scan.damaged.iter().map(|damage| u64::from(damage.bytes)).sum();
                        unreadable.insert(id.path(), format!("{damaged} bytes of it are damaged"));
                    }
                    if !scan.records.iter().all(|record| each(id.shard, record.payload(&bytes))) {
                        break;
                    }
                }
                Err(why) => drop(unreadable.insert(id.path(), why.to_owned())),
            }
        }
        unreadable
    }
}

/// Whether somebody holds the lock of a life. Asked by a lock that others may have too, on a file that is not created, and
/// for a moment only: an adopter that comes in this moment tries again.
fn is_held(life: &Path) -> io::Result<bool> {
    let lock = match open(&life.join(LOCK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        lock => lock?,
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
