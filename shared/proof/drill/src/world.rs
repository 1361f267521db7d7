//! The system of real servers as a [`World`] that can be hurt.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use footfall_proof::{Fault, Loss, NotDone, PlannedFault, Point, Store, Who, World};
use footfall_sandbox::Message;

use crate::lab::{Lab, Matcher, NotHit, Skip};

mod clock;
mod journal;
mod messages;
mod mysql;
mod network;
mod redis;
mod services;
mod several;

/// Undoes a fault.
pub(crate) type Healing = Box<dyn FnOnce(&mut Lab) -> anyhow::Result<()>>;

/// A stack under load.
pub(crate) struct Real<'a> {
    lab: &'a mut Lab,
    started: Instant,
    /// Among others a fault may come at a bad time. Alone it must find its occasion.
    may_miss: bool,
}

impl<'a> Real<'a> {
    /// From now on.
    pub(crate) fn new(lab: &'a mut Lab, may_miss: bool) -> Self {
        Self { lab, started: Instant::now(), may_miss }
    }
}

/// Nothing here ever waits for a waker: each step blocks until it is done.
impl World for Real<'_> {
    type Undo = Healing;
    type Error = anyhow::Error;

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    async fn run_until(&mut self, ms: u64) {
        thread::sleep(Duration::from_millis(ms).saturating_sub(self.started.elapsed()));
    }

    async fn inject(&mut self, step: &PlannedFault) -> Result<Vec<(u64, Healing)>, NotDone<anyhow::Error>> {
        let done = inject(self.lab, step.fault);
        let may_miss = |error: &anyhow::Error| self.may_miss && (error.is::<NotHit>() || error.is::<Skip>());
        match done {
            Ok(healing) => Ok(healing.map(|healing| (step.hold_ms, healing)).into_iter().collect()),
            Err(error) if may_miss(&error) => Err(NotDone::Missed(error)),
            Err(error) => Err(NotDone::Failed(error)),
        }
    }

    async fn undo(&mut self, undo: Healing) -> anyhow::Result<()> {
        undo(self.lab)
    }

    fn take_turns(&self, first: &Fault, second: &Fault) -> bool {
        components(first).iter().any(|component| components(second).contains(component))
    }
}

/// A component that a fault changes, or that must work for the fault to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Component {
    Ingest,
    Flusher,
    Redis,
    Replicas,
    MySql,
}

fn components(fault: &Fault) -> &'static [Component] {
    use Component::{Flusher, Ingest, MySql, Redis, Replicas};
    match fault {
        Fault::Kill { who } | Fault::Terminate { who } | Fault::Pause { who } => components_of(*who),
        // It must be at work to be caught at it.
        Fault::KillAt { who, .. } | Fault::PauseAt { who, .. } | Fault::Messages { who, .. } => match who {
            Who::Ingests | Who::Ingest(_) => &[Ingest, Redis],
            _ => &[Flusher, Redis, MySql],
        },
        Fault::SessionsKilled {} | Fault::FenceForgotten {} => &[Flusher, Redis, MySql],
        Fault::RollingRestart {} => &[Ingest, Flusher, Redis, MySql],
        Fault::RedisRestart { .. }
        | Fault::RedisPause {}
        | Fault::RedisFsync { .. }
        | Fault::FlushAll {}
        | Fault::FailOver { .. }
        | Fault::ReplicaAnswers { .. }
        | Fault::SlotsMoved {}
        | Fault::RedisWrites { .. }
        | Fault::RedisDamage { .. } => &[Redis],
        // With replicas that lack something it is worst.
        Fault::MasterLost { how: Loss::Killed | Loss::Hung, .. } => &[Redis],
        Fault::MasterLost { .. } | Fault::SlotMoved { .. } | Fault::SlotHalfMoved { .. } => &[Redis, Replicas],
        Fault::ReplicasBehind { .. } => &[Replicas],
        Fault::NodeOut { .. } => &[MySql],
        Fault::Inits { .. } => &[Redis, MySql],
        Fault::MysqlRestart {}
        | Fault::MysqlPause {}
        | Fault::MysqlReadOnly {}
        | Fault::Deadlocks { .. }
        | Fault::LockHeld { .. }
        | Fault::Poison {} => &[MySql],
        Fault::MysqlOlder { .. } => &[MySql, Flusher],
        Fault::Network { who: Who::All, store: Store::Redis, .. } => &[Redis],
        Fault::Network { who: Who::All, store: Store::MySql, .. } => &[MySql],
        Fault::Network { who, .. } => components_of(*who),
        // These come with others that take care of it.
        Fault::PowerCut { .. }
        | Fault::Clocks { .. }
        | Fault::DiskFull { .. }
        | Fault::DiskFails { .. }
        | Fault::JournalDamage { .. } => &[],
    }
}

fn components_of(who: Who) -> &'static [Component] {
    match who {
        Who::All => &[Component::Ingest, Component::Flusher],
        Who::Ingests | Who::Ingest(_) => &[Component::Ingest],
        Who::Flushers | Who::Flusher(_) => &[Component::Flusher],
        Who::Reader => &[],
    }
}

