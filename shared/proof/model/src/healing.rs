//! What becomes of a state if no more faults happen: a fixed order of steps that drains everything.

use crate::mysql::{DirectDecision, FlushDecision};
use crate::rules::Rules;
use crate::server::Follower;
use crate::state::State;

/// Why a state does not drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Somebody found what must not be, and stopped.
    Alarm,
    /// There is no way on.
    Stuck,
}

/// Everybody begins anew, on this server and with what the journals hold; requests under way are lost, and open
/// transactions are rolled back. Answers the state after the last batch was released.
pub fn heal(rules: &Rules, state: &State, server: usize) -> Result<State, Stop> {
    let mut state = state.clone();
    let State { servers, mysql, producers, .. } = &mut state;
    let redis = &mut servers[server];

    let sight = redis.sight(false);
    if mysql.is_older_than(rules, &sight) {
        return Err(Stop::Alarm);
    }
    if !redis.is_open() || redis.epoch != mysql.epoch {
        let ticket = mysql.next_epoch(rules, mysql.epoch).ok_or(Stop::Stuck)?;
        redis.reopen(rules, &sight, &ticket);
    }

    for (p, producer) in producers.iter_mut().enumerate() {
        if producer.epoch != redis.epoch || redis.is_behind(p, producer.next()) {
            let last = redis.register(p);
            producer.registered(rules, redis.epoch, last, redis.log.tail);
        }
        while let Some(number) = producer.next() {
            let tail = redis.apply(rules, redis.epoch, p, number).ok_or(Stop::Stuck)?;
            producer.applied(rules, tail);
        }
        while let Some(number) = producer.next_direct() {
            match mysql.direct_fence(rules, p, number) {
                DirectDecision::Write => mysql.commit_directly(rules, p, number, !mysql.has_row),
                DirectDecision::Before => {}
                DirectDecision::Hole => return Err(Stop::Alarm),
            }
            producer.confirmed(number);
        }
    }

    let mut follower = Follower::default();
    loop {
        let tail = follower.log.tail;
        follower.follow(rules, redis);
        if follower.log.tail == tail {
            break;
        }
    }
    if !follower.log.is_empty() {
        match mysql.fence(rules, &follower) {
            FlushDecision::Write(from) => drop(mysql.commit(&follower, from, !mysql.has_row)),
            FlushDecision::Before => {}
            FlushDecision::Fenced | FlushDecision::Hole => return Err(Stop::Alarm),
        }
        redis.acknowledge(rules, redis.epoch, follower.log.tail, false);
    }

    for producer in producers {
        producer.flushed(redis.log.first);
        if !producer.redis.retained.is_empty() {
            return Err(Stop::Stuck);
        }
    }
    Ok(state)
}
