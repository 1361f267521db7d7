//! Sorts what is to be counted, however much it is: in memory up to a limit, beyond it in a temporary file.
//!
//! By hand, because the file must not outlive this process, not even one that is killed: it has no name. It is one file
//! however many sorted runs there are, so that neither descriptors nor buffers grow with the input.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use footfall_shared::protocol::{Article, Shard, User};

/// Bytes that are sorted in memory; as many again hold where each record begins, at most, and buffers later.
const MEMORY: usize = 64 * 1024 * 1024;
/// A record is its length, its key, and its views: the key has ids of 255 and 128 bytes at most.
const RECORD_BYTES_MAX: usize = 2 + 512 + VIEWS_BYTES;
const VIEWS_BYTES: usize = 8;
/// Read from a run at once, at least.
const BUFFER_MIN: usize = 4 * 1024;

/// How often somebody read something, within one minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) shard: Shard,
    pub(super) article: Article,
    pub(super) user: User,
    pub(super) minute: u32,
    pub(super) views: u64,
}

/// Takes records in any order.
pub(super) struct Sorter {
    folder: PathBuf,
    memory: usize,
    /// Records, one behind the other.
    records: Vec<u8>,
    /// Where each begins.
    starts: Vec<u32>,
    file: Option<File>,
    /// Where each run ends in the file.
    ends: Vec<u64>,
}

impl Sorter {
    /// The temporary file, if one is needed, is made in this folder.
    pub(super) fn new(folder: &Path) -> Self {
        Self::with_memory(folder, MEMORY)
    }

    fn with_memory(folder: &Path, memory: usize) -> Self {
        Self { folder: folder.to_owned(), memory, records: vec![], starts: vec![], file: None, ends: vec![] }
    }

    /// Takes one record.
    pub(super) fn add(&mut self, record: &Record) -> io::Result<()> {
        if self.records.len() + RECORD_BYTES_MAX > self.memory && !self.starts.is_empty() {
            self.spill()?;
        }
        let start = u32::try_from(self.records.len()).map_err(io::Error::other)?;
        let Record { shard, article, user, minute, views } = record;
        // In this order bytes compare as shard, article, user and minute do: ids hold no control characters.
        let parts: [&[u8]; 6] =
            [&shard.0.to_be_bytes(), article.as_bytes(), &[0], user.as_bytes(), &[0], &minute.to_be_bytes()];
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        self.records.extend(u16::try_from(length).map_err(io::Error::other)?.to_le_bytes());
        parts.iter().for_each(|part| self.records.extend_from_slice(part));
        self.records.extend(views.to_le_bytes());
        self.starts.push(start);
        Ok(())
    }

    /// All records by shard, article, user and minute; those that agree in all four are one, with their views added up.
    pub(super) fn sorted(mut self) -> io::Result<Sorted> {
        if self.file.is_none() {
            self.sort();
            let memory = Run { rest: Rest::Nothing, buffer: in_order(&self.records, &self.starts), at: 0 };
            return Sorted::new(vec![memory]);
        }
        if !self.starts.is_empty() {
            self.spill()?;
        }
        let file = Rc::new(self.file.take().ok_or_else(|| io::Error::other("there is no file"))?);
        let size = (self.memory / self.ends.len().max(1)).max(BUFFER_MIN);
        drop((self.records, self.starts));
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let runs = starts.zip(&self.ends).map(|(next, end)| Run {
            rest: Rest::File { file: Rc::clone(&file), next, end: *end, size },
            buffer: vec![],
            at: 0,
        });
        Sorted::new(runs.collect())
    }

    fn sort(&mut self) {
        let records = &self.records;
        self.starts.sort_unstable_by_key(|start| key_at(records, *start as usize));
    }

    /// Writes what is in memory to the file, as one sorted run.
    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(nameless(&self.folder)?),
        };
        let mut out = BufWriter::with_capacity(256 * 1024, &*file);
        for start in &self.starts {
            out.write_all(record_at(&self.records, *start as usize))?;
        }
        out.flush()?;
        drop(out);
        let written = self.ends.last().copied().unwrap_or(0) + self.records.len() as u64;
        self.ends.push(written);
        self.records.clear();
        self.starts.clear();
        Ok(())
    }
}

