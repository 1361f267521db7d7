//! What must hold in every state, and what must happen in some.

use stateright::Property;

use crate::Protocol;
use crate::healing::{Stop, heal};
use crate::state::{Batches, Flusher, PRODUCERS, Path, Server, State, batches};

/// The properties of a run, fewer where its bounds leave out what they speak of.
pub(crate) fn properties(protocol: &Protocol) -> Vec<Property<Protocol>> {
    let bounds = &protocol.bounds;
    let mut properties = vec![
        Property::always("I1 MySQL holds a prefix of every producer and path, up to its fence", |_, state: &State| {
            (0..PRODUCERS).all(|p| prefixes(state, p))
        }),
        Property::always(
            "I2 no batch is counted twice, nor will be by what may be flushed",
            |protocol: &Protocol, state: &State| once(protocol, state),
        ),
        Property::always(
            "I3 what is acknowledged is counted, or in open Redis, or in a journal",
            |_, state: &State| state.was_restored || (0..PRODUCERS).all(|p| kept(state, p)),
        ),
        Property::always("I4 readers = number of reader rows", |_, state: &State| {
            state.mysql.readers == u8::from(state.mysql.has_row)
        }),
        Property::always("I5 epoch and generation never go back", |_, state: &State| {
            state.was_restored || (state.mysql.epoch, state.mysql.generation) == state.highest
        }),
        Property::always("I6 one server at most is open under an epoch", |_, state: &State| {
            let [a, b] = &state.servers;
            state.was_restored || !(a.is_open() && b.is_open() && a.epoch == b.epoch)
        }),
        Property::always("I7 what a flusher read is what was sealed", |_, state: &State| {
            state.was_restored || state.flushers.iter().all(|flusher| as_sealed(state, flusher))
        }),
        Property::always("I9 views = sum of the fences", |_, state: &State| {
            let fences: u8 = state.mysql.producers.iter().chain(&state.mysql.direct).sum();
            state.mysql.views() == fences
        }),
        Property::always("Nobody has to stop, unless MySQL went back", |_, state: &State| !state.alarm),
        Property::always("Healed, everything acknowledged is counted once", |protocol: &Protocol, state: &State| {
            (0..protocol.bounds.servers).all(|server| heals(protocol, state, server))
        }),
        Property::sometimes("everything is counted", |protocol: &Protocol, state: &State| {
            (0..PRODUCERS).all(|p| {
                state.mysql.producers[p] == protocol.bounds.batches[p]
                    && state.mysql.direct[p] == protocol.bounds.direct[p]
            })
        }),
    ];
    if bounds.reader {
        properties.extend([
            Property::always("I8 a valid cached value = MySQL + what waits", |_, state: &State| {
                (0..state.servers.len()).all(|server| cached_is_true(state, server))
            }),
            Property::always("I8 an answer = MySQL + what waits", |_, state: &State| !state.wrong_answer),
            Property::sometimes("a value with views is cached", |_, state: &State| {
                state.servers.iter().any(|server| server.is_open() && server.cached > Some(0))
            }),
        ]);
    }
    if bounds.servers > 1 {
        properties.push(Property::sometimes("an overtaken server is open", |_, state: &State| {
            state.servers.iter().all(|server| server.is_open())
        }));
    }
    if bounds.faults.kills > 0 {
        properties.push(Property::sometimes("an adopter finished", |_, state: &State| {
            state
                .producers
                .iter()
                .any(|producer| producer.is_adopted && producer.redis.built > 0 && producer.redis.retained.is_empty())
        }));
    }
    if bounds.faults.restores > 0 {
        properties.push(Property::sometimes("MySQL went back behind a flush", |_, state: &State| {
            state.was_restored && state.mysql.generation < state.highest.1
        }));
    }
    properties
}

fn prefixes(state: &State, p: usize) -> bool {
    let mysql = &state.mysql;
    batches().filter(|&(producer, _)| producer == p).all(|(_, number)| {
        mysql.counted.count(p, number) == u8::from(number <= mysql.producers[p])
            && mysql.counted_directly.count(p, number) == u8::from(number <= mysql.direct[p])
    })
}

