//! A Redis server, and its scripts with the rules that guard them. Each happens in one go.

use crate::log::{Batch, Batches, Log, PRODUCERS};
use crate::replies::{Base, Fill, Sight, Ticket};
use crate::rules::Rules;

/// The life of a replica: it has none of its own.
pub const REPLICA: u8 = 0;

/// One Redis server with its data set of the shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server {
    /// This life of the server: `master_replid`, or [`REPLICA`].
    pub life: u8,
    /// The shard's slot is on another master: whoever asks here is sent on to that one.
    pub is_away: bool,
    /// meta: epoch; 0 if there is no data set.
    pub epoch: u8,
    /// meta: the life of a server in which a recovery opened the data set.
    pub incarnation: u8,
    /// meta: version of the cached bases.
    pub version: u8,
    /// producers: the last number of each that is registered.
    pub producers: [Option<u8>; PRODUCERS],
    /// The log, and meta: `first` and `tail`.
    pub log: Log,
    /// The cached base of the article.
    pub base: Option<Base>,
    /// meta: a base below this position is not let in, because a flush is moving the bases past it; 0 if `first` says more.
    pub fill_from: u8,
}

impl Server {
    /// Whether there is a data set.
    #[must_use]
    pub fn has_data(&self) -> bool {
        self.epoch > 0
    }

