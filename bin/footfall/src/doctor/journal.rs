//! The folder of the journals: its disk, who holds what is in it, what of it MySQL does not have, what cannot be read.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Instant;

use footfall_journal::{Folder, LifeSeen, Look, Space};
use footfall_shared::mysql::{ProducerFences, Store};
use footfall_shared::protocol::packed::{self, decode_record};
use footfall_shared::protocol::{Producer, Shard, total};
use footfall_shared::service::config::Config;
use indicatif::HumanBytes;

use super::check::Check;
use super::{LIMIT, runbook};
use crate::terminal::count;

pub(super) const JOURNAL: &str = "journal";
const DISK: &str = "disk";

/// What an ingest allocates at once: below that for each shard, views are refused soon.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Folders and files of the journals are few; below this something else has used them up.
const FILES_MIN: u64 = 1_000;

pub(super) async fn look(config: &Config, store: &Store) -> Vec<Check> {
    let Some(folder) = config.ingest.journal.folder() else {
        let what = "it is off: views that Redis loses are lost if their ingest ends too, and none is counted while both \
                    stores are away";
        return vec![Check::warning(JOURNAL, what, "set ingest.journal to a folder, unless that is meant")];
    };
    let (shards, bytes_max) = (u64::from(config.shards.get()), config.ingest.journal_bytes_max.get());
    let path = folder.to_owned();
    // A thread that nobody waits for: a disk may hang.
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || drop(tell.send((Folder::space(&path), seen(&path)))));
    let Ok((space, seen)) = told.await else {
        return vec![Check::problem(JOURNAL, "looking at it came to nothing", "look at its disk, and at `dmesg`")];
    };
    let used = seen.as_ref().map_or(0, |seen| total(seen.lives.iter().map(|life| life.bytes)));
    let mut checks = vec![match space {
        Ok(space) => judge_space(folder, space, used, shards * SEGMENT_BYTES.min(bytes_max / 4), shards * bytes_max),
        Err(error) => not_seen(DISK, folder, &error),
    }];
    match seen {
        Ok(seen) => {
            let fences = tokio::join!(store.producer_fences(), store.direct_fences());
            let fences = match fences {
                (Ok(through_redis), Ok(direct)) => Some([through_redis, direct]),
                _ => None,
            };
            checks.extend(judge(&seen, fences.as_ref()));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            checks.push(Check::ok(JOURNAL, format!("{} is not there yet: an ingest makes it", folder.display())));
        }
        Err(error) => checks.push(not_seen(JOURNAL, folder, &error)),
    }
    checks
}

fn not_seen(name: &'static str, folder: &Path, error: &io::Error) -> Check {
    let what = format!("{} cannot be looked into: {error}", folder.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            Check::warning(name, what, "run this as root, or as the user of the services")
        }
        _ => Check::problem(name, what, format!("see that it is a folder on a disk that works: {}", runbook::DISK)),
    }
}

/// Whether there is room: `used` is what the journals have, `segments` what they need at once, `most` what they may have.
fn judge_space(folder: &Path, space: Space, used: u64, segments: u64, most: u64) -> Check {
    let Space { free_bytes, free_files, is_read_only } = space;
    let (folder, free) = (folder.display(), HumanBytes(free_bytes));
    if is_read_only {
        let what = format!("nobody can write to the disk of {folder}");
        return Check::problem(DISK, what, format!("look at `dmesg` and mount it writable: {}", runbook::DISK));
    }
    if free_bytes < segments || free_files == Some(0) {
        let what = format!("the disk of {folder} is full: {free} are free, and files {}", files(free_files));
        return Check::problem(DISK, what, format!("free it, else ingest answers 503: {}", runbook::DISK));
    }
    if free_files.is_some_and(|files| files < FILES_MIN) {
        let what = format!("on the disk of {folder} only {} files can be created", files(free_files));
        return Check::warning(
            DISK,
            what,
            format!("find out who has made so many, and delete them: {}", runbook::DISK),
        );
    }
    if free_bytes.saturating_add(used) < most {
        let what =
            format!("{free} are free for {folder}, less than the {} that its journals may need", HumanBytes(most));
        let next = format!("free it, or lower ingest.journal_bytes_max: {}", runbook::JOURNAL_FILLING);
        return Check::warning(DISK, what, next);
    }
    Check::ok(DISK, format!("{free} and {} files are free for {folder}", files(free_files)))
}

fn files(free: Option<u64>) -> String {
    free.map_or_else(|| "any number of".to_owned(), |files| indicatif::HumanCount(files).to_string())
}

