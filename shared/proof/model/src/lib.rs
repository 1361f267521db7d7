//! A model of the counting protocol, and a proof by exhaustion: within stated [bounds](Bounds) every order in which its
//! steps can happen, with every fault at every place, is tried, and the [`invariants`] hold in every state.
//! Then each [rule](Rules) is switched off in turn, and every time an invariant breaks: no rule is there for nothing.
//!
//! ```text
//! cargo test --release -p footfall-model -- --nocapture                              the ordinary bounds
//! cargo test --release -p footfall-model -- --nocapture --ignored                    larger ones: some minutes
//! ```
//!
//! # What is modelled
//! One shard, with one article and one reader of it; a batch holds one view, and is known by producer, path and number.
//! - **Redis** ([`server::Server`]): up to two servers. A request may reach either at any time, so both may be in use at
//!   once: a fail-over, an old master that goes on answering, an empty server that takes its place. A copy that nobody
//!   opens grows old, and is what a restart with a lost tail, a stale replica or a restored dump come up with. In worlds of
//!   their own the second one is a replica, which is asked by mistake and may take over, or a master of a cluster to which
//!   the shard's slot moves, and back.
//! - **The log** ([`log::Log`]): a list, with the positions of its oldest and its newest entry beside it, as in Redis, so
//!   that a trim which forgets one of them is seen.
//! - **MySQL** ([`mysql::MySql`]): transactions are two steps, reading and then writing, under the lock of the fence row.
//!   It may crash in between, answer no COMMIT, and go back to an older backup.
//! - **Ingest** ([`state::Producer`]): two paths, a journal, a sender that may be registered under an epoch that is over.
//!   Killed, it is adopted at once. What it has ever sent on either path may be executed at any later time and again.
//! - **Flushers, recoverers, readers** ([`steps`]): what they hold between two steps may be out of date, and they may stop
//!   anywhere. One that holds still is a request that is late. Flushers and readers have the same [`server::Follower`].
//!
//! [`server`] and [`mysql`] have the scripts and transactions with their rules, [`healing`] what becomes of a state without
//! more faults: in *every* reached state, and for either server, that must end with everything acknowledged counted exactly
//! once (I10).
//!
//! A flusher moves the cached bases (ADVANCE) before it trims the log (ACK), in two scripts, because a base per article
//! takes time that a trim does not. What may come between them is what `advance_stops_fills` is for.
//!
//! # What is left out
//! - View ids, quarantine, poison, caps, time: leases, TTLs and triggers only decide when a step happens, and here any step
//!   may happen at any time.
//! - Packing, folding and damaged bytes: a data set "that does not add up" is a look that says so ([`state::FaultBudget::discards`]).
//! - A call of FOLLOW that answers several entries: it is several calls with nothing in between.
//! - A producer's registration apart from learning the epoch.
//! - Articles that a flush does not touch: nothing moves their bases, and nothing needs to.
//! - `articles.views` = sum of its rows: one transaction adds to both. Readers are modelled, because they are counted by a
//!   look before the write (I4).
//! - MySQL and Redis both going back: what neither knows, nobody knows. Then only double counting is ruled out.
//!
//! # Rules that the model can not tell from their absence
//! They are kept in the protocol, and so here, because they make an error visible where it happens: APPLY refuses a gap
//! and an unknown producer (the sender makes neither within an epoch), ACK refuses a position behind the tail (nobody
//! flushes it), FILL keeps the newer of two bases (with the log behind it, either is right).

mod bounds;
pub mod healing;
pub mod invariants;
pub mod log;
pub mod mysql;
pub mod replies;
mod rules;
pub mod server;
pub mod state;
pub mod steps;

use stateright::{Model, Property};

pub use bounds::Bounds;
use log::Log;
use mysql::MySql;
pub use rules::Rules;
use server::{Follower, REPLICA, Server};
use state::{Flusher, Producer, Reader, SERVERS, State};
pub use steps::Step;

/// The position that MySQL is at in the beginning: 0 stands for none.
const START: u8 = 1;

