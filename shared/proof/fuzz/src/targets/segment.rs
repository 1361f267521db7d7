//! What a crash, a power cut or a bad disk leave of a journal, as the next ingest finds it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use footfall_journal::{Disk, DiskFile, Journal, Life, Limits, adopt as adopt_all};

const LIFE: &str = "00000000000000aa";
const SEGMENT: &str = "00000000000000aa/s0-0.journal";
const SEGMENT_BYTES: u64 = 4096;
/// Bytes that may be other ones without anybody finding a checksum that agrees.
const CHANGES_MAX: usize = 2;

/// A disk in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Memory {
    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().expect("nobody panics with it")
    }
}

impl Disk for Memory {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let files = self.files();
        let parts = files.keys().filter_map(|path| path.split_once('/'));
        if folder.is_empty() {
            let mut folders: Vec<String> = parts.map(|(folder, _)| folder.to_owned()).collect();
            folders.dedup();
            return Ok(folders);
        }
        Ok(parts.filter(|(of, _)| *of == folder).map(|(_, name)| name.to_owned()).collect())
    }

    fn create_folder(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, path: &str, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
        let before = self.files().insert(path.to_owned(), vec![0; bytes as usize]);
        if before.is_some() {
            Err(io::ErrorKind::AlreadyExists.into())
        } else {
            Ok(Box::new(File(self.clone(), path.to_owned())))
        }
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.files().get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn read_at(&self, path: &str, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let file = self.read(path)?;
        let offset = offset as usize;
        let part = offset.checked_add(bytes).and_then(|end| file.get(offset..end));
        part.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.files().remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        self.files().retain(|path, _| path.split_once('/').is_none_or(|(of, _)| of != folder));
        Ok(())
    }

    fn lock(&self, _: &str) -> io::Result<Option<Box<dyn Send + Sync>>> {
        Ok(Some(Box::new(())))
    }
}

struct File(Memory, String);

impl DiskFile for File {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.0.files();
        let file = files.get_mut(&self.1).ok_or(io::ErrorKind::NotFound)?;
        file[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The bytes as a whole segment; and as what is done to one: how many records it has, then where something else is.
pub(crate) fn adopt(bytes: &[u8]) {
    let memory = Memory::default();
    memory.files().insert(SEGMENT.to_owned(), bytes.to_vec());
    // A fuzzer sees what a checksum is compared with, so it makes up whole records: they are read, and read again.
    drop(take_over(&memory));

    let Some((first, damage)) = bytes.split_first() else { return };
    let memory = Memory::default();
    let written = write(&memory, usize::from(first % 8));
    let mut is_damaged = false;
    let mut changes = 0;
    if let Some(segment) = memory.files().get_mut(SEGMENT) {
        let before = segment.clone();
        for change in damage.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % segment.len();
            segment[at] ^= change[2];
            changes += 1;
        }
        is_damaged = *segment != before;
    }
    let Some(found) = take_over(&memory) else {
        assert!(is_damaged, "a whole segment can be read");
        return;
    };
    // In order, each at most once, and none that was not written; of more changes a fuzzer makes another record.
    let mut rest = written.iter();
    let is_known = found.iter().all(|payload| rest.any(|other| other == payload));
    assert!(is_known || changes > CHANGES_MAX, "{found:?} of {written:?}");
    assert!(is_damaged || found == written, "{found:?} of {written:?}");
}

/// A life that ends at once.
fn write(memory: &Memory, records: usize) -> Vec<Vec<u8>> {
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let life = Life::begin(disk, LIFE).expect("a disk that works");
    let limits = Limits { bytes_max: 4 * SEGMENT_BYTES, segment_bytes: SEGMENT_BYTES, segment_age_max: Duration::MAX };
    let mut journal = Journal::new(&life, 0, limits);
    let payloads: Vec<Vec<u8>> = (0..records).map(|number| vec![number as u8 + 1; number * 37 % 101]).collect();
    for payload in &payloads {
        journal.append(payload, Instant::now()).expect("there is room");
    }
    payloads
}

/// What is read of it. None if the segment is another's; then it stays as it is.
fn take_over(memory: &Memory) -> Option<Vec<Vec<u8>>> {
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let mut found = vec![];
    for mut life in adopt_all(&disk).expect("a disk that works") {
        for journal in &mut life.shards {
            let (mut locations, mut payloads) = (vec![], vec![]);
            journal
                .records(|location, payload| {
                    locations.push(location);
                    payloads.push(payload.to_vec());
                })
                .ok()?;
            let again: Vec<Vec<u8>> =
                locations.iter().map(|location| journal.read(*location).expect("it was read")).collect();
            assert_eq!(again, payloads);
            found.extend(payloads);
        }
        life.finished().expect("all of it was read");
    }
    let left = memory.files().keys().filter(|path| !path.starts_with("damaged/")).count();
    assert_eq!(left, 0, "all is removed but what is kept for a person");
    Some(found)
}
