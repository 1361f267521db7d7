//! Faults of stores of several servers, and what else goes wrong meanwhile.

use super::{Draw, Recipe};
use crate::fault::Fault;
use crate::setup::{Load, Setup, Topology};
use crate::step::PlannedFault;
use crate::values::{Lag, Loss, Outage, SlotEnd, Who};

/// Long enough for another server to take over, in a short run and in a long one.
const TAKEN_OVER_MS: (u64, u64) = (4_500, 6_000);
const LONG_MS: (u64, u64) = (10_000, 30_000);
/// Longer than shards may be degraded by a server that hangs, so that it does not help by going on.
const HUNG_CLUSTER_MS: (u64, u64) = (7_000, 8_000);
const HUNG_SENTINEL_MS: (u64, u64) = (9_000, 10_000);
/// Of what nobody has to take over.
const AWHILE_MS: (u64, u64) = (1_500, 3_000);

/// For stores that share a machine with all the others.
fn load() -> Load {
    Load { rate: 1_000, users: 5_000, ..Load::default() }
}

const fn on(topology: Topology, recipe: Recipe) -> Recipe {
    recipe.on(Setup::Several(topology)).under(|_| load())
}

const fn sentinel(recipe: Recipe) -> Recipe {
    on(Topology::Sentinel, recipe)
}

const fn cluster(recipe: Recipe) -> Recipe {
    on(Topology::Cluster, recipe)
}

const fn galera(recipe: Recipe) -> Recipe {
    on(Topology::Galera, recipe)
}

/// One of so many.
fn shard(draw: &Draw<'_>, shards: u64) -> u16 {
    draw.dice.range(0, shards - 1) as u16
}

fn lost(draw: &Draw<'_>, shards: u64, how: Loss) -> Vec<PlannedFault> {
    draw.one(Fault::MasterLost { shard: shard(draw, shards), how })
}

fn behind(draw: &Draw<'_>, shards: u64, how: Lag) -> Vec<PlannedFault> {
    draw.one(Fault::ReplicasBehind { shard: shard(draw, shards), how })
}

/// The replicas lack the latest writes when one of them has to take over.
fn stale(draw: &Draw<'_>, shards: u64) -> Vec<PlannedFault> {
    let (shard, ms) = (shard(draw, shards), draw.dice.range(500, 1_500));
    let behind = draw.after(0, Fault::ReplicasBehind { shard, how: Lag::CutOff });
    vec![behind, draw.after(ms, Fault::MasterLost { shard, how: Loss::Killed })]
}

fn out(draw: &Draw<'_>, how: Outage) -> Vec<PlannedFault> {
    draw.one(Fault::NodeOut { node: draw.dice.index(3), how })
}

fn services(draw: &Draw<'_>) -> Vec<PlannedFault> {
    let who = draw.dice.pick(&[draw.ingest(), draw.flusher(), Who::Ingests, Who::Flushers]);
    draw.one(draw.dice.pick(&[Fault::Kill { who }, Fault::Terminate { who }, Fault::Pause { who }]))
}

fn inits(draw: &Draw<'_>) -> Vec<PlannedFault> {
    draw.one(Fault::Inits { count: 3 })
}

const SERVICES: &str = "One ingest or flusher, or all of them, are killed, told to end, or stand still.";
const INITS: &str = "`footfall init` is run three times at once, while views come.";
const KILLED: &str = "The master is killed and comes back when a replica has taken over.";
const SOON_BACK: &str = "The master is killed and is back at once, whether or not a replica takes over.";
const HUNG: &str = "The master stands still, and goes on when a replica has taken over.";
const HANDED_OVER: &str = "An operator has a replica take over from the master.";
const STALE: &str = "Replicas lose their master; then it is killed, and one takes over without the latest views.";

