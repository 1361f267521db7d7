//! The simulated system as a [`World`](footfall_proof::World) that can be hurt.

use std::sync::Arc;

use footfall_proof::{
    Fate, Fault, Hurt, Loss, Moment, Network, NotDone, PlannedFault, Point, Restart, Store, Who, WriteMode,
};

use crate::disk::SimulatedDisk;
use crate::processes::{Process, World};
use crate::redis::{BEGIN_MS, Group};
use crate::stage::{Aim, CLIENTS, FLUSHERS, INGESTS, Then, clients, sleep_ms};

/// A running simulated system.
pub struct Simulated(pub Arc<World>);

/// Ends a fault, or a part of it.
type Undo = Box<dyn FnOnce(&Arc<World>)>;
type Undos = Vec<(u64, Undo)>;

impl footfall_proof::World for Simulated {
    type Undo = Undo;
    type Error = String;

    fn now_ms(&self) -> u64 {
        self.0.stage.trace.now_ms()
    }

    /// Whoever is hit at a step meanwhile is killed or stopped at once.
    async fn run_until(&mut self, ms: u64) {
        let world = &self.0;
        loop {
            let rest = ms.saturating_sub(world.stage.trace.now_ms());
            tokio::select! {
                biased;
                () = world.stage.aims.bell.notified() => world.stage.aims.take().into_iter().for_each(|(who, aim)| hit(world, who, aim)),
                () = sleep_ms(rest) => return,
            }
        }
    }

    async fn inject(&mut self, step: &PlannedFault) -> Result<Undos, NotDone<String>> {
        let (world, PlannedFault { hold_ms, fault, .. }) = (&self.0, *step);
        world.stage.trace.note("action", &[], || fault.to_string());
        inject(world, fault, hold_ms).await.map_err(NotDone::Missed)
    }

    async fn undo(&mut self, undo: Undo) -> Result<(), String> {
        self.0.stage.trace.note("action", &[], || "the end of a fault".into());
        undo(&self.0);
        Ok(())
    }

    /// All at once is what finds most.
    fn take_turns(&self, _: &Fault, _: &Fault) -> bool {
        false
    }
}

fn hit(world: &Arc<World>, who: usize, aim: Aim) {
    let Some(process) = Process::of(who) else { return };
    match aim.then {
        Then::Dies => world.kill(process),
        Then::StandsStill => stand_still(world, process, true),
    }
    let world = Arc::clone(world);
    tokio::spawn(async move {
        sleep_ms(if aim.hold_ms == 0 { world.stage.dice.range(1, 2000) } else { aim.hold_ms }).await;
        match aim.then {
            Then::Dies => start(&world, process).await,
            Then::StandsStill => stand_still(&world, process, false),
        }
    });
}

/// Begins a process, as a service manager does: again and again.
pub async fn start(world: &World, process: Process) {
    while !world.start(process) {
        sleep_ms(100).await;
    }
}

/// An ingest that stands still is one that hears nothing of anybody.
fn stand_still(world: &World, process: Process, is_still: bool) {
    match process {
        Process::Flusher(which) => world.pause(which, is_still),
        Process::Ingest(who) => {
            let network = Network { silent: is_still, ..Network::CALM };
            world.farm.network(Who::Ingest(who), network);
            world.database.network(Who::Ingest(who), network);
        }
    }
}

fn undo(after_ms: u64, undo: impl FnOnce(&Arc<World>) + 'static) -> (u64, Undo) {
    (after_ms, Box::new(undo))
}

fn starts(after_ms: u64, process: Process) -> (u64, Undo) {
    undo(after_ms, move |world| {
        let world = Arc::clone(world);
        tokio::spawn(async move { start(&world, process).await });
    })
}

fn processes(who: Who) -> Vec<Process> {
    clients(who).filter_map(Process::of).collect()
}

fn network(world: &World, store: Store, who: Who, state: Network) {
    match store {
        Store::Redis => world.farm.network(who, state),
        Store::MySql => world.database.network(who, state),
    }
}

/// Changes the way to a store until the end.
fn disturb(world: &World, store: Store, who: Who, state: Network, hold_ms: u64) -> Undos {
    network(world, store, who, state);
    vec![undo(hold_ms, move |world| network(world, store, who, Network::CALM))]
}

/// Flushes that are rolled back.
fn roll_back(world: &World, times: u64, hold_ms: u64) -> Undos {
    hurt(world, Who::Flushers, Point::Commit, Hurt::DropRequest, times, hold_ms)
}

/// Hurts single messages until the end; what has none, until as many were hurt.
fn hurt(world: &World, who: Who, point: Point, hurt: Hurt, times: u64, hold_ms: u64) -> Undos {
    let rule = world.stage.rules.add(who, step_of(point), hurt, times);
    let end = undo(hold_ms, move |world| world.stage.rules.remove(rule));
    if hold_ms > 0 { vec![end] } else { vec![] }
}

