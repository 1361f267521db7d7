//! The journal as its callers see it: on a disk that fails on purpose, and on a real one.

mod adopt;
mod disk;
mod full;
mod look;
mod model;
mod private;
mod sync;

use std::sync::Arc;
use std::time::Duration;

use footfall_journal::{DeadLife, Disk, Journal, Life, Limits, adopt};

const NAME: &str = "00000000000000aa";

/// Small, so that a few records fill a segment and a few segments everything.
const LIMITS: Limits = Limits { bytes_max: 5 * 4096, segment_bytes: 4096, segment_age_max: Duration::from_secs(10) };

fn begin(disk: &Arc<dyn Disk>, limits: Limits) -> (Life, Journal) {
    let life = Life::begin(Arc::clone(disk), NAME).expect("the name is free");
    let journal = Journal::new(&life, 0, limits);
    (life, journal)
}

/// The only dead life, unless there is none.
fn adopt_one(disk: &Arc<dyn Disk>) -> Option<DeadLife> {
    let mut dead = adopt(disk).expect("the disk works");
    assert!(dead.len() <= 1);
    dead.pop()
}

/// All records of a life that damaged nothing, which is then finished.
fn take_over(disk: &Arc<dyn Disk>) -> Vec<Vec<u8>> {
    let mut found = vec![];
    if let Some(mut dead) = adopt_one(disk) {
        for journal in &mut dead.shards {
            let mut locations = vec![];
            journal
                .records(|location, payload| {
                    locations.push(location);
                    found.push(payload.to_vec());
                })
                .expect("the disk works");
            assert!(journal.damaged.is_empty());
            assert!(locations.is_sorted());
            let read: Vec<_> =
                locations.iter().map(|&location| journal.read(location).expect("it was found")).collect();
            assert_eq!(read, found);
        }
        dead.finished().expect("the disk works");
    }
    assert_eq!(disk.list("").expect("the disk works"), Vec::<String>::new());
    found
}
