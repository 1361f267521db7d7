//! The reader, whose look into the cache missed, and what else happens to cached values.

use crate::Protocol;
use crate::state::{Fill, MySql, State};

/// A step of the reader, or of what keeps the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReaderStep {
    /// It reads the article from MySQL.
    ReadStore,
    /// FILL.
    Fill {
        /// Where.
        server: usize,
    },
    /// A flusher tells a server the version that MySQL has.
    RaiseVersion {
        /// Where.
        server: usize,
    },
    /// The cached value runs out.
    Expire {
        /// Where.
        server: usize,
    },
}

impl Protocol {
    pub(super) fn reader_steps(&self, mut add: impl FnMut(ReaderStep)) {
        add(ReaderStep::ReadStore);
        for server in self.servers() {
            add(ReaderStep::Fill { server });
            add(ReaderStep::RaiseVersion { server });
            add(ReaderStep::Expire { server });
        }
    }

    pub(super) fn read(&self, state: &mut State, step: ReaderStep) {
        match step {
            ReaderStep::ReadStore => {
                let MySql { epoch, generation, version, .. } = state.mysql;
                state.fill = Some(Fill { epoch, generation, version, views: state.mysql.views() });
            }
            ReaderStep::Fill { server } => {
                let Some(value) = state.fill.take() else { return };
                let answer = state.servers[server].fill(&self.rules, &value);
                let truth = state.live_views(server);
                state.wrong_answer |= answer.zip(truth).is_some_and(|(answer, truth)| answer != truth);
            }
            ReaderStep::RaiseVersion { server } => {
                let server = &mut state.servers[server];
                if server.is_open() && server.epoch == state.mysql.epoch {
                    server.raise_version(state.mysql.version);
                }
            }
            ReaderStep::Expire { server } => state.servers[server].cached = None,
        }
    }
}
