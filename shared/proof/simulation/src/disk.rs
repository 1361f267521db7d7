//! The disk of one host: what processes see (the page cache) and what a power cut leaves are two things.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use footfall_journal::{Disk, DiskFile};
use footfall_shared::protocol::packed::{Record, decode_record};

use crate::books::{BatchName, Books, Destroyed, Rows, rows_of};
use crate::stage::lock;
use crate::trace::Trace;
use footfall_proof::Dice;

#[derive(Debug, Clone)]
struct File {
    /// Names it for its handles: another file may have its path later.
    id: u64,
    /// What processes see.
    seen: Vec<u8>,
    /// What is on the disk.
    safe: Vec<u8>,
    /// Writes that are not: offset and length.
    dirty: Vec<(usize, usize)>,
    /// Whether its name survives a power cut.
    is_named: bool,
    /// The batches written to it: offset, name, what was read.
    batches: Vec<(usize, BatchName, Rows)>,
}

#[derive(Debug, Clone, Default)]
struct State {
    /// Folder -> who has locked it.
    folders: BTreeMap<String, Option<u64>>,
    files: BTreeMap<String, File>,
    /// Removed, but a power cut may bring them back.
    removed: Vec<(String, File)>,
    numbers: u64,
    /// Grows with each power cut: what was opened before is closed.
    boots: u64,
    is_full: bool,
    /// Of 100 writes and fsyncs, how many fail.
    failing_writes: u64,
    failing_syncs: u64,
}

/// The disk of one host.
pub struct SimulatedDisk {
    dice: Dice,
    /// The promise of fsync is not kept.
    lies: bool,
    trace: Arc<Trace>,
    books: Arc<Books>,
    state: Mutex<State>,
}

/// All records of all journals.
type Records = BTreeMap<BatchName, Rows>;

impl SimulatedDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(dice: Dice, trace: Arc<Trace>, books: Arc<Books>, lies: bool) -> Arc<Self> {
        Arc::new(Self { dice, lies, trace, books, state: Mutex::default() })
    }

    /// The disk as a process sees it.
    #[must_use]
    pub fn mount(self: &Arc<Self>) -> Arc<dyn Disk> {
        Arc::new(Mounted(Arc::clone(self)))
    }

    /// Has no room for new files, or has again.
    pub fn fill(&self, is_full: bool) {
        lock(&self.state).is_full = is_full;
    }

    /// So many of 100 writes and fsyncs fail.
    pub fn fail(&self, writes: u64, syncs: u64) {
        let mut state = lock(&self.state);
        (state.failing_writes, state.failing_syncs) = (writes, syncs);
    }

    /// Flips a bit of something that was written. Another copy of the batch may be there, but its owner knows one place.
    pub fn flip(&self) {
        let mut state = lock(&self.state);
        let files: Vec<String> = state.files.keys().cloned().collect();
        let Some(file) = files.get(self.dice.index(files.len())).and_then(|path| state.files.get_mut(path)) else {
            return;
        };
        let used = file.seen.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if used > 0 {
            let (at, bit) = (self.dice.index(used), self.dice.range(0, 7));
            file.seen[at] ^= 1 << bit;
            file.safe[at] ^= 1 << bit;
            if let Some((_, name, rows)) = file.batches.iter().rev().find(|(offset, ..)| *offset <= at) {
                self.trace.note("flipped", &[name.producer, name.number], || format!("{name:?}"));
                self.books.destroyed(*name, rows, Destroyed::ByDamage);
            }
        }
    }

    /// Everything that was not brought to the disk is gone, or a part of it. All processes of the host are dead.
    pub fn power_cut(&self) {
        let before = self.records();
        self.lose_what_is_not_safe();
        let after = self.records();
        for (name, rows) in before.iter().filter(|(name, _)| !after.contains_key(name)) {
            let numbers = [name.producer, name.number];
            self.trace.note("destroyed", &numbers, || format!("{name:?} {rows:?}"));
            self.books.destroyed(*name, rows, Destroyed::ByPower);
        }
    }

    fn lose_what_is_not_safe(&self) {
        let (dice, state) = (&self.dice, &mut *lock(&self.state));
        state.boots += 1;
        state.folders.values_mut().for_each(|owner| *owner = None);
        state.files.retain(|_, file| file.is_named || dice.chance(50));
        for file in state.files.values_mut() {
            let how = dice.range(0, 3);
            for (offset, length) in std::mem::take(&mut file.dirty) {
                // None of them, or any, the last one torn.
                let kept = match how {
                    0 => 0,
                    1 => length,
                    _ if dice.chance(50) => length,
                    _ => dice.index(length + 1),
                };
                let range = offset..offset + kept;
                file.safe[range.clone()].copy_from_slice(&file.seen[range]);
            }
            file.seen.clone_from(&file.safe);
            file.is_named = true;
        }
        for (path, mut file) in std::mem::take(&mut state.removed) {
            let folder = folder_of(&path).to_owned();
            if dice.chance(30) && state.folders.contains_key(&folder) && !state.files.contains_key(&path) {
                file.seen.clone_from(&file.safe);
                file.dirty.clear();
                state.files.insert(path, file);
            }
        }
    }

    /// Names of folders that hold journals.
    #[must_use]
    pub fn lives(&self) -> Vec<String> {
        lock(&self.state).folders.keys().filter(|name| *name != "damaged").cloned().collect()
    }

    /// What an adopter would find, read by the real code from a copy.
    fn records(&self) -> Records {
        let mut state = lock(&self.state).clone();
        state.folders.values_mut().for_each(|owner| *owner = None);
        (state.is_full, state.failing_writes, state.failing_syncs) = (false, 0, 0);
        let copy = Self {
            dice: Dice::new(0),
            lies: false,
            trace: Arc::clone(&self.trace),
            books: Arc::clone(&self.books),
            state: Mutex::new(state),
        };
        let copy = Arc::new(copy).mount();
        let mut records = Records::new();
        for mut life in footfall_journal::adopt(&copy).expect("nothing fails on the copy") {
            for journal in &mut life.shards {
                let shard = journal.shard;
                let each = |_, payload: &[u8]| {
                    if let Ok(Record { path, batch, .. }) = decode_record(payload)
                        && let Ok(batch) = batch.batch()
                        && !batch.rows.is_empty()
                    {
                        records.insert(BatchName::of(shard, path, &batch), rows_of(&batch));
                    }
                };
                // A segment of another version is damage of its header.
                let _ = journal.records(each);
            }
        }
        records
    }

    /// Those of processes that are gone.
    fn is_current(&self, boot: u64) -> io::Result<()> {
        if lock(&self.state).boots == boot { Ok(()) } else { Err(io::Error::other("the machine is off")) }
    }
}

