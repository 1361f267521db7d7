//! Ingest: number, journal, send, receive, release; on both paths. What was sent may be executed at any later time, and
//! more than once: that is what a slow network, a lost reply and a repeat come to.

use crate::Protocol;
use crate::Rules;
use crate::log::NUMBERS;
use crate::mysql::DirectDecision;
use crate::state::{Direct, EPOCHS, Producer, State};

/// A step of an ingest process, of what it has sent, or of its adopter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngestStep {
    /// It numbers a batch on the Redis path, and appends it to the journal.
    Build,
    /// It numbers a batch on the direct path, and appends it to the journal.
    BuildDirectly,
    /// It fsyncs its journal, and acknowledges what is in it.
    Fsync,
    /// It learns the epoch of a server, and registers there.
    Register {
        /// Where.
        server: usize,
    },
    /// It sends its next batch under the epoch that it knows.
    Send,
    /// A server executes an APPLY that was sent.
    Apply {
        /// The epoch in the request.
        epoch: u8,
        /// The number of the batch.
        number: u8,
        /// Where.
        server: usize,
    },
    /// The reply to APPLY arrives; the client is acknowledged.
    Receive,
    /// A reply of a server tells `first`; batches before it are let go, because MySQL has them.
    Release {
        /// Whose.
        server: usize,
    },
    /// It sends a direct transaction with its next batch.
    SendDirectly,
    /// MySQL begins a direct transaction that was sent; if it has the batch, that is the confirmation.
    BeginDirect {
        /// The number of the batch.
        number: u8,
    },
    /// MySQL commits the direct transaction. The reply is lost: a repeat confirms.
    CommitDirect,
    /// The connection of the direct transaction broke.
    RollBackDirect,
    /// Only where a rule is off: it gives Redis up, and moves a batch to the direct path.
    MoveToDirect,
}

/// APPLY requests as members of a set: by epoch, then number.
fn request(epoch: u8, number: u8) -> u8 {
    (epoch - 1) * NUMBERS as u8 + number
}

impl Protocol {
    pub(super) fn ingest_steps(&self, state: &State, p: usize, mut add: impl FnMut(IngestStep)) {
        let (bounds, producer) = (&self.bounds, &state.producers[p]);
        if bounds.journal {
            // Nothing new is numbered under a dead producer's name.
            if !producer.is_adopted && producer.redis.built < bounds.batches[p] {
                add(IngestStep::Build);
            }
            if !producer.is_adopted && producer.direct.built < bounds.direct[p] {
                add(IngestStep::BuildDirectly);
            }
            add(IngestStep::Fsync);
        }
        if producer.redis.built > 0 {
            for server in self.servers() {
                add(IngestStep::Register { server });
                add(IngestStep::Release { server });
            }
            add(IngestStep::Send);
            add(IngestStep::Receive);
        }
        for (epoch, number) in (1..=EPOCHS).flat_map(|epoch| (1..=NUMBERS as u8).map(move |number| (epoch, number))) {
            if producer.sent.contains(request(epoch, number)) {
                self.servers().for_each(|server| add(IngestStep::Apply { epoch, number, server }));
            }
        }
        if !producer.direct.retained.is_empty() {
            add(IngestStep::SendDirectly);
        }
        producer.sent_directly.iter().for_each(|number| add(IngestStep::BeginDirect { number }));
        if state.direct.is_some_and(|direct| direct.producer == p) {
            add(IngestStep::CommitDirect);
            add(IngestStep::RollBackDirect);
        }
        if !self.rules.paths_are_kept && bounds.direct[p] == 0 {
            add(IngestStep::MoveToDirect);
        }
    }

