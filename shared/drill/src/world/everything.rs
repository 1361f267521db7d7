//! Faults of several parts at once.

use std::time::Duration;

use anyhow::ensure;
use rand::rngs::StdRng;

use super::redis::empty;
use super::{Fault, Healing, Part, nothing, pause};
use crate::lab::Lab;
use crate::stack::Role;

const ALL: &[Part] = &[Part::Ingest, Part::Flusher, Part::Redis, Part::MySql];
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) const FAULTS: &[Fault] = &[
    Fault::new(
        "both-down-redis-first",
        "Redis and MariaDB are killed; Redis comes back first.",
        &[Part::Redis, Part::MySql],
        |lab, random| both_down(lab, random, |lab| lab.stack.redis.restart(), |lab| lab.stack.mariadb.restart()),
    )
    .lasts((600, 1_200), (2_000, 15_000)),
    Fault::new(
        "both-down-mysql-first",
        "Redis and MariaDB are killed; MariaDB comes back first.",
        &[Part::Redis, Part::MySql],
        |lab, random| both_down(lab, random, |lab| lab.stack.mariadb.restart(), |lab| lab.stack.redis.restart()),
    )
    .lasts((600, 1_200), (2_000, 15_000)),
    Fault::new("rolling-restart", "Every service and both stores are restarted in order, one by one.", ALL, roll)
        .lasts((0, 0), (0, 0)),
    Fault::new("everything-killed", "Every service and both stores are killed at once.", ALL, |lab, random| {
        kill_services(lab, &[Role::Ingest, Role::Flusher])?;
        lab.stack.redis.kill()?;
        lab.stack.mariadb.kill()?;
        pause(random, 0, 200);
        Ok(Box::new(|lab| {
            lab.stack.redis.restart()?;
            lab.stack.mariadb.restart()?;
            restart_services(lab, &[Role::Ingest, Role::Flusher])
        }))
    }),
    Fault::new(
        "ingests-killed-redis-lost",
        "All ingests are killed and Redis loses everything: what it had is in the journals alone.",
        &[Part::Ingest, Part::Redis],
        |lab, _| {
            kill_services(lab, &[Role::Ingest])?;
            lab.stack.redis.kill()?;
            empty(lab)?;
            Ok(Box::new(|lab| {
                lab.stack.redis.restart()?;
                restart_services(lab, &[Role::Ingest])
            }))
        },
    ),
    Fault::new(
        "mysql-down-all-else-killed",
        "MariaDB is away; meanwhile all ingests and flushers are killed, and Redis loses everything.",
        ALL,
        |lab, random| {
            lab.stack.mariadb.kill()?;
            // Views pile up.
            pause(random, 200, lab.scaled(600, 3_000));
            kill_services(lab, &[Role::Ingest, Role::Flusher])?;
            lab.stack.redis.kill()?;
            empty(lab)?;
            Ok(Box::new(|lab| {
                lab.stack.redis.restart()?;
                lab.stack.mariadb.restart()?;
                restart_services(lab, &[Role::Ingest, Role::Flusher])
            }))
        },
    ),
];

type Restart = fn(&mut Lab) -> std::io::Result<()>;

fn both_down(lab: &mut Lab, random: &mut StdRng, first: Restart, second: Restart) -> anyhow::Result<Healing> {
    lab.stack.redis.kill()?;
    pause(random, 0, 300);
    lab.stack.mariadb.kill()?;
    Ok(Box::new(move |lab| {
        first(lab)?;
        std::thread::sleep(Duration::from_millis(lab.scaled(400, 2_000)));
        Ok(second(lab)?)
    }))
}

/// Kills all services of some kinds.
pub(super) fn kill_services(lab: &mut Lab, roles: &[Role]) -> anyhow::Result<()> {
    for service in lab.stack.services().iter_mut().filter(|service| roles.contains(&service.role())) {
        service.kill()?;
    }
    Ok(())
}

/// Starts all services of some kinds again.
pub(super) fn restart_services(lab: &mut Lab, roles: &[Role]) -> anyhow::Result<()> {
    for service in lab.stack.services().iter_mut().filter(|service| roles.contains(&service.role())) {
        service.restart()?;
    }
    Ok(())
}

fn roll(lab: &mut Lab, _: &mut StdRng) -> anyhow::Result<Healing> {
    for service in lab.stack.services() {
        let status = service.terminate(STOP_TIMEOUT)?;
        ensure!(status.success(), service.process().failure(&format!("did not end in order ({status})")));
        service.restart()?;
        service.wait_ready(STOP_TIMEOUT)?;
    }
    lab.stack.redis.stop()?;
    lab.stack.redis.restart()?;
    lab.stack.mariadb.stop()?;
    lab.stack.mariadb.restart()?;
    Ok(nothing())
}
