//! Group commit, and disks that fail at it.

use std::sync::Arc;
use std::time::Instant;

use footfall_journal::Disk;

use crate::disk::FakeDisk;
use crate::{LIMITS, begin, take_over};

#[test]
fn a_sync_covers_what_was_appended_before() {
    let fake = FakeDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(fake.clone());
    let (_life, mut journal) = begin(&disk, LIMITS);
    let now = Instant::now();
    assert!(journal.sync().is_none());

    // Into the second segment.
    let mut kept: Vec<_> = (0..5).map(|_| journal.append(&[1; 900], now).expect("there is room")).collect();
    let job = journal.sync().expect("nothing is synced");
    let behind = journal.append(b"behind", now).expect("there is room");
    journal.synced(job.run()).expect("the disk works");
    assert_eq!(fake.state().syncs, 2);

    journal.synced(journal.sync().expect("one is not synced").run()).expect("the disk works");
    assert_eq!(fake.state().syncs, 3, "only the segment it is in");
    assert!(journal.sync().is_none());

    // What is released needs no fsync.
    kept.push(behind);
    kept.push(journal.append(b"released", now).expect("there is room"));
    kept.into_iter().for_each(|location| journal.release(location));
    assert!(journal.sync().is_none());
}

#[test]
fn a_failed_sync_ends_its_segment() {
    let fake = FakeDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(fake.clone());
    let (life, mut journal) = begin(&disk, LIMITS);
    let now = Instant::now();
    let first = journal.append(b"first", now).expect("there is room");

    fake.state().sync_fails = true;
    let job = journal.sync().expect("one is not synced");
    journal.synced(job.run()).expect_err("the disk is broken");
    assert!(journal.sync().is_none(), "never again");
    assert_eq!(journal.read(first).expect("it is kept"), b"first");

    // The disk works again, for other files.
    fake.state().sync_fails = false;
    journal.append(b"first", now).expect("there is room");
    journal.append(b"second", now).expect("there is room");
    journal.synced(journal.sync().expect("two are not synced").run()).expect("the disk works");
    assert_eq!(fake.state().syncs, 2);

    drop((journal, life));
    assert_eq!(take_over(&disk), [b"first".to_vec(), b"first".to_vec(), b"second".to_vec()]);
}

#[test]
fn no_sync_succeeds_behind_one_that_failed() {
    let fake = FakeDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(fake.clone());
    let (_life, mut journal) = begin(&disk, LIMITS);
    journal.append(b"first", Instant::now()).expect("there is room");
    let one = journal.sync().expect("one is not synced");
    journal.append(b"second", Instant::now()).expect("there is room");
    let two = journal.sync().expect("two are not synced");

    // The kernel tells the first one only.
    fake.state().sync_fails = true;
    let one = one.run();
    fake.state().sync_fails = false;
    let two = two.run();
    journal.synced(two).expect_err("lost with the first");
    journal.synced(one).expect_err("the disk was broken");
    assert_eq!(fake.state().syncs, 1);
}

#[test]
fn a_result_may_come_when_its_segment_is_gone() {
    let fake = FakeDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(fake.clone());
    let (_life, mut journal) = begin(&disk, LIMITS);
    let now = Instant::now();
    let location = journal.append(b"first", now).expect("there is room");
    fake.state().sync_fails = true;
    let job = journal.sync().expect("one is not synced");
    journal.release(location);
    journal.tick(now + LIMITS.segment_age_max);
    journal.synced(job.run()).expect("nothing in it is needed");
}
