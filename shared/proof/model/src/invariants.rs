//! What must hold in every state, and what must happen in some.

use footfall_proof::sentence;
use stateright::Property;

use crate::Protocol;
use crate::healing::{Stop, heal};
use crate::log::{Batch, Batches, Log, PRODUCERS};
use crate::replies::Base;
use crate::server::{Follower, Server};
use crate::state::{Flusher, Path, State};

/// Healing is always possible without a person (I10).
pub const NOBODY_STOPS: &str = concat!(sentence!(I10), " (nobody has to stop, unless MySQL went back)");
/// And it ends with everything counted (I10).
pub const HEALS: &str = concat!(sentence!(I10), " (whatever the state that is healed)");

/// What a change of the topology costs: whoever works well is not fenced.
pub const ONE_EPOCH_EACH: &str =
    "a fail-over and a slot that moves cost one epoch each, a replica that answers costs none";

/// The properties of a run, fewer where its bounds leave out what they speak of.
pub(crate) fn properties(protocol: &Protocol) -> Vec<Property<Protocol>> {
    let bounds = &protocol.bounds;
    let mut properties = vec![
        Property::always(sentence!(I1), |_, state: &State| {
            state.mysql.counted == Batches::up_to(state.mysql.producers, state.mysql.direct)
        }),
        Property::always(sentence!(I2), |protocol: &Protocol, state: &State| once(protocol, state)),
        Property::always(sentence!(I3), |_, state: &State| {
            state.was_restored || (0..PRODUCERS).all(|p| kept(state, p))
        }),
        Property::always(sentence!(I4), |_, state: &State| state.mysql.readers == u8::from(state.mysql.has_row)),
        Property::always(sentence!(I5), |_, state: &State| {
            state.was_restored || (state.mysql.epoch, state.mysql.position) == state.highest
        }),
        Property::always(sentence!(I6), |_, state: &State| {
            let [a, b] = &state.servers;
            state.was_restored || !(a.is_open() && b.is_open() && a.epoch == b.epoch)
        }),
        Property::always(sentence!(I7), |_, state: &State| state.was_restored || unchanged(state)),
        Property::always(sentence!(I9), |_, state: &State| {
            let fences: u8 = state.mysql.producers.iter().chain(&state.mysql.direct).sum();
            state.mysql.counted.views() == u32::from(fences)
        }),
        Property::always(NOBODY_STOPS, |_, state: &State| !state.alarm),
        Property::always(HEALS, |protocol: &Protocol, state: &State| {
            let mut all = 0..protocol.bounds.servers;
            all.all(|server| !state.servers[server].is_writable() || heals(protocol, state, server))
        }),
        Property::sometimes("everything is counted", |protocol: &Protocol, state: &State| {
            (0..PRODUCERS).all(|p| {
                state.mysql.producers[p] == protocol.bounds.batches[p]
                    && state.mysql.direct[p] == protocol.bounds.direct[p]
            })
        }),
    ];
    if bounds.readers > 0 {
        properties.extend([
            Property::always(concat!(sentence!(I8), " (a cached base and the log behind it)"), |_, state: &State| {
                (0..state.servers.len()).all(|server| base_is_true(state, server))
            }),
            Property::always(concat!(sentence!(I8), " (an answer)"), |_, state: &State| !state.wrong_answer),
            Property::sometimes("a base with views is cached", |_, state: &State| {
                let has_views = |base: &Base| base.counted.views() > 0;
                state.servers.iter().any(|server| server.is_open() && server.base.as_ref().is_some_and(has_views))
            }),
        ]);
    }
    if bounds.counts_epochs() {
        properties.extend([
            Property::always(ONE_EPOCH_EACH, |protocol: &Protocol, state: &State| {
                let (before, left) = (&protocol.bounds.faults, &state.faults);
                let faults = before.fail_overs - left.fail_overs + before.moves - left.moves;
                state.mysql.epoch <= 1 + faults + state.given_up
            }),
            Property::sometimes("a server that has the shard now is open", |_, state: &State| {
                state.mysql.epoch > 1 && current(state).next().is_some()
            }),
        ]);
    } else if bounds.servers > 1 {
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
            state.was_restored && state.mysql.position < state.highest.1
        }));
    }
    properties
}

