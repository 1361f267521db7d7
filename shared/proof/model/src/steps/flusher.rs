//! Flushers: follow, commit, move the bases, trim.

use crate::Protocol;
use crate::mysql::FlushDecision;
use crate::server::Follower;
use crate::state::{Flusher, State};

/// A step of a flusher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlusherStep {
    /// FOLLOW: one more entry.
    Follow {
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
    /// ADVANCE.
    Advance {
        /// Where.
        server: usize,
    },
    /// ACK.
    Acknowledge {
        /// Where.
        server: usize,
    },
    /// It is killed, or gives up, or MySQL crashed; its transaction is rolled back.
    Stop,
}

impl Protocol {
    pub(super) fn flusher_steps(&self, state: &State, f: usize, mut add: impl FnMut(FlusherStep)) {
        match state.flushers[f] {
            Flusher::Idle => return self.servers().for_each(|server| add(FlusherStep::Follow { server })),
            Flusher::Following(_) => {
                self.servers().for_each(|server| add(FlusherStep::Follow { server }));
                if !self.rules.commit_before_trim {
                    self.servers().for_each(|server| add(FlusherStep::Acknowledge { server }));
                }
                add(FlusherStep::Begin);
            }
            Flusher::Writing { .. } => {
                [true, false].into_iter().for_each(|is_answered| add(FlusherStep::Commit { is_answered }));
            }
            Flusher::Committed { delta, .. } => {
                if delta.is_some() && self.bounds.readers > 0 {
                    self.servers().for_each(|server| add(FlusherStep::Advance { server }));
                }
                self.servers().for_each(|server| add(FlusherStep::Acknowledge { server }));
            }
        }
        add(FlusherStep::Stop);
    }

    pub(super) fn flush(&self, state: &mut State, f: usize, step: FlusherStep) {
        let rules = &self.rules;
        let servers = &mut state.servers;
        let next = match (step, state.flushers[f]) {
            (FlusherStep::Follow { server }, Flusher::Idle) => followed(Follower::default(), |follower| {
                follower.follow(rules, &servers[server]);
            }),
            (FlusherStep::Follow { server }, Flusher::Following(follower)) => followed(follower, |follower| {
                follower.follow(rules, &servers[server]);
            }),
            (FlusherStep::Begin, Flusher::Following(follower)) => {
                if self.is_locked(state) {
                    return; // It waits.
                }
                match state.mysql.fence(rules, &follower) {
                    FlushDecision::Write(from) => Flusher::Writing { follower, from, is_new: !state.mysql.has_row },
                    FlushDecision::Before => {
                        let Follower { epoch, log } = follower;
                        Flusher::Committed {
                            epoch,
                            from: log.first - 1,
                            last: log.tail,
                            delta: None,
                            are_bases_moved: false,
                        }
                    }
                    FlushDecision::Fenced => Flusher::Idle,
                    FlushDecision::Hole => {
                        state.raise_alarm();
                        Flusher::Idle
                    }
                }
            }
            (FlusherStep::Commit { is_answered }, Flusher::Writing { follower, from, is_new }) => {
                let delta = state.mysql.commit(&follower, from, is_new);
                state.highest.1 = state.highest.1.max(state.mysql.position);
                if is_answered {
                    let Follower { epoch, log } = follower;
                    Flusher::Committed { epoch, from, last: log.tail, delta: Some(delta), are_bases_moved: false }
                } else {
                    // An unknown outcome is answered by running the transaction again: the fence knows.
                    Flusher::Following(follower)
                }
            }
            (FlusherStep::Advance { server }, Flusher::Committed { epoch, from, last, delta: Some(delta), .. }) => {
                let are_bases_moved = servers[server].advance(rules, epoch, from, last, delta);
                Flusher::Committed { epoch, from, last, delta: Some(delta), are_bases_moved }
            }
            (FlusherStep::Acknowledge { server }, Flusher::Committed { epoch, last, are_bases_moved, .. }) => {
                servers[server].acknowledge(rules, epoch, last, are_bases_moved);
                Flusher::Idle
            }
            // Only where the order is wrong.
            (FlusherStep::Acknowledge { server }, before @ Flusher::Following(Follower { epoch, log })) => {
                servers[server].acknowledge(rules, epoch, log.tail, false);
                before
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

/// A flusher without an entry is idle: its next look may as well be its first.
fn followed(mut follower: Follower, follow: impl FnOnce(&mut Follower)) -> Flusher {
    follow(&mut follower);
    if follower.log.is_empty() { Flusher::Idle } else { Flusher::Following(follower) }
}
