//! Which users MySQL is known to have: a flush gives it only the others. What is remembered is exact: the ids themselves,
//! each of them found or put into `footfall_users` by a transaction that was committed.
//!
//! Users vanish from there by `footfall clean` and `erase`, which raise the version of every shard; by `forget`, which raises
//! it where it deletes a reader, and deletes a user with the last one; or because MySQL came back older, which shows in the
//! shard's position, or is accepted with a new epoch. So what a shard's own transactions have met holds while its fence says
//! that there were only flushes since, and is forgotten otherwise. What another shard has met says nothing: MySQL may have
//! lost that shard's last commits and kept this one's.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::protocol::{Fence, Shard, User};
use crate::service::telemetry::{self, IntGauge};

/// For all shards together: about a million users with ids of ten bytes.
const BYTES_MAX: usize = 20 << 20;

static BYTES: LazyLock<IntGauge> = LazyLock::new(|| {
    telemetry::gauge("footfall_known_users_bytes", "Memory for the users that MySQL is known to have; at most 20 MiB.")
});

/// The users that are known, each with the shards that have met it: most users are met by most shards, and are held once
/// for all. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownUsers {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    shards: HashMap<Shard, OfShard>,
    names: Recent,
}

#[derive(Debug, Clone, Copy)]
struct OfShard {
    /// What the fence said at the last transaction of ours.
    epoch: u64,
    version: u64,
    position: u64,
    /// How often everything was forgotten: a transaction that began before must not add to what came after.
    turn: u64,
    /// Its mark beside a name.
    mark: usize,
}

/// What one transaction may use, which holds the shard's row.
#[derive(Debug)]
pub(super) struct Known {
    users: KnownUsers,
    shard: Shard,
    turn: u64,
}

impl KnownUsers {
    /// What is known to a transaction that has just locked the shard's row and read it.
    pub(super) fn under(&self, shard: Shard, fence: &Fence) -> Known {
        let Inner { shards, names } = &mut *self.lock();
        let Fence { epoch, version, position, .. } = *fence;
        let mark = shards.len();
        let of = shards.entry(shard).or_insert(OfShard { epoch, version, position, turn: 0, mark });
        names.make_room(of.mark + 1);
        let only_flushes = (of.epoch, of.version) == (epoch, version) && of.position <= position;
        if !only_flushes {
            names.erase(of.mark);
            *of = OfShard { turn: of.turn + 1, epoch, version, ..*of };
        }
        of.position = position;
        Known { users: self.clone(), shard, turn: of.turn }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner) // Nothing in here is ever half done.
    }
}

impl Known {
    /// Leaves those that MySQL may lack.
    pub(super) fn retain_unknown(&self, users: &mut Vec<User>) {
        let Inner { shards, names } = &*self.users.lock();
        if let Some(of) = shards.get(&self.shard).filter(|of| of.turn == self.turn) {
            users.retain(|user| !names.has(user.as_bytes(), of.mark));
        }
    }

    /// The transaction is committed, has moved the fence to this version and position, and MySQL has these users.
    pub(super) fn remember(self, (version, position): (u64, u64), users: &[User]) {
        let Inner { shards, names } = &mut *self.users.lock();
        if let Some(of) = shards.get_mut(&self.shard).filter(|of| of.turn == self.turn) {
            of.version = of.version.max(version);
            of.position = of.position.max(position);
            for user in users {
                names.add(user.as_bytes(), of.mark, BYTES_MAX / 2);
            }
        }
        BYTES.set(i64::try_from(names.bytes()).unwrap_or(i64::MAX));
    }
}

/// The names that were added last, as many as there is room for.
#[derive(Debug, Default)]
struct Recent {
    /// New names go here; when it is full it becomes `older`, and what was in there is forgotten.
    newer: Names,
    older: Names,
}

impl Recent {
    fn bytes(&self) -> usize {
        self.newer.bytes() + self.older.bytes()
    }

    fn has(&self, name: &[u8], mark: usize) -> bool {
        self.newer.has(name, mark) || self.older.has(name, mark)
    }

    fn add(&mut self, name: &[u8], mark: usize, half_max: usize) {
        if self.has(name, mark) || self.newer.add(name, mark, half_max) {
            return;
        }
        let empty = Names::with_marks(self.newer.marks_bytes);
        self.older = std::mem::replace(&mut self.newer, empty);
        self.newer.add(name, mark, half_max); // If there is no room for a single one, it is asked for every time.
    }

    fn erase(&mut self, mark: usize) {
        self.newer.erase(mark);
        self.older.erase(mark);
    }