    /// Whether it takes writes, if it is asked at all.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.life != REPLICA && !self.is_away
    }

    /// Whether there is a data set that was opened in this life of the server.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.has_data() && self.incarnation == self.life
    }

    /// The guard of every script but STATE and REOPEN.
    #[must_use]
    pub fn admits(&self, epoch: u8) -> bool {
        self.is_open() && self.epoch == epoch
    }

    /// REGISTER: admits a producer; answers its last batch.
    pub fn register(&mut self, producer: usize) -> u8 {
        *self.producers[producer].get_or_insert(0)
    }

    /// APPLY: the tail if the batch is in the data set afterwards.
    pub fn apply(&mut self, rules: &Rules, epoch: u8, producer: usize, number: u8) -> Option<u8> {
        let is_refused = !self.has_data()
            || !self.is_writable()
            || rules.apply_checks_incarnation && !self.is_open()
            || rules.apply_checks_epoch && self.epoch != epoch;
        let last = self.producers[producer].filter(|_| !is_refused)?;
        if number <= last && rules.apply_checks_number {
            return Some(self.log.tail);
        }
        if number > last + 1 {
            return None;
        }
        self.log.append(Batch::of_redis(producer, number));
        self.producers[producer] = Some(last.max(number));
        Some(self.log.tail)
    }

    /// Whether APPLY would answer UNKNOWN or GAP: the sender has to register, and to go back.
    #[must_use]
    pub fn is_behind(&self, producer: usize, number: Option<u8>) -> bool {
        number.is_some_and(|number| self.producers[producer].is_none_or(|last| number > last + 1))
    }

    /// ADVANCE: moves the cached base along with a flush of the entries behind `from` up to `last`, by its growth. False if
    /// that can not be done. A repeat does nothing.
    pub fn advance(&mut self, rules: &Rules, epoch: u8, from: u8, last: u8, delta: Batches) -> bool {
        if !self.admits(epoch) || rules.advance_checks_first && from != self.log.first - 1 {
            return false;
        }
        if rules.advance_stops_fills {
            self.fill_from = self.fill_from.max(last);
        }
        if let Some(base) = &mut self.base
            && (base.position <= from || !rules.advance_checks_position)
        {
            *base = Base { position: last, counted: base.counted.plus(delta) };
        }
        true
    }

    /// ACK: trims what MySQL has, up to `last`. A repeat does nothing.
    pub fn acknowledge(&mut self, rules: &Rules, epoch: u8, last: u8, are_bases_moved: bool) {
        let is_admitted = if rules.ack_checks_epoch { self.admits(epoch) } else { self.has_data() };
        if !is_admitted || !self.is_writable() || last < self.log.first || last > self.log.tail {
            return;
        }
        if !are_bases_moved && rules.ack_ends_unmoved_bases {
            // A script need not look for them: it notes the position, and a reader takes no base below it.
            self.base = self.base.filter(|base| base.position >= last);
        }
        if rules.ack_moves_first {
            self.log.trim(last);
        } else {
            self.log.cut(last - self.log.first + 1);
        }
        if self.fill_from < self.log.first {
            self.fill_from = 0;
        }
    }

    /// STATE.
    #[must_use]
    pub fn sight(&self, discard: bool) -> Sight {
        let Self { life, epoch, log: Log { first, .. }, .. } = *self;
        Sight { life, epoch, first, is_open: self.is_open(), discard }
    }

    /// PROBE: whether it could be written, and is still what STATE has seen.
    #[must_use]
    pub fn probe(&self, sight: &Sight) -> bool {
        self.is_writable() && (self.life, self.epoch) == (sight.life, sight.epoch)
    }

    /// REOPEN: opens the data set under the ticket's epoch. Answers whether it did, or the data set is not the one seen.
    pub fn reopen(&mut self, rules: &Rules, sight: &Sight, ticket: &Ticket) -> bool {
        let is_as_seen = self.sight(sight.discard) == *sight;
        if !self.is_writable() || rules.reopen_is_exact && !is_as_seen || sight.epoch > 0 && !self.has_data() {
            return false; // MOVED
        }
        let is_overtaken = sight.epoch < ticket.flush_epoch && rules.reopen_sets_aside;
        if sight.epoch == 0 || is_overtaken || sight.discard {
            self.producers = [None; PRODUCERS];
            self.log = Log::empty(ticket.position + 1);
        } else {
            self.reopen_log(rules, ticket.position);
        }
        for (own, fenced) in self.producers.iter_mut().zip(ticket.producers) {
            if fenced > 0 && rules.reopen_raises_producers {
                *own = Some(own.unwrap_or(0).max(fenced));
            }
        }
        if rules.bases_end_with_epoch {
            self.base = None;
        }
        self.fill_from = 0;
        (self.epoch, self.incarnation) = (ticket.epoch, self.life);
        true
    }

    /// Keeps what MySQL does not have.
    fn reopen_log(&mut self, rules: &Rules, position: u8) {
        let log = &mut self.log;
        if position > log.tail && !rules.reopen_raises_tail {
            log.trim(log.tail);
        } else if rules.reopen_trims && rules.reopen_moves_first {
            log.trim(position);
        } else if position >= log.first {
            if rules.reopen_trims {
                log.cut(position - log.first + 1);
            } else {
                log.first = position + 1;
            }
            log.tail = log.tail.max(position);
        }
    }

    /// Whether FILL takes a base read from MySQL. What it refuses under its own epoch it will not take later.
    #[must_use]
    pub fn takes(&self, rules: &Rules, value: &Fill) -> bool {
        self.is_open()
            && (value.epoch == self.epoch || !rules.fill_checks_epoch)
            && (value.version >= self.version || !rules.fill_checks_version)
            && (value.base.position >= self.fill_from.max(self.log.first - 1) || !rules.fill_checks_first)
    }

    /// FILL: caches a base, unless it is to be read again.
    pub fn fill(&mut self, rules: &Rules, value: &Fill) {
        if !self.takes(rules, value) {
            return;
        }
        self.raise_version(value.version);
        let position = if rules.base_has_position { value.base.position } else { self.log.first - 1 };
        self.base = Some(Base { position, ..value.base });
    }

    /// Makes every base cached under an older version vanish.
    pub fn raise_version(&mut self, version: u8) {
        if version > self.version {
            (self.version, self.base) = (version, None);
        }
    }
}

/// Reads the log: the entries behind its cursor, which is the tail of what it has. It keeps them until MySQL has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Follower {
    /// The data set's epoch; 0 before it began.
    pub epoch: u8,
    /// What it has.
    pub log: Log,
}

impl Follower {
    /// FOLLOW: takes the next entry, if there is one. That is as few as the call's bytes may allow, and several are
    /// several calls. Answers whether the server did.
    pub fn follow(&mut self, rules: &Rules, server: &Server) -> bool {
        let is_readable = if rules.follow_checks_epoch { server.is_open() } else { server.has_data() };
        // Redis refuses a script that may write, wherever it takes no writes.
        if !is_readable || !server.is_writable() {
            return false;
        }
        if self.epoch == 0 || rules.follow_checks_epoch && self.epoch != server.epoch {
            if self.epoch == 0 || rules.follower_begins_anew {
                self.log = Log::empty(server.log.first);
            }
            self.epoch = server.epoch;
        }
        self.log.trim(server.log.first - 1);
        if let Some(batch) = server.log.at(self.log.tail + 1) {
            self.log.append(batch);
        }
        true
    }
}
