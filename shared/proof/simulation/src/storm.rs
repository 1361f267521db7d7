//! A random plan for a simulated system: a setup, and faults in clusters.

use footfall_proof::{
    Damage, Dice, Expect, Fate, Fault, Load, Moment, Network, Plan, PlannedFault, Point, Restart, Settings, Setup,
    Store, Topology, Who, WriteMode,
};

use crate::stage::{CLIENTS, FLUSHERS, INGESTS, client};

/// The name of these plans.
const NAME: &str = "storm";

/// The plan of a seed.
#[must_use]
pub fn storm(seed: u64) -> Plan {
    let dice = Dice::new(seed).fork();
    let settings = settings(&dice, seed);
    // What matters is what goes wrong while something else is wrong.
    let moments: Vec<u64> = (0..dice.range(1, 3)).map(|_| dice.range(500, settings.traffic_ms)).collect();
    let mut faults: Vec<(u64, Vec<(u64, Fault)>)> = (0..dice.range(3, 12))
        .map(|_| {
            let near = dice.pick(&moments) + dice.range(0, 1500);
            let at = if dice.chance(70) { near } else { dice.range(200, settings.traffic_ms) };
            (at, faults(&dice, &settings))
        })
        .collect();
    // By the seed, and from dice of their own, for the same reason as below.
    if matches!(seed % 16, 4 | 9 | 10) {
        let dice = Dice::new(!seed);
        let more = (0..dice.range(1, 4)).map(|_| {
            let near = dice.pick(&moments) + dice.range(0, 1500);
            let at = if dice.chance(50) { near } else { dice.range(200, settings.traffic_ms) };
            (at, vec![topology_fault(&dice)])
        });
        faults.extend(more);
    }
    faults.sort_by_key(|(at, _)| *at);
    let mut previous_ms = 0;
    let mut steps = Vec::new();
    for (at_ms, together) in faults {
        for (hold_ms, fault) in together {
            steps.push(PlannedFault { after_ms: at_ms - previous_ms, hold_ms, fault });
            previous_ms = at_ms;
        }
    }
    let (name, setup, load) = (NAME.to_owned(), Setup::Simulated(settings), Load::default());
    Plan { name, seed, expect: Expect::NoneLost, setup, load, steps }
}

fn settings(dice: &Dice, seed: u64) -> Settings {
    let settings = Settings {
        shards: dice.pick(&[1, 1, 1, 2]),
        masters: 1,
        apply_ms: 0,
        hosts: dice.pick(&[1, 2]),
        has_journal: dice.chance(85),
        outlives_power: false,
        journal_bytes_max: dice.pick(&[32 << 10, 64 << 10, 256 << 10]),
        lease_ms: dice.pick(&[0, 3000]),
        poll_ms: dice.pick(&[50, 100, 200]),
        flush_timeout_ms: dice.pick(&[200, 1000]),
        redis_patience_ms: dice.pick(&[300, 1000, 2000]),
        answer_timeout_ms: dice.pick(&[3000, 10_000]),
        transaction_views_max: dice.pick(&[5, 20, 100, 10_000]),
        batch_views_max: dice.pick(&[1, 5, 100]),
        ids_bytes_max: dice.pick(&[256 << 20, 256 << 20, 6_000]),
        traffic_ms: dice.range(4000, 12_000),
        requests: dice.range(40, 200),
        articles: dice.range(1, 6),
        ids_percent: dice.pick(&[0, 20, 60]),
        poison_percent: dice.pick(&[0, 0, 3]),
        is_upgrade: dice.chance(10),
    };
    // By the seed, so that all others are what they were; none of the kept ones ends so. The version before cannot do it.
    let outlives_power = matches!(seed % 10, 6 | 7) && settings.has_journal && !settings.is_upgrade;
    Settings { outlives_power, ..settings }
}

/// The settings under which a plan for real servers is tried here: a single machine, as small as it can be.
#[must_use]
pub fn settings_of(plan: &Plan) -> Settings {
    let lease_ms = match plan.setup {
        Setup::Simulated(settings) => return settings,
        Setup::NoLeases => 0,
        Setup::SmallDisk | Setup::Clock | Setup::Usual | Setup::Several(_) => 800,
    };
    // As the drill sets them up, see [`Topology`].
    let (shards, masters) = match plan.setup.topology() {
        Some(Topology::Cluster) => (4, 3),
        Some(Topology::Sentinel) => (2, 1),
        Some(Topology::Galera) | None => (1, 1),
    };
    let traffic_ms = plan.length_ms() + 2_000;
    let is_poisoned = plan.steps.iter().any(|step| step.fault == Fault::Poison {});
    Settings {
        shards,
        masters,
        apply_ms: 0,
        hosts: 1,
        has_journal: true,
        outlives_power: false,
        journal_bytes_max: 256 << 10,
        lease_ms,
        poll_ms: 50,
        flush_timeout_ms: 200,
        redis_patience_ms: 500,
        answer_timeout_ms: 10_000,
        transaction_views_max: 10_000,
        batch_views_max: 100,
        ids_bytes_max: 256 << 20,
        traffic_ms,
        requests: (traffic_ms / 20).min(400),
        articles: plan.load.articles.min(6),
        ids_percent: 0,
        poison_percent: if is_poisoned { 5 } else { 0 },
        is_upgrade: false,
    }
}