/// A file without a name, for us alone.
fn nameless(folder: &Path) -> io::Result<File> {
    let file = tempfile::tempfile_in(folder)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

fn key_at(records: &[u8], start: usize) -> &[u8] {
    let record = record_at(records, start);
    &record[2..record.len() - VIEWS_BYTES]
}

fn record_at(records: &[u8], start: usize) -> &[u8] {
    let length = usize::from(u16::from_le_bytes([records[start], records[start + 1]]));
    &records[start..start + 2 + length + VIEWS_BYTES]
}

fn in_order(records: &[u8], starts: &[u32]) -> Vec<u8> {
    let mut ordered = Vec::with_capacity(records.len());
    starts.iter().for_each(|start| ordered.extend_from_slice(record_at(records, *start as usize)));
    ordered
}

/// The records of one run that were not taken yet, in their order.
struct Run {
    rest: Rest,
    buffer: Vec<u8>,
    /// Where the next record begins in the buffer.
    at: usize,
}

/// What of a run is not in its buffer.
enum Rest {
    Nothing,
    File { file: Rc<File>, next: u64, end: u64, size: usize },
}

impl Run {
    /// Copies the next record over `key`; answers its views, none at the end.
    fn next(&mut self, key: &mut Vec<u8>) -> io::Result<Option<u64>> {
        if !self.has(2)? {
            return Ok(None);
        }
        let length = usize::from(u16::from_le_bytes([self.buffer[self.at], self.buffer[self.at + 1]]));
        if !self.has(2 + length + VIEWS_BYTES)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let record = &self.buffer[self.at + 2..self.at + 2 + length + VIEWS_BYTES];
        let (bytes, views) = record.split_last_chunk::<VIEWS_BYTES>().ok_or(io::ErrorKind::InvalidData)?;
        key.clear();
        key.extend_from_slice(bytes);
        let views = u64::from_le_bytes(*views);
        self.at += 2 + length + VIEWS_BYTES;
        Ok(Some(views))
    }

    /// Reads on until there are so many bytes, if there are.
    fn has(&mut self, bytes: usize) -> io::Result<bool> {
        if let Rest::File { file, next, end, size } = &mut self.rest
            && self.buffer.len() - self.at < bytes
        {
            self.buffer.drain(..self.at);
            self.at = 0;
            let kept = self.buffer.len();
            let more = usize::try_from(*end - *next).unwrap_or(usize::MAX).min((*size).max(RECORD_BYTES_MAX));
            self.buffer.resize(kept + more, 0);
            file.read_exact_at(&mut self.buffer[kept..], *next)?;
            *next += more as u64;
        }
        Ok(self.buffer.len() - self.at >= bytes)
    }
}

/// Gives the records back in their order.
pub(super) struct Sorted {
    runs: Vec<Run>,
    /// The next record of each run: key, run, views.
    heads: BinaryHeap<Reverse<(Vec<u8>, usize, u64)>>,
}

impl Sorted {
    fn new(mut runs: Vec<Run>) -> io::Result<Self> {
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for (index, run) in runs.iter_mut().enumerate() {
            let mut key = Vec::with_capacity(RECORD_BYTES_MAX);
            if let Some(views) = run.next(&mut key)? {
                heads.push(Reverse((key, index, views)));
            }
        }
        Ok(Self { runs, heads })
    }

    /// The next one; none at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Record>> {
        let Some(Reverse((first, ..))) = self.heads.peek() else {
            return Ok(None);
        };
        let first = first.clone();
        let mut sum = 0_u64;
        while let Some(mut head) = self.heads.peek_mut() {
            let Reverse((key, run, views)) = &mut *head;
            if *key != first {
                break;
            }
            // Whoever adds has checked that the sum of all can be counted.
            sum = sum.saturating_add(*views);
            match self.runs[*run].next(key)? {
                Some(next) => *views = next,
                None => drop(PeekMut::pop(head)),
            }
        }
        decode(&first, sum).map(Some).ok_or_else(|| io::Error::other("a record is damaged"))
    }
}

fn decode(key: &[u8], views: u64) -> Option<Record> {
    let (shard, rest) = key.split_first_chunk::<2>()?;
    let (ids, minute) = rest.split_last_chunk::<4>()?;
    let mut ids = ids.split(|byte| *byte == 0);
    let (article, user) = (Article::parse(ids.next()?).ok()?, User::parse(ids.next()?).ok()?);
    let shard = Shard(u16::from_be_bytes(*shard));
    Some(Record { shard, article, user, minute: u32::from_be_bytes(*minute), views })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn record(shard: u16, article: &str, user: &str, minute: u32, views: u64) -> Record {
        let article = Article::parse(article.as_bytes()).expect("test id");
        Record { shard: Shard(shard), article, user: User::parse(user.as_bytes()).expect("test id"), minute, views }
    }

    fn sort(records: &[Record], memory: usize) -> Vec<Record> {
        let mut sorter = Sorter::with_memory(&std::env::temp_dir(), memory);
        records.iter().for_each(|record| sorter.add(record).expect("room for it"));
        let mut sorted = sorter.sorted().expect("sorted");
        std::iter::from_fn(|| sorted.next().expect("readable")).collect()
    }

    #[test]
    fn whatever_fits_into_memory_the_order_is_that_of_the_ids_and_equals_are_added_up() {
        let mut random = StdRng::seed_from_u64(7);
        let longest = "\u{10ffff}".repeat(32);
        let ids = ["a", "a ", "ab", "A", "\u{e9}", &longest];
        let records: Vec<Record> = (0..5_000)
            .map(|_| {
                let mut id = || ids[random.random_range(0..ids.len())];
                let (article, user) = (id(), id());
                record(random.random_range(0..3), article, user, random.random_range(0..5), random.random_range(1..9))
            })
            .collect();
        let mut sums: BTreeMap<(Shard, Article, User, u32), u64> = BTreeMap::new();
        for Record { shard, article, user, minute, views } in records.clone() {
            *sums.entry((shard, article, user, minute)).or_default() += views;
        }
        let expected: Vec<Record> = sums
            .into_iter()
            .map(|((shard, article, user, minute), views)| Record { shard, article, user, minute, views })
            .collect();
        // All at once; a few runs; a run for every few records.
        for memory in [MEMORY, 100_000, 2 * RECORD_BYTES_MAX] {
            assert_eq!(sort(&records, memory), expected, "{memory}");
        }
        assert_eq!(sort(&[], MEMORY), []);
    }

    #[test]
    fn the_temporary_file_has_no_name_and_is_for_us_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut sorter = Sorter::with_memory(folder.path(), RECORD_BYTES_MAX);
        for minute in 0..10 {
            sorter.add(&record(0, "a", "u", minute, 1)).expect("room for it");
        }
        let file = sorter.file.as_ref().expect("it was spilled");
        assert_eq!(file.metadata().expect("it is open").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
        let nowhere = Sorter::with_memory(&folder.path().join("nowhere"), RECORD_BYTES_MAX);
        let mut nowhere = nowhere;
        nowhere.add(&record(0, "a", "u", 0, 1)).expect("it fits into memory");
        assert!(nowhere.add(&record(0, "a", "u", 0, 1)).is_err());
    }
}