    /// Room for so many marks at each name. Shards are first met when a process begins, where there is little to forget.
    fn make_room(&mut self, marks: usize) {
        let bytes = marks.div_ceil(8);
        if bytes > self.newer.marks_bytes {
            *self = Self { newer: Names::with_marks(bytes), older: Names::with_marks(bytes) };
        }
    }
}

/// A set of short texts with marks, in little memory: about 20 bytes for one of ten.
#[derive(Debug, Default)]
struct Names {
    /// One behind the other, each with its length and its marks in front: no id has more than 255 bytes.
    text: Vec<u8>,
    /// How many bytes of marks each has.
    marks_bytes: usize,
    /// Where each begins, plus one, at the first free place from its hash on; a power of two of them.
    places: Vec<u32>,
    count: usize,
    hasher: RandomState,
}

/// One name in [`Names::text`].
struct Entry {
    marks: Range<usize>,
    name: Range<usize>,
}

impl Names {
    fn with_marks(marks_bytes: usize) -> Self {
        Self { marks_bytes, ..Self::default() }
    }

    fn bytes(&self) -> usize {
        self.text.capacity() + self.places.capacity() * size_of::<u32>()
    }

    fn has(&self, name: &[u8], mark: usize) -> bool {
        self.find(name).is_some_and(|entry| self.text[entry.marks][mark / 8] & bit(mark) != 0)
    }

    /// Marks a name, and adds it if it is not there; false if that would take more memory than it may.
    fn add(&mut self, name: &[u8], mark: usize, bytes_max: usize) -> bool {
        if let Some(entry) = self.find(name) {
            self.text[entry.marks][mark / 8] |= bit(mark);
            return true;
        }
        // A quarter stays free, so that the next free place is near.
        let places = if (self.count + 1) * 4 > self.places.len() * 3 {
            (self.places.len() * 2).max(64)
        } else {
            self.places.len()
        };
        let needed = self.text.len() + 1 + self.marks_bytes + name.len();
        let room = bytes_max.saturating_sub(places * size_of::<u32>()).min(u32::MAX as usize);
        let (true, Ok(length)) = (needed <= room && self.text.capacity() <= room, u8::try_from(name.len())) else {
            return false;
        };
        if needed > self.text.capacity() {
            let capacity = (self.text.capacity() * 2).clamp(needed, room.max(needed));
            self.text.reserve_exact(capacity - self.text.len());
        }
        if places > self.places.len() {
            self.move_to(places);
        }
        let (place, start) = (self.place(name), self.text.len());
        self.places[place] = start as u32 + 1;
        self.text.push(length);
        self.text.resize(start + 1 + self.marks_bytes, 0);
        self.text[start + 1 + mark / 8] = bit(mark);
        self.text.extend_from_slice(name);
        self.count += 1;
        true
    }

    fn erase(&mut self, mark: usize) {
        let mut start = 0;
        while start < self.text.len() {
            let Entry { marks, name } = self.at(start);
            self.text[marks][mark / 8] &= !bit(mark);
            start = name.end;
        }
    }

    fn find(&self, name: &[u8]) -> Option<Entry> {
        let place = (!self.places.is_empty()).then(|| self.place(name))?;
        self.places[place].checked_sub(1).map(|start| self.at(start as usize))
    }

    /// Where a name is, or would be.
    fn place(&self, name: &[u8]) -> usize {
        let mask = self.places.len() - 1;
        let mut place = self.hasher.hash_one(name) as usize & mask;
        while let Some(start) = self.places[place].checked_sub(1) {
            if &self.text[self.at(start as usize).name] == name {
                break;
            }
            place = (place + 1) & mask;
        }
        place
    }

    fn at(&self, start: usize) -> Entry {
        let marks = start + 1..start + 1 + self.marks_bytes;
        let name = marks.end..marks.end + usize::from(self.text[start]);
        Entry { marks, name }
    }

    fn move_to(&mut self, places: usize) {
        self.places = vec![0; places];
        let mut start = 0;
        while start < self.text.len() {
            let name = self.at(start).name;
            let place = self.place(&self.text[name.clone()]);
            self.places[place] = start as u32 + 1;
            start = name.end;
        }
    }
}