/// What is in the folder.
#[derive(Debug, Default)]
struct Seen {
    open_mode: Option<u32>,
    damaged_files: usize,
    lives: Vec<Life>,
}

/// What an ingest keeps, or has left.
#[derive(Debug, Default)]
struct Life {
    name: String,
    is_held: bool,
    bytes: u64,
    /// Bytes and views of each batch, by shard, path and number. A batch may be there twice.
    batches: BTreeMap<(Shard, packed::Path, u64), Size>,
    /// Segments, and why they cannot be read.
    unreadable: BTreeMap<String, String>,
    /// There was more than could be read in time.
    is_partly_read: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Size {
    bytes: u64,
    views: u64,
}

fn seen(folder: &Path) -> io::Result<Seen> {
    let Look { open_mode, lives, damaged_files } = Folder::look(folder)?;
    // Some of the limit is left for asking MySQL.
    let deadline = Instant::now() + LIMIT / 2;
    let lives = lives.into_iter().map(|life| read(life, folder, deadline)).collect();
    Ok(Seen { open_mode, damaged_files, lives })
}

fn read(seen: LifeSeen, folder: &Path, deadline: Instant) -> Life {
    let mut life = Life { name: seen.name.clone(), is_held: seen.is_held, bytes: seen.bytes, ..Life::default() };
    let mut damaged = 0_u64;
    life.unreadable = seen.records(folder, |shard, record| {
        match decode_record(record) {
            Ok(packed::Record { path, batch, .. }) => {
                let size = Size { bytes: record.len() as u64, views: batch.views };
                life.batches.insert((Shard(shard), path, batch.number), size);
            }
            Err(_) => damaged += 1,
        }
        life.is_partly_read = Instant::now() > deadline;
        !life.is_partly_read
    });
    if damaged > 0 {
        life.unreadable.insert(life.name.clone(), format!("{} are no batches", count(damaged, "record")));
    }
    life
}

impl Life {
    /// What MySQL does not have of it.
    fn left(&self, fences: &[ProducerFences; 2]) -> Vec<Size> {
        let Some(producer) = Producer::parse(&self.name) else { return vec![] };
        let [through_redis, direct] = fences;
        let is_left = |(shard, path, number): &(Shard, packed::Path, u64)| {
            let fences = match path {
                packed::Path::Redis => through_redis,
                packed::Path::Direct => direct,
            };
            fences.get(&(*shard, producer)).is_none_or(|(stored, _)| number > stored)
        };
        self.batches.iter().filter(|(key, _)| is_left(key)).map(|(_, size)| *size).collect()
    }
}

fn sum(left: &[Size]) -> String {
    let (bytes, views) = (total(left.iter().map(|size| size.bytes)), total(left.iter().map(|size| size.views)));
    format!("{} with {} ({})", count(left.len() as u64, "batch"), count(views, "view"), HumanBytes(bytes))
}

/// Without `fences` MySQL could not be asked.
fn judge(seen: &Seen, fences: Option<&[ProducerFences; 2]>) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(mode) = seen.open_mode {
        let what = format!("others may write into the folder (mode {mode:03o}): ingest refuses it");
        checks.push(Check::problem(JOURNAL, what, "look whether something in it is not of Footfall, then `chmod 700`"));
    }
    let (held, dead): (Vec<&Life>, Vec<&Life>) = seen.lives.iter().partition(|life| life.is_held);
    for life in dead {
        let left = fences.map(|fences| life.left(fences));
        let what = match &left {
            Some(left) if left.is_empty() && !life.is_partly_read => continue, // The next ingest removes it.
            Some(left) => format!("has left {}{} that MySQL does not have", more(life), sum(left)),
            None => format!("has left {}, and what of that MySQL has is not known without it", HumanBytes(life.bytes)),
        };
        let what = format!("the ingest {}, which has ended, {what}", life.name);
        let next = "any ingest that runs on this folder sends it on by itself: start one, and run this again";
        checks.push(Check::warning(JOURNAL, what, next));
    }
    for (what, why) in seen.lives.iter().flat_map(|life| &life.unreadable) {
        checks.push(Check::problem(JOURNAL, format!("{what} cannot be read: {why}"), runbook::DATA_DAMAGED));
    }
    if seen.damaged_files > 0 {
        let files = count(seen.damaged_files as u64, "stretch");
        let what = format!("{files} of journals could not be read, and are kept in the folder damaged");
        checks.push(Check::warning(JOURNAL, what, format!("look at them, or delete them: {}", runbook::DATA_DAMAGED)));
    }
    let bytes = HumanBytes(total(seen.lives.iter().map(|life| life.bytes)));
    let left = fences.map(|fences| held.iter().flat_map(|life| life.left(fences)).collect::<Vec<_>>());
    let left = match left.as_deref() {
        None => "what of that MySQL has is not known without it".to_owned(),
        Some([]) => "MySQL has all of it".to_owned(),
        Some(left) => format!("MySQL does not have {} yet", sum(left)),
    };
    let ingests = count(held.len() as u64, "ingest");
    checks.insert(
        0,
        Check::ok(
            JOURNAL,
            match held.len() {
                0 if seen.lives.is_empty() => "nothing is in it".to_owned(),
                0 => format!("no ingest that runs keeps anything here; {bytes} in all"),
                _ => format!("{ingests} at work here; {bytes} in all; {left}"),
            },
        ),
    );
    checks
}

