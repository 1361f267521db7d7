//! Disks without space, or that refuse to write.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use footfall_journal::{AppendError, Disk, Limits, Location};

use crate::disk::{FakeDisk, Fault, Written};
use crate::{LIMITS, NAME, begin, take_over};

const RECORDS: u8 = 30;

/// Appends and releases while the fault strikes; answers how many allocations and writes there were.
fn run(fault: &Fault) -> usize {
    let fake = FakeDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(fake.clone());
    let (life, mut journal) = begin(&disk, LIMITS);
    fake.state().fault = Some(fault.clone());

    let mut now = Instant::now();
    let mut kept: Vec<(Location, Vec<u8>)> = vec![];
    let mut refused: Vec<Vec<u8>> = vec![];
    for number in 0..RECORDS {
        let payload = vec![number + 1; 900];
        match journal.append(&payload, now) {
            Ok(location) => kept.push((location, payload)),
            Err(AppendError::Full) => refused.push(payload),
            Err(AppendError::Failed(_)) => {}
        }
        if kept.len() > 6 {
            journal.release(kept.remove(usize::from(number) % 3).0);
        }
        now += Duration::from_millis(700);
        journal.tick(now);
        assert_eq!(journal.bytes(), fake.bytes());
    }
    let calls = fake.state().calls;
    for (location, payload) in &kept {
        assert_eq!(journal.read(*location).expect("it is kept"), *payload);
    }

    fake.state().fault = None;
    for (location, _) in kept.drain(..2.min(kept.len())) {
        journal.release(location);
    }
    journal.tick(now + LIMITS.segment_age_max);
    assert!(journal.has_room(), "{fault:?}");
    let payload = b"goes on by itself".to_vec();
    kept.push((journal.append(&payload, now).expect("the disk works again"), payload));

    drop((journal, life));
    let found = take_over(&disk);
    for (_, payload) in kept {
        assert!(found.contains(&payload), "{fault:?}: {} was appended", payload[0]);
    }
    for payload in refused {
        assert!(!found.contains(&payload), "{fault:?}: {} was refused", payload[0]);
    }
    calls
}

#[test]
fn whatever_allocation_or_write_fails() {
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
        for written in [Written::Nothing, Written::Half, Written::Everything, Written::EveryOther] {
            for length in [1, 2, 3, 7, usize::MAX] {
                for first in 0_usize.. {
                    let calls = first..first.saturating_add(length);
                    if run(&Fault { calls, kind, written }) <= first {
                        assert!(first > usize::from(RECORDS), "all were tried");
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn the_spare_is_room_for_what_is_on_its_way() {
    let fake = FakeDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(fake.clone());
    let (_life, mut journal) = begin(&disk, LIMITS);
    let now = Instant::now();
    let payload = vec![1; 900];

    // Two segments fit: the active one and the spare.
    fake.state().bytes_max = Some(2 * 4096 + 100);
    let mut kept = vec![];
    while journal.has_room() {
        kept.push(journal.append(&payload, now).expect("there is room"));
    }
    assert_eq!(kept.len(), 8, "both are used to the end");
    assert!(matches!(journal.append(&payload, now), Err(AppendError::Full)));
    assert!(!journal.has_room());
    assert_eq!(journal.records(), 8);

    // A record that would still fit is taken.
    journal.append(b"small", now).expect("there is room for this");

    fake.state().bytes_max = None;
    assert!(!journal.has_room(), "nobody has asked the disk");
    journal.tick(now);
    assert!(journal.has_room());
    while journal.has_room() {
        kept.push(journal.append(&payload, now).expect("there is space again"));
        assert!(fake.bytes() <= LIMITS.bytes_max);
    }
    assert_eq!(kept.len(), 5 * 4, "up to the bound");
    for location in &kept {
        assert_eq!(journal.read(*location).expect("it is kept"), payload);
    }
    // What the disk refused once is forgotten.
    for location in kept.drain(..4) {
        journal.release(location);
    }
    assert!(journal.has_room());
}

#[test]
fn a_broken_file_is_left_alone() {
    let fake = FakeDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(fake.clone());
    let (life, mut journal) = begin(&disk, LIMITS);
    let now = Instant::now();
    journal.append(b"first", now).expect("there is room");
    fake.state().broken = Some(format!("{NAME}/s0-0.journal"));
    assert!(matches!(journal.append(b"second", now), Err(AppendError::Failed(_))));
    journal.append(b"third", now).expect("it goes elsewhere");
    drop((life, journal));
    assert_eq!(take_over(&disk), [b"first", b"third"]);
}

#[test]
fn one_segment_is_used_again_and_again() {
    let disk: Arc<dyn Disk> = Arc::new(FakeDisk::default());
    let (_life, mut journal) = begin(&disk, Limits { bytes_max: 4096, ..LIMITS });
    let now = Instant::now();
    for bytes in [900, 900, 100, 3000, 900] {
        let mut kept = vec![journal.append(&vec![1; bytes], now).expect("everything before is released")];
        while journal.has_room() {
            kept.push(journal.append(&vec![1; bytes], now).expect("there is room"));
            assert!(journal.bytes() <= 4096);
        }
        for location in kept {
            assert!(!journal.has_room());
            journal.release(location);
        }
        assert!(journal.has_room(), "at once");
    }
    // Much of it is unused, but not enough for the next one.
    let location = journal.append(&[1; 900], now).expect("there is room");
    journal.release(location);
    journal.append(&[1; 3900], now).expect("nothing is needed of what is in the way");
}

#[test]
fn the_bound_is_room_for_as_much_as_it_says() {
    let fake = FakeDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(fake.clone());
    let (_life, mut journal) = begin(&disk, LIMITS);
    let now = Instant::now();
    let mut kept = vec![];
    while journal.has_room() {
        kept.push(journal.append(&[1; 900], now).expect("there is room"));
        assert!(fake.bytes() <= LIMITS.bytes_max);
    }
    assert_eq!(kept.len(), 5 * 4, "all five segments are used");
    assert!(matches!(journal.append(&[1; 900], now), Err(AppendError::Full)));
    assert!(matches!(journal.append(&[1; 9000], now), Err(AppendError::Full)));

    // The first segment goes when all of it is released.
    for location in kept.drain(..4) {
        assert!(!journal.has_room());
        journal.release(location);
    }
    assert!(journal.has_room());
    journal.append(&[1; 900], now).expect("there is room");
}

#[test]
fn a_big_payload_has_a_segment_of_its_own() {
    let disk: Arc<dyn Disk> = Arc::new(FakeDisk::default());
    let (life, mut journal) = begin(&disk, Limits { bytes_max: 8 * 4096, ..LIMITS });
    let now = Instant::now();
    let payloads = [vec![1; 10], vec![2; 6000], vec![3; 10], vec![4; 4096]];
    for payload in &payloads {
        journal.append(payload, now).expect("there is room");
    }
    assert!(matches!(journal.append(&[1; 8 * 4096], now), Err(AppendError::Full)), "never fits");
    assert!(journal.has_room(), "and is no reason to refuse the others");
    drop((journal, life));
    assert_eq!(take_over(&disk), payloads);
}
