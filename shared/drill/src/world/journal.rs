//! Faults of the disk that the journals are on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::ensure;
use footfall_journal::{Disk, Folder};
use rand::RngExt;
use rand::rngs::StdRng;

use super::everything::{kill_services, restart_services};
use super::redis::empty;
use super::{Expect, Fault, Healing, Part};
use crate::lab::{Lab, Skip};
use crate::setting::Setting;
use crate::stack::Role;

const INGEST: &[Part] = &[Part::Ingest];

/// Why damage to journals is not mixed with other faults.
const ONLY_COPY: &str = "when Redis loses data too, the journal is the only copy";

pub(super) const FAULTS: &[Fault] = &[
    Fault::new(
        "journal-bits-flipped",
        "All ingests are killed, and some bits of their journals change; Redis still has what is in them.",
        INGEST,
        |lab, random| damage(lab, random, flip_bits, false),
    )
    .alone(ONLY_COPY),
    Fault::new(
        "journal-tail-torn",
        "All ingests are killed, and the end of a journal's last record is lost; Redis still has it.",
        INGEST,
        |lab, random| damage(lab, random, tear, false),
    )
    .alone(ONLY_COPY),
    Fault::new(
        "journal-bits-flipped-redis-lost",
        "All ingests are killed, some bits of their journals change, and Redis loses everything.",
        &[Part::Ingest, Part::Redis],
        |lab, random| damage(lab, random, flip_bits, true),
    )
    .expect(Expect::LostAsReported),
    Fault::new(
        "journal-disk-full",
        "The disk of the journals is full, until somebody makes room.",
        INGEST,
        |lab, _| {
            let ballast = journal(lab)?.join("ballast");
            fill(&ballast)?;
            Ok(Box::new(move |_| Ok(fs::remove_file(ballast)?)))
        },
    )
    .on(Setting::SmallDisk)
    .lasts((800, 1_500), (2_000, 10_000)),
    Fault::new(
        "journal-disk-full-redis-away",
        "The disk of the journals is full, and Redis is away; views go to MySQL or are refused.",
        &[Part::Ingest, Part::Redis],
        |lab, _| {
            let ballast = journal(lab)?.join("ballast");
            fill(&ballast)?;
            lab.stack.redis.kill()?;
            Ok(Box::new(move |lab| {
                lab.stack.redis.restart()?;
                Ok(fs::remove_file(ballast)?)
            }))
        },
    )
    .on(Setting::SmallDisk)
    .lasts((800, 1_500), (2_000, 10_000)),
];

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

fn damage(
    lab: &mut Lab,
    random: &mut StdRng,
    how: fn(&Path, usize, &mut StdRng) -> io::Result<()>,
    redis_is_lost: bool,
) -> anyhow::Result<Healing> {
    let folder = journal(lab)?;
    if redis_is_lost {
        // So that the journals hold something that nobody else has.
        lab.stack.mariadb.kill()?;
        super::pause(random, 300, 600);
    }
    kill_services(lab, &[Role::Ingest])?;
    let before = readable(&folder)?;
    let mut damaged = 0;
    for segment in segments(&folder)? {
        let used = used_bytes(&fs::read(&segment)?);
        // A segment's own header is not worth the while.
        if used > 64 {
            how(&segment, used, random)?;
            damaged += 1;
        }
    }
    ensure!(damaged > 0, "no journal held anything");
    let after = readable(&folder)?;
    let last = |lane| after.keys().filter(|(other, _)| *other == lane).map(|(_, number)| *number).max();
    lab.untold +=
        before.iter().filter(|((lane, number), _)| Some(*number) > last(*lane)).map(|(_, views)| views).sum::<u64>();
    if redis_is_lost {
        lab.stack.redis.kill()?;
        empty(lab)?;
    }
    Ok(Box::new(move |lab| {
        if redis_is_lost {
            lab.stack.redis.restart()?;
            lab.stack.mariadb.restart()?;
        }
        restart_services(lab, &[Role::Ingest])
    }))
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

fn flip_bits(segment: &Path, used: usize, random: &mut StdRng) -> io::Result<()> {
    /// What nobody else has is at the end.
    const RECENT: usize = 8 * 1024;
    let file = File::options().read(true).write(true).open(segment)?;
    let first = if random.random() { 32 } else { used.saturating_sub(RECENT).max(32) };
    for _ in 0..random.random_range(1..=3) {
        let at = random.random_range(first..used) as u64;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        byte[0] ^= 1 << random.random_range(0..8);
        file.write_all_at(&byte, at)?;
    }
    Ok(())
}

/// Zeros where the end of the last write would be, as after a power cut that came before it was on the disk.
fn tear(segment: &Path, used: usize, random: &mut StdRng) -> io::Result<()> {
    let lost = random.random_range(1..=24.min(used - 32));
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
    use rand::SeedableRng;

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
            how(&path, 500, &mut StdRng::seed_from_u64(seed as u64))?;
            let now = fs::read(&path)?;
            assert!(now != whole && now.len() == whole.len());
            assert!(now[..32] == whole[..32] && now[500..] == whole[500..]);
        }
        Ok(())
    }
}