fn more(life: &Life) -> &'static str {
    if life.is_partly_read { "more than " } else { "" }
}

#[cfg(test)]
mod tests {
    use super::super::check::Level;
    use super::*;

    #[test]
    fn space_is_judged_by_what_journals_need() {
        let roomy = Space { free_bytes: 10 << 30, free_files: Some(1 << 20), is_read_only: false };
        let level = |space| judge_space(Path::new("/j"), space, 1 << 20, 8 << 20, 1 << 30).level;
        assert_eq!(level(roomy), Level::Ok);
        assert_eq!(level(Space { free_files: None, ..roomy }), Level::Ok, "no limit");
        assert_eq!(level(Space { free_bytes: (1 << 30) - (1 << 20), ..roomy }), Level::Ok, "with what they have");
        assert_eq!(level(Space { free_bytes: 1 << 29, ..roomy }), Level::Warning);
        assert_eq!(level(Space { free_files: Some(999), ..roomy }), Level::Warning);
        assert_eq!(level(Space { free_bytes: 1 << 20, ..roomy }), Level::Problem);
        assert_eq!(level(Space { free_files: Some(0), ..roomy }), Level::Problem);
        assert_eq!(level(Space { is_read_only: true, ..roomy }), Level::Problem);
    }

    fn life(is_held: bool) -> Life {
        let batch = |path, number| ((Shard(0), path, number), Size { bytes: 100, views: 2 });
        Life {
            name: "00000000000000aa".into(),
            is_held,
            bytes: 8 << 20,
            batches: [batch(packed::Path::Redis, 1), batch(packed::Path::Redis, 2), batch(packed::Path::Direct, 1)]
                .into(),
            ..Life::default()
        }
    }

    fn fences(through_redis: u64, direct: u64) -> [ProducerFences; 2] {
        [through_redis, direct].map(|number| [((Shard(0), Producer(0xaa)), (number, 0))].into())
    }

    #[test]
    fn what_the_dead_have_left_is_what_mysql_lacks_on_each_path() {
        let said = |is_held, fences: Option<&[ProducerFences; 2]>| {
            let seen = Seen { lives: vec![life(is_held)], ..Seen::default() };
            judge(&seen, fences).iter().map(|check| (check.level, check.what.clone())).collect::<Vec<_>>()
        };
        let dead = said(false, Some(&fences(1, 1)));
        assert!(dead[1].0 == Level::Warning && dead[1].1.contains("1 batch with 2 views (100 B)"), "{dead:?}");
        let none = said(false, Some(&[ProducerFences::new(), ProducerFences::new()]));
        assert!(none[1].1.contains("3 batches with 6 views"), "MySQL knows nothing of it: {none:?}");
        assert_eq!(said(false, Some(&fences(2, 1))).len(), 1, "all is stored");
        let unknown = said(false, None);
        assert!(unknown[1].0 == Level::Warning && unknown[1].1.contains("not known"), "{unknown:?}");
        let living = said(true, Some(&fences(2, 0)));
        assert!(living.len() == 1 && living[0].1.contains("does not have 1 batch with 2 views"), "{living:?}");
    }

    #[test]
    fn what_cannot_be_read_is_a_problem() {
        let damaged = Life { unreadable: [("s0-1".into(), "damaged".into())].into(), ..life(true) };
        let seen = Seen { lives: vec![damaged], open_mode: Some(0o777), damaged_files: 1 };
        let levels: Vec<Level> = judge(&seen, Some(&fences(2, 1))).iter().map(|check| check.level).collect();
        assert_eq!(levels, [Level::Ok, Level::Problem, Level::Problem, Level::Warning]);
    }
}
