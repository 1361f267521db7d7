//! Readers, and what else happens to cached bases.

use crate::Protocol;
use crate::replies::{Base, Fill};
use crate::state::State;

/// A step of a reader, or of what keeps the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReaderStep {
    /// FOLLOW with the article's base; if it is cached, a client is answered.
    Follow {
        /// Where.
        server: usize,
    },
    /// After a miss it reads the article from MySQL.
    ReadStore,
    /// FILL.
    Fill {
        /// Where.
        server: usize,
    },
    /// Somebody tells a server the version that MySQL has.
    RaiseVersion {
        /// Where.
        server: usize,
    },
    /// The cached base runs out.
    Expire {
        /// Where.
        server: usize,
    },
}

impl Protocol {
    pub(super) fn reader_steps(&self, r: usize, mut add: impl FnMut(ReaderStep)) {
        add(ReaderStep::ReadStore);
        for server in self.servers() {
            add(ReaderStep::Follow { server });
            add(ReaderStep::Fill { server });
            if r == 0 {
                add(ReaderStep::RaiseVersion { server });
                add(ReaderStep::Expire { server });
            }
        }
    }

    pub(super) fn read(&self, state: &mut State, r: usize, step: ReaderStep) {
        match step {
            ReaderStep::Follow { server } => {
                if state.readers[r].follower.follow(&self.rules, &state.servers[server])
                    && let Some(base) = state.servers[server].base
                {
                    self.answer(state, r, server, base);
                }
            }
            ReaderStep::ReadStore => {
                let mysql = &state.mysql;
                let base = Base { position: mysql.position, counted: mysql.counted };
                state.readers[r].fill = Some(Fill { epoch: mysql.epoch, version: mysql.version, base });
            }
            ReaderStep::Fill { server } => {
                if let Some(value) = state.readers[r].fill.take() {
                    state.servers[server].fill(&self.rules, &value);
                }
            }
            ReaderStep::RaiseVersion { server } => {
                let server = &mut state.servers[server];
                if server.is_open() && server.epoch == state.mysql.epoch {
                    server.raise_version(state.mysql.version);
                }
            }
            ReaderStep::Expire { server } => state.servers[server].base = None,
        }
    }

    /// The base with what the follower has behind it. Only a server that is current in MySQL's eyes must be right about
    /// what is not counted yet; no server may make anybody count a batch twice.
    fn answer(&self, state: &mut State, r: usize, server: usize, base: Base) {
        let log = &state.readers[r].follower.log;
        let behind = if self.rules.read_adds_behind_base { base.position } else { 0 };
        let answer = base.counted.plus(log.batches_behind(behind));
        let is_partial = self.rules.read_says_partial && log.tail < state.servers[server].log.tail;
        let is_right = match state.live_views(server) {
            Some(truth) if is_partial => answer.is_part_of(truth),
            Some(truth) => answer == truth,
            None => answer.is_once_each(),
        };
        state.wrong_answer |= !is_right && !state.was_restored;
    }
}
