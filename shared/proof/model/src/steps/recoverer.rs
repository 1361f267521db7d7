//! Recoverers: look, compare, begin an epoch, reopen.

use crate::Protocol;
use crate::replies::Ticket;
use crate::state::{Recoverer, State};

/// A step of a recoverer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecovererStep {
    /// STATE.
    See {
        /// Where.
        server: usize,
        /// Whether its data do not add up, and are to be set aside.
        discard: bool,
    },
    /// It reads the fence, and decides; PROBE, if there is an epoch to begin.
    Compare {
        /// Where it probes.
        server: usize,
    },
    /// NEXT_EPOCH.
    Begin,
    /// REOPEN.
    Reopen {
        /// Where.
        server: usize,
    },
    /// It is killed, or gives up.
    Stop,
}

impl Protocol {
    pub(super) fn recoverer_steps(&self, state: &State, r: usize, mut add: impl FnMut(RecovererStep)) {
        match state.recoverers[r] {
            Recoverer::Idle => {
                for server in self.servers() {
                    add(RecovererStep::See { server, discard: false });
                    if state.faults.discards > 0 {
                        add(RecovererStep::See { server, discard: true });
                    }
                }
                return;
            }
            Recoverer::Saw(_) => self.servers().for_each(|server| add(RecovererStep::Compare { server })),
            Recoverer::Compared { .. } | Recoverer::Reopened { .. } => add(RecovererStep::Begin),
            Recoverer::Begun { .. } => self.servers().for_each(|server| add(RecovererStep::Reopen { server })),
            Recoverer::Refused(_) => {
                self.servers().for_each(|server| add(RecovererStep::See { server, discard: false }));
            }
        }
        add(RecovererStep::Stop);
    }

    pub(super) fn recover(&self, state: &mut State, r: usize, step: RecovererStep) {
        let rules = &self.rules;
        let State { servers, mysql, faults, .. } = state;
        let next = match (step, state.recoverers[r]) {
            (
                RecovererStep::See { server, .. }
                | RecovererStep::Compare { server }
                | RecovererStep::Reopen { server },
                _,
            ) if servers[server].is_away => {
                return; // It is sent on, and then is as if it had asked there.
            }
            (RecovererStep::See { server, discard }, Recoverer::Idle) => {
                let sight = servers[server].sight(discard);
                // A look at a data set that is well ends where it began, and if that changes, a later look shows it.
                if !discard && sight.is_open && sight.epoch == mysql.epoch && sight.first <= mysql.position + 1 {
                    return;
                }
                faults.discards -= u8::from(discard);
                Recoverer::Saw(sight)
            }
            (RecovererStep::See { server, .. }, Recoverer::Refused(ticket)) => {
                let sight = servers[server].sight(false);
                if mysql.is_older_than(rules, &sight) {
                    state.raise_alarm();
                    Recoverer::Idle
                } else if (mysql.epoch, mysql.position) != (ticket.epoch, ticket.position) || sight.epoch == mysql.epoch
                {
                    Recoverer::Idle
                } else {
                    Recoverer::Begun { sight, ticket }
                }
            }
            (RecovererStep::Compare { server }, Recoverer::Saw(sight)) => {
                let epoch = mysql.epoch;
                let is_well = sight.is_open && sight.epoch == epoch && !sight.discard;
                let would_refuse = || rules.probe_before_epoch && !servers[server].probe(&sight);
                if mysql.is_older_than(rules, &sight) {
                    state.raise_alarm();
                    Recoverer::Idle
                } else if is_well || would_refuse() {
                    Recoverer::Idle
                } else if rules.epoch_before_reopen {
                    let fence = (!rules.fence_is_read_under_lock).then(|| mysql.ticket());
                    Recoverer::Compared { sight, epoch, fence }
                } else {
                    Recoverer::Begun { sight, ticket: Ticket { epoch: epoch + 1, ..mysql.ticket() } }
                }
            }
            (RecovererStep::Begin, before) => {
                if self.is_locked(state) || state.mysql.epoch >= self.bounds.epochs {
                    return;
                }
                let next = self.begin_epoch(state, before);
                state.highest.0 = state.highest.0.max(state.mysql.epoch);
                next
            }
            (RecovererStep::Reopen { server }, before @ Recoverer::Begun { sight, ticket }) => {
                let is_done = servers[server].reopen(rules, &sight, &ticket);
                if !servers[server].is_writable() {
                    self.give_up(state)
                } else if !rules.epoch_before_reopen {
                    Recoverer::Reopened { epoch: ticket.epoch - 1 }
                } else if !is_done {
                    Recoverer::Refused(ticket)
                } else if rules.reopen_once {
                    Recoverer::Idle
                } else {
                    before
                }
            }
            (RecovererStep::Stop, Recoverer::Begun { .. } | Recoverer::Refused(_)) => self.give_up(state),
            (RecovererStep::Stop, _) => Recoverer::Idle,
            _ => return,
        };
        state.recoverers[r] = next;
    }

    /// Nobody opens the epoch any more that it has begun.
    fn give_up(&self, state: &mut State) -> Recoverer {
        state.given_up += u8::from(self.bounds.counts_epochs());
        Recoverer::Idle
    }

    fn begin_epoch(&self, state: &mut State, recoverer: Recoverer) -> Recoverer {
        let rules = &self.rules;
        match recoverer {
            Recoverer::Compared { sight, epoch, fence } => {
                if rules.next_epoch_halts_too && state.mysql.is_older_than(rules, &sight) {
                    state.raise_alarm();
                    return Recoverer::Idle;
                }
                let ticket = state.mysql.next_epoch(rules, epoch);
                ticket.map_or(Recoverer::Idle, |ticket| {
                    let ticket = fence.map_or(ticket, |fence| Ticket { epoch: ticket.epoch, ..fence });
                    Recoverer::Begun { sight, ticket }
                })
            }
            Recoverer::Reopened { epoch } => {
                state.mysql.next_epoch(rules, epoch);
                Recoverer::Idle
            }
            other => other,
        }
    }
}
