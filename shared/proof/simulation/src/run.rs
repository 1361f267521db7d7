//! One run: a simulated system, its faults, its healing, and the verdict.

use std::sync::Arc;
use std::time::Duration;

use footfall_proof::{Dice, Plan, World as _, carry_out};
use tokio::task::JoinSet;

use crate::before;
use crate::books::Costs;
use crate::clients;
use crate::judge;
use crate::mutants::Mutant;
use crate::processes::{Process, World};
use crate::readers;
use crate::redis::BEGIN_MS;
use crate::stage::{FLUSHERS, INGESTS, Stage, sleep_ms};
use crate::storm::{settings_of, storm};
use crate::trace::Trace;
use crate::world::{Simulated, heal, start};

/// How long a healed system may take until MySQL has everything, in milliseconds.
const HEALING_MS_MAX: u64 = 600_000;
/// How often that is looked at.
const LOOK_MS: u64 = 200;
/// How often ingests are ended and begun again until no journal is left.
const ENDINGS_MAX: usize = 5;
/// How long a run may take at all, beside its faults.
const LIFE_MS_MAX: u64 = 2 * HEALING_MS_MAX;

/// What became of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its plan.
    pub plan: Plan,
    /// What must never happen and did.
    pub violations: Vec<String>,
    /// Faults that a simulated system cannot have, and why.
    pub missed: Vec<String>,
    /// A hash of everything that happened.
    pub hash: u64,
    /// How much happened.
    pub events: u64,
    /// Views that were acknowledged.
    pub acknowledged: u64,
    /// When the last client was told that its views are counted, in milliseconds of simulated time.
    pub told_ms: u64,
    /// How many epochs were begun, by shard.
    pub epochs_begun: Vec<u64>,
    /// Whether ingest went to MySQL itself, by shard.
    pub went_directly: Vec<bool>,
    /// What else it has cost.
    pub costs: Costs,
    /// How long the healing took, in milliseconds of simulated time.
    pub healing_ms: u64,
    /// Everything that happened, if it was wanted.
    pub lines: Vec<String>,
}

/// Runs the random plan of a seed.
#[must_use]
pub fn run(seed: u64, mutant: Option<Mutant>, with_lines: bool) -> Report {
    run_plan(&storm(seed), mutant, with_lines)
}

/// Runs a plan, in a runtime of its own. It may be one for real servers.
#[must_use]
pub fn run_plan(plan: &Plan, mutant: Option<Mutant>, with_lines: bool) -> Report {
    footfall_shared::service::random::simulate(plan.seed);
    footfall_shared::service::clock::simulate(BEGIN_MS);
    let dice = Dice::new(plan.seed);
    let _ = dice.fork(); // Random plans come from these.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing from the system");
    runtime.block_on(async {
        let trace = Arc::new(Trace::new(with_lines));
        let (aims, rules) = Default::default();
        let stage = Arc::new(Stage { dice: dice.fork(), trace: Arc::clone(&trace), aims, rules });
        let world = World::new(stage, &settings_of(plan), mutant);
        let life_ms_max = LIFE_MS_MAX + plan.length_ms();
        let life = tokio::time::timeout(Duration::from_millis(life_ms_max), live(&world, plan, &dice));
        let (healing_ms, missed) = life.await.unwrap_or_else(|_| {
            trace.violation("it does not end".into());
            (life_ms_max, vec![])
        });
        Report {
            plan: plan.clone(),
            violations: trace.violations(),
            missed,
            hash: trace.hash(),
            events: trace.events(),
            acknowledged: world.books.acknowledgements(),
            told_ms: world.books.told_ms(),
            epochs_begun: world.database.epochs_begun(),
            went_directly: world.database.went_directly(),
            costs: world.books.costs(),
            healing_ms,
            lines: trace.lines(),
        }
    })
}

/// Answers how long the healing took, in milliseconds, and which faults could not be had.
async fn live(world: &Arc<World>, plan: &Plan, dice: &Dice) -> (u64, Vec<String>) {
    let settings = settings_of(plan);
    if settings.is_upgrade {
        for ingest in before::leave(world, dice, &settings) {
            tokio::spawn(before::send(Arc::clone(world), ingest));
        }
    }
    (0..INGESTS).map(Process::Ingest).chain((0..FLUSHERS).map(Process::Flusher)).for_each(|process| {
        world.start(process);
    });

    let mut clients = JoinSet::new();
    for request in clients::requests(&dice.fork(), &settings) {
        let world = Arc::clone(world);
        clients.spawn(async move {
            sleep_ms(request.at_ms).await;
            clients::send(world, request).await;
        });
    }
    let reading = tokio::spawn(readers::read(Arc::clone(world), settings, dice.fork()));
    let mut simulated = Simulated(Arc::clone(world));
    let carried = carry_out(&mut simulated, plan).await;
    simulated.run_until(settings.traffic_ms).await;

    heal(world).await;
    let healed_ms = world.stage.trace.now_ms();
    while clients.join_next().await.is_some() {}
    let healing_ms = settle(world, settings.shards, healed_ms).await;
    reading.abort();
    readers::read_all(world, &settings).await;
    for what in judge::find_wrong(world, settings.shards) {
        world.stage.trace.violation(what);
    }
    let missed = carried.missed.iter().map(|(fault, why)| format!("{fault}: {why}"));
    (healing_ms, missed.collect())
}

/// Waits until MySQL has everything and nobody keeps anything any more; answers how long that took.
async fn settle(world: &Arc<World>, shards: u16, healed_ms: u64) -> u64 {
    let mut calm = 0;
    let is_late = || world.stage.trace.now_ms() > healed_ms + HEALING_MS_MAX;
    // Twice in a row after a pause: an adopter looks only every three seconds.
    while calm < 2 && !is_late() {
        sleep_ms(if calm == 0 { LOOK_MS } else { 3500 }).await;
        calm = if is_settled(world, shards) { calm + 1 } else { 0 };
    }
    let healing_ms = world.stage.trace.now_ms() - healed_ms;
    if is_late() {
        let stores: Vec<String> = (0..shards)
            .flat_map(|shard| [world.farm.of(shard).describe(shard), world.database.describe(shard)])
            .collect();
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

fn is_settled(world: &World, shards: u16) -> bool {
    let producers: Vec<String> =
        (0..INGESTS).filter_map(|ingest| world.reach(ingest)).map(|reached| reached.producer.to_string()).collect();
    let is_adopted = world.disks.iter().all(|disk| disk.lives().iter().all(|life| producers.contains(life)));
    is_adopted && (0..shards).all(|shard| world.farm.of(shard).is_drained(shard)) && judge::is_complete(world)
}
