//! Flushers: look, seal, read, commit, acknowledge.

use crate::Protocol;
use crate::state::{Flusher, State};
use crate::stores::Fence;

/// A step of a flusher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlusherStep {
    /// STATE.
    Look {
        /// Where.
        server: usize,
    },
    /// SEAL.
    Seal {
        /// Where.
        server: usize,
    },
    /// It reads the oldest sealed generation.
    Read {
        /// Where.
        server: usize,
    },
    /// It begins its transaction: the fence row is locked and compared.
    Begin,
    /// MySQL commits its transaction.
    Commit {
        /// Whether the reply arrives.
        is_answered: bool,
    },
    /// ACK.
    Acknowledge {
        /// Where.
        server: usize,
    },
    /// It is killed, or gives up; its transaction is rolled back.
    Stop,
}

impl Protocol {
    pub(super) fn flusher_steps(&self, state: &State, f: usize, mut add: impl FnMut(FlusherStep)) {
        match state.flushers[f] {
            Flusher::Idle => return self.servers().for_each(|server| add(FlusherStep::Look { server })),
            Flusher::Looked { .. } => self.servers().for_each(|server| add(FlusherStep::Seal { server })),
            Flusher::Sealed { .. } => self.servers().for_each(|server| add(FlusherStep::Read { server })),
            Flusher::Read { .. } => add(FlusherStep::Begin),
            Flusher::Writing { .. } => {
                [true, false].into_iter().for_each(|is_answered| add(FlusherStep::Commit { is_answered }));
            }
            Flusher::Committed { .. } => self.servers().for_each(|server| add(FlusherStep::Acknowledge { server })),
        }
        add(FlusherStep::Stop);
    }

    pub(super) fn flush(&self, state: &mut State, f: usize, step: FlusherStep) {
        let rules = &self.rules;
        let servers = &mut state.servers;
        let next = match (step, state.flushers[f]) {
            (FlusherStep::Look { server }, Flusher::Idle) => {
                let server = &servers[server];
                let has_work = server.is_open() && !server.pending_above(0).is_empty();
                if has_work { Flusher::Looked { epoch: server.epoch, open: server.open } } else { Flusher::Idle }
            }
            (FlusherStep::Seal { server }, Flusher::Looked { epoch, open }) => {
                let oldest = servers[server].seal(epoch, open);
                oldest.map_or(Flusher::Idle, |generation| Flusher::Sealed { epoch, generation })
            }
            (FlusherStep::Read { server }, Flusher::Sealed { epoch, generation }) => {
                match servers[server].sealed(rules, epoch, generation) {
                    Some(batches) if batches.is_empty() => {
                        state.raise_alarm();
                        Flusher::Idle
                    }
                    Some(batches) => Flusher::Read { epoch, generation, batches },
                    None => Flusher::Idle,
                }
            }
            (FlusherStep::Begin, Flusher::Read { epoch, generation, batches }) => {
                if self.is_locked(state) {
                    return; // It waits.
                }
                match state.mysql.fence(rules, epoch, generation, batches) {
                    Fence::Write => Flusher::Writing { epoch, generation, batches, is_new: !state.mysql.has_row },
                    Fence::Before => Flusher::Committed { epoch, generation, growth: None },
                    Fence::Fenced => Flusher::Idle,
                    Fence::Hole => {
                        state.raise_alarm();
                        Flusher::Idle
                    }
                }
            }
            (FlusherStep::Commit { is_answered }, Flusher::Writing { epoch, generation, batches, is_new }) => {
                state.mysql.commit(epoch, generation, batches, is_new);
                state.highest.1 = state.highest.1.max(generation);
                if is_answered {
                    Flusher::Committed { epoch, generation, growth: Some(batches.views()) }
                } else {
                    // An unknown outcome is answered by running the transaction again: the fence knows.
                    Flusher::Read { epoch, generation, batches }
                }
            }
            (FlusherStep::Acknowledge { server }, Flusher::Committed { epoch, generation, growth }) => {
                servers[server].acknowledge(rules, epoch, generation, growth);
                Flusher::Idle
            }
            (FlusherStep::Stop, _) => Flusher::Idle,
            _ => return,
        };
        state.flushers[f] = next;
    }

    /// Whether a transaction holds the fence row.
    pub(super) fn is_locked(&self, state: &State) -> bool {
        state.is_flush_writing() || self.rules.direct_locks && state.direct.is_some()
    }
}