/// A mark's bit in its byte.
fn bit(mark: usize) -> u8 {
    1 << (mark % 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: usize) -> User {
        User::parse(format!("u{number:09}").as_bytes()).expect("test id")
    }

    fn fence(epoch: u64, version: u64, position: u64) -> Fence {
        Fence { epoch, version, position, flush_epoch: epoch, views: 0, readers: 0, users: 0, articles: 0 }
    }

    fn unknown(known: &Known, numbers: impl IntoIterator<Item = usize>) -> usize {
        let mut users: Vec<User> = numbers.into_iter().map(user).collect();
        known.retain_unknown(&mut users);
        users.len()
    }

    const SHARD: Shard = Shard(0);

    #[test]
    fn what_is_remembered_holds_while_there_are_only_flushes() {
        let users = KnownUsers::default();
        let known = users.under(SHARD, &fence(1, 5, 10));
        assert_eq!(unknown(&known, 0..3), 3);
        known.remember((5, 12), &[user(0), user(1)]);
        for (epoch, version, position, holds) in [
            (1, 5, 12, true),
            (1, 5, 40, true),  // Another flusher was at work.
            (1, 5, 39, false), // MySQL came back older.
            (1, 6, 40, false),
            (2, 6, 40, false),
        ] {
            let known = users.under(SHARD, &fence(epoch, version, position));
            assert_eq!(unknown(&known, 0..3), if holds { 1 } else { 3 }, "{epoch} {version} {position}");
            known.remember((version, position), &[user(0), user(1)]);
        }
        assert_eq!(unknown(&users.under(Shard(1), &fence(2, 6, 40)), 0..3), 3, "another shard's says nothing");
        // One that came directly raises the version itself.
        users.under(SHARD, &fence(2, 6, 40)).remember((7, 40), &[user(2)]);
        assert_eq!(unknown(&users.under(SHARD, &fence(2, 7, 40)), 0..3), 0);
    }

    #[test]
    fn a_transaction_that_ends_late_adds_nothing_to_what_came_after() {
        let users = KnownUsers::default();
        let late = users.under(SHARD, &fence(1, 5, 10));
        let next = users.under(SHARD, &fence(1, 6, 10)); // Somebody erased a reader meanwhile.
        late.remember((5, 11), &[user(0)]);
        assert_eq!(unknown(&next, [0]), 1);
        assert_eq!(unknown(&users.under(SHARD, &fence(1, 6, 10)), [0]), 1);
    }

    #[test]
    fn shards_forget_each_for_itself() {
        let users = KnownUsers::default();
        let shards = || (0..20).map(Shard);
        // The more shards are met, the more room there must be for marks: begin with all.
        shards().for_each(|shard| drop(users.under(shard, &fence(1, 5, 10))));
        for shard in shards() {
            users.under(shard, &fence(1, 5, 10)).remember((5, 11), &[user(0), user(1 + usize::from(shard.0))]);
        }
        users.under(Shard(7), &fence(1, 5, 10)); // MySQL has lost what this one committed.
        for shard in shards() {
            let known = users.under(shard, &fence(1, 5, 11));
            assert_eq!(unknown(&known, 0..21), if shard == Shard(7) { 21 } else { 19 }, "{shard}");
        }
        users.under(Shard(7), &fence(1, 5, 11)).remember((5, 12), &[user(0)]);
        assert_eq!(unknown(&users.under(Shard(7), &fence(1, 5, 12)), 0..21), 20);
        let known = users.under(Shard(99), &fence(1, 1, 1));
        assert_eq!(unknown(&known, 0..21), 21, "a new shard has met nobody");
    }

    #[test]
    fn a_user_of_many_shards_takes_the_room_of_one() {
        let bytes = |shards: u16| {
            let users = KnownUsers::default();
            (0..shards).for_each(|shard| drop(users.under(Shard(shard), &fence(1, 5, 10))));
            for shard in (0..shards).map(Shard) {
                let met: Vec<User> = (0..10_000).map(user).collect();
                users.under(shard, &fence(1, 5, 10)).remember((5, 11), &met);
            }
            let bytes = users.lock().names.bytes();
            bytes as f64
        };
        assert!(bytes(8) < 1.1 * bytes(1), "{} of 8, {} of 1", bytes(8), bytes(1));
    }

    #[test]
    fn memory_is_bounded_and_exact() {
        const HALF_MAX: usize = 256 << 10;
        let mut names = Recent::default();
        names.make_room(1);
        let name = |number: usize| user(number).as_bytes().to_owned();
        for number in 0..60_000 {
            names.add(&name(number), 0, HALF_MAX);
            assert!(names.bytes() <= 2 * HALF_MAX);
        }
        assert!((60_000..80_000).all(|number| !names.has(&name(number), 0)), "never one that was not there");
        assert!((50_000..60_000).all(|number| names.has(&name(number), 0)), "the latest are there");
        let known = (0..60_000).filter(|number| names.has(&name(*number), 0)).count();
        assert!((12_000..30_000).contains(&known), "as many as there is room for: {known}");
        names.add(&name(99), 0, 8);
        assert!(!names.has(&name(99), 0), "no room for a single one");
    }
}
