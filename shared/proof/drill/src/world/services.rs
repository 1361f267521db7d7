//! Faults of whole services.

use std::time::Duration;

use footfall_proof::Who;

use super::Healing;
use crate::lab::Lab;

const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// Starts services again that have ended.
pub(super) fn restart(who: Who) -> Healing {
    Box::new(move |lab| {
        for (role, index) in lab.services(who) {
            lab.stack.service(role, index).restart()?;
        }
        Ok(())
    })
}

pub(super) fn kill(lab: &mut Lab, who: Who) -> anyhow::Result<Healing> {
    for (role, index) in lab.services(who) {
        lab.stack.service(role, index).kill()?;
    }
    Ok(restart(who))
}

pub(super) fn terminate(lab: &mut Lab, who: Who) -> anyhow::Result<Healing> {
    for (role, index) in lab.services(who) {
        lab.stack.service(role, index).terminate(STOP_TIMEOUT)?;
    }
    Ok(restart(who))
}

pub(super) fn pause(lab: &mut Lab, who: Who) -> anyhow::Result<Healing> {
    for (role, index) in lab.services(who) {
        lab.stack.service(role, index).pause()?;
    }
    Ok(resume(who))
}

pub(super) fn resume(who: Who) -> Healing {
    Box::new(move |lab| {
        for (role, index) in lab.services(who) {
            lab.stack.service(role, index).resume()?;
        }
        Ok(())
    })
}
