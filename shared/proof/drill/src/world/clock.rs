//! The time of day of ingests and flushers. That of this machine is left alone; Redis and MariaDB go by it.

use super::Healing;
use crate::lab::{Lab, Skip};
use crate::setting::set_clock;
use footfall_proof::Setup;

pub(super) fn jump(lab: &mut Lab, ms: i64) -> anyhow::Result<Healing> {
    if lab.setup != Setup::Clock {
        return Err(Skip("the clock of this stack is not in our hands".to_owned()).into());
    }
    set_clock(lab.dir(), ms / 1_000)?;
    Ok(Box::new(|lab| set_clock(lab.dir(), 0)))
}
