//! Lives that end and lives that take over.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use footfall_journal::{DAMAGED_FILES_MAX, Disk, Folder, Journal, Life, adopt};

use crate::disk::FakeDisk;
use crate::{LIMITS, NAME, adopt_one, begin, take_over};

const OTHER: &str = "00000000000000bb";

/// Runs a test on both kinds of disks.
fn on_both(test: impl Fn(&Arc<dyn Disk>)) {
    let fake: Arc<dyn Disk> = Arc::new(FakeDisk::default());
    test(&fake);
    let root = tempfile::tempdir().expect("a temporary folder");
    let folder: Arc<dyn Disk> = Arc::new(Folder::open(root.path().join("a/b")).expect("it is writable"));
    test(&folder);
}

#[test]
fn the_living_are_left_alone() {
    on_both(|disk| {
        let (life, mut journal) = begin(disk, LIMITS);
        journal.append(b"first", Instant::now()).expect("there is room");
        assert!(adopt_one(disk).is_none());
        drop(life);
        assert!(adopt_one(disk).is_none(), "as long as it has a journal");
        drop(journal);

        let dead = adopt_one(disk).expect("it is dead");
        assert_eq!(dead.name, NAME);
        assert!(adopt_one(disk).is_none(), "it is adopted");
        assert_eq!(
            Life::begin(Arc::clone(disk), NAME).map(drop).map_err(|error| error.kind()),
            Err(io::ErrorKind::AlreadyExists)
        );
        drop(dead);
        assert_eq!(
            Life::begin(Arc::clone(disk), NAME).map(drop).map_err(|error| error.kind()),
            Err(io::ErrorKind::AlreadyExists)
        );
        assert_eq!(take_over(disk), [b"first"]);
    });
}

#[test]
fn a_life_without_records_leaves_nothing() {
    on_both(|disk| {
        let (life, journal) = begin(disk, LIMITS);
        assert_eq!(disk.list(NAME).expect("the disk works").iter().filter(|name| *name != "lock").count(), 0);
        // As after a crash before the first append: there is nothing to adopt.
        drop((life, journal));
        assert!(adopt_one(disk).is_none());
        assert_eq!(disk.list("").expect("the disk works"), Vec::<String>::new());

        let (life, mut journal) = begin(disk, LIMITS);
        journal.append(b"first", Instant::now()).expect("there is room");
        assert!(!journal.end());
        assert!(!life.end().expect("the disk works"));
        assert_eq!(take_over(disk), [b"first"]);
    });
}

#[test]
fn journals_finish_one_by_one() {
    on_both(|disk| {
        let life = Life::begin(Arc::clone(disk), NAME).expect("the name is free");
        for shard in [10, 2] {
            Journal::new(&life, shard, LIMITS).append(&[shard as u8], Instant::now()).expect("there is room");
        }
        drop(life);
        let mut dead = adopt_one(disk).expect("it is dead");
        let mut journals = std::mem::take(&mut dead.shards);
        assert_eq!(journals.iter().map(|journal| journal.shard).collect::<Vec<_>>(), [2, 10]);
        dead.finished().expect("the others go on");

        let mut last = journals.pop().expect("there are two");
        let mut first = journals.pop().expect("there are two");
        first.records(|_, payload| assert_eq!(payload, [2])).expect("the disk works");
        first.finished().expect("the disk works");
        assert!(adopt_one(disk).is_none(), "half of it is adopted still");
        last.records(|_, payload| assert_eq!(payload, [10])).expect("the disk works");
        last.finished().expect("the disk works");
        assert_eq!(disk.list("").expect("the disk works"), Vec::<String>::new());
    });
}

#[test]
fn what_was_not_read_is_not_removed() {
    on_both(|disk| {
        let (life, mut journal) = begin(disk, LIMITS);
        journal.append(b"first", Instant::now()).expect("there is room");
        drop((life, journal));
        let dead = adopt_one(disk).expect("it is dead");
        assert_eq!(dead.finished().map_err(|error| error.kind()), Err(io::ErrorKind::InvalidInput));
        assert_eq!(take_over(disk), [b"first"]);
    });
}

/// Three records, of which the second one is damaged. Answers where it was and what it is now.
fn damaged(fake: &FakeDisk) -> (u32, Vec<u8>) {
    let disk: Arc<dyn Disk> = Arc::new(fake.clone());
    let (life, mut journal) = begin(&disk, LIMITS);
    for payload in [b"first", b"secnd", b"third"] {
        journal.append(payload, Instant::now()).expect("there is room");
    }
    drop((life, journal));
    let mut record = (0, vec![]);
    fake.damage(&format!("{NAME}/s0-0.journal"), |bytes| {
        let at = bytes.windows(5).position(|bytes| bytes == b"secnd").expect("it is there");
        bytes[at] = b'S';
        record = (at as u32 - 12, bytes[at - 12..at + 12].to_vec());
    });
    record
}