/// Does it; answers how it is undone, unless there is nothing to undo. May take a while, for what consists of several
/// steps.
fn inject(lab: &mut Lab, fault: Fault) -> anyhow::Result<Option<Healing>> {
    if let Some(topology) = lab.setup.topology()
        && !fault.suits(topology)
    {
        return Err(Skip(format!("{fault} is not done on {topology}")).into());
    }
    Ok(match fault {
        Fault::Kill { who } => Some(services::kill(lab, who)?),
        Fault::KillAt { who, point, moment, fate } => Some(messages::kill_at(lab, who, point, moment, fate)?),
        Fault::Terminate { who } => Some(services::terminate(lab, who)?),
        Fault::Pause { who } => Some(services::pause(lab, who)?),
        Fault::PauseAt { who, point, moment } => Some(messages::pause_at(lab, who, point, moment)?),
        Fault::RollingRestart {} => {
            lab.stack.roll()?;
            None
        }
        Fault::Clocks { services_ms, .. } => Some(clock::jump(lab, services_ms)?),
        Fault::RedisRestart { data } => {
            several::redis_changes(lab, 1);
            Some(redis::restart(lab, data)?)
        }
        Fault::RedisPause {} => {
            several::redis_changes(lab, 0);
            Some(redis::pause(lab)?)
        }
        Fault::RedisFsync { policy } => redis::fsync(lab, policy)?,
        Fault::FlushAll {} => {
            several::redis_changes(lab, 1);
            lab.stack.flush_redis()?;
            None
        }
        Fault::RedisWrites { mode } => Some(redis::write_mode(lab, mode)?),
        Fault::MasterLost { shard, how } => several::lose_master(lab, shard, how)?,
        Fault::ReplicasBehind { shard, how } => Some(several::hold_replicas(lab, shard, how)?),
        Fault::SlotMoved { shard, times } => several::move_slot(lab, shard, times)?,
        Fault::SlotHalfMoved { shard, end } => Some(several::half_move_slot(lab, shard, end)?),
        Fault::NodeOut { node, how } => Some(several::put_node_out(lab, node, how)?),
        Fault::Inits { count } => several::init(lab, count)?,
        Fault::MysqlRestart {} => Some(mysql::restart(lab)?),
        Fault::MysqlPause {} => Some(mysql::pause(lab)?),
        Fault::MysqlReadOnly {} => Some(mysql::read_only(lab)?),
        Fault::MysqlOlder { after_ms } => Some(mysql::older(lab, Duration::from_millis(after_ms))?),
        Fault::Deadlocks { times } => mysql::deadlocks(lab, times)?,
        Fault::LockHeld { ms } => Some(mysql::hold_lock(lab, ms)?),
        Fault::SessionsKilled {} => mysql::kill_sessions(lab)?,
        Fault::Poison {} => Some(mysql::poison(lab)?),
        Fault::FenceForgotten {} => Some(mysql::forget_fence(lab)?),
        Fault::Network { store, who, state } => Some(network::disturb(lab, store, who, state)?),
        Fault::Messages { who, point, hurt, times } => Some(messages::hurt(lab, who, point, hurt, times)?),
        Fault::DiskFull { .. } => Some(journal::fill_disk(lab)?),
        Fault::JournalDamage { how, dice, .. } => journal::damage(lab, how, dice)?,
        Fault::PowerCut { .. }
        | Fault::FailOver { .. }
        | Fault::ReplicaAnswers { .. }
        | Fault::SlotsMoved {}
        | Fault::RedisDamage { .. }
        | Fault::DiskFails { .. } => {
            return Err(only_simulated(fault));
        }
    })
}

fn only_simulated(what: impl std::fmt::Display) -> anyhow::Error {
    Skip(format!("{what} can only be simulated")).into()
}

/// Where a step of the protocol passes, and how it is told from others.
fn place(lab: &Lab, point: Point) -> anyhow::Result<(Store, Matcher)> {
    let script = |name| (Store::Redis, Arc::new(lab.scripts.runs(name)) as Matcher);
    Ok(match point {
        Point::Apply => script("apply"),
        Point::Register => script("register"),
        Point::Reopen => script("reopen"),
        Point::Follow => script("follow"),
        Point::Advance => script("advance"),
        Point::Ack => script("ack"),
        Point::Lease => script("lease"),
        Point::Lock => (Store::MySql, Arc::new(locks_fence)),
        Point::Commit => (Store::MySql, Arc::new(|message: &Message| message.runs_sql("COMMIT"))),
        Point::NextEpoch | Point::CommitDirect => return Err(only_simulated(point)),
    })
}

/// Whether a message takes the lock of a shard.
fn locks_fence(message: &Message) -> bool {
    message.runs_sql("SELECT") && message.contains("footfall_shard_fence") && message.contains("FOR UPDATE")
}