    pub(super) fn ingest(&self, state: &mut State, p: usize, step: IngestStep) {
        let rules = &self.rules;
        let State { servers, producers, .. } = state;
        let producer = &mut producers[p];
        match step {
            IngestStep::Build | IngestStep::BuildDirectly => {
                let path = if step == IngestStep::Build { &mut producer.redis } else { &mut producer.direct };
                let number = path.build();
                if rules.journal_before_send {
                    path.journal.insert(number);
                }
                if !rules.fsync_before_acknowledge {
                    path.acknowledged.insert(number);
                }
            }
            IngestStep::Fsync => {
                for path in [&mut producer.redis, &mut producer.direct] {
                    path.synced = path.journal;
                    path.acknowledged.unite(path.journal);
                }
            }
            IngestStep::Register { server } => {
                let server = &mut servers[server];
                let is_due = server.epoch != producer.epoch || server.is_behind(p, producer.next());
                if server.is_open() && is_due {
                    let last = server.register(p);
                    producer.registered(rules, server.epoch, last, server.log.tail);
                }
            }
            IngestStep::Send => {
                if let Some(number) = producer.next().filter(|_| producer.epoch > 0) {
                    producer.sent.insert(request(producer.epoch, number));
                }
            }
            IngestStep::Apply { epoch, number, server } => {
                let tail = servers[server].apply(rules, epoch, p, number);
                // The reply to a request that the sender has given up reaches nobody.
                if let Some(tail) = tail.filter(|_| producer.epoch == epoch && producer.next() == Some(number)) {
                    producer.reply = tail;
                }
            }
            IngestStep::Receive => {
                if producer.reply > 0 {
                    producer.applied(rules, producer.reply);
                }
            }
            IngestStep::Release { server } => {
                let server = &servers[server];
                if server.is_open() && server.epoch == producer.epoch {
                    producer.flushed(server.log.first);
                }
            }
            IngestStep::SendDirectly => {
                if let Some(number) = producer.next_direct() {
                    producer.sent_directly.insert(number);
                }
            }
            IngestStep::BeginDirect { number } => self.begin_direct(state, p, number),
            IngestStep::CommitDirect => {
                if let Some(Direct { number, is_new, .. }) = state.direct.take() {
                    state.mysql.commit_directly(rules, p, number, is_new);
                }
            }
            IngestStep::RollBackDirect => state.direct = None,
            IngestStep::MoveToDirect => {
                if let Some(number) = producer.next() {
                    producer.redis.release(number);
                    producer.redis.acknowledged.remove(number);
                    producer.direct.retained.insert(number);
                    producer.direct.journal.insert(number);
                }
            }
        }
    }

    fn begin_direct(&self, state: &mut State, p: usize, number: u8) {
        if state.direct.is_some() || self.rules.direct_locks && state.is_flush_writing() {
            return; // It waits.
        }
        match state.mysql.direct_fence(&self.rules, p, number) {
            DirectDecision::Write => {
                state.direct = Some(Direct { producer: p, number, is_new: !state.mysql.has_row });
            }
            DirectDecision::Before => state.producers[p].confirmed(number),
            DirectDecision::Hole => state.raise_alarm(),
        }
    }
}

/// What a producer does with the replies.
impl Producer {
    /// To REGISTER: the producer's `last`, and the tail.
    pub(crate) fn registered(&mut self, rules: &Rules, epoch: u8, last: u8, tail: u8) {
        (self.epoch, self.reply) = (epoch, 0);
        for (number, mark) in (1..).zip(&mut self.marks) {
            // An older data set may hold it at another position than the reply of the time said, or not at all.
            if !self.redis.retained.contains(number) {
                *mark = 0;
            } else if rules.marks_end_with_epoch {
                *mark = if number <= last { tail } else { 0 };
            }
        }
    }

    /// To APPLY of the next batch: Redis has it, at a position up to `tail`.
    pub(crate) fn applied(&mut self, rules: &Rules, tail: u8) {
        self.reply = 0;
        let Some(number) = self.next() else { return };
        self.marks[usize::from(number) - 1] = tail;
        self.redis.acknowledged.insert(number);
        if !rules.retained_until_first {
            self.redis.release(number);
        }
    }

    /// To anything: MySQL has all entries before `first` (I3).
    pub(crate) fn flushed(&mut self, first: u8) {
        for (number, mark) in (1..).zip(&mut self.marks) {
            if *mark > 0 && *mark < first {
                *mark = 0;
                self.redis.release(number);
            }
        }
    }

    /// To a direct transaction: MySQL has it.
    pub(crate) fn confirmed(&mut self, number: u8) {
        if self.direct.retained.contains(number) {
            self.direct.release(number);
            self.direct.acknowledged.insert(number);
        }
    }

    /// Forgets what was sent, or is known, under an epoch that is over.
    pub(crate) fn forget(&mut self, is_over: impl Fn(u8) -> bool) {
        if self.epoch > 0 && is_over(self.epoch) {
            (self.epoch, self.marks, self.reply) = (0, [0; NUMBERS], 0);
        }
        for epoch in (1..=EPOCHS).filter(|&epoch| is_over(epoch)) {
            for number in 1..=NUMBERS as u8 {
                self.sent.remove(request(epoch, number));
            }
        }
    }
}