fn folder_of(path: &str) -> &str {
    path.split_once('/').map_or("", |(folder, _)| folder)
}

/// The batch in what is written, if it is a record: mark, length and checksum of 4 bytes each, then the payload. One
/// without content only stands for a batch that was lost.
fn batch_in(path: &str, bytes: &[u8]) -> Option<(BatchName, Rows)> {
    let (header, rest) = bytes.split_first_chunk::<12>()?;
    let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    let Record { path: path_of_batch, batch, .. } = decode_record(rest.get(..length as usize)?).ok()?;
    let batch = batch.batch().ok()?;
    let shard = path.split_once("/s")?.1.split_once('-')?.0.parse().ok()?;
    (!batch.rows.is_empty()).then(|| (BatchName::of(shard, path_of_batch, &batch), rows_of(&batch)))
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// The disk as one process sees it.
struct Mounted(Arc<SimulatedDisk>);

struct Lock {
    disk: Arc<SimulatedDisk>,
    folder: String,
    number: u64,
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(owner) = lock(&self.disk.state).folders.get_mut(&self.folder)
            && *owner == Some(self.number)
        {
            *owner = None;
        }
    }
}

struct Handle {
    disk: Arc<SimulatedDisk>,
    path: String,
    id: u64,
    boot: u64,
}

