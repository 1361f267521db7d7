//! What Redis and MySQL do in one go: the scripts and the transactions, with the rules that guard them.

use crate::rules::Rules;
use crate::state::{Batches, Fill, GENERATIONS, MySql, PRODUCERS, Server, Sight, Ticket};

/// How a flush transaction may go on, decided under the lock of the fence row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// Write it.
    Write,
    /// MySQL has it: acknowledge.
    Before,
    /// Another epoch began: look again.
    Fenced,
    /// MySQL lacks something that Redis has forgotten: stop.
    Hole,
}

/// How a direct transaction may go on, decided under the lock of the fence row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectFence {
    /// Write it.
    Write,
    /// MySQL has it.
    Before,
    /// MySQL lacks a batch before it: stop.
    Hole,
}

/// The scripts. Each names the rules that guard it.
impl Server {
    /// The guard of every script but STATE and REOPEN.
    fn admits(&self, epoch: u8) -> bool {
        self.is_open() && self.epoch == epoch
    }

    /// APPLY: the open generation if the batch is in the data set afterwards.
    pub fn apply(&mut self, rules: &Rules, epoch: u8, producer: usize, number: u8) -> Option<u8> {
        let is_refused = !self.has_data()
            || rules.apply_checks_incarnation && !self.is_open()
            || rules.apply_checks_epoch && self.epoch != epoch;
        let last = self.producers[producer].filter(|_| !is_refused)?;
        if number <= last && rules.apply_skips_repeats {
            return Some(self.open);
        }
        if number > last + 1 {
            return None;
        }
        let generation = if rules.sealed_is_immutable { self.open } else { self.first };
        self.logs[usize::from(generation)].add(producer, number);
        self.producers[producer] = Some(last.max(number));
        Some(self.open)
    }

    /// Whether APPLY would answer BEHIND: the sender has to register, and to go back.
    #[must_use]
    pub fn is_behind(&self, producer: usize, number: Option<u8>) -> bool {
        number.is_some_and(|number| self.producers[producer].is_none_or(|last| number > last + 1))
    }

    /// REGISTER: admits a producer; answers its last batch.
    pub fn register(&mut self, producer: usize) -> u8 {
        *self.producers[producer].get_or_insert(0)
    }

    /// What a reply says of the generations that MySQL has: all before this one.
    #[must_use]
    pub fn passed(&self, rules: &Rules) -> u8 {
        // Nothing waits: the open generation, which a recovery may have named for batches that MySQL has, will not be
        // passed by itself.
        let is_drained =
            rules.drained_is_passed && self.first == self.open && self.logs[usize::from(self.open)].is_empty();
        if is_drained { self.open + 1 } else { self.first }
    }

    /// SEAL: closes the open generation if it still is the one that is meant and holds anything. Answers the oldest
    /// sealed generation.
    pub fn seal(&mut self, epoch: u8, open: u8) -> Option<u8> {
        if !self.admits(epoch) {
            return None;
        }
        if self.open == open && !self.logs[usize::from(open)].is_empty() {
            self.open += 1;
        }
        (self.first < self.open).then_some(self.first)
    }

    /// The batches of a sealed generation; none if it is not sealed here. An empty one does not add up.
    #[must_use]
    pub fn sealed(&self, rules: &Rules, epoch: u8, generation: u8) -> Option<Batches> {
        let is_readable = self.admits(epoch) || !rules.read_checks_epoch && self.has_data();
        (is_readable && (self.first..self.open).contains(&generation)).then(|| self.logs[usize::from(generation)])
    }

    /// ACK: forgets a generation that MySQL has, and moves the cached value along.
    pub fn acknowledge(&mut self, rules: &Rules, epoch: u8, generation: u8, growth: Option<u8>) {
        let is_admitted = if rules.ack_checks_epoch { self.admits(epoch) } else { self.has_data() };
        if !is_admitted || self.first != generation || generation >= self.open {
            return;
        }
        if rules.ack_moves_cached {
            // Of a flush that was known before, the new readers are not known: its values are dropped.
            self.cached = self.cached.zip(growth).map(|(views, growth)| views + growth);
        }
        self.logs[usize::from(generation)] = Batches::default();
        self.first += 1;
    }

    /// STATE.
    #[must_use]
    pub fn sight(&self, discard: bool) -> Sight {
        let Self { life, epoch, first, open, .. } = *self;
        Sight { life, epoch, first, open, is_open: self.is_open(), discard }
    }