pub(super) const RECIPES: &[Recipe] = &[
    sentinel(Recipe::new("sentinel-master-killed", KILLED, |draw| lost(draw, 2, Loss::Killed)))
        .lasts(TAKEN_OVER_MS, LONG_MS),
    sentinel(Recipe::new("sentinel-master-soon-back", SOON_BACK, |draw| lost(draw, 2, Loss::Killed)))
        .lasts((100, 1_200), (100, 1_200))
        .not_in_share("its master is killed for longer"),
    sentinel(Recipe::new("sentinel-master-hung", HUNG, |draw| lost(draw, 2, Loss::Hung)))
        .lasts(HUNG_SENTINEL_MS, LONG_MS)
        .not_in_share("it is known only after many seconds that it hangs"),
    sentinel(Recipe::new("sentinel-handed-over", HANDED_OVER, |draw| lost(draw, 2, Loss::HandedOver)))
        .lasts((0, 0), (0, 0))
        .not_in_share("its master is killed"),
    sentinel(Recipe::new("sentinel-replicas-hung", "Both replicas stand still.", |draw| behind(draw, 2, Lag::Hung)))
        .lasts(AWHILE_MS, LONG_MS)
        .not_in_share("its master is killed"),
    sentinel(Recipe::new("sentinel-stale-replica", STALE, |draw| stale(draw, 2)))
        .lasts(TAKEN_OVER_MS, LONG_MS)
        .not_in_share("its master is killed"),
    sentinel(Recipe::new("sentinel-services", SERVICES, services))
        .lasts((500, 1_500), (1_000, 30_000))
        .not_in_share("those of the usual stack are killed"),
    sentinel(Recipe::new("sentinel-inits", INITS, inits)).lasts((0, 0), (0, 0)).not_in_share("it takes long"),
    cluster(Recipe::new("cluster-master-killed", KILLED, |draw| lost(draw, 4, Loss::Killed)))
        .lasts(TAKEN_OVER_MS, LONG_MS),
    cluster(Recipe::new("cluster-master-soon-back", SOON_BACK, |draw| lost(draw, 4, Loss::Killed)))
        .lasts((100, 1_700), (100, 1_700))
        .not_in_share("its master is killed for longer"),
    cluster(Recipe::new("cluster-master-hung", HUNG, |draw| lost(draw, 4, Loss::Hung)))
        .lasts(HUNG_CLUSTER_MS, LONG_MS)
        .not_in_share("its master is killed"),
    cluster(Recipe::new("cluster-handed-over", HANDED_OVER, |draw| lost(draw, 4, Loss::HandedOver)))
        .lasts((0, 0), (0, 0))
        .not_in_share("its master is killed"),
    cluster(Recipe::new("cluster-replica-hung", "The replica of a master stands still.", |draw| {
        behind(draw, 4, Lag::Hung)
    }))
    .lasts(AWHILE_MS, LONG_MS)
    .not_in_share("its master is killed"),
    cluster(Recipe::new("cluster-stale-replica", STALE, |draw| stale(draw, 4)))
        .lasts(TAKEN_OVER_MS, LONG_MS)
        .not_in_share("its master is killed"),
    cluster(Recipe::new("cluster-slot-moved", "The slot of a shard moves to another master.", |draw| {
        draw.one(Fault::SlotMoved { shard: shard(draw, 4), times: 1 })
    }))
    .lasts((0, 0), (0, 0))
    .not_in_share("it is left half moved"),
    cluster(Recipe::new(
        "cluster-slot-moved-often",
        "The slot of a shard moves from master to master, without a pause.",
        |draw| {
            let times = draw.dice.range(4, draw.scale.of(8, 40));
            draw.one(Fault::SlotMoved { shard: shard(draw, 4), times })
        },
    ))
    .lasts((0, 0), (0, 0))
    .not_in_share("it is left half moved"),
    cluster(Recipe::new(
        "cluster-slot-half-moved",
        "The keys of a shard are on two masters for a while, until the rest has followed.",
        |draw| draw.one(Fault::SlotHalfMoved { shard: shard(draw, 4), end: SlotEnd::Finished }),
    ))
    .lasts(AWHILE_MS, LONG_MS),
    cluster(Recipe::new(
        "cluster-slot-taken-back",
        "The keys of a shard are on two masters for a while, until those that have moved come back.",
        |draw| draw.one(Fault::SlotHalfMoved { shard: shard(draw, 4), end: SlotEnd::TakenBack }),
    ))
    .lasts(AWHILE_MS, LONG_MS)
    .not_in_share("it is half moved"),
    cluster(Recipe::new("cluster-services", SERVICES, services))
        .lasts((500, 1_500), (1_000, 30_000))
        .not_in_share("those of the usual stack are killed"),
    cluster(Recipe::new("cluster-inits", INITS, inits)).lasts((0, 0), (0, 0)).not_in_share("it takes long"),
    galera(Recipe::new("galera-node-killed", "A node is killed, and joins again.", |draw| out(draw, Outage::Killed)))
        .lasts((1_000, 4_000), LONG_MS),
    galera(Recipe::new("galera-node-stopped", "A node ends, as it is told, and joins again.", |draw| {
        out(draw, Outage::Stopped)
    }))
    .lasts((1_000, 3_000), LONG_MS)
    .not_in_share("one is killed"),
    galera(Recipe::new(
        "galera-node-hung",
        "A node stands still, so that the others leave it out, and goes on.",
        |draw| out(draw, Outage::Hung),
    ))
    .lasts((1_000, 6_000), LONG_MS)
    .not_in_share("one is killed"),
    galera(Recipe::new("galera-node-behind", "A node takes up nothing that the others write.", |draw| {
        out(draw, Outage::Behind)
    }))
    .lasts(AWHILE_MS, LONG_MS)
    .not_in_share("one is killed"),
    galera(Recipe::new("galera-services", SERVICES, services))
        .lasts((500, 1_500), (1_000, 30_000))
        .not_in_share("those of the usual stack are killed"),
    galera(Recipe::new("galera-inits", INITS, inits)).lasts((0, 0), (0, 0)).not_in_share("it takes long"),
];
