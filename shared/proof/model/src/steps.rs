//! What each actor may do next, one step at a time. Between two steps of an actor anything may happen, so what it
//! holds may be out of date; the scripts and transactions that it calls, with the rules that guard them, are in
//! [`crate::server`] and [`crate::mysql`]. A request may reach any server: a client that connects again may find another one, and an old
//! server may go on answering.

mod faults;
mod flusher;
mod ingest;
mod reader;
mod recoverer;

use std::ops::Range;

pub use faults::FaultStep;
pub use flusher::FlusherStep;
pub use ingest::IngestStep;
pub use reader::ReaderStep;
pub use recoverer::RecovererStep;

use crate::Protocol;
use crate::state::State;

/// One step. Actors and servers are named by their place in [`State`]; those of a kind are interchangeable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Of an ingest process, of what it has sent, or of its adopter.
    Ingest(usize, IngestStep),
    /// Of a flusher.
    Flusher(usize, FlusherStep),
    /// Of a recoverer.
    Recoverer(usize, RecovererStep),
    /// Of a reader.
    Reader(usize, ReaderStep),
    /// A fault.
    Fault(FaultStep),
}

impl Protocol {
    /// Adds every step that may be possible.
    pub(crate) fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        for p in 0..state.producers.len() {
            self.ingest_steps(state, p, |step| steps.push(Step::Ingest(p, step)));
        }
        for f in 0..self.bounds.flushers {
            self.flusher_steps(state, f, |step| steps.push(Step::Flusher(f, step)));
        }
        for r in 0..self.bounds.recoverers {
            self.recoverer_steps(state, r, |step| steps.push(Step::Recoverer(r, step)));
        }
        for r in 0..self.bounds.readers {
            self.reader_steps(r, |step| steps.push(Step::Reader(r, step)));
        }
        self.fault_steps(state, |fault| steps.push(Step::Fault(fault)));
    }

    /// Takes a step. One that is not possible, or refused, changes nothing.
    pub(crate) fn take(&self, state: &mut State, step: Step) {
        match step {
            Step::Ingest(p, step) => self.ingest(state, p, step),
            Step::Flusher(f, step) => self.flush(state, f, step),
            Step::Recoverer(r, step) => self.recover(state, r, step),
            Step::Reader(r, step) => self.read(state, r, step),
            Step::Fault(fault) => self.fail(state, fault),
        }
    }

    fn servers(&self) -> Range<usize> {
        0..self.bounds.servers
    }
}
