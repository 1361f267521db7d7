//! One run: a world made from a seed, its faults, its healing, and the verdict.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::before;
use crate::clients;
use crate::dice::Dice;
use crate::mutants::Mutant;
use crate::oracle;
use crate::plan::{Action, Plan, Process};
use crate::processes::World;
use crate::readers;
use crate::redis::{BEGIN_MS, Comeback, Mood};
use crate::stage::{CLIENTS, FLUSHERS, INGESTS, Stage, Weather, sleep_ms};
use crate::trace::Trace;

/// How long a healed world may take until MySQL has everything, in milliseconds.
const HEALING_MS_MAX: u64 = 600_000;
/// How often that is looked at.
const LOOK_MS: u64 = 200;
/// How often ingests are ended and begun again until no journal is left.
const ENDINGS_MAX: usize = 5;
/// How long a run may take at all.
const LIFE_MS_MAX: u64 = 2 * HEALING_MS_MAX;

/// What became of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Its plan.
    pub plan: Plan,
    /// What must never happen and did.
    pub violations: Vec<String>,
    /// A hash of everything that happened.
    pub hash: u64,
    /// How much happened.
    pub events: u64,
    /// Views that were acknowledged.
    pub acknowledged: u64,
    /// How long the healing took, in milliseconds of simulated time.
    pub healing_ms: u64,
    /// Everything that happened, if it was wanted.
    pub lines: Vec<String>,
}

/// Runs a seed in a runtime of its own.
#[must_use]
pub fn run(seed: u64, mutant: Option<Mutant>, with_lines: bool) -> Report {
    footfall_shared::service::random::simulate(seed);
    footfall_shared::service::clock::simulate(BEGIN_MS);
    let dice = Dice::new(seed);
    let plan = Plan::new(&dice.fork());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing from the system");
    runtime.block_on(async {
        let trace = Arc::new(Trace::new(with_lines));
        let stage = Arc::new(Stage { dice: dice.fork(), trace: Arc::clone(&trace), aims: Default::default() });
        let world = World::new(stage, &plan.setting, mutant);
        let life = live(&world, &plan, &dice);
        let healing_ms = tokio::time::timeout(Duration::from_millis(LIFE_MS_MAX), life).await.unwrap_or_else(|_| {
            trace.violation("it does not end".into());
            LIFE_MS_MAX
        });
        Report {
            seed,
            plan,
            violations: trace.violations(),
            hash: trace.hash(),
            events: trace.events(),
            acknowledged: world.books.acknowledgements(),
            healing_ms,
            lines: trace.lines(),
        }
    })
}

/// Answers how long the healing took, in milliseconds.
async fn live(world: &Arc<World>, plan: &Plan, dice: &Dice) -> u64 {
    if plan.setting.is_upgrade {
        for ingest in before::leave(world, dice, &plan.setting) {
            tokio::spawn(before::send(Arc::clone(world), ingest));
        }
    }
    (0..INGESTS).map(Process::Ingest).chain((0..FLUSHERS).map(Process::Flusher)).for_each(|process| {
        world.start(process);
    });

    let mut clients = JoinSet::new();
    for request in clients::requests(&dice.fork(), &plan.setting) {
        let world = Arc::clone(world);
        clients.spawn(async move {
            sleep_ms(request.at_ms).await;
            clients::send(world, request).await;
        });
    }
    let reading = tokio::spawn(readers::read(Arc::clone(world), plan.setting.clone(), dice.fork()));
    for (at_ms, action) in plan.actions() {
        until(world, at_ms).await;
        act(world, action).await;
    }
    until(world, plan.setting.traffic_ms).await;

    heal(world).await;
    let healed_ms = world.stage.trace.now_ms();
    while clients.join_next().await.is_some() {}
    let healing_ms = settle(world, plan, healed_ms).await;
    reading.abort();
    readers::read_all(world, &plan.setting).await;
    for what in oracle::judge(world, plan.setting.shards) {
        world.stage.trace.violation(what);
    }
    healing_ms
}

/// Waits until a time; whoever is hit at a step meanwhile is killed at once and comes back soon.
async fn until(world: &Arc<World>, at_ms: u64) {
    loop {
        let rest = at_ms.saturating_sub(world.stage.trace.now_ms());
        tokio::select! {
            biased;
            () = world.stage.aims.bell.notified() => {
                for who in world.stage.aims.take() {
                    let process = if who < INGESTS { Process::Ingest(who) } else { Process::Flusher(who - INGESTS) };
                    world.kill(process);
                    let world = Arc::clone(world);
                    tokio::spawn(async move {
                        sleep_ms(world.stage.dice.range(1, 2000)).await;
                        start(&world, process).await;
                    });
                }
            }
            () = sleep_ms(rest) => return,
        }
    }
}

