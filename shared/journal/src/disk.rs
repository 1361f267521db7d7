//! The file system, as far as journals need it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Mutex;
use std::sync::PoisonError;

use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::process::geteuid;

/// The name of the lock in each life's folder.
pub(crate) const LOCK: &str = "lock";

/// Folders are for their owner alone, and so are files: a journal says who reads what.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Who may write into a folder, besides its owner, could plant a file in it that we would write to, or take for ours.
pub(crate) const WRITABLE_BY_OTHERS: u32 = 0o022;

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
    /// Creates the folder if it is missing, and checks that it is ours alone and that files can be created in it. A full
    /// disk is no error here: what a dead life left must be read all the more.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` if it belongs to another user, or if others may write into it; and what the disk says.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Folder> {
        let root = path.into();
        if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent)?;
            create_private(&root)?;
            sync_folder(parent)?;
        } else {
            create_private(&root)?;
        }
        make_private(&root)?;
        let probe = root.join(format!(".probe-{}", process::id()));
        // From a life that ended in the middle of this, or planted: a link itself is removed, not what it leads to.
        fs::remove_file(&probe).or_else(ignore(io::ErrorKind::NotFound))?;
        let result = create_new(&probe).and_then(|file| Ok(fallocate(file, FallocateFlags::empty(), 0, 4096)?));
        match (result, fs::remove_file(&probe)) {
            (Err(error), _) if error.kind() != io::ErrorKind::StorageFull => Err(error),
            _ => Ok(Folder { root }),
        }
    }

    /// One that is only read.
    pub(crate) fn seen(path: &Path) -> Folder {
        Folder { root: path.to_owned() }
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
            // Neither a link nor a pipe nor a device: nothing of that kind is ours.
            let kind = entry.file_type()?;
            if if wants_folders { kind.is_dir() } else { kind.is_file() } {
                // Names that are not UTF-8 are not ours.
                names.extend(entry.file_name().into_string().ok());
            }
        }
        Ok(names)
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        if create_private(&self.path(folder))? { sync_folder(&self.root) } else { Ok(()) }
    }

    fn create(&self, path: &str, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
        let path = self.path(path);
        let file = create_new(&path)?;
        if let Err(error) = fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            // What was allocated until the disk was full goes back. The first error is the one to report.
            let _ = fs::remove_file(&path);
            return Err(error.into());
        }
        let folder = path.parent().map_or_else(|| self.root.clone(), Path::to_path_buf);
        Ok(Box::new(RealFile { file, unnamed_in: Mutex::new(Some(folder)) }))
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut bytes = vec![];
        open(&self.path(path))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn read_at(&self, path: &str, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; bytes];
        open(&self.path(path))?.read_exact_at(&mut buffer, offset)?;
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
        let file = unlinked().write(true).create(true).truncate(false).open(&path)?;
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

/// Opens nothing through a link, and waits for nobody at the other end of a pipe.
fn unlinked() -> OpenOptions {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let mut options = OpenOptions::new();
    options.mode(FILE_MODE).custom_flags(i32::try_from(flags).expect("flags of open fit into an int"));
    options
}

fn create_new(path: &Path) -> io::Result<File> {
    unlinked().write(true).create_new(true).open(path)
}

pub(crate) fn open(path: &Path) -> io::Result<File> {
    unlinked().read(true).open(path)
}

/// Creates a folder, and answers whether it was not there yet.
fn create_private(path: &Path) -> io::Result<bool> {
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        result => result.map(|()| true),
    }
}

/// Sees to it that only we get into a folder; refuses one into which others may have put something already.
fn make_private(path: &Path) -> io::Result<()> {
    let refuse = |why: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    let folder = fs::metadata(path)?;
    if !folder.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let (owner, us) = (folder.uid(), geteuid().as_raw());
    if owner != us {
        return refuse(format!(
            "it belongs to the user {owner}, and this process runs as {us}: `chown` it, or take another"
        ));
    }
    if folder.mode() & WRITABLE_BY_OTHERS != 0 {
        return refuse(format!(
            "others may write into it (mode {:03o}): look whether something in it is not of Footfall, then `chmod 700`",
            folder.mode() & 0o777
        ));
    }
    if folder.mode() & 0o777 != FOLDER_MODE {
        // An earlier version left it open to readers.
        fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE))?;
    }
    Ok(())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn ignore(kind: io::ErrorKind) -> impl FnOnce(io::Error) -> io::Result<()> {
    move |error| if error.kind() == kind { Ok(()) } else { Err(error) }
}