fn disk(world: &World, host: usize) -> Result<&SimulatedDisk, String> {
    world.disks.get(host).map(|disk| &**disk).ok_or_else(|| format!("there is no host {host}"))
}

async fn inject(world: &Arc<World>, fault: Fault, hold_ms: u64) -> Result<Undos, String> {
    let silent = Network { silent: true, ..Network::CALM };
    let refused = Network { refused: true, ..Network::CALM };
    Ok(match fault {
        Fault::Kill { who } => {
            let processes = processes(who);
            processes.iter().for_each(|process| world.kill(*process));
            processes.into_iter().map(|process| starts(hold_ms, process)).collect()
        }
        Fault::KillAt { who, point, moment, fate } => {
            // A request that arrives without its sender is as good as one that was answered.
            let moment = if fate == Fate::Delivered && moment == Moment::Request { Moment::Reply } else { moment };
            world.stage.aims.add(Aim { who, step: step_of(point), moment, hold_ms, then: Then::Dies });
            vec![]
        }
        Fault::PauseAt { who, point, moment } => {
            world.stage.aims.add(Aim { who, step: step_of(point), moment, hold_ms, then: Then::StandsStill });
            vec![]
        }
        Fault::Terminate { who } => {
            for process in processes(who) {
                let world = Arc::clone(world);
                tokio::spawn(async move { world.end(process).await });
            }
            processes(who).into_iter().map(|process| starts(hold_ms, process)).collect()
        }
        Fault::Pause { who } => {
            processes(who).into_iter().for_each(|process| stand_still(world, process, true));
            let resume = |process| undo(hold_ms, move |world| stand_still(world, process, false));
            processes(who).into_iter().map(resume).collect()
        }
        Fault::RollingRestart {} => {
            for process in processes(Who::All) {
                world.end(process).await;
                start(world, process).await;
            }
            each_master(world, Group::stop);
            each_master(world, |master| master.start(Restart::Whole));
            vec![]
        }
        Fault::PowerCut { host } => {
            disk(world, host)?;
            world.power_cut(host).await;
            (0..INGESTS).map(|ingest| starts(hold_ms, Process::Ingest(ingest))).collect()
        }
        Fault::Clocks { redis_ms, services_ms } => {
            each_master(world, |master| master.move_clock(redis_ms));
            footfall_shared::service::clock::simulate(BEGIN_MS.saturating_add_signed(services_ms));
            let back = undo(hold_ms, |_| footfall_shared::service::clock::simulate(BEGIN_MS));
            if hold_ms > 0 { vec![back] } else { vec![] }
        }
        Fault::RedisRestart { data } => {
            each_master(world, Group::stop);
            vec![undo(hold_ms, move |world| each_master(world, |master| master.start(data)))]
        }
        Fault::RedisPause {} => disturb(world, Store::Redis, Who::All, silent, hold_ms),
        // A kill takes nothing from the page cache.
        Fault::RedisFsync { .. } => vec![],
        Fault::FlushAll {} => {
            each_master(world, Group::flush_all);
            vec![]
        }
        Fault::FailOver { lag_writes, spread_ms } => {
            each_master(world, |master| master.fail_over(lag_writes));
            let follow = |who| {
                let after_ms = 1 + spread_ms * who as u64 / 3;
                undo(after_ms, move |world| each_master(world, |master| master.follow(who)))
            };
            (0..CLIENTS).map(follow).collect()
        }
        Fault::ReplicaAnswers { who, lag_writes } => {
            let lead = |master: &Arc<Group>| {
                let (master, replica) = (Arc::clone(master), master.lead_to_replica(who, lag_writes)?);
                Some(undo(hold_ms, move |_| master.leave_replica(replica)))
            };
            some(world.farm.masters().iter().filter_map(lead), "no master has a replica that answers")?
        }
        Fault::SlotsMoved {} => {
            let moved = |master: &Arc<Group>| {
                let (master, (from, to)) = (Arc::clone(master), master.move_slots()?);
                Some(undo(hold_ms, move |_| master.move_slots_back(from, to)))
            };
            let back = some(world.farm.masters().iter().filter_map(moved), "no master has slots that can be moved")?;
            if hold_ms > 0 { back } else { vec![] }
        }
        Fault::RedisWrites { mode } => {
            each_master(world, |master| master.write_mode(mode));
            vec![undo(hold_ms, |world| each_master(world, |master| master.write_mode(WriteMode::Writable)))]
        }
        Fault::RedisDamage { dice } => {
            each_master(world, |master| master.damage(dice));
            vec![]
        }
        Fault::MasterLost { shard, how } => lose_master(master(world, shard)?, how),
        Fault::SlotMoved { shard, times } => {
            let master = master(world, shard)?;
            for _ in 0..times {
                master.move_slots().ok_or("the master has no slots that can be moved")?;
                sleep_ms(SLOT_MOVE_MS).await;
            }
            vec![]
        }
        Fault::ReplicasBehind { .. } | Fault::SlotHalfMoved { .. } | Fault::NodeOut { .. } | Fault::Inits { .. } => {
            return Err("it is done to real servers only".into());
        }
        Fault::MysqlRestart {} => disturb(world, Store::MySql, Who::All, refused, hold_ms),
        Fault::MysqlPause {} => disturb(world, Store::MySql, Who::All, silent, hold_ms),
        Fault::MysqlReadOnly {} => {
            world.database.read_only(true);
            vec![undo(hold_ms, |world| world.database.read_only(false))]
        }
        Fault::MysqlOlder { .. } => return Err("the simulated MySQL keeps no backup".into()),
        Fault::Deadlocks { times } => roll_back(world, times, hold_ms),
        Fault::LockHeld { .. } => roll_back(world, 2, hold_ms),
        Fault::SessionsKilled {} => roll_back(world, 1, hold_ms),
        // The simulated MySQL always refuses one user, who comes if the settings say so.
        Fault::Poison {} => vec![],
        Fault::FenceForgotten {} => {
            world.database.forget_fence();
            vec![]
        }
        Fault::Network { store, who, state } => disturb(world, store, who, state, hold_ms),
        Fault::Messages { who, point, hurt, times } => self::hurt(world, who, point, hurt, times, hold_ms),
        Fault::DiskFull { host } => {
            disk(world, host)?.fill(true);
            vec![undo(hold_ms, move |world| world.disks[host].fill(false))]
        }
        Fault::DiskFails { host, writes, syncs } => {
            disk(world, host)?.fail(writes, syncs);
            vec![undo(hold_ms, move |world| world.disks[host].fail(0, 0))]
        }
        Fault::JournalDamage { host, .. } => {
            disk(world, host)?.flip();
            vec![]
        }
    })
}

