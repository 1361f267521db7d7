//! Faults at one step of the protocol, where its message passes a proxy.

use std::time::Duration;

use footfall_proof::{Fate, Hurt, Moment, Point, Store, Who};
use footfall_sandbox::{Action, Cut};

use super::{Healing, place, services};
use crate::lab::{Lab, NotHit};

/// Kills the first service that comes to a step.
pub(super) fn kill_at(lab: &mut Lab, who: Who, point: Point, moment: Moment, fate: Fate) -> anyhow::Result<Healing> {
    let (store, matcher) = place(lab, point)?;
    let hold = match moment {
        Moment::Request => Action::HoldRequest,
        Moment::Reply => Action::HoldReply,
        Moment::Told => return kill_when_told(lab, who, point),
    };
    let (victim, held) = lab.catch(who, store, point, &matcher, hold)?;
    let healing = services::kill(lab, victim)?;
    match fate {
        Fate::Delivered => held.release(),
        Fate::Lost => held.drop_held(),
    }
    Ok(healing)
}

/// Kills one as soon as it was told that a step is done.
fn kill_when_told(lab: &mut Lab, who: Who, point: Point) -> anyhow::Result<Healing> {
    let (store, matcher) = place(lab, point)?;
    // Only to be told when the reply has passed.
    let passed = lab.inject_all(who, store, &matcher, Action::Delay(Duration::ZERO), 1);
    let is_done = || passed.iter().position(|rule| rule.wait_done(Duration::from_millis(100)));
    let mut told = None;
    lab.wait_for(&format!("an answer to {point}"), || {
        told = is_done();
        told.is_some()
    })?;
    let victim = told.and_then(|index| lab.each(who).into_iter().nth(index));
    let victim = victim.ok_or_else(|| NotHit(format!("an answer to {point}")))?;
    passed.iter().for_each(|rule| rule.remove());
    services::kill(lab, victim)
}

/// Stops the first service that comes to a step.
pub(super) fn pause_at(lab: &mut Lab, who: Who, point: Point, moment: Moment) -> anyhow::Result<Healing> {
    let (store, matcher) = place(lab, point)?;
    let hold = if moment == Moment::Request { Action::HoldRequest } else { Action::HoldReply };
    let (victim, held) = lab.catch(who, store, point, &matcher, hold)?;
    let healing = services::pause(lab, victim)?;
    held.release();
    Ok(healing)
}

/// Does something to a few messages of each.
pub(super) fn hurt(lab: &mut Lab, who: Who, point: Point, hurt: Hurt, times: u64) -> anyhow::Result<Healing> {
    let (store, matcher): (Store, _) = place(lab, point)?;
    let action = match hurt {
        Hurt::DropRequest => Action::DropRequest,
        Hurt::DropReply => Action::DropReply,
        Hurt::CutRequest(thousandths) => Action::CutRequest(Cut::Fraction(thousandths as f64 / 1_000.0)),
        Hurt::CutReply(bytes) => Action::CutReply(Cut::Bytes(bytes as usize)),
    };
    let rules = lab.inject_all(who, store, &matcher, action, times);
    lab.wait_for(&format!("a message of {point}"), || rules.iter().any(|rule| rule.fired() > 0))?;
    Ok(Box::new(move |_| {
        rules.iter().for_each(|rule| rule.remove());
        Ok(())
    }))
}
