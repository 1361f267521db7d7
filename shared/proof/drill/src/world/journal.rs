//! Faults of the disk that the journals are on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::ensure;
use footfall_journal::{Disk, Folder};
use footfall_proof::{Damage, Dice, Setup};

use super::Healing;
use crate::lab::{Lab, Skip};

/// The disk is full until somebody makes room.
pub(super) fn fill_disk(lab: &mut Lab) -> anyhow::Result<Healing> {
    if lab.setup != Setup::SmallDisk {
        return Err(Skip("the journals of this stack are on no disk of their own".to_owned()).into());
    }
    let ballast = journal(lab)?.join("ballast");
    fill(&ballast)?;
    Ok(Box::new(move |_| Ok(fs::remove_file(ballast)?)))
}

/// The folder of the journals, of a build that keeps any.
fn journal(lab: &Lab) -> anyhow::Result<PathBuf> {
    let folder = lab.stack.journal().filter(|folder| segments(folder).is_ok_and(|segments| !segments.is_empty()));
    Ok(folder.ok_or_else(|| Skip("this build keeps no journal".to_owned()))?)
}

/// All segment files, of all lives, in order.
fn segments(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for life in fs::read_dir(folder)? {
        let life = life?.path();
        if !life.is_dir() {
            continue;
        }
        for file in fs::read_dir(life)? {
            let file = file?.path();
            if file.extension().is_some_and(|extension| extension == "journal") {
                found.push(file);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Damages every journal that holds anything. Nobody may be writing one.
pub(super) fn damage(lab: &mut Lab, how: Damage, dice: u64) -> anyhow::Result<Option<Healing>> {
    let dice = Dice::new(dice);
    let folder = journal(lab)?;
    let before = readable(&folder)?;
    let mut damaged = 0;
    for segment in segments(&folder)? {
        let used = used_bytes(&fs::read(&segment)?);
        // A segment's own header is not worth the while.
        if used > 64 {
            match how {
                Damage::Bits => flip_bits(&segment, used, &dice)?,
                Damage::TornTail => tear(&segment, used, &dice)?,
            }
            damaged += 1;
        }
    }
    ensure!(damaged > 0, "no journal held anything");
    let after = readable(&folder)?;
    let last = |lane| after.keys().filter(|(other, _)| *other == lane).map(|(_, number)| *number).max();
    lab.untold +=
        before.iter().filter(|((lane, number), _)| Some(*number) > last(*lane)).map(|(_, views)| views).sum::<u64>();
    Ok(None)
}

/// Which numbers a batch: its shard, its producer, and the way that it took.
type Lane = (u16, u64, u8);

/// The views of every batch that can be read.
fn readable(folder: &Path) -> anyhow::Result<BTreeMap<(Lane, u64), u64>> {
    let disk: Arc<dyn Disk> = Arc::new(Folder::open(folder)?);
    let mut found = BTreeMap::new();
    for mut journal in footfall_journal::adopt(&disk)?.into_iter().flat_map(|life| life.shards) {
        let shard = journal.shard;
        journal.records(|_, payload| {
            let (way, producer, number, views) = outline(payload).expect("the checksum of the record is right");
            found.insert(((shard, producer, way), number), views);
        })?;
    }
    Ok(found)
}

/// The way, the producer, the number and the views of a batch that ingest wrote into its journal. It is read here
/// because this package is built before the one that packs records.
fn outline(mut record: &[u8]) -> Option<(u8, u64, u64, u64)> {
    fn number(rest: &mut &[u8]) -> Option<u64> {
        let end = rest.iter().position(|byte| byte & 0x80 == 0)?;
        let (bytes, tail) = rest.split_at(end + 1);
        *rest = tail;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f)))
    }
    fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
        let len = usize::try_from(number(rest)?).ok()?;
        let (text, tail) = rest.split_at_checked(len)?;
        *rest = tail;
        Some(text)
    }
    let way = *record.split_off_first()?;
    number(&mut record)?;
    // Between its version and its checksum.
    let batch = text(&mut record)?;
    let (producer, mut batch) = batch.get(1..batch.len().checked_sub(4)?)?.split_first_chunk()?;
    let batch_number = number(&mut batch)?;
    for _ in ["views so far", "minute", "repeats"] {
        number(&mut batch)?;
    }
    let mut views = 0;
    while !batch.is_empty() {
        text(&mut batch)?; // The article.
        for _ in 0..number(&mut batch)? {
            text(&mut batch)?; // The reader.
            views += number(&mut batch)?;
        }
    }
    Some((way, u64::from_be_bytes(*producer), batch_number, views))
}

/// Up to where a segment, which is followed by zeros, was written.
fn used_bytes(segment: &[u8]) -> usize {
    segment.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

fn flip_bits(segment: &Path, used: usize, dice: &Dice) -> io::Result<()> {
    /// What nobody else has is at the end.
    const RECENT: usize = 8 * 1024;
    let file = File::options().read(true).write(true).open(segment)?;
    let first = if dice.chance(50) { 32 } else { used.saturating_sub(RECENT).max(32) };
    for _ in 0..dice.range(1, 3) {
        let at = dice.range(first as u64, used as u64 - 1);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        byte[0] ^= 1 << dice.range(0, 7);
        file.write_all_at(&byte, at)?;
    }
    Ok(())
}

/// Zeros where the end of the last write would be, as after a power cut that came before it was on the disk.
fn tear(segment: &Path, used: usize, dice: &Dice) -> io::Result<()> {
    let lost = dice.range(1, 24.min(used as u64 - 32)) as usize;
    File::options().write(true).open(segment)?.write_all_at(&vec![0; lost], (used - lost) as u64)
}

/// Writes a file until there is no room left, neither for the next block nor for the next byte.
fn fill(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    for block in [vec![1u8; 64 * 1024], vec![1u8; 1]] {
        loop {
            match file.write(&block) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_stays_within_what_was_written() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let life = dir.path().join("0123456789abcdef");
        fs::create_dir(&life)?;
        let path = life.join("s0-1.journal");
        let mut whole = vec![7u8; 500];
        whole.resize(4_096, 0);
        fs::write(life.join("lock"), "")?;
        for (seed, how) in [flip_bits, tear].into_iter().enumerate() {
            fs::write(&path, &whole)?;
            assert_eq!(segments(dir.path())?, std::slice::from_ref(&path));
            assert_eq!(used_bytes(&whole), 500);
            how(&path, 500, &Dice::new(seed as u64))?;
            let now = fs::read(&path)?;
            assert!(now != whole && now.len() == whole.len());
            assert!(now[..32] == whole[..32] && now[500..] == whole[500..]);
        }
        Ok(())
    }
}
