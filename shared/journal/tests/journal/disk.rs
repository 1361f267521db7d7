//! A disk in memory that fails on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use footfall_journal::{Disk, DiskFile};

/// Cheap to clone: the same disk.
#[derive(Clone, Default)]
pub(crate) struct FakeDisk(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    folders: BTreeSet<String>,
    files: BTreeMap<String, Arc<Mutex<Vec<u8>>>>,
    locked: BTreeSet<String>,
    /// Allocations and writes up to now.
    pub(crate) calls: usize,
    pub(crate) fault: Option<Fault>,
    /// A file that takes no writes.
    pub(crate) broken: Option<String>,
    /// How many bytes fit.
    pub(crate) bytes_max: Option<u64>,
    pub(crate) sync_fails: bool,
    pub(crate) syncs: usize,
}

/// Which allocations and writes fail, and how.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) calls: Range<usize>,
    pub(crate) kind: io::ErrorKind,
    /// How much of a failing write is done nevertheless.
    pub(crate) written: Written,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Written {
    Nothing,
    Half,
    Everything,
    /// Everything of the first, nothing of the second, and so on: of a record and of what would wipe it out.
    EveryOther,
}

impl FakeDisk {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics in here")
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.state().bytes()
    }

    /// Changes the bytes of a file.
    pub(crate) fn damage(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let file = self.state().file(path).expect("it is there");
        change(&mut file.lock().expect("no test panics in here"));
    }
}

impl State {
    fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.lock().expect("no test panics in here").len() as u64).sum()
    }

    fn file(&self, path: &str) -> io::Result<Arc<Mutex<Vec<u8>>>> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Counts an allocation or a write, and answers with the fault if there is one for it.
    fn count(&mut self) -> Option<Fault> {
        self.calls += 1;
        self.fault.clone().filter(|fault| fault.calls.contains(&(self.calls - 1)))
    }
}

impl Disk for FakeDisk {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let state = self.state();
        if folder.is_empty() {
            return Ok(state.folders.iter().cloned().collect());
        }
        state.folders.get(folder).ok_or(io::ErrorKind::NotFound)?;
        let name = |path: &String| path.strip_prefix(folder)?.strip_prefix('/').map(str::to_owned);
        Ok(state.files.keys().filter_map(name).collect())
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        self.state().folders.insert(folder.to_owned());
        Ok(())
    }

    fn create(&self, path: &str, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        if let Some(fault) = state.count() {
            return Err(fault.kind.into());
        }
        if state.bytes_max.is_some_and(|bytes_max| state.bytes() + bytes > bytes_max) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let (folder, _) = path.split_once('/').expect("files are in folders");
        state.folders.get(folder).ok_or(io::ErrorKind::NotFound)?;
        let file = Arc::new(Mutex::new(vec![0; usize::try_from(bytes).expect("it is small")]));
        assert!(state.files.insert(path.to_owned(), Arc::clone(&file)).is_none(), "{path} exists");
        Ok(Box::new(FakeFile { disk: self.clone(), path: path.to_owned(), file }))
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let file = self.state().file(path)?;
        let bytes = file.lock().expect("no test panics in here");
        Ok(bytes.clone())
    }

    fn read_at(&self, path: &str, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let offset = usize::try_from(offset).expect("it is small");
        let file = self.read(path)?;
        Ok(file.get(offset..offset + bytes).ok_or(io::ErrorKind::UnexpectedEof)?.to_vec())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.state().files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        let mut state = self.state();
        state.folders.remove(folder);
        state.files.retain(|path, _| !path.starts_with(&format!("{folder}/")));
        Ok(())
    }

    fn lock(&self, folder: &str) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let mut state = self.state();
        state.folders.get(folder).ok_or(io::ErrorKind::NotFound)?;
        let is_free = state.locked.insert(folder.to_owned());
        let lock = FakeLock { disk: self.clone(), folder: folder.to_owned() };
        if is_free {
            return Ok(Some(Box::new(lock)));
        }
        // Dropping it would unlock what somebody else has locked.
        std::mem::forget(lock);
        Ok(None)
    }
}

struct FakeLock {
    disk: FakeDisk,
    folder: String,
}

impl Drop for FakeLock {
    fn drop(&mut self) {
        self.disk.state().locked.remove(&self.folder);
    }
}

struct FakeFile {
    disk: FakeDisk,
    path: String,
    file: Arc<Mutex<Vec<u8>>>,
}

impl DiskFile for FakeFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.broken.as_ref() == Some(&self.path) {
            return Err(io::Error::other("this file is broken"));
        }
        let fault = state.count();
        let written = match fault.as_ref().map(|fault| (fault.written, state.calls - 1 - fault.calls.start)) {
            None | Some((Written::Everything, _)) => bytes.len(),
            Some((Written::Half, _)) => bytes.len() / 2,
            Some((Written::Nothing, _)) => 0,
            Some((Written::EveryOther, number)) => bytes.len() * ((number + 1) % 2),
        };
        let offset = usize::try_from(offset).expect("it is small");
        let mut file = self.file.lock().expect("no test panics in here");
        assert!(offset + bytes.len() <= file.len(), "only allocated space is written");
        file[offset..offset + written].copy_from_slice(&bytes[..written]);
        fault.map_or(Ok(()), |fault| Err(fault.kind.into()))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.syncs += 1;
        if state.sync_fails { Err(io::Error::other("the disk is broken")) } else { Ok(()) }
    }
}
