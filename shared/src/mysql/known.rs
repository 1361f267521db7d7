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
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::protocol::{Fence, Shard, User};
use crate::service::telemetry::{self, IntGauge};

/// For all shards together: about a million users with ids of ten bytes.
const BYTES_MAX: usize = 20 << 20;

static BYTES: LazyLock<IntGauge> = LazyLock::new(|| {
    telemetry::gauge("footfall_known_users_bytes", "Memory for the users that MySQL is known to have; at most 20 MiB.")
});

/// The users that are known, by shard. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownUsers {
    shards: Arc<Mutex<HashMap<Shard, OfShard>>>,
}

#[derive(Debug, Default)]
struct OfShard {
    /// What the fence said at the last transaction of ours.
    epoch: u64,
    version: u64,
    position: u64,
    /// How often everything was forgotten: a transaction that began before must not add to what came after.
    turn: u64,
    /// New users go here; when it is full it becomes `older`, and what was in there is forgotten.
    recent: Names,
    older: Names,
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
        let mut shards = self.lock();
        let of = shards.entry(shard).or_default();
        let only_flushes = (of.epoch, of.version) == (fence.epoch, fence.version) && of.position <= fence.position;
        if !only_flushes {
            *of = OfShard { turn: of.turn + 1, epoch: fence.epoch, version: fence.version, ..OfShard::default() };
        }
        of.position = fence.position;
        Known { users: self.clone(), shard, turn: of.turn }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Shard, OfShard>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner) // Nothing in here is ever half done.
    }
}

impl Known {
    /// Leaves those that MySQL may lack.
    pub(super) fn retain_unknown(&self, users: &mut Vec<User>) {
        if let Some(of) = self.users.lock().get(&self.shard).filter(|of| of.turn == self.turn) {
            users.retain(|user| !of.knows(user));
        }
    }

    /// The transaction is committed, has moved the fence to this version and position, and MySQL has these users.
    pub(super) fn remember(self, (version, position): (u64, u64), users: &[User]) {
        let mut shards = self.users.lock();
        let half_max = BYTES_MAX / 2 / shards.len().max(1);
        if let Some(of) = shards.get_mut(&self.shard).filter(|of| of.turn == self.turn) {
            of.version = of.version.max(version);
            of.position = of.position.max(position);
            for user in users {
                of.add(user, half_max);
            }
        }
        let bytes: usize = shards.values().map(|of| of.recent.bytes() + of.older.bytes()).sum();
        BYTES.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

impl OfShard {
    fn knows(&self, user: &User) -> bool {
        self.recent.has(user.as_bytes()) || self.older.has(user.as_bytes())
    }

    fn add(&mut self, user: &User, half_max: usize) {
        if self.knows(user) || self.recent.add(user.as_bytes(), half_max) {
            return;
        }
        self.older = std::mem::take(&mut self.recent);
        self.recent.add(user.as_bytes(), half_max); // If there is no room for a single one, it is asked for every time.
    }
}

/// A set of short texts in little memory: about 20 bytes for one of ten.
#[derive(Debug, Default)]
struct Names {
    /// One behind the other, each with its length in front: no id has more than 255 bytes.
    text: Vec<u8>,
    /// Where each begins, plus one, at the first free place from its hash on; a power of two of them.
    places: Vec<u32>,
    count: usize,
    hasher: RandomState,
}

impl Names {
    fn bytes(&self) -> usize {
        self.text.capacity() + self.places.capacity() * size_of::<u32>()
    }

    fn has(&self, name: &[u8]) -> bool {
        !self.places.is_empty() && self.places[self.place(name)] != 0
    }

    /// Adds one that is not there; false if that would take more memory than it may.
    fn add(&mut self, name: &[u8], bytes_max: usize) -> bool {
        // A quarter stays free, so that the next free place is near.
        let places = if (self.count + 1) * 4 > self.places.len() * 3 {
            (self.places.len() * 2).max(64)
        } else {
            self.places.len()
        };
        let needed = self.text.len() + 1 + name.len();
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
        let place = self.place(name);
        self.places[place] = self.text.len() as u32 + 1;
        self.text.push(length);
        self.text.extend_from_slice(name);
        self.count += 1;
        true
    }

    /// Where a name is, or would be.
    fn place(&self, name: &[u8]) -> usize {
        let mask = self.places.len() - 1;
        let mut place = self.hasher.hash_one(name) as usize & mask;
        while let Some(start) = self.places[place].checked_sub(1) {
            if self.at(start as usize) == name {
                break;
            }
            place = (place + 1) & mask;
        }
        place
    }

    fn at(&self, start: usize) -> &[u8] {
        let length = usize::from(self.text[start]);
        &self.text[start + 1..start + 1 + length]
    }

    fn move_to(&mut self, places: usize) {
        self.places = vec![0; places];
        let mut start = 0;
        while start < self.text.len() {
            let end = start + 1 + usize::from(self.text[start]);
            let place = self.place(&self.text[start + 1..end]);
            self.places[place] = start as u32 + 1;
            start = end;
        }
    }
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
    fn memory_is_bounded_and_exact() {
        const HALF_MAX: usize = 256 << 10;
        let mut of = OfShard::default();
        for number in 0..60_000 {
            of.add(&user(number), HALF_MAX);
            assert!(of.recent.bytes() + of.older.bytes() <= 2 * HALF_MAX);
        }
        assert!((60_000..80_000).all(|number| !of.knows(&user(number))), "never one that was not there");
        assert!((50_000..60_000).all(|number| of.knows(&user(number))), "the latest are there");
        let known = (0..60_000).filter(|number| of.knows(&user(*number))).count();
        assert!((12_000..30_000).contains(&known), "as many as there is room for: {known}");
        of.add(&user(99), 8);
        assert!(!of.knows(&user(99)), "no room for a single one");
    }
}