/// The protocol, with some of its rules, in a bounded world.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// The rules that hold.
    pub rules: Rules,
    /// How large the world is.
    pub bounds: Bounds,
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut servers = [Server::default(); SERVERS];
        servers[0] = Server { life: 1, epoch: 1, incarnation: 1, log: Log::empty(START + 1), ..Server::default() };
        servers[1] = Server { life: 2, is_away: self.bounds.faults.moves > 0, ..Server::default() };
        let mut state = State {
            servers,
            mysql: MySql { epoch: 1, position: START, ..MySql::default() },
            backup: None,
            producers: std::array::from_fn(|p| self.producer(p)),
            flushers: Default::default(),
            recoverers: Default::default(),
            direct: None,
            readers: Default::default(),
            faults: self.bounds.faults,
            highest: (1, START),
            was_restored: false,
            alarm: false,
            wrong_answer: false,
            given_up: 0,
        };
        if self.bounds.loaded {
            self.load(&mut state);
        }
        if self.bounds.replica {
            state.servers[1] = Server { life: REPLICA, ..state.servers[0] };
        }
        self.sort(&mut state);
        vec![state]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        self.steps(state, steps);
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        self.take(&mut state, step);
        if state == *before {
            return None;
        }
        self.sort(&mut state);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        invariants::properties(self)
    }
}

impl Protocol {
    fn producer(&self, p: usize) -> Producer {
        let mut producer = Producer::default();
        if !self.bounds.journal {
            for (path, batches) in
                [(&mut producer.redis, self.bounds.batches[p]), (&mut producer.direct, self.bounds.direct[p])]
            {
                for _ in 0..batches {
                    let number = path.build();
                    path.journal.insert(number);
                    path.acknowledged.insert(number);
                }
            }
        }
        producer
    }

    /// The first server takes all batches.
    fn load(&self, state: &mut State) {
        let server = &mut state.servers[0];
        for (p, producer) in state.producers.iter_mut().enumerate() {
            let last = server.register(p);
            producer.registered(&self.rules, server.epoch, last, server.log.tail);
            while let Some(number) = producer.next() {
                let tail = server.apply(&self.rules, server.epoch, p, number).expect("it is open");
                producer.applied(&self.rules, tail);
            }
        }
    }

    /// States that no step can tell apart are one: those that differ only in which of several alike is which, or in
    /// what is known about an epoch that is over.
    fn sort(&self, state: &mut State) {
        self.forget(state);
        state.servers[..self.bounds.servers].sort_unstable();
        state.flushers[..self.bounds.flushers].sort_unstable();
        state.recoverers[..self.bounds.recoverers].sort_unstable();
        state.readers[..self.bounds.readers].sort_unstable();
    }

    /// Forgets what was meant for an epoch under which no server is open, nor ever will be: every server refuses it.
    fn forget(&self, state: &mut State) {
        let Rules { apply_checks_epoch, follow_checks_epoch, ack_checks_epoch, fill_checks_epoch, .. } = self.rules;
        let Rules { commit_checks_epoch, next_epoch_compares, epoch_before_reopen, reopen_once, .. } = self.rules;
        let is_refused = apply_checks_epoch && follow_checks_epoch && ack_checks_epoch && fill_checks_epoch;
        if !(is_refused && commit_checks_epoch && next_epoch_compares && epoch_before_reopen && reopen_once) {
            return; // Without the rule that refuses it, it may matter.
        }
        // Epochs after this one may begin again.
        let floor = state.backup.map_or(state.mysql.epoch, |backup| backup.epoch.min(state.mysql.epoch));
        let servers = state.servers;
        // A data set may come back to where it was opened.
        let may_be_open = |server: &Server| {
            let mut away = servers.iter().filter(|other| other.is_away);
            server.is_open() || server.has_data() && away.any(|other| other.life == server.incarnation)
        };
        let is_over =
            |epoch: u8| epoch <= floor && !servers.iter().any(|server| server.epoch == epoch && may_be_open(server));
        for producer in &mut state.producers {
            producer.forget(is_over);
        }
        for flusher in &mut state.flushers {
            let is_useless = match *flusher {
                Flusher::Idle => false,
                Flusher::Committed { epoch, .. } => is_over(epoch),
                Flusher::Following(Follower { epoch, .. })
                | Flusher::Writing { follower: Follower { epoch, .. }, .. } => epoch < floor && is_over(epoch),
            };
            if is_useless {
                *flusher = Flusher::Idle;
            }
        }
        for Reader { follower, fill } in &mut state.readers {
            if is_over(follower.epoch) {
                *follower = Follower::default();
            }
            *fill = fill.filter(|fill| {
                let mut own = servers.iter().filter(|server| server.admits(fill.epoch));
                own.all(|server| server.takes(&self.rules, fill)) && (fill.epoch >= floor || !is_over(fill.epoch))
            });
        }
    }
}
