//! What dead lives left behind.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::Disk;
use crate::journal::read_record;
use crate::life::LifeFolder;
use crate::segment::{Damage, Location, SegmentId, life_name, parse_life, parse_segment};

/// The folder for what could not be read.
pub(crate) const DAMAGED: &str = "damaged";
/// How many damaged stretches are kept, of all lives together.
pub const DAMAGED_FILES_MAX: usize = 1000;
/// How much of them is kept, in bytes.
pub const DAMAGED_BYTES_MAX: u64 = 64 << 20;

/// A life that has ended without cleaning up. Nobody else adopts it until this and its journals are dropped.
pub struct DeadLife {
    /// Its name.
    pub name: String,
    /// Its journals, by shard. They can be taken out, to be read and finished independently.
    pub shards: Vec<DeadJournal>,
    folder: Arc<LifeFolder>,
}

/// What a dead life left of one shard.
pub struct DeadJournal {
    /// The shard.
    pub shard: u16,
    /// What could not be read, complete when [`DeadJournal::records`] has succeeded.
    pub damaged: Vec<Damage>,
    /// How much was found behind the last valid records of all segments together, in bytes, complete likewise. Usually
    /// an append that the crash cut off, so that nobody relied on it; but damage to a segment's last record looks the
    /// same.
    pub torn_bytes: u64,
    folder: Arc<LifeFolder>,
    segments: Vec<SegmentId>,
    is_read: bool,
}

/// Locks all lives that are dead. Folders without a journal are removed right away.
pub fn adopt(disk: &Arc<dyn Disk>) -> io::Result<Vec<DeadLife>> {
    let mut dead = vec![];
    for name in disk.list("")? {
        let Some(life) = parse_life(&name) else { continue };
        let lock = match disk.lock(&name) {
            // Somebody else has just finished it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            lock => lock?,
        };
        let Some(lock) = lock else { continue };
        let folder = Arc::new(LifeFolder { disk: Arc::clone(disk), life, _lock: lock });
        if !folder.remove_if_empty()? {
            dead.push(DeadLife::open(name, folder)?);
        }
    }
    Ok(dead)
}

impl DeadLife {
    fn open(name: String, folder: Arc<LifeFolder>) -> io::Result<DeadLife> {
        let mut by_shard: BTreeMap<u16, Vec<SegmentId>> = BTreeMap::new();
        for file in folder.disk.list(&name)? {
            if let Some(id) = parse_segment(folder.life, &file) {
                by_shard.entry(id.shard).or_default().push(id);
            }
        }
        let shards = by_shard.into_iter().map(|(shard, mut segments)| {
            segments.sort_unstable_by_key(|id| id.sequence);
            let folder = Arc::clone(&folder);
            DeadJournal { shard, damaged: vec![], torn_bytes: 0, folder, segments, is_read: false }
        });
        Ok(DeadLife { name, shards: shards.collect(), folder })
    }

    /// MySQL has everything: [`DeadJournal::finished`] for all journals that were not taken out.
    pub fn finished(self) -> io::Result<()> {
        for journal in self.shards {
            journal.finished()?;
        }
        self.folder.remove_if_empty().map(drop)
    }
}

impl DeadJournal {
    /// Calls back with all records in the order they were appended; released ones may be among them, and repeats.
    /// Holds one segment in memory at a time. Can be called again.
    ///
    /// # Errors
    ///
    /// A segment cannot be read at all, or is of another version: everything stays as it is, to be tried again.
    pub fn records(&mut self, mut each: impl FnMut(Location, &[u8])) -> io::Result<()> {
        (self.is_read, self.torn_bytes) = (false, 0);
        self.damaged.clear();
        for id in &self.segments {
            let bytes = self.folder.disk.read(&id.path())?;
            let foreign = |why| io::Error::new(io::ErrorKind::InvalidData, format!("cannot read {}: {why}", id.path()));
            let scan = id.scan(&bytes).map_err(foreign)?;
            for location in scan.records {
                each(location, location.payload(&bytes));
            }
            self.damaged.extend(scan.damaged);
            self.torn_bytes += u64::from(scan.torn_bytes);
        }
        self.is_read = true;
        Ok(())
    }

    /// The payload of a record. `InvalidData` if it has been damaged since.
    pub fn read(&self, location: Location) -> io::Result<Vec<u8>> {
        read_record(&*self.folder.disk, self.id(location.segment), location)
    }

    /// MySQL has everything: removes the files, and the life's folder with its last journal. What is damaged is kept
    /// as files in the folder `damaged`, named `<life>-s<shard>-<sequence>-<offset>-<bytes>`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` unless [`DeadJournal::records`] has succeeded, `QuotaExceeded` if too much damage has been kept
    /// already, and what the disk says. What is damaged has not been removed then, and will be adopted again.
    pub fn finished(self) -> io::Result<()> {
        if !self.is_read {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a journal that was not read is not finished"));
        }
        // What is whole first: its space may be needed to keep the damage.
        let is_whole = |id: &SegmentId| self.damaged.iter().all(|damage| damage.segment != id.sequence);
        let (whole, broken): (Vec<SegmentId>, Vec<SegmentId>) = self.segments.iter().partition(|id| is_whole(id));
        for id in whole {
            self.folder.disk.remove(&id.path())?;
        }
        self.keep_damaged()?;
        for id in broken {
            self.folder.disk.remove(&id.path())?;
        }
        self.folder.remove_if_empty().map(drop)
    }

    fn id(&self, sequence: u32) -> SegmentId {
        SegmentId { life: self.folder.life, shard: self.shard, sequence }
    }

    fn keep_damaged(&self) -> io::Result<()> {
        if self.damaged.is_empty() {
            return Ok(());
        }
        let disk = &self.folder.disk;
        disk.create_folder(DAMAGED)?;
        let mut kept = disk.list(DAMAGED)?;
        for damage in &self.damaged {
            let Damage { segment, offset, bytes } = *damage;
            let name = format!("{}-s{}-{segment}-{offset}-{bytes}", life_name(self.folder.life), self.shard);
            let path = format!("{DAMAGED}/{name}");
            if let Some(at) = kept.iter().position(|kept| *kept == name) {
                // From an earlier attempt, which may have ended in the middle of it.
                disk.remove(&path)?;
                kept.swap_remove(at);
            }
            let kept_bytes: u64 = kept.iter().filter_map(|name| name.rsplit('-').next()?.parse::<u64>().ok()).sum();
            if kept.len() >= DAMAGED_FILES_MAX || kept_bytes + u64::from(bytes) > DAMAGED_BYTES_MAX {
                let why = format!("the folder {DAMAGED} has {} files with {kept_bytes} bytes", kept.len());
                return Err(io::Error::new(io::ErrorKind::QuotaExceeded, why));
            }
            let damaged = disk.read_at(&self.id(segment).path(), u64::from(offset), bytes as usize)?;
            let file = disk.create(&path, u64::from(bytes))?;
            file.write_at(0, &damaged)?;
            file.sync()?;
            kept.push(name);
        }
        Ok(())
    }
}
