//! A look from outside sees all there is and leaves everything as it was.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use footfall_journal::{Disk, Folder, LifeSeen};

use crate::{LIMITS, NAME, begin, take_over};

fn payloads(life: &LifeSeen, root: &Path) -> Vec<Vec<u8>> {
    let mut found = vec![];
    let unreadable = life.records(root, |shard, payload| {
        assert_eq!(shard, 0);
        found.push(payload.to_vec());
        true
    });
    assert!(unreadable.is_empty(), "{unreadable:?}");
    found
}

/// All files below, with their sizes.
fn files(root: &Path) -> Vec<(String, u64)> {
    let mut found = vec![];
    for entry in fs::read_dir(root).expect("a folder").map(|entry| entry.expect("readable")) {
        match entry.metadata().expect("readable") {
            folder if folder.is_dir() => found.extend(files(&entry.path())),
            file => found.push((entry.path().display().to_string(), file.len())),
        }
    }
    found.sort();
    found
}

#[test]
fn the_living_are_held_and_the_dead_are_not_and_nothing_changes() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let folder = root.path().join("journal");
    assert_eq!(Folder::look(&folder).expect_err("it is not there").kind(), io::ErrorKind::NotFound);
    assert!(Folder::space(&folder).expect("its parent is there").free_bytes > 0);
    assert!(!folder.exists());

    let disk: Arc<dyn Disk> = Arc::new(Folder::open(&folder).expect("it is writable"));
    let (life, mut journal) = begin(&disk, LIMITS);
    assert!(Folder::look(&folder).expect("it is there").lives.is_empty(), "without a segment there is nothing to see");
    let record = journal.append(b"first", Instant::now()).expect("there is room");
    journal.append(b"second", Instant::now()).expect("there is room");
    journal.release(record);
    let before = files(&folder);
    let look = Folder::look(&folder).expect("it is there");
    let [seen] = &look.lives[..] else { panic!("one life: {look:?}") };
    assert!(seen.is_held && seen.name == NAME && seen.bytes >= LIMITS.segment_bytes, "{seen:?}");
    assert_eq!((look.open_mode, look.damaged_files), (None, 0));
    assert_eq!(payloads(seen, &folder), [&b"first"[..], b"second"]);
    assert_eq!(files(&folder), before);

    drop((life, journal));
    let look = Folder::look(&folder).expect("it is there");
    assert!(!look.lives[0].is_held);
    assert_eq!(files(&folder), before);
    // What is gone by then is left out.
    let seen = look;
    assert_eq!(take_over(&disk), [&b"first"[..], b"second"]);
    assert!(payloads(&seen.lives[0], &folder).is_empty());
}

#[test]
fn a_folder_of_the_dead_without_a_lock_is_given_none() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let disk: Arc<dyn Disk> = Arc::new(Folder::open(root.path()).expect("it is writable"));
    let (life, mut journal) = begin(&disk, LIMITS);
    journal.append(b"first", Instant::now()).expect("there is room");
    drop((life, journal));
    let lock = root.path().join(NAME).join("lock");
    fs::remove_file(&lock).expect("it was there");
    let look = Folder::look(root.path()).expect("it is there");
    // One of another user would keep ingest out.
    assert!(!look.lives[0].is_held && !lock.exists());
    assert_eq!(take_over(&disk), [b"first"]);
}

#[test]
fn what_cannot_be_read_has_a_reason() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let disk: Arc<dyn Disk> = Arc::new(Folder::open(root.path()).expect("it is writable"));
    let (life, mut journal) = begin(&disk, LIMITS);
    journal.append(b"first", Instant::now()).expect("there is room");
    journal.append(b"second", Instant::now()).expect("there is room");
    drop((life, journal));
    let segment = root.path().join(NAME).join("s0-0.journal");
    let mut bytes = fs::read(&segment).expect("it is there");
    bytes[40] ^= 1;
    fs::write(&segment, &bytes).expect("it is ours");
    let look = Folder::look(root.path()).expect("it is there");
    let mut records = 0;
    let unreadable = look.lives[0].records(root.path(), |_, _| {
        records += 1;
        true
    });
    assert_eq!(records, 1);
    assert!(unreadable.values().any(|why| why.contains("damaged")), "{unreadable:?}");

    fs::set_permissions(root.path(), Permissions::from_mode(0o770)).expect("it is ours");
    assert_eq!(Folder::look(root.path()).expect("it is there").open_mode, Some(0o770));
}
