//! Faults of the flusher and of its way to MySQL.

use footfall_sandbox::{Action, Message};
use rand::RngExt;
use rand::rngs::StdRng;

use super::{Fault, Healing, Part, nothing, restart};
use crate::lab::{Lab, Store};
use crate::setting::Setting;
use crate::stack::Role;

/// It must be at work to be caught at it.
const FLUSHER: &[Part] = &[Part::Flusher, Part::Redis, Part::MySql];

pub(super) const FAULTS: &[Fault] = &[
    Fault::new("flusher-killed", "A flusher is killed, at any moment.", &[Part::Flusher], |lab, random| {
        let index = random.random_range(0..lab.stack.count(Role::Flusher));
        lab.stack.service(Role::Flusher, index).kill()?;
        Ok(restart(Role::Flusher, index))
    })
    .not_in_share("it is killed at each of its steps"),
    Fault::new(
        "flusher-killed-at-follow",
        "The working flusher is killed while it reads entries of the log.",
        FLUSHER,
        |lab, random| {
            let follow = lab.scripts.runs("follow");
            kill_at(lab, random, Store::Redis, "a FOLLOW", follow, || Action::HoldReply)
        },
    ),
    Fault::new(
        "flusher-killed-at-lock",
        "The working flusher is killed at the beginning of its transaction, with or without the lock.",
        FLUSHER,
        |lab, random| kill_at(lab, random, Store::MySql, "a lock", locks_fence, || Action::HoldRequest),
    ),
    Fault::new(
        "flusher-killed-at-commit",
        "The working flusher is killed while its COMMIT is on its way; MySQL may get it, or not.",
        FLUSHER,
        |lab, random| kill_at(lab, random, Store::MySql, "a COMMIT", commits, || Action::HoldRequest),
    ),
    Fault::new(
        "flusher-killed-after-commit",
        "The working flusher is killed after MySQL committed and before it knows.",
        FLUSHER,
        |lab, random| kill_at(lab, random, Store::MySql, "a COMMIT", commits, || Action::HoldReply),
    ),
    Fault::new(
        "flusher-killed-at-advance",
        "The working flusher is killed while it moves cached bases along; Redis may do so, or not.",
        FLUSHER,
        |lab, random| {
            let advance = lab.scripts.runs("advance");
            kill_at(lab, random, Store::Redis, "an ADVANCE", advance, || Action::HoldRequest)
        },
    ),
    Fault::new(
        "flusher-killed-at-ack",
        "The working flusher is killed while it tells Redis what MySQL has; Redis may learn it, or not.",
        FLUSHER,
        |lab, random| {
            let ack = lab.scripts.runs("ack");
            kill_at(lab, random, Store::Redis, "an ACK", ack, || Action::HoldRequest)
        },
    ),
    Fault::new(
        "flusher-paused-past-its-lease",
        "The working flusher stands still in the middle of a flush; another takes over; then both go on.",
        FLUSHER,
        pause_at_work,
    )
    .lasts((1_200, 1_600), (1_500, 8_000)),
    Fault::new(
        "flushers-without-leases",
        "Three flushers flush the same entries at every turn, and one of them is killed.",
        FLUSHER,
        |lab, random| kill_at(lab, random, Store::MySql, "a COMMIT", commits, || Action::HoldReply),
    )
    .on(Setting::NoLeases)
    .lasts((1_000, 1_500), (3_000, 6_000)),
    Fault::new(
        "commit-answer-dropped",
        "MySQL commits, and the connections break before its answers.",
        FLUSHER,
        |lab, _| disturb(lab, "a COMMIT", commits, || Action::DropReply),
    ),
    Fault::new(
        "commit-dropped",
        "Connections break and take COMMITs with them that MySQL never gets.",
        FLUSHER,
        |lab, _| disturb(lab, "a COMMIT", commits, || Action::DropRequest),
    ),
    Fault::new(
        "connection-killed-in-transaction",
        "MySQL's administrator kills the sessions that are in the middle of a transaction.",
        FLUSHER,
        kill_sessions,
    ),
];

/// Whether a message takes the lock of a shard.
fn locks_fence(message: &Message) -> bool {
    message.runs_sql("SELECT") && message.contains("footfall_shard_fence") && message.contains("FOR UPDATE")
}

fn commits(message: &Message) -> bool {
    message.runs_sql("COMMIT")
}

/// Kills whichever flusher comes to a step first. What is held there goes on without its sender or goes with it, by
/// chance.
fn kill_at(
    lab: &mut Lab,
    random: &mut StdRng,
    store: Store,
    what: &'static str,
    matcher: impl Fn(&Message) -> bool + Clone + Send + 'static,
    action: fn() -> Action,
) -> anyhow::Result<Healing> {
    let (index, held) = lab.catch(Role::Flusher, store, what, matcher, action)?;
    lab.stack.service(Role::Flusher, index).kill()?;
    if random.random() {
        held.release();
    } else {
        held.drop_held();
    }
    Ok(restart(Role::Flusher, index))
}

fn pause_at_work(lab: &mut Lab, random: &mut StdRng) -> anyhow::Result<Healing> {
    let [follow, advance, ack] = ["follow", "advance", "ack"].map(|name| lab.scripts.runs(name));
    let (index, held) = match random.random_range(0..3) {
        0 => lab.catch(Role::Flusher, Store::Redis, "a FOLLOW", follow, || Action::HoldReply)?,
        1 => lab.catch(Role::Flusher, Store::Redis, "an ADVANCE", advance, || Action::HoldReply)?,
        _ => lab.catch(Role::Flusher, Store::Redis, "an ACK", ack, || Action::HoldRequest)?,
    };
    lab.stack.service(Role::Flusher, index).pause()?;
    held.release();
    Ok(Box::new(move |lab| Ok(lab.stack.service(Role::Flusher, index).resume()?)))
}

/// Does something to a few messages of every flusher to MySQL.
fn disturb(
    lab: &mut Lab,
    what: &'static str,
    matcher: fn(&Message) -> bool,
    action: fn() -> Action,
) -> anyhow::Result<Healing> {
    let rules = lab.inject_all(Role::Flusher, Store::MySql, &matcher, action, 3);
    lab.wait_fired(what, &rules)?;
    Ok(Box::new(move |_| {
        rules.iter().for_each(|rule| rule.remove());
        Ok(())
    }))
}

fn kill_sessions(lab: &mut Lab, _: &mut StdRng) -> anyhow::Result<Healing> {
    let writes = |message: &Message| message.runs_sql("INSERT");
    let (_, held) = lab.catch(Role::Flusher, Store::MySql, "a write", writes, || Action::HoldRequest)?;
    let sessions = lab.stack.mariadb.query("SELECT trx_mysql_thread_id FROM information_schema.innodb_trx")?;
    for session in sessions.iter().flatten() {
        // It may have ended by itself meanwhile.
        let _ = lab.stack.mariadb.query(&format!("KILL CONNECTION {session}"));
    }
    held.release();
    Ok(nothing())
}
