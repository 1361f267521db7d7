//! The clients that wait for their batch to be safe. Pure: time comes in.

use std::collections::VecDeque;
use std::time::Duration;

use footfall_journal::Location;
use footfall_shared::protocol::packed::Path;
use footfall_shared::protocol::total;
use tokio::time::Instant;

use crate::intake::Client;

/// Batches whose clients wait, in the order in which the journal has them.
#[derive(Default)]
pub(crate) struct Waiters {
    batches: VecDeque<Waiting>,
}

pub(crate) struct Waiting {
    pub(crate) path: Path,
    pub(crate) number: u64,
    pub(crate) views: u64,
    pub(crate) since: Instant,
    /// Where the journal has the batch; none if it has not, or may have lost it.
    pub(crate) location: Option<Location>,
    pub(crate) clients: Vec<Client>,
}

impl Waiters {
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(crate) fn push(&mut self, waiting: Waiting) {
        self.batches.push_back(waiting);
    }

    /// Views that nobody was told to be safe.
    pub(crate) fn views(&self) -> u64 {
        total(self.batches.iter().map(|batch| batch.views))
    }

    /// Since when the oldest batch waits.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.batches.front().map(|batch| batch.since)
    }

    /// Whether clients wait for something that only the disk can give them in time: their store takes nothing, which
    /// `is_stuck` tells by path, or has taken longer than `patience`.
    pub(crate) fn need_disk(&self, patience: Duration, is_stuck: impl Fn(Path) -> bool, now: Instant) -> bool {
        let needs = |batch: &Waiting| is_stuck(batch.path) || now >= batch.since + patience;
        self.batches.iter().any(|batch| batch.location.is_some() && needs(batch))
    }

    /// Up to where the journal has batches that somebody waits for.
    pub(crate) fn journalled_to(&self) -> Option<Location> {
        self.batches.iter().filter_map(|batch| batch.location).max()
    }

    /// The store of a path has everything up to a number.
    pub(crate) fn stored(&mut self, path: Path, number: u64) {
        self.acknowledge(|batch| batch.path == path && batch.number <= number);
    }

    /// The disk has everything up to a location. `on_disk` hears which batches that are, as far as somebody waits for them.
    pub(crate) fn synced(&mut self, to: Option<Location>, mut on_disk: impl FnMut(Path, u64)) {
        self.acknowledge(|batch| {
            let is_synced = batch.location.is_some() && batch.location <= to;
            if is_synced {
                on_disk(batch.path, batch.number);
            }
            is_synced
        });
    }

    /// The journal may have lost these: no sync vouches for them any more.
    pub(crate) fn doubt(&mut self, is_doubtful: impl Fn(Location) -> bool) {
        for batch in &mut self.batches {
            batch.location = batch.location.filter(|location| !is_doubtful(*location));
        }
    }

    /// A batch was written once more, to another place.
    pub(crate) fn moved(&mut self, path: Path, number: u64, location: Location) {
        if let Some(batch) = self.batches.iter_mut().find(|batch| batch.path == path && batch.number == number) {
            batch.location = Some(location);
        }
    }

    fn acknowledge(&mut self, mut is_safe: impl FnMut(&Waiting) -> bool) {
        self.batches.retain_mut(|batch| {
            let is_safe = is_safe(batch);
            if is_safe {
                batch.clients.drain(..).for_each(|client| client.answer(Ok(())));
            }
            !is_safe
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{FakeDisk, SEGMENT_BYTES, journal, submission, view};
    use crate::intake::Acknowledgement;

    const PATIENCE: Duration = Duration::from_millis(100);

    /// Batches 1 and 2 of the path through Redis and 1 of the direct one, in this order, with their clients and places.
    fn three(now: Instant) -> (Waiters, [Acknowledgement; 3], [Location; 3]) {
        let mut journal = journal(&FakeDisk::default(), 4 * SEGMENT_BYTES);
        let mut waiters = Waiters::default();
        let places = [1, 2, 3].map(|number| journal.append(&[number], now.into_std()).expect("there is room"));
        let batches = [(Path::Redis, 1), (Path::Redis, 2), (Path::Direct, 1)];
        let clients = [0, 1, 2].map(|at: usize| {
            let (submission, acknowledgement) = submission(vec![view("u", "")]);
            let (path, number) = batches[at];
            let (location, clients) = (Some(places[at]), vec![submission.client]);
            waiters.push(Waiting { path, number, views: 1, since: now, location, clients });
            acknowledgement
        });
        (waiters, clients, places)
    }

    fn answered(clients: &mut [Acknowledgement; 3]) -> [bool; 3] {
        clients.each_mut().map(|client| client.try_recv() == Ok(Ok(())))
    }

    #[test]
    fn a_store_vouches_for_its_own_batches_up_to_a_number() {
        let (mut waiters, mut clients, _) = three(Instant::now());
        waiters.stored(Path::Redis, 0);
        assert_eq!(answered(&mut clients), [false, false, false]);
        waiters.stored(Path::Redis, 1);
        assert_eq!(answered(&mut clients), [true, false, false]);
        waiters.stored(Path::Direct, 1);
        assert_eq!((answered(&mut clients), waiters.views()), ([false, false, true], 1));
        waiters.stored(Path::Redis, 2);
        assert!(clients[1].try_recv() == Ok(Ok(())) && waiters.is_empty());
    }

    #[test]
    fn the_disk_vouches_for_what_is_on_it_and_not_in_doubt() {
        let (mut waiters, mut clients, [first, second, third]) = three(Instant::now());
        assert_eq!(waiters.journalled_to(), Some(third));
        let mut on_disk = vec![];
        waiters.synced(None, |_, number| on_disk.push(number));
        waiters.doubt(|location| location == first);
        waiters.synced(Some(second), |_, number| on_disk.push(number));
        assert_eq!((answered(&mut clients), on_disk), ([false, true, false], vec![2]));
        // Written again, it is behind all others.
        waiters.moved(Path::Redis, 1, third);
        waiters.synced(Some(third), |_, _| {});
        assert!(clients[0].try_recv() == Ok(Ok(())) && clients[2].try_recv() == Ok(Ok(())));
    }

    #[test]
    fn the_disk_is_needed_when_a_store_takes_nothing_or_too_long() {
        let start = Instant::now();
        let (mut waiters, _clients, _) = three(start);
        assert!(!waiters.need_disk(PATIENCE, |_| false, start));
        assert!(waiters.need_disk(PATIENCE, |_| false, start + PATIENCE));
        assert!(waiters.need_disk(PATIENCE, |path| path == Path::Direct, start));
        waiters.stored(Path::Direct, 1);
        assert!(!waiters.need_disk(PATIENCE, |path| path == Path::Direct, start), "nobody waits for that one");
        waiters.doubt(|_| true);
        assert!(!waiters.need_disk(PATIENCE, |_| true, start + PATIENCE), "an fsync would not help");
    }
}