fn each_master(world: &World, work: impl Fn(&Group)) {
    world.farm.masters().iter().for_each(|master| work(master));
}

/// All of them, or why there are none.
fn some(undos: impl Iterator<Item = (u64, Undo)>, why: &str) -> Result<Undos, String> {
    let undos: Undos = undos.collect();
    if undos.is_empty() { Err(why.to_owned()) } else { Ok(undos) }
}

fn master(world: &World, shard: u16) -> Result<&Arc<Group>, String> {
    if shard < world.settings.shards { Ok(world.farm.of(shard)) } else { Err(format!("there is no shard {shard}")) }
}

/// Until others have seen that a master is gone, and have chosen a replica.
const ELECTION_MS: u64 = 2_500;
/// A slot is moved key by key.
const SLOT_MOVE_MS: u64 = 100;

/// A replica that has everything takes its place, whenever the lost one is back.
fn lose_master(master: &Arc<Group>, how: Loss) -> Undos {
    match how {
        Loss::Killed => master.stop(),
        Loss::Hung => master.network(Who::All, Network { silent: true, ..Network::CALM }),
        Loss::HandedOver => {
            master.replace_master();
            return vec![];
        }
    }
    let master = Arc::clone(master);
    let elected = move |_: &Arc<World>| {
        master.network(Who::All, Network::CALM);
        master.replace_master();
    };
    vec![undo(ELECTION_MS, elected)]
}

/// The script's name, or the transaction's. A transaction is one step here, its lock included.
fn step_of(point: Point) -> &'static str {
    match point {
        Point::Apply => "apply",
        Point::Register => "register",
        Point::Reopen => "reopen",
        Point::NextEpoch => "next_epoch",
        Point::CommitDirect => "commit_direct",
        Point::Follow => "follow",
        Point::Lock | Point::Commit => "commit",
        Point::Advance => "advance",
        Point::Ack => "ack",
        Point::Lease => "lease",
    }
}

/// Ends all faults. What was lost stays lost.
pub async fn heal(world: &Arc<World>) {
    world.stage.trace.note("heal", &[], String::new);
    world.stage.aims.clear();
    world.stage.rules.clear();
    world.farm.network(Who::All, Network::CALM);
    each_master(world, |master| {
        master.write_mode(WriteMode::Writable);
        master.start(Restart::Whole);
        (0..CLIENTS).for_each(|who| master.follow(who));
    });
    world.database.network(Who::All, Network::CALM);
    world.database.read_only(false);
    for disk in &world.disks {
        disk.fill(false);
        disk.fail(0, 0);
    }
    for flusher in 0..FLUSHERS {
        world.pause(flusher, false);
        start(world, Process::Flusher(flusher)).await;
    }
    for ingest in 0..INGESTS {
        start(world, Process::Ingest(ingest)).await;
    }
}