    /// REOPEN: opens the data set under the ticket's epoch.
    pub fn reopen(&mut self, rules: &Rules, sight: &Sight, ticket: &Ticket) {
        let is_as_seen = self.sight(sight.discard) == *sight;
        if rules.reopen_is_exact && !is_as_seen || sight.epoch > 0 && !self.has_data() {
            return; // MOVED
        }
        let is_overtaken = sight.epoch < ticket.flush_epoch && rules.overtaken_is_set_aside;
        let fenced = ticket.generation;
        let mut open = fenced + 1;
        let mut first = fenced + 1;
        if sight.epoch == 0 || is_overtaken || sight.discard {
            self.producers = [None; PRODUCERS];
            self.logs = [Batches::default(); GENERATIONS];
        } else {
            let is_open_empty = self.logs[usize::from(self.open)].is_empty();
            let last = if is_open_empty { self.open - 1 } else { self.open };
            open = if rules.opens_past_both { fenced.max(last) + 1 } else { last + 1 };
            if rules.reopen_drops_flushed {
                self.logs[..=usize::from(fenced)].fill(Batches::default());
            } else {
                first = self.first;
            }
        }
        for (own, fenced) in self.producers.iter_mut().zip(ticket.producers) {
            if fenced > 0 && rules.producers_are_raised {
                *own = Some(own.unwrap_or(0).max(fenced));
            }
        }
        if rules.cached_ends_with_epoch {
            self.cached = None;
        }
        (self.epoch, self.incarnation, self.open, self.first) = (ticket.epoch, self.life, open, first);
    }

    /// FILL: caches a value read from MySQL; answers it with what waits above it, or none if it is to be read again.
    pub fn fill(&mut self, rules: &Rules, value: &Fill) -> Option<u8> {
        if !self.is_open()
            || value.epoch != self.epoch
            || rules.fill_checks_version && value.version < self.version
            || rules.fill_checks_generation && value.generation + 1 < self.first
        {
            return None;
        }
        self.raise_version(value.version);
        if value.generation < self.first || !rules.fill_caches_at_first_only {
            self.cached = Some(value.views);
        }
        Some(value.views + self.pending_above(value.generation).views())
    }

    /// Makes every value cached under an older version vanish.
    pub fn raise_version(&mut self, version: u8) {
        if version > self.version {
            (self.version, self.cached) = (version, None);
        }
    }
}

/// The transactions. Each names the rules that guard it.
impl MySql {
    /// The first half of a flush: what the fence says. The row stays locked until the second half.
    #[must_use]
    pub fn fence(&self, rules: &Rules, epoch: u8, generation: u8, batches: Batches) -> Fence {
        if rules.commit_checks_epoch && self.epoch != epoch {
            return Fence::Fenced;
        }
        if rules.commit_checks_generation && self.generation >= generation {
            return Fence::Before;
        }
        if rules.commit_checks_hole && self.generation + 1 < generation {
            return Fence::Hole;
        }
        let follows = |producer: usize| {
            batches.numbers(producer).next().is_none_or(|number| number == self.producers[producer] + 1)
        };
        if rules.commit_checks_producers && !(0..PRODUCERS).all(follows) { Fence::Hole } else { Fence::Write }
    }

    /// The second half of a flush: counts, moves the fences, COMMIT.
    pub fn commit(&mut self, epoch: u8, generation: u8, batches: Batches, is_new: bool) {
        self.counted.add_all(batches);
        for (producer, fence) in self.producers.iter_mut().enumerate() {
            *fence = batches.numbers(producer).next_back().unwrap_or(*fence);
        }
        (self.generation, self.flush_epoch) = (generation, epoch);
        self.count_reader(is_new);
    }

    fn count_reader(&mut self, is_new: bool) {
        self.readers += u8::from(is_new);
        self.has_row = true;
    }

    /// NEXT_EPOCH: none if another has begun it.
    pub fn next_epoch(&mut self, rules: &Rules, epoch: u8) -> Option<Ticket> {
        if rules.next_epoch_compares && self.epoch != epoch {
            return None;
        }
        self.epoch = epoch + 1;
        Some(self.ticket(self.epoch))
    }

    /// What a recovery under this epoch needs to know.
    #[must_use]
    pub fn ticket(&self, epoch: u8) -> Ticket {
        let Self { generation, flush_epoch, producers, .. } = *self;
        Ticket { epoch, generation, flush_epoch, producers }
    }

    /// Whether the data set has forgotten, or was opened by, what MySQL does not have any more.
    #[must_use]
    pub fn is_older_than(&self, rules: &Rules, sight: &Sight) -> bool {
        let has_forgotten = sight.epoch >= self.flush_epoch && sight.first > self.generation + 1;
        rules.halts_when_mysql_is_older && sight.epoch > 0 && (sight.epoch > self.epoch || has_forgotten)
    }

    /// The first half of a direct transaction: what the direct fence says.
    #[must_use]
    pub fn direct_fence(&self, rules: &Rules, producer: usize, number: u8) -> DirectFence {
        let last = self.direct[producer];
        if last >= number {
            return if rules.direct_checks_fence { DirectFence::Before } else { DirectFence::Write };
        }
        if last + 1 == number { DirectFence::Write } else { DirectFence::Hole }
    }

    /// The second half of a direct transaction: counts, moves the direct fence, COMMIT.
    pub fn commit_directly(&mut self, rules: &Rules, producer: usize, number: u8, is_new: bool) {
        self.counted_directly.add(producer, number);
        self.direct[producer] = number;
        self.version += u8::from(rules.direct_raises_version);
        self.count_reader(is_new);
    }
}
