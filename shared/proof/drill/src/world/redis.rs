//! Faults of Redis.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use footfall_proof::{Restart, WriteMode};

use super::{Healing, only_simulated};
use crate::lab::Lab;

/// Kills it; it comes back with what `data` says.
pub(super) fn restart(lab: &mut Lab, data: Restart) -> anyhow::Result<Healing> {
    match data {
        Restart::Whole => lab.stack.redis.kill()?,
        Restart::Empty => {
            lab.stack.redis.kill()?;
            let nothing = lab.path("empty");
            fs::create_dir(&nothing)?;
            lab.stack.redis.restore_data(&nothing)?;
            fs::remove_dir(nothing)?;
        }
        Restart::Truncated(bytes) => {
            lab.stack.redis.kill()?;
            lab.stack.redis.truncate_aof(bytes)?;
        }
        Restart::Older(ms) => {
            let copy = lab.path("old-redis");
            lab.stack.redis.copy_data(&copy)?;
            thread::sleep(Duration::from_millis(ms));
            lab.stack.redis.kill()?;
            lab.stack.redis.restore_data(&copy)?;
            fs::remove_dir_all(copy)?;
        }
        Restart::WithoutTail(_) | Restart::OldCopy(_) => return Err(only_simulated(data)),
    }
    Ok(Box::new(|lab| Ok(lab.stack.redis.restart()?)))
}

pub(super) fn pause(lab: &mut Lab) -> anyhow::Result<Healing> {
    lab.stack.redis.pause()?;
    Ok(Box::new(|lab| Ok(lab.stack.redis.resume()?)))
}

/// Until it starts again, with its own settings.
pub(super) fn fsync(lab: &mut Lab, policy: u64) -> anyhow::Result<Option<Healing>> {
    let name = match policy {
        0 => "no",
        1 => "everysec",
        _ => "always",
    };
    lab.stack.redis.query(&["CONFIG", "SET", "appendfsync", name])?;
    Ok(None)
}

pub(super) fn write_mode(lab: &mut Lab, mode: WriteMode) -> anyhow::Result<Healing> {
    if mode != WriteMode::Full {
        return Err(only_simulated(mode));
    }
    let info = lab.stack.redis.query(&["INFO", "memory"])?.concat();
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).context("used_memory")?;
    let limit = used.trim().parse::<u64>()? + 16 * 1024;
    lab.stack.redis.query(&["CONFIG", "SET", "maxmemory", &limit.to_string()])?;
    Ok(Box::new(|lab| {
        lab.stack.redis.query(&["CONFIG", "SET", "maxmemory", "0"])?;
        Ok(())
    }))
}