#[test]
fn damage_is_reported_and_kept() {
    let fake = FakeDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(fake.clone());
    let (offset, record) = damaged(&fake);

    for _ in 0..2 {
        let mut dead = adopt_one(&disk).expect("it is dead");
        let mut found = vec![];
        dead.shards[0].records(|_, payload| found.push(payload.to_vec())).expect("the disk works");
        assert_eq!(found, [b"first", b"third"]);
        let [damage] = dead.shards[0].damaged[..] else { panic!("one is damaged") };
        assert_eq!((damage.segment, damage.offset, damage.bytes as usize), (0, offset, record.len()));

        // The first time, the disk is too full to keep it.
        if fake.state().bytes_max.replace(0).is_none() {
            assert_eq!(dead.finished().map_err(|error| error.kind()), Err(io::ErrorKind::StorageFull));
        } else {
            fake.state().bytes_max = None;
            dead.finished().expect("the disk works");
        }
    }
    let path = format!("damaged/{NAME}-s0-0-{offset}-{}", record.len());
    assert_eq!(disk.read(&path).expect("it is kept"), record);
    assert_eq!(disk.list("").expect("the disk works"), ["damaged"]);
    assert!(adopt(&disk).expect("the disk works").is_empty());
}

#[test]
fn when_no_more_damage_is_kept_the_journal_stays() {
    let fake = FakeDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(fake.clone());
    damaged(&fake);
    disk.create_folder("damaged").expect("the disk works");
    for number in 0..DAMAGED_FILES_MAX {
        disk.create(&format!("damaged/{number}-1"), 1).map(drop).expect("the disk works");
    }
    for _ in 0..2 {
        let mut dead = adopt_one(&disk).expect("it is dead");
        dead.shards[0].records(|_, _| {}).expect("the disk works");
        assert_eq!(dead.finished().map_err(|error| error.kind()), Err(io::ErrorKind::QuotaExceeded));
    }
    disk.remove("damaged/0-1").expect("the disk works");
    let mut dead = adopt_one(&disk).expect("it is dead");
    dead.shards[0].records(|_, _| {}).expect("the disk works");
    dead.finished().expect("there is room for it");
    assert_eq!(disk.list("damaged").expect("the disk works").len(), DAMAGED_FILES_MAX);
}

#[test]
fn a_damaged_record_is_not_read() {
    let fake = FakeDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(fake.clone());
    let (_life, mut journal) = begin(&disk, LIMITS);
    let location = journal.append(b"first", Instant::now()).expect("there is room");
    fake.damage(&format!("{NAME}/s0-0.journal"), |bytes| bytes[32 + 12] ^= 1);
    assert_eq!(journal.read(location).map_err(|error| error.kind()), Err(io::ErrorKind::InvalidData));
}

#[test]
fn another_version_is_not_touched() {
    let fake = FakeDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(fake.clone());
    damaged(&fake);
    fake.damage(&format!("{NAME}/s0-0.journal"), |bytes| {
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..28]);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
    });
    let mut dead = adopt_one(&disk).expect("it is dead");
    let result = dead.shards[0].records(|_, _| panic!("none can be read"));
    assert_eq!(result.map_err(|error| error.kind()), Err(io::ErrorKind::InvalidData));
    dead.finished().expect_err("it was not read");
    assert!(disk.read(&format!("{NAME}/s0-0.journal")).is_ok());
}

#[test]
fn names_of_lives_are_checked() {
    on_both(|disk| {
        for name in ["", "aa", "..", "00000000000000AA", "damaged"] {
            let result = Life::begin(Arc::clone(disk), name).map(drop);
            assert_eq!(result.map_err(|error| error.kind()), Err(io::ErrorKind::InvalidInput), "{name}");
        }
        let other = Life::begin(Arc::clone(disk), OTHER).expect("the name is free");
        assert_eq!(other.name(), OTHER);
        assert!(other.end().expect("the disk works"));
    });
}

#[test]
fn a_folder_must_be_one() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    Folder::open(file.path()).expect_err("it is a file");
}

/// Life after life begins and ends while others adopt: nobody takes a living one for dead, nobody is in the way.
#[test]
fn beginning_and_adopting_at_the_same_time() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let disk: Arc<dyn Disk> = Arc::new(Folder::open(root.path()).expect("it is writable"));
    std::thread::scope(|scope| {
        let adopters: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        assert!(adopt(&disk).expect("the disk works").is_empty(), "nobody dies");
                    }
                })
            })
            .collect();
        let mut number = 0;
        while !adopters.iter().all(|adopter| adopter.is_finished()) {
            number += 1;
            let life = Life::begin(Arc::clone(&disk), &format!("{number:016x}")).expect("the name is free");
            let mut journal = Journal::new(&life, 0, LIMITS);
            let location = journal.append(b"first", Instant::now()).expect("there is room");
            assert_eq!(journal.read(location).expect("it is kept"), b"first");
            journal.release(location);
            assert!(journal.end());
            assert!(life.end().expect("the disk works"));
        }
    });
}
