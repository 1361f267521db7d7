//! Faults of whole services.

use std::time::Duration;

use anyhow::ensure;
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

pub(super) fn roll(lab: &mut Lab) -> anyhow::Result<Option<Healing>> {
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
    Ok(None)
}
