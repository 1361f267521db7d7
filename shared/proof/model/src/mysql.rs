//! MySQL, and its transactions with the rules that guard them.

use crate::log::{Batch, Batches, Log, PRODUCERS};
use crate::replies::{Sight, Ticket};
use crate::rules::Rules;
use crate::server::Follower;

/// MySQL, as committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct MySql {
    /// shard_fence: the epoch.
    pub epoch: u8,
    /// shard_fence: the position up to which the log was applied.
    pub position: u8,
    /// shard_fence: the epoch of the last flush.
    pub flush_epoch: u8,
    /// shard_fence: version of the cached bases.
    pub version: u8,
    /// producer_fence: last batch of each producer on the Redis path.
    pub producers: [u8; PRODUCERS],
    /// direct_fence: last batch of each producer on the direct path.
    pub direct: [u8; PRODUCERS],
    /// articles.views, and whose they are.
    pub counted: Batches,
    /// article_readers: whether the one reader has a row.
    pub has_row: bool,
    /// articles.readers.
    pub readers: u8,
}

/// How a flush may go on, decided under the lock of the fence row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushDecision {
    /// Write the entries behind this position.
    Write(u8),
    /// MySQL has them all: acknowledge.
    Before,
    /// Another epoch began: follow anew.
    Fenced,
    /// MySQL lacks something that Redis has forgotten: stop.
    Hole,
}

/// How a direct transaction may go on, decided under the lock of the fence row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectDecision {
    /// Write it.
    Write,
    /// MySQL has it.
    Before,
    /// MySQL lacks a batch before it: stop.
    Hole,
}

impl MySql {
    /// The first half of a flush: what the fence says. The row stays locked until the second half.
    #[must_use]
    pub fn fence(&self, rules: &Rules, Follower { epoch, log }: &Follower) -> FlushDecision {
        if rules.commit_checks_epoch && self.epoch != *epoch {
            return FlushDecision::Fenced;
        }
        let from = if rules.commit_checks_position { self.position.max(log.first - 1) } else { log.first - 1 };
        if from >= log.tail {
            return FlushDecision::Before;
        }
        if rules.commit_checks_hole && self.position < from {
            return FlushDecision::Hole;
        }
        if rules.commit_checks_producers && !self.follow(log, from) {
            FlushDecision::Hole
        } else {
            FlushDecision::Write(from)
        }
    }

    /// Whether the entries behind a position follow the producers' fences.
    fn follow(&self, log: &Log, from: u8) -> bool {
        let mut fences = self.producers;
        log.behind(from).all(|batch| {
            let fence = &mut fences[batch.producer()];
            *fence += 1;
            batch.number() == *fence
        })
    }

    /// The second half of a flush: counts the entries behind a position, moves the fences, COMMIT. Answers what was counted.
    pub fn commit(&mut self, Follower { epoch, log }: &Follower, from: u8, is_new: bool) -> Batches {
        let delta = log.batches_behind(from);
        self.counted = self.counted.plus(delta);
        for batch in log.behind(from) {
            self.producers[batch.producer()] = batch.number();
        }
        (self.position, self.flush_epoch) = (log.tail, *epoch);
        self.count_reader(is_new);
        delta
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
        Some(self.ticket())
    }

    /// What a recovery under this epoch needs to know.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        let Self { epoch, position, flush_epoch, producers, .. } = *self;
        Ticket { epoch, position, flush_epoch, producers }
    }

    /// Whether the data set has forgotten, or was opened by, what MySQL does not have any more.
    #[must_use]
    pub fn is_older_than(&self, rules: &Rules, sight: &Sight) -> bool {
        let has_forgotten = sight.epoch >= self.flush_epoch && sight.first > self.position + 1;
        rules.halts_when_mysql_is_older && sight.epoch > 0 && (sight.epoch > self.epoch || has_forgotten)
    }

    /// The first half of a direct transaction: what the direct fence says.
    #[must_use]
    pub fn direct_fence(&self, rules: &Rules, producer: usize, number: u8) -> DirectDecision {
        let last = self.direct[producer];
        if last >= number {
            return if rules.direct_checks_fence { DirectDecision::Before } else { DirectDecision::Write };
        }
        if last + 1 == number { DirectDecision::Write } else { DirectDecision::Hole }
    }

    /// The second half of a direct transaction: counts, moves the direct fence, COMMIT.
    pub fn commit_directly(&mut self, rules: &Rules, producer: usize, number: u8, is_new: bool) {
        self.counted.add(Batch::of_direct(producer, number));
        self.direct[producer] = number;
        self.version += u8::from(rules.direct_raises_version);
        self.count_reader(is_new);
    }
}
