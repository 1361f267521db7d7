//! Any sequence of operations against a list of what should be there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use footfall_journal::{AppendError, Disk, Folder, Location};
use proptest::prelude::*;

use crate::disk::FakeDisk;
use crate::{LIMITS, begin, take_over};

#[derive(Debug, Clone)]
enum Op {
    /// Bytes of the payload.
    Append(usize),
    /// Which of the unreleased ones, from the oldest on, cyclically.
    Release(usize),
    Sync {
        fails: bool,
    },
    Tick {
        seconds: u64,
    },
    /// As after `kill -9`.
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0_usize..1500).prop_map(Op::Append),
        1 => (3000_usize..9000).prop_map(Op::Append),
        6 => prop_oneof![Just(0), 0_usize..100].prop_map(Op::Release),
        2 => any::<bool>().prop_map(|fails| Op::Sync { fails }),
        2 => (0_u64..15).prop_map(|seconds| Op::Tick { seconds }),
        1 => Just(Op::Crash),
    ]
}

/// Whether all of `part` is in `all`, in this order.
fn is_part<'a>(part: impl IntoIterator<Item = &'a Vec<u8>>, all: &[Vec<u8>]) -> bool {
    let mut all = all.iter();
    part.into_iter().all(|wanted| all.any(|found| found == wanted))
}

fn payload(number: u32, bytes: usize) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(4 + bytes, number as u8);
    payload
}

fn run(disk: &Arc<dyn Disk>, fake: Option<&FakeDisk>, ops: Vec<Op>) {
    let (mut life, mut journal) = begin(disk, LIMITS);
    let mut now = Instant::now();
    // All of this life, and those of them that are not released.
    let mut appended: Vec<Vec<u8>> = vec![];
    let mut kept: Vec<(Location, Vec<u8>)> = vec![];
    // The segments whose fsync failed.
    let mut failed: Vec<Location> = vec![];

    let mut ops = ops;
    ops.push(Op::Crash);
    for (number, op) in ops.into_iter().enumerate() {
        match op {
            Op::Append(bytes) => {
                let payload = payload(number as u32, bytes);
                match journal.append(&payload, now) {
                    Ok(location) => {
                        assert!(kept.last().is_none_or(|(last, _)| *last < location));
                        appended.push(payload.clone());
                        kept.push((location, payload));
                    }
                    Err(AppendError::Full) => {
                        let needed = LIMITS.segment_bytes.max(bytes as u64 + 100);
                        assert!(journal.bytes() + needed > LIMITS.bytes_max, "only the bound refuses");
                    }
                    Err(AppendError::Failed(error)) => panic!("{error}"),
                }
            }
            Op::Release(which) if !kept.is_empty() => {
                let (location, _) = kept.remove(which % kept.len());
                journal.release(location);
                journal.release(location);
            }
            Op::Release(_) => {}
            Op::Sync { fails } => {
                if let Some(fake) = fake {
                    fake.state().sync_fails = fails;
                }
                if let Some(job) = journal.sync() {
                    let result = journal.synced(job.run());
                    assert_eq!(result.is_err(), fails && fake.is_some());
                    if result.is_err() {
                        failed = kept.iter().map(|(location, _)| *location).collect();
                    }
                }
                assert!(journal.sync().is_none(), "done, or failed for good");
            }
            Op::Tick { seconds } => {
                now += Duration::from_secs(seconds);
                journal.tick(now);
                for (location, payload) in &kept {
                    assert_eq!(journal.read(*location).expect("it is kept"), *payload);
                }
            }
            Op::Crash => {
                drop((journal, life));
                let found = take_over(disk);
                assert!(is_part(kept.iter().map(|(_, payload)| payload), &found), "nothing unreleased is lost");
                assert!(is_part(&found, &appended), "nothing else is found");
                (life, journal) = begin(disk, LIMITS);
                (appended, kept, failed) = (vec![], vec![], vec![]);
            }
        }
        assert!(journal.bytes() <= LIMITS.bytes_max);
        assert_eq!(journal.records(), kept.len());
        if let Some(fake) = fake {
            assert_eq!(fake.bytes(), journal.bytes());
        }
        if let Some((last, _)) = kept.last().filter(|(last, _)| !failed.contains(last)) {
            assert!(failed.iter().all(|failed| failed < last));
        }
    }

    // Everything released: there is room again, and nothing is left in the end.
    for (location, _) in kept {
        journal.release(location);
    }
    journal.tick(now);
    assert!(journal.has_room());
    assert!(journal.end());
    assert!(life.end().expect("the disk works"));
    assert_eq!(disk.list("").expect("the disk works"), Vec::<String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn exactly_the_unreleased_records_come_back(ops in prop::collection::vec(op(), 0..120)) {
        let fake = FakeDisk::default();
        let disk: Arc<dyn Disk> = Arc::new(fake.clone());
        run(&disk, Some(&fake), ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn also_on_a_real_disk(ops in prop::collection::vec(op(), 0..60)) {
        let root = tempfile::tempdir().expect("a temporary folder");
        let disk: Arc<dyn Disk> = Arc::new(Folder::open(root.path()).expect("it is writable"));
        run(&disk, None, ops);
    }
}
