//! Faults, as many as the bounds allow. That a server is empty or cannot be reached, that an actor stops for good, that
//! requests and replies are late or lost is no fault: it may happen at any time.

use crate::Protocol;
use crate::server::{REPLICA, Server};
use crate::state::{Flusher, State};

/// A fault, under the names of `footfall_proof::FaultStep`, with the server or the producer that the model has instead of
/// processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultStep {
    /// A server comes up with the data that a server (or itself) has now. For as long as nobody opens it, it is a copy
    /// that grows old.
    RedisRestart {
        /// Whose data.
        from: usize,
        /// Where they come up.
        to: usize,
    },
    /// FLUSHALL: the data are gone, the life of the server goes on.
    FlushAll {
        /// Where.
        server: usize,
    },
    /// An ingest process is killed; another one adopts its journal.
    Kill {
        /// Which producer.
        producer: usize,
    },
    /// An ingest host loses power; when it is back, its journal is adopted.
    PowerCut {
        /// Which producer.
        producer: usize,
    },
    /// The replica has caught up with its master: no fault.
    ReplicaFollows {
        /// The master.
        from: usize,
        /// The replica.
        to: usize,
    },
    /// The replica takes over with what it has; its former master is its replica from then on.
    FailOver {
        /// The former master.
        from: usize,
        /// The replica.
        to: usize,
    },
    /// The shard's slot moves to another master with all its keys.
    SlotMoved {
        /// Where it was.
        from: usize,
        /// Where it is.
        to: usize,
    },
    /// MySQL is backed up: no fault yet.
    BackUp,
    /// MySQL goes back to its backup.
    MysqlOlder,
}

impl Protocol {
    pub(super) fn fault_steps(&self, state: &State, mut add: impl FnMut(FaultStep)) {
        let faults = &state.faults;
        for to in self.servers() {
            if faults.copies > 0 {
                self.servers().for_each(|from| add(FaultStep::RedisRestart { from, to }));
            }
            if faults.wipes > 0 {
                add(FaultStep::FlushAll { server: to });
            }
        }
        for (from, to) in self.servers().flat_map(|from| self.servers().map(move |to| (from, to))) {
            let (master, other) = (&state.servers[from], &state.servers[to]);
            if self.bounds.replica && master.is_writable() && other.life == REPLICA {
                add(FaultStep::ReplicaFollows { from, to });
                if faults.fail_overs > 0 {
                    add(FaultStep::FailOver { from, to });
                }
            }
            if faults.moves > 0 && master.is_writable() && other.is_away {
                add(FaultStep::SlotMoved { from, to });
            }
        }
        for producer in 0..state.producers.len() {
            if faults.kills > 0 {
                add(FaultStep::Kill { producer });
            }
            if faults.power_losses > 0 {
                add(FaultStep::PowerCut { producer });
            }
        }
        if faults.restores > 0 {
            add(if state.backup.is_some() { FaultStep::MysqlOlder } else { FaultStep::BackUp });
        }
    }

    pub(super) fn fail(&self, state: &mut State, fault: FaultStep) {
        match fault {
            FaultStep::RedisRestart { from, to } => {
                state.servers[to] = Server { life: state.fresh_life(), ..state.servers[from] };
                state.faults.copies -= 1;
            }
            FaultStep::FlushAll { server } => {
                state.servers[server] = Server { life: state.servers[server].life, ..Server::default() };
                state.faults.wipes -= 1;
            }
            FaultStep::ReplicaFollows { from, to } => {
                state.servers[to] = Server { life: REPLICA, ..state.servers[from] };
            }
            FaultStep::FailOver { from, to } => {
                let before = state.servers[from].life;
                state.servers[to].life = state.fresh_life();
                state.servers[from].life = REPLICA;
                self.arrived(&mut state.servers[to], before);
                state.faults.fail_overs -= 1;
            }
            FaultStep::SlotMoved { from, to } => {
                let (before, life) = (state.servers[from].life, state.servers[to].life);
                state.servers[to] = Server { life, ..state.servers[from] };
                state.servers[from] = Server { life: before, is_away: true, ..Server::default() };
                self.arrived(&mut state.servers[to], before);
                state.faults.moves -= 1;
            }
            FaultStep::Kill { producer } => {
                state.die(producer);
                state.faults.kills -= 1;
            }
            FaultStep::PowerCut { producer: p } => {
                for path in [&mut state.producers[p].redis, &mut state.producers[p].direct] {
                    path.journal = path.synced;
                }
                state.die(p);
                state.faults.power_losses -= 1;
            }
            FaultStep::BackUp => state.backup = Some(state.mysql),
            FaultStep::MysqlOlder => {
                let Some(backup) = state.backup.take() else { return };
                // Every connection broke, and with it every open transaction.
                for flusher in &mut state.flushers {
                    if matches!(flusher, Flusher::Writing { .. }) {
                        *flusher = Flusher::Idle;
                    }
                }
                (state.mysql, state.direct, state.was_restored) = (backup, None, true);
                state.faults.restores -= 1;
            }
        }
    }

    /// Only where the rule is off: what was open on the server before is open here.
    fn arrived(&self, server: &mut Server, before: u8) {
        if !self.rules.incarnation_has_owner && server.incarnation == before {
            server.incarnation = server.life;
        }
    }
}

impl State {
    /// A producer's process is gone, and with it everything but its journal, which another one adopts.
    fn die(&mut self, p: usize) {
        let producer = &mut self.producers[p];
        for path in [&mut producer.redis, &mut producer.direct] {
            path.retained = path.journal;
        }
        (producer.is_adopted, producer.epoch, producer.marks, producer.reply) = (true, 0, Default::default(), 0);
    }
}
