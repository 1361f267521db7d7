//! Networks that are slow, or go one way only.

use super::{Draw, Recipe};
use crate::fault::Fault;
use crate::step::PlannedFault;
use crate::values::{Network, Store, Who};

/// Above the drill's time-outs.
const SHORT_MS: (u64, u64) = (1_200, 1_600);
const LONG_MS: (u64, u64) = (2_500, 10_000);

const REQUESTS_STALL: Network = Network { late: 100, ..Network::CALM };
const ANSWERS_STALL: Network = Network { lost_answer: 100, ..Network::CALM };

fn disturb(draw: &Draw<'_>, store: Store, state: Network) -> Vec<PlannedFault> {
    draw.one(Fault::Network { store, who: Who::All, state })
}

fn slow_down(draw: &Draw<'_>, store: Store) -> Vec<PlannedFault> {
    disturb(draw, store, Network { slow_ms: draw.dice.range(5, 59), ..Network::CALM })
}

pub(super) const RECIPES: &[Recipe] = &[
    Recipe::new(
        "redis-requests-stall",
        "Nothing reaches Redis, over connections that stay open; later all of it arrives.",
        |draw| disturb(draw, Store::Redis, REQUESTS_STALL),
    )
    .lasts(SHORT_MS, LONG_MS),
    Recipe::new(
        "redis-answers-stall",
        "Redis does what it is told, and its answers do not come; later all of them arrive.",
        |draw| disturb(draw, Store::Redis, ANSWERS_STALL),
    )
    .lasts(SHORT_MS, LONG_MS),
    Recipe::new("redis-slow", "Every command to Redis and every answer is late by some milliseconds.", |draw| {
        slow_down(draw, Store::Redis)
    })
    .not_in_share("what stalls altogether is in it"),
    Recipe::new(
        "mysql-requests-stall",
        "Nothing reaches MySQL, over connections that stay open; later all of it arrives.",
        |draw| disturb(draw, Store::MySql, REQUESTS_STALL),
    )
    .lasts(SHORT_MS, LONG_MS),
    Recipe::new(
        "mysql-answers-stall",
        "MySQL does what it is told, and its answers do not come; later all of them arrive.",
        |draw| disturb(draw, Store::MySql, ANSWERS_STALL),
    )
    .lasts(SHORT_MS, LONG_MS),
    Recipe::new("mysql-slow", "Every statement to MySQL and every answer is late by some milliseconds.", |draw| {
        slow_down(draw, Store::MySql)
    })
    .not_in_share("what stalls altogether is in it"),
];