impl Disk for Mounted {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let state = lock(&self.0.state);
        if folder.is_empty() {
            return Ok(state.folders.keys().cloned().collect());
        }
        state.folders.get(folder).ok_or_else(not_found)?;
        let in_folder = state.files.keys().filter(|path| folder_of(path) == folder);
        let mut names: Vec<String> = in_folder.map(|path| path[folder.len() + 1..].to_owned()).collect();
        if folder != "damaged" {
            names.push("lock".into());
        }
        Ok(names)
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        lock(&self.0.state).folders.entry(folder.to_owned()).or_default();
        Ok(())
    }

    fn create(&self, path: &str, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
        let dice = &self.0.dice;
        let mut state = lock(&self.0.state);
        if !state.folders.contains_key(folder_of(path)) {
            return Err(not_found());
        }
        if state.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if state.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if dice.chance(state.failing_writes) {
            return Err(io::Error::other("I/O error"));
        }
        let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::StorageFull)?;
        state.numbers += 1;
        let (id, boot) = (state.numbers, state.boots);
        let file =
            File { id, seen: vec![0; bytes], safe: vec![0; bytes], dirty: vec![], is_named: false, batches: vec![] };
        state.files.insert(path.to_owned(), file);
        Ok(Box::new(Handle { disk: Arc::clone(&self.0), path: path.to_owned(), id, boot }))
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        lock(&self.0.state).files.get(path).map(|file| file.seen.clone()).ok_or_else(not_found)
    }

    fn read_at(&self, path: &str, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let state = lock(&self.0.state);
        let file = state.files.get(path).ok_or_else(not_found)?;
        let begin = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = begin.checked_add(bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(file.seen.get(begin..end).ok_or(io::ErrorKind::UnexpectedEof)?.to_vec())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = lock(&self.0.state);
        let file = state.files.remove(path).ok_or_else(not_found)?;
        if file.is_named {
            state.removed.push((path.to_owned(), file));
        }
        Ok(())
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        let mut state = lock(&self.0.state);
        let paths: Vec<String> = state.files.keys().filter(|path| folder_of(path) == folder).cloned().collect();
        for path in paths {
            state.files.remove(&path);
        }
        state.folders.remove(folder);
        Ok(())
    }

    fn lock(&self, folder: &str) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let mut state = lock(&self.0.state);
        state.numbers += 1;
        let number = state.numbers;
        let owner = state.folders.get_mut(folder).ok_or_else(not_found)?;
        if owner.is_some() {
            return Ok(None);
        }
        *owner = Some(number);
        Ok(Some(Box::new(Lock { disk: Arc::clone(&self.0), folder: folder.to_owned(), number })))
    }
}

impl DiskFile for Handle {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.is_current(self.boot)?;
        let mut state = lock(&self.disk.state);
        let fails = self.disk.dice.chance(state.failing_writes);
        let Some(file) = state.files.get_mut(&self.path).filter(|file| file.id == self.id) else { return Ok(()) };
        let begin = usize::try_from(offset).unwrap_or(usize::MAX);
        let taken = if fails { self.disk.dice.index(bytes.len() + 1) } else { bytes.len() };
        if begin.saturating_add(taken) > file.seen.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.seen[begin..begin + taken].copy_from_slice(&bytes[..taken]);
        file.dirty.push((begin, taken));
        if let (false, Some((name, rows))) = (fails, batch_in(&self.path, bytes)) {
            self.disk.books.written(name);
            file.batches.push((begin, name, rows));
        }
        if fails { Err(io::Error::other("I/O error")) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.is_current(self.boot)?;
        let (fails, keeps) = {
            let state = lock(&self.disk.state);
            (self.disk.dice.chance(state.failing_syncs), self.disk.dice.chance(50))
        };
        if self.disk.lies {
            return Ok(());
        }
        if fails {
            // What could not be written is not tried again, and may be gone from memory as well, now or later.
            let mut state = lock(&self.disk.state);
            if let Some(file) = state.files.get_mut(&self.path).filter(|file| file.id == self.id) {
                for (offset, length) in std::mem::take(&mut file.dirty) {
                    for (_, name, rows) in file.batches.iter().filter(|(at, ..)| *at == offset) {
                        self.disk.trace.note("doubtful", &[name.producer, name.number], || format!("{name:?}"));
                        self.disk.books.destroyed(*name, rows, Destroyed::ByDamage);
                    }
                    if !keeps {
                        let range = offset..offset + length;
                        file.seen[range.clone()].copy_from_slice(&file.safe[range]);
                    }
                }
            }
            return Err(io::Error::other("I/O error"));
        }
        let mut state = lock(&self.disk.state);
        if let Some(file) = state.files.get_mut(&self.path).filter(|file| file.id == self.id) {
            for (offset, length) in std::mem::take(&mut file.dirty) {
                let range = offset..offset + length;
                file.safe[range.clone()].copy_from_slice(&file.seen[range]);
            }
            file.is_named = true;
        }
        // The file system writes its tables in order: what was removed before is usually removed now.
        if self.disk.dice.chance(50) {
            state.removed.clear();
        }
        Ok(())
    }
}