/// Bad in one way or in several.
fn bad(dice: &Dice) -> Network {
    match dice.range(0, 5) {
        0 => Network { refused: true, ..Network::CALM },
        1 => Network { silent: true, ..Network::CALM },
        2 => Network { slow_ms: dice.pick(&[50, 300, 1500]), ..Network::CALM },
        3 => Network { lost_answer: 40, ..Network::CALM },
        4 => Network { late: 30, ..Network::CALM },
        _ => Network { lost_request: 15, lost_answer: 15, late: 10, slow_ms: 20, ..Network::CALM },
    }
}

/// No connections, or no answers.
fn cut(dice: &Dice) -> Network {
    let refused = dice.chance(60);
    Network { refused, silent: !refused, ..Network::CALM }
}

fn restart(dice: &Dice) -> Restart {
    match dice.range(0, 3) {
        0 => Restart::Whole,
        1 => Restart::WithoutTail(dice.pick(&[1, 1, 2, 5, 20, 70])),
        2 => Restart::Empty,
        _ => Restart::OldCopy(dice.range(0, 99)),
    }
}

/// What the topology of Redis can do to a shard.
fn topology_fault(dice: &Dice) -> (u64, Fault) {
    let who = match dice.range(0, 4) {
        0 => Who::Ingests,
        1 => Who::Flushers,
        _ => client(dice.index(CLIENTS)),
    };
    match dice.chance(50) {
        true => {
            (dice.pick(&[300, 1000, 3000]), Fault::ReplicaAnswers { who, lag_writes: dice.pick(&[0, 1, 5, 30, 70]) })
        }
        false => (dice.pick(&[0, 1, 20, 300, 3000]), Fault::SlotsMoved {}),
    }
}

/// One thing that goes wrong, or several at once, and how long each lasts.
fn faults(dice: &Dice, settings: &Settings) -> Vec<(u64, Fault)> {
    let who = if dice.chance(50) { Who::All } else { client(dice.index(CLIENTS)) };
    let for_ms = dice.pick(&[50, 300, 1000, 3000, 8000]);
    let host = dice.index(settings.hosts);
    let process = match dice.chance(60) {
        true => Who::Ingest(dice.index(INGESTS)),
        false => Who::Flusher(dice.index(FLUSHERS)),
    };
    let (hold_ms, fault) = match dice.range(0, 30) {
        0..=4 => (for_ms, Fault::RedisRestart { data: restart(dice) }),
        5 => (0, Fault::FlushAll {}),
        6 => (0, Fault::FailOver { lag_writes: dice.pick(&[0, 1, 5, 30]), spread_ms: dice.pick(&[1, 500, 3000]) }),
        7..=9 => (for_ms, Fault::Network { store: Store::Redis, who, state: bad(dice) }),
        10 => {
            let mode = dice.pick(&[WriteMode::Full, WriteMode::ReadOnly, WriteMode::Misconfigured]);
            (for_ms, Fault::RedisWrites { mode })
        }
        11 | 12 => (0, Fault::RedisDamage { dice: dice.number() }),
        13 => {
            let jump = || i64::try_from(dice.range(0, 8 * 86_400_000)).unwrap_or(0) - 4 * 86_400_000;
            (0, Fault::Clocks { redis_ms: jump(), services_ms: jump() })
        }
        14 | 15 => (for_ms, Fault::Network { store: Store::MySql, who, state: bad(dice) }),
        16 => (for_ms, Fault::MysqlReadOnly {}),
        17..=19 => {
            let state = cut(dice);
            let network = |store| Fault::Network { store, who, state };
            return vec![(for_ms, network(Store::Redis)), (for_ms * 2, network(Store::MySql))];
        }
        20 => (for_ms, Fault::DiskFull { host }),
        21 => (for_ms, Fault::DiskFails { host, writes: dice.pick(&[0, 20]), syncs: dice.pick(&[20, 100]) }),
        22 => (0, Fault::JournalDamage { host, how: Damage::Bits, dice: 0 }),
        23 => (for_ms, Fault::PowerCut { host }),
        24..=26 => (for_ms, Fault::Kill { who: process }),
        27 => {
            let points: &[Point] = match process {
                Who::Ingest(_) => {
                    &[Point::Apply, Point::Register, Point::Reopen, Point::NextEpoch, Point::CommitDirect]
                }
                _ => &[
                    Point::Follow,
                    Point::Commit,
                    Point::Advance,
                    Point::Ack,
                    Point::Reopen,
                    Point::NextEpoch,
                    Point::Lease,
                ],
            };
            let point = dice.pick(points);
            (0, Fault::KillAt { who: process, point, moment: Moment::Reply, fate: Fate::Lost })
        }
        28 => (for_ms.min(1000), Fault::Terminate { who: process }),
        29 => (for_ms, Fault::Pause { who: Who::Flusher(dice.index(FLUSHERS)) }),
        _ => {
            let all = (0..INGESTS).map(Who::Ingest).chain((0..FLUSHERS).map(Who::Flusher));
            return all.map(|who| (for_ms, Fault::Kill { who })).collect();
        }
    };
    vec![(hold_ms, fault)]
}
