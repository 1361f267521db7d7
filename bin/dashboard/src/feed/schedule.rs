//! Which step comes when. A round of steps makes one snapshot; a step that needs nothing is skipped.

use std::collections::VecDeque;
use std::time::Duration;

use footfall_shared::redis::presence::Report;
use tokio::time::Instant;

/// How often one round may read the log of a shard, because a flush came between the two stores.
const LOOKS_MAX: u32 = 3;
/// How often one round may read both stores for the conservation check, for the same reason.
const CHECKS_MAX: u32 = 3;
/// How often the slow numbers are read, such as what processes report: once a second is enough for these.
const SLOW_PERIOD: Duration = Duration::from_secs(1);

/// One step of a round; `shard` is an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RoundStep {
    CheckSchema,
    ReadRanking,
    /// Read after the ranking: no entry behind this fence can be in the ranking.
    ReadRankingFence {
        shard: usize,
    },
    Follow {
        shard: usize,
        looks_left: u32,
    },
    ReadFence {
        shard: usize,
        looks_left: u32,
    },
    CopyFence {
        shard: usize,
    },
    ReadActivity,
    ForgetPresence(Report),
    CheckConservation {
        tries_left: u32,
    },
    /// Redis has answered everything in this round.
    RedisAnswered,
    AddUp,
    Publish {
        stored_until_ms: Option<u64>,
    },
}

pub(super) struct Schedule {
    period: Duration,
    round_due: Instant,
    slow_due: Instant,
    steps: VecDeque<RoundStep>,
    /// The step whose input is awaited.
    current: Option<RoundStep>,
}

impl Schedule {
    pub(super) fn new(now: Instant, period: Duration) -> Self {
        Self { period, round_due: now, slow_due: now, steps: VecDeque::new(), current: None }
    }

    /// The next step. Between two rounds there is none until the time that is returned instead.
    pub(super) fn next(&mut self, now: Instant, shards: usize) -> Result<RoundStep, Instant> {
        if self.steps.is_empty() {
            if now < self.round_due {
                return Err(self.round_due);
            }
            // Counted from now, so that a late round is not made up for.
            self.round_due = now + self.period;
            self.steps.extend([RoundStep::CheckSchema, RoundStep::ReadRanking]);
            for shard in 0..shards {
                self.steps
                    .extend([RoundStep::Follow { shard, looks_left: LOOKS_MAX - 1 }, RoundStep::CopyFence { shard }]);
            }
            if now >= self.slow_due {
                self.steps.push_back(RoundStep::ReadActivity);
            }
            self.steps.extend([RoundStep::RedisAnswered, RoundStep::AddUp]);
        }
        Ok(self.steps.pop_front().expect("a round has steps"))
    }

    /// An action was asked for by this step.
    pub(super) fn await_input(&mut self, step: RoundStep) {
        self.current = Some(step);
    }

    /// The step that an input belongs to.
    pub(super) fn take_current(&mut self) -> Option<RoundStep> {
        self.current.take()
    }

    /// Does these steps before the others.
    pub(super) fn insert(&mut self, steps: impl IntoIterator<IntoIter: DoubleEndedIterator<Item = RoundStep>>) {
        for step in steps.into_iter().rev() {
            self.steps.push_front(step);
        }
    }

    /// What Redis says of the processes was read: the conservation check is made at the same pace.
    pub(super) fn activity_read(&mut self, now: Instant, silent: Vec<Report>) {
        self.slow_due = now + SLOW_PERIOD;
        self.insert([RoundStep::CheckConservation { tries_left: CHECKS_MAX - 1 }]);
        self.insert(silent.into_iter().map(RoundStep::ForgetPresence));
    }

    /// Redis cannot be read: nothing else is asked of it in this round. It may be down because everything is, so MySQL is
    /// asked whether it is there.
    pub(super) fn skip_redis(&mut self, now: Instant, shards: usize) {
        self.slow_due = now;
        self.steps.clear();
        self.steps.extend((0..shards).map(|shard| RoundStep::ReadFence { shard, looks_left: 0 }));
        self.steps.push_back(RoundStep::AddUp);
    }

    /// Whether something that was done last at this time may be done again, if nobody needs to see it several times a second.
    pub(super) fn is_slow_due(now: Instant, last: Instant) -> bool {
        now - last >= SLOW_PERIOD
    }
}
