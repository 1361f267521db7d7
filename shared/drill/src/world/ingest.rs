//! Faults of ingest and of its way to Redis.

use std::time::Duration;

use footfall_sandbox::{Action, Cut};
use rand::RngExt;
use rand::rngs::StdRng;

use super::{Fault, Healing, Part, nothing, restart};
use crate::lab::{Lab, Store};
use crate::stack::Role;

const INGEST: &[Part] = &[Part::Ingest];
/// It must be at work to be caught at it.
const APPLY: &[Part] = &[Part::Ingest, Part::Redis];

pub(super) const FAULTS: &[Fault] = &[
    Fault::new("ingest-killed", "An ingest is killed, at any moment.", INGEST, |lab, random| {
        let index = any_ingest(lab, random);
        lab.stack.service(Role::Ingest, index).kill()?;
        Ok(restart(Role::Ingest, index))
    })
    .not_in_share("it is killed at each step of a batch"),
    Fault::new(
        "ingest-killed-before-apply",
        "An ingest is killed while its batch is on its way to Redis, and Redis never gets it.",
        APPLY,
        |lab, _| kill_at_apply(lab, || Action::HoldRequest),
    ),
    Fault::new(
        "ingest-killed-after-apply",
        "An ingest is killed after Redis took its batch and before it knows.",
        APPLY,
        |lab, _| kill_at_apply(lab, || Action::HoldReply),
    ),
    Fault::new(
        "ingest-killed-after-reply",
        "An ingest is killed as soon as it was told that Redis has its batch.",
        APPLY,
        kill_after_reply,
    ),
    Fault::new(
        "apply-answer-dropped",
        "Redis takes batches, and the connections break before or within its answers.",
        APPLY,
        drop_answers,
    ),
    Fault::new(
        "apply-cut-mid-frame",
        "Connections break while batches are being sent: Redis gets the first part of a command.",
        APPLY,
        cut_requests,
    ),
    Fault::new(
        "ingest-paused",
        "An ingest stands still with all its connections open, and goes on later.",
        INGEST,
        |lab, random| {
            let index = any_ingest(lab, random);
            lab.stack.service(Role::Ingest, index).pause()?;
            Ok(Box::new(move |lab| Ok(lab.stack.service(Role::Ingest, index).resume()?)))
        },
    )
    .lasts((1_500, 2_000), (30_000, 30_000)),
    Fault::new(
        "redis-cut-from-one-ingest",
        "One ingest cannot reach Redis; the other one and the flushers can.",
        INGEST,
        |lab, random| {
            let index = any_ingest(lab, random);
            lab.stack.service(Role::Ingest, index).links().redis.cut();
            Ok(Box::new(move |lab| Ok(lab.stack.service(Role::Ingest, index).links().redis.heal()?)))
        },
    )
    .lasts((800, 1_500), (2_000, 12_000)),
];

fn any_ingest(lab: &Lab, random: &mut StdRng) -> usize {
    random.random_range(0..lab.stack.count(Role::Ingest))
}

fn kill_at_apply(lab: &mut Lab, action: fn() -> Action) -> anyhow::Result<Healing> {
    let apply = lab.scripts.runs("apply");
    let (index, held) = lab.catch(Role::Ingest, Store::Redis, "an APPLY", apply, action)?;
    lab.stack.service(Role::Ingest, index).kill()?;
    held.drop_held();
    Ok(restart(Role::Ingest, index))
}

fn kill_after_reply(lab: &mut Lab, random: &mut StdRng) -> anyhow::Result<Healing> {
    let index = any_ingest(lab, random);
    let links = lab.stack.service(Role::Ingest, index).links();
    // Only to be told when the reply has passed.
    let passed = links.redis.inject(lab.scripts.runs("apply"), Action::Delay(Duration::ZERO), 1);
    lab.wait_for("an answer to APPLY", || passed.wait_done(Duration::from_millis(100)))?;
    lab.stack.service(Role::Ingest, index).kill()?;
    Ok(restart(Role::Ingest, index))
}

fn drop_answers(lab: &mut Lab, random: &mut StdRng) -> anyhow::Result<Healing> {
    let apply = lab.scripts.runs("apply");
    let rules = if random.random() {
        lab.inject_all(Role::Ingest, Store::Redis, &apply, || Action::DropReply, 3)
    } else {
        lab.inject_all(Role::Ingest, Store::Redis, &apply, || Action::CutReply(Cut::Bytes(3)), 3)
    };
    lab.wait_fired("an answer to APPLY", &rules)?;
    Ok(Box::new(move |_| {
        rules.iter().for_each(|rule| rule.remove());
        Ok(())
    }))
}

fn cut_requests(lab: &mut Lab, random: &mut StdRng) -> anyhow::Result<Healing> {
    for index in 0..lab.stack.count(Role::Ingest) {
        let apply = lab.scripts.runs("apply");
        for _ in 0..3 {
            let cut = Cut::Fraction(random.random_range(0.01..0.99));
            let redis = &lab.stack.service(Role::Ingest, index).links().redis;
            let rule = redis.inject(apply.clone(), Action::CutRequest(cut), 1);
            lab.wait_fired("an APPLY", &[rule])?;
        }
    }
    Ok(nothing())
}
