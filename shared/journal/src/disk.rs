//! The file system, as far as journals need it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Mutex;
use std::sync::PoisonError;

use rustix::fs::{FallocateFlags, fallocate};

/// The name of the lock in each life's folder.
const LOCK: &str = "lock";

/// The files of all journals of this machine. A trait, so that a simulation can have a disk that fails.
///
/// A folder is a name, a file is `folder/name`; there is one level of folders below the root. Everything blocks.
pub trait Disk: Send + Sync + 'static {
    /// The names of the files in a folder; with an empty name, the names of all folders. `NotFound` without the folder.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Creates a folder, so that it survives a power cut; does nothing if it is there already.
    fn create_folder(&self, folder: &str) -> io::Result<()>;
    /// Creates a file of this size, which must not exist. It reads as zeros and all of its space is allocated, so that
    /// writing to it cannot run out of space. Nothing is left behind by a failure.
    fn create(&self, path: &str, bytes: u64) -> io::Result<Box<dyn DiskFile>>;
    /// A whole file.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;
    /// Exactly this many bytes of a file; `UnexpectedEof` if it ends before.
    fn read_at(&self, path: &str, offset: u64, bytes: usize) -> io::Result<Vec<u8>>;
    /// Removes a file. After a power cut it may be back.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Removes a folder with everything in it; the lock goes last. Does nothing if it is not there.
    fn remove_folder(&self, folder: &str) -> io::Result<()>;
    /// Locks a folder until the answer is dropped or the process ends; `None` if it is locked already, be it by this
    /// process. `NotFound` without the folder.
    fn lock(&self, folder: &str) -> io::Result<Option<Box<dyn Send + Sync>>>;
}

/// A file that was created by [`Disk::create`].
pub trait DiskFile: Send + Sync {
    /// Writes all bytes, in one call to the system unless it takes only a part. After an error any part may be written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns when everything that was written before, and the file's name in its folder, survive a power cut.
    fn sync(&self) -> io::Result<()>;
}

/// The real disk: everything below one folder.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Creates the folder if it is missing, and checks that files can be created in it. A full disk is no error here:
    /// what a dead life left must be read all the more.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Folder> {
        let root = path.into();
        fs::create_dir_all(&root)?;
        if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent)?;
        }
        let probe = root.join(format!(".probe-{}", process::id()));
        let result = File::create(&probe).and_then(|file| Ok(fallocate(file, FallocateFlags::empty(), 0, 4096)?));
        match (result, fs::remove_file(&probe)) {
            (Err(error), _) if error.kind() != io::ErrorKind::StorageFull => Err(error),
            _ => Ok(Folder { root }),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl Disk for Folder {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let wants_folders = folder.is_empty();
        let mut names = vec![];
        for entry in fs::read_dir(self.path(folder))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() == wants_folders {
                // Names that are not UTF-8 are not ours.
                names.extend(entry.file_name().into_string().ok());
            }
        }
        Ok(names)
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        match fs::create_dir(self.path(folder)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result.and_then(|()| sync_folder(&self.root)),
        }
    }

    fn create(&self, path: &str, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
        let path = self.path(path);
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        if let Err(error) = fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            // What was allocated until the disk was full goes back. The first error is the one to report.
            let _ = fs::remove_file(&path);
            return Err(error.into());
        }
        let folder = path.parent().map_or_else(|| self.root.clone(), Path::to_path_buf);
        Ok(Box::new(RealFile { file, unnamed_in: Mutex::new(Some(folder)) }))
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(path))
    }

    fn read_at(&self, path: &str, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; bytes];
        File::open(self.path(path))?.read_exact_at(&mut buffer, offset)?;
        Ok(buffer)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        let names = match self.list(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            names => names?,
        };
        let path = self.path(folder);
        for name in names.iter().filter(|name| *name != LOCK) {
            fs::remove_file(path.join(name)).or_else(ignore(io::ErrorKind::NotFound))?;
        }
        fs::remove_file(path.join(LOCK)).or_else(ignore(io::ErrorKind::NotFound))?;
        // Without the lock somebody else may enter at once: the folder, which has nothing in it, is theirs then.
        fs::remove_dir(&path).or_else(ignore(io::ErrorKind::NotFound)).or_else(ignore(io::ErrorKind::DirectoryNotEmpty))
    }

    fn lock(&self, folder: &str) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let path = self.path(folder).join(LOCK);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Between the opening and the locking its last owner may have removed it: a lock on nothing.
        let is_there =
            fs::metadata(&path).is_ok_and(|there| file.metadata().is_ok_and(|ours| there.ino() == ours.ino()));
        Ok(is_there.then(|| Box::new(file) as Box<dyn Send + Sync>))
    }
}

struct RealFile {
    file: File,
    /// The folder that has not been synced since the file was created in it.
    unnamed_in: Mutex<Option<PathBuf>>,
}

impl DiskFile for RealFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        let mut unnamed_in = self.unnamed_in.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = &*unnamed_in {
            sync_folder(folder)?;
            *unnamed_in = None;
        }
        Ok(())
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn ignore(kind: io::ErrorKind) -> impl FnOnce(io::Error) -> io::Result<()> {
    move |error| if error.kind() == kind { Ok(()) } else { Err(error) }
}