/// What may be flushed: the log of the server that is open under MySQL's epoch.
fn current(state: &State) -> impl Iterator<Item = &Server> {
    state.servers.iter().filter(|server| server.is_open() && server.epoch == state.mysql.epoch)
}

fn once(protocol: &Protocol, state: &State) -> bool {
    let mut all = state.mysql.counted;
    // After MySQL went back an epoch may begin twice, and only the producers' fences stand between.
    if !state.was_restored {
        for server in current(state) {
            all = all.plus(server.log.batches_behind(state.mysql.position));
        }
    }
    let all = if protocol.rules.paths_are_kept { all } else { all.on_one_path() };
    all.is_once_each()
}

fn kept(state: &State, p: usize) -> bool {
    let producer = &state.producers[p];
    let waits = |number| {
        current(state)
            .any(|server| server.log.behind(state.mysql.position).any(|batch| batch == Batch::of_redis(p, number)))
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

/// Positions are consecutive, and everybody who has an entry of an epoch has the same one at its position.
fn unchanged(state: &State) -> bool {
    let [a, b] = &state.servers;
    let is_one_log = |epoch: u8, log: &Log| {
        state
            .servers
            .iter()
            .filter(|server| server.epoch == epoch && server.is_open())
            .all(|server| server.log.agrees_with(log))
    };
    let followers = state.flushers.iter().filter_map(|flusher| match flusher {
        Flusher::Following(follower) | Flusher::Writing { follower, .. } => Some(follower),
        Flusher::Idle | Flusher::Committed { .. } => None,
    });
    (a.epoch != b.epoch || !a.has_data() || a.log.agrees_with(&b.log))
        && state.servers.iter().all(|server| !server.has_data() || server.log.adds_up())
        && followers
            .chain(state.readers.iter().map(|reader| &reader.follower))
            .all(|Follower { epoch, log }| is_one_log(*epoch, log))
}

impl State {
    /// What a reader is to be told, if the server is current in MySQL's eyes.
    pub(crate) fn live_views(&self, server: usize) -> Option<Batches> {
        let server = &self.servers[server];
        let is_valid = server.is_open() && server.epoch == self.mysql.epoch && server.version == self.mysql.version;
        is_valid.then(|| self.mysql.counted.plus(server.log.batches_behind(self.mysql.position)))
    }
}

/// Only a server that is current in MySQL's eyes must be right about what is not counted yet; on no server may anybody
/// count a batch twice.
fn base_is_true(state: &State, server: usize) -> bool {
    let Some(base) = state.servers[server].base.filter(|_| !state.was_restored) else { return true };
    let views = base.counted.plus(state.servers[server].log.batches_behind(base.position));
    state.live_views(server).map_or(views.is_once_each(), |truth| views == truth)
}

/// Whether a state, left alone with this server, counts everything that was acknowledged, and nothing twice. After MySQL
/// went back it may stop instead; if Redis may have lost something as well, nobody can know what MySQL lost.
fn heals(protocol: &Protocol, state: &State, server: usize) -> bool {
    let healed = match heal(&protocol.rules, state, server) {
        Ok(healed) => healed,
        Err(Stop::Alarm | Stop::Stuck) => return state.was_restored,
    };
    let must_be_complete = !state.was_restored || protocol.bounds.redis_keeps_everything();
    let counted = healed.mysql.counted;
    let is_complete = |path: &Path, batch: &dyn Fn(u8) -> Batch| {
        let mut expected = path.acknowledged;
        expected.unite(path.retained);
        expected.iter().all(|number| counted.count(batch(number)) == 1)
    };
    counted.is_once_each()
        && (!must_be_complete
            || state.producers.iter().enumerate().all(|(p, producer)| {
                is_complete(&producer.redis, &|number| Batch::of_redis(p, number))
                    && is_complete(&producer.direct, &|number| Batch::of_direct(p, number))
            }))
}
