//! Faults of Redis.

use super::{Draw, Recipe};
use crate::fault::Fault;
use crate::step::PlannedFault;
use crate::values::{Restart, WriteMode};

/// Redis goes on under another `appendfsync` for a moment, and is killed.
fn kill_under(draw: &Draw<'_>, policy: u64) -> Vec<PlannedFault> {
    vec![
        PlannedFault { hold_ms: 0, ..draw.after(0, Fault::RedisFsync { policy }) },
        draw.after(draw.dice.range(100, 500), Fault::RedisRestart { data: Restart::Whole }),
    ]
}

pub(super) const RECIPES: &[Recipe] = &[
    Recipe::new("redis-killed-always", "Redis is killed under `appendfsync always`.", |draw| kill_under(draw, 2)),
    Recipe::new("redis-killed-everysec", "Redis is killed under `appendfsync everysec`.", |draw| kill_under(draw, 1)),
    Recipe::new("redis-killed-no", "Redis is killed under `appendfsync no`.", |draw| kill_under(draw, 0))
        .not_in_share("redis-killed-everysec differs from it only in a power cut"),
    Recipe::new(
        "redis-paused",
        "Redis stands still with all its connections open, as a hanging machine does.",
        |draw| draw.one(Fault::RedisPause {}),
    )
    .lasts((900, 1_500), (1_000, 15_000)),
    Recipe::new(
        "aof-truncated",
        "Redis is killed and loses the end of its append-only file, from a random byte on.",
        |draw| {
            let data = Restart::Truncated(draw.dice.range(1, 59_999));
            draw.one(Fault::RedisRestart { data })
        },
    ),
    Recipe::new("flushall", "Somebody types FLUSHALL.", |draw| draw.one(Fault::FlushAll {})),
    Recipe::new("old-aof-restored", "Redis is killed and comes back with files from a while ago.", |draw| {
        let data = Restart::Older(draw.dice.range(300, draw.scale.of(900, 3_000)));
        draw.one(Fault::RedisRestart { data })
    }),
    Recipe::new("redis-empty-restart", "Redis is killed and comes back with nothing.", |draw| {
        draw.one(Fault::RedisRestart { data: Restart::Empty })
    }),
    Recipe::new(
        "redis-maxmemory",
        "Redis reaches its memory limit and refuses writes, until the limit is raised.",
        |draw| draw.one(Fault::RedisWrites { mode: WriteMode::Full }),
    )
    .lasts((1_000, 1_500), (2_000, 15_000)),
];