fn once(protocol: &Protocol, state: &State) -> bool {
    let counted = |p: usize, number| {
        // Who builds no batches for the direct path can only have moved them there, with their numbers.
        let is_moved = protocol.bounds.direct[p] == 0;
        let moved = if is_moved { state.mysql.counted_directly.count(p, number) } else { 0 };
        state.mysql.counted.count(p, number) + moved
    };
    // After MySQL went back an epoch may begin twice, and only the producers' fences stand between.
    let may_flush = |server: &&Server| server.is_open() && server.epoch == state.mysql.epoch && !state.was_restored;
    let mut pending = Batches::default();
    for server in state.servers.iter().filter(may_flush) {
        pending.add_all(server.pending_above(state.mysql.generation));
    }
    batches().all(|(p, number)| counted(p, number) + pending.count(p, number) <= 1)
}

fn kept(state: &State, p: usize) -> bool {
    let producer = &state.producers[p];
    let waits = |number| {
        let current = state.servers.iter().filter(|server| server.is_open() && server.epoch == state.mysql.epoch);
        current.map(|server| server.pending_above(state.mysql.generation)).any(|batches| batches.count(p, number) > 0)
    };
    let is_kept = |path: &Path, number| path.retained.contains(number) || path.journal.contains(number);
    let on_redis_path = producer
        .redis
        .acknowledged
        .iter()
        .all(|number| number <= state.mysql.producers[p] || is_kept(&producer.redis, number) || waits(number));
    let on_direct_path = producer
        .direct
        .acknowledged
        .iter()
        .all(|number| number <= state.mysql.direct[p] || is_kept(&producer.direct, number));
    on_redis_path && on_direct_path
}

fn as_sealed(state: &State, flusher: &Flusher) -> bool {
    let (Flusher::Read { epoch, generation, batches } | Flusher::Writing { epoch, generation, batches, .. }) = flusher
    else {
        return true;
    };
    let holds = |server: &&Server| {
        server.is_open() && server.epoch == *epoch && (server.first..server.open).contains(generation)
    };
    state.servers.iter().filter(holds).all(|server| server.logs[usize::from(*generation)] == *batches)
}

impl State {
    /// What a reader is to be told, if the server's cached values are valid in MySQL's eyes.
    pub(crate) fn live_views(&self, server: usize) -> Option<u8> {
        let server = &self.servers[server];
        let is_valid = server.is_open() && server.epoch == self.mysql.epoch && server.version == self.mysql.version;
        is_valid.then(|| self.mysql.views() + server.pending_above(self.mysql.generation).views())
    }
}

fn cached_is_true(state: &State, server: usize) -> bool {
    let cached = state.servers[server].cached;
    let waiting = state.servers[server].pending_above(0).views();
    cached.zip(state.live_views(server)).is_none_or(|(views, truth)| views + waiting == truth)
}

/// Whether a state, left alone with this server, counts everything that was acknowledged, and nothing twice. After MySQL
/// went back it may stop instead; if Redis may have lost something as well, nobody can know what MySQL lost.
fn heals(protocol: &Protocol, state: &State, server: usize) -> bool {
    let healed = match heal(&protocol.rules, state, server) {
        Ok(healed) => healed,
        Err(Stop::Alarm | Stop::Stuck) => return state.was_restored,
    };
    let must_be_complete = !state.was_restored || protocol.bounds.redis_keeps_everything();
    batches().all(|(p, number)| {
        let (before, mysql) = (&state.producers[p], &healed.mysql);
        let is_right = |path: &Path, count: u8| {
            let is_expected = path.acknowledged.contains(number) || path.retained.contains(number);
            count <= 1 && (count == 1 || !is_expected || !must_be_complete)
        };
        is_right(&before.redis, mysql.counted.count(p, number))
            && is_right(&before.direct, mysql.counted_directly.count(p, number))
    })
}
