//! Networks that are slow, or go one way only.

use std::time::Duration;

use footfall_sandbox::{Direction, Proxy};
use rand::RngExt;

use super::{Fault, Healing, Part};
use crate::lab::Lab;
use crate::stack::Links;

/// Above the drill's time-outs.
const SHORT_MS: (u64, u64) = (1_200, 1_600);
const LONG_MS: (u64, u64) = (2_500, 10_000);

const REDIS: &[Part] = &[Part::Redis];
const MYSQL: &[Part] = &[Part::MySql];

pub(super) const FAULTS: &[Fault] = &[
    Fault::new(
        "redis-requests-stall",
        "Nothing reaches Redis, over connections that stay open; later all of it arrives.",
        REDIS,
        |lab, _| Ok(disturb(lab, |links| &links.redis, |proxy| proxy.stall(Direction::ToServer))),
    )
    .lasts(SHORT_MS, LONG_MS),
    Fault::new(
        "redis-answers-stall",
        "Redis does what it is told, and its answers do not come; later all of them arrive.",
        REDIS,
        |lab, _| Ok(disturb(lab, |links| &links.redis, |proxy| proxy.stall(Direction::ToClient))),
    )
    .lasts(SHORT_MS, LONG_MS),
    Fault::new(
        "redis-slow",
        "Every command to Redis and every answer is late by some milliseconds.",
        REDIS,
        |lab, random| {
            let delay = Duration::from_millis(random.random_range(5..60));
            Ok(disturb(lab, |links| &links.redis, move |proxy| proxy.delay(delay)))
        },
    )
    .not_in_share("what stalls altogether is in it"),
    Fault::new(
        "mysql-requests-stall",
        "Nothing reaches MySQL, over connections that stay open; later all of it arrives.",
        MYSQL,
        |lab, _| Ok(disturb(lab, |links| &links.mysql, |proxy| proxy.stall(Direction::ToServer))),
    )
    .lasts(SHORT_MS, LONG_MS),
    Fault::new(
        "mysql-answers-stall",
        "MySQL does what it is told, and its answers do not come; later all of them arrive.",
        MYSQL,
        |lab, _| Ok(disturb(lab, |links| &links.mysql, |proxy| proxy.stall(Direction::ToClient))),
    )
    .lasts(SHORT_MS, LONG_MS),
    Fault::new(
        "mysql-slow",
        "Every statement to MySQL and every answer is late by some milliseconds.",
        MYSQL,
        |lab, random| {
            let delay = Duration::from_millis(random.random_range(5..60));
            Ok(disturb(lab, |links| &links.mysql, move |proxy| proxy.delay(delay)))
        },
    )
    .not_in_share("what stalls altogether is in it"),
];

/// Disturbs the same proxy of every service, until it is healed.
fn disturb(lab: &mut Lab, choose: fn(&Links) -> &Proxy, how: impl Fn(&Proxy)) -> Healing {
    for service in lab.stack.services() {
        how(choose(service.links()));
    }
    Box::new(move |lab| {
        for service in lab.stack.services() {
            choose(service.links()).heal()?;
        }
        Ok(())
    })
}