/// Begins a process, as a service manager does: again and again.
async fn start(world: &World, process: Process) {
    while !world.start(process) {
        sleep_ms(100).await;
    }
}

async fn act(world: &Arc<World>, action: Action) {
    world.stage.trace.note("action", &[], || format!("{action:?}"));
    match action {
        Action::StopRedis => world.farm.stop(),
        Action::StartRedis(comeback) => world.farm.start(comeback),
        Action::FlushAll => world.farm.flush_all(),
        Action::FailOver(lag) => world.farm.fail_over(lag),
        Action::Follow(who) => world.farm.follow(who),
        Action::RedisWeather(who, weather) => world.farm.weather(who, weather),
        Action::RedisMood(mood) => world.farm.mood(mood),
        Action::RedisDamage(how) => world.farm.damage(how),
        Action::Clocks(redis, others) => {
            world.farm.move_clock(redis);
            footfall_shared::service::clock::simulate(BEGIN_MS.saturating_add_signed(others));
        }
        Action::MysqlWeather(who, weather) => world.database.weather(who, weather),
        Action::MysqlReadOnly(is_read_only) => world.database.read_only(is_read_only),
        Action::DiskFull(host, is_full) => world.disks[host].fill(is_full),
        Action::DiskFails(host, writes, syncs) => world.disks[host].fail(writes, syncs),
        Action::BitFlip(host) => world.disks[host].flip(),
        Action::PowerCut(host) => world.power_cut(host).await,
        Action::Kill(process) => world.kill(process),
        Action::Start(process) => {
            let world = Arc::clone(world);
            tokio::spawn(async move { start(&world, process).await });
        }
        Action::Aim(aim) => world.stage.aims.add(aim),
        Action::End(process) => {
            let world = Arc::clone(world);
            tokio::spawn(async move { world.end(process).await });
        }
        Action::Pause(flusher, is_paused) => world.pause(flusher, is_paused),
    }
}

/// Ends all faults. What was lost stays lost.
async fn heal(world: &Arc<World>) {
    world.stage.trace.note("heal", &[], String::new);
    world.stage.aims.clear();
    world.farm.weather(None, Weather::default());
    world.farm.mood(Mood::Well);
    world.farm.start(Comeback::Whole);
    (0..CLIENTS).for_each(|who| world.farm.follow(who));
    world.database.weather(None, Weather::default());
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

/// Waits until MySQL has everything and nobody keeps anything any more; answers how long that took.
async fn settle(world: &Arc<World>, plan: &Plan, healed_ms: u64) -> u64 {
    let mut calm = 0;
    let is_late = || world.stage.trace.now_ms() > healed_ms + HEALING_MS_MAX;
    // Twice in a row after a pause: an adopter looks only every three seconds.
    while calm < 2 && !is_late() {
        sleep_ms(if calm == 0 { LOOK_MS } else { 3500 }).await;
        calm = if is_settled(world, plan) { calm + 1 } else { 0 };
    }
    let healing_ms = world.stage.trace.now_ms() - healed_ms;
    if is_late() {
        let shards = 0..plan.setting.shards;
        let stores: Vec<String> =
            shards.flat_map(|shard| [world.farm.describe(shard), world.database.describe(shard)]).collect();
        let lives: Vec<_> = world.disks.iter().map(|disk| disk.lives()).collect();
        world.stage.trace.violation(format!("it does not settle: {stores:?}, journals {lives:?}"));
        return healing_ms;
    }
    // What ends in order leaves nothing behind, once MySQL has everything; what it leaves, the next one finishes.
    for _ in 0..ENDINGS_MAX {
        for ingest in 0..INGESTS {
            world.end(Process::Ingest(ingest)).await;
        }
        if world.disks.iter().all(|disk| disk.lives().is_empty()) {
            return healing_ms;
        }
        for ingest in 0..INGESTS {
            start(world, Process::Ingest(ingest)).await;
        }
        sleep_ms(10_000).await;
    }
    let left: Vec<_> = world.disks.iter().map(|disk| disk.lives()).collect();
    world.stage.trace.violation(format!("journals are left behind: {left:?}"));
    healing_ms
}

fn is_settled(world: &World, plan: &Plan) -> bool {
    let producers: Vec<String> =
        (0..INGESTS).filter_map(|ingest| world.reach(ingest)).map(|reached| reached.producer.to_string()).collect();
    let is_adopted = world.disks.iter().all(|disk| disk.lives().iter().all(|life| producers.contains(life)));
    is_adopted && (0..plan.setting.shards).all(|shard| world.farm.is_drained(shard)) && oracle::is_complete(world)
}
