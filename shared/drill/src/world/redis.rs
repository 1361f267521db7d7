//! Faults of Redis.

use std::fs;

use anyhow::Context;
use rand::RngExt;
use rand::rngs::StdRng;

use super::{Fault, Healing, Part, nothing, pause};
use crate::lab::Lab;

const REDIS: &[Part] = &[Part::Redis];

pub(super) const FAULTS: &[Fault] = &[
    Fault::new("redis-killed-always", "Redis is killed under `appendfsync always`.", REDIS, |lab, random| {
        kill_under(lab, random, "always")
    }),
    Fault::new("redis-killed-everysec", "Redis is killed under `appendfsync everysec`.", REDIS, |lab, random| {
        kill_under(lab, random, "everysec")
    }),
    Fault::new("redis-killed-no", "Redis is killed under `appendfsync no`.", REDIS, |lab, random| {
        kill_under(lab, random, "no")
    })
    .not_in_share("redis-killed-everysec differs from it only in a power cut"),
    Fault::new(
        "redis-paused",
        "Redis stands still with all its connections open, as a hanging machine does.",
        REDIS,
        |lab, _| {
            lab.stack.redis.pause()?;
            Ok(Box::new(|lab| Ok(lab.stack.redis.resume()?)))
        },
    )
    .lasts((900, 1_500), (1_000, 15_000)),
    Fault::new(
        "aof-truncated",
        "Redis is killed and loses the end of its append-only file, from a random byte on.",
        REDIS,
        |lab, random| {
            lab.stack.redis.kill()?;
            lab.stack.redis.truncate_aof(random.random_range(1..60_000))?;
            Ok(Box::new(|lab| Ok(lab.stack.redis.restart()?)))
        },
    ),
    Fault::new("flushall", "Somebody types FLUSHALL.", REDIS, |lab, _| {
        lab.stack.redis.query(&["FLUSHALL"])?;
        Ok(nothing())
    }),
    Fault::new(
        "old-aof-restored",
        "Redis is killed and comes back with files from a while ago.",
        REDIS,
        |lab, random| {
            let copy = lab.path("old-redis");
            lab.stack.redis.copy_data(&copy)?;
            pause(random, 300, lab.scaled(900, 3_000));
            lab.stack.redis.kill()?;
            lab.stack.redis.restore_data(&copy)?;
            fs::remove_dir_all(copy)?;
            Ok(Box::new(|lab| Ok(lab.stack.redis.restart()?)))
        },
    ),
    Fault::new("redis-empty-restart", "Redis is killed and comes back with nothing.", REDIS, |lab, _| {
        lab.stack.redis.kill()?;
        empty(lab)?;
        Ok(Box::new(|lab| Ok(lab.stack.redis.restart()?)))
    }),
    Fault::new(
        "redis-maxmemory",
        "Redis reaches its memory limit and refuses writes, until the limit is raised.",
        REDIS,
        |lab, _| {
            let info = lab.stack.redis.query(&["INFO", "memory"])?.concat();
            let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).context("used_memory")?;
            let limit = used.trim().parse::<u64>()? + 16 * 1024;
            lab.stack.redis.query(&["CONFIG", "SET", "maxmemory", &limit.to_string()])?;
            Ok(Box::new(|lab| {
                lab.stack.redis.query(&["CONFIG", "SET", "maxmemory", "0"])?;
                Ok(())
            }))
        },
    )
    .lasts((1_000, 1_500), (2_000, 15_000)),
];

fn kill_under(lab: &mut Lab, random: &mut StdRng, fsync: &str) -> anyhow::Result<Healing> {
    // Until it starts again, with its own settings.
    lab.stack.redis.query(&["CONFIG", "SET", "appendfsync", fsync])?;
    pause(random, 100, 500);
    lab.stack.redis.kill()?;
    Ok(Box::new(|lab| Ok(lab.stack.redis.restart()?)))
}

/// Takes all data of a Redis that has ended.
pub(super) fn empty(lab: &mut Lab) -> anyhow::Result<()> {
    let nothing = lab.path("empty");
    fs::create_dir(&nothing)?;
    lab.stack.redis.restore_data(&nothing)?;
    Ok(fs::remove_dir(nothing)?)
}
