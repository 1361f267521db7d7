//! Many shards on many masters of Redis, which two cores cannot show with real servers: what happens to one master is felt by
//! its own shards only, and each master adds what it can take.

use footfall_proof::{Expect, Fault, Load, Loss, Plan, PlannedFault, Scale, Settings, Setup};
use footfall_simulation::storm::settings_of;
use footfall_simulation::{Report, run_plan};

const SHARDS: u16 = 64;
const MASTERS: u16 = 16;
/// How many seeds: what a request meets on its way follows from them.
const SEEDS: u64 = 3;

/// As a plan for real servers is tried here, but larger.
fn settings(shards: u16, masters: u16) -> Settings {
    let usual = Plan { setup: Setup::Usual, ..Plan::schedule(None, 0, Scale::Short) };
    Settings {
        shards,
        masters,
        hosts: 2,
        poll_ms: 100,
        traffic_ms: 14_000,
        requests: 3_000,
        articles: 640,
        poison_percent: 0,
        ..settings_of(&usual)
    }
}

fn replay(seed: u64, settings: Settings, faults: &[Fault]) -> Report {
    let step = |fault: &Fault| PlannedFault { after_ms: 4_000, hold_ms: 3_000, fault: *fault };
    let steps = faults.iter().map(step).collect();
    let (name, setup, load) = ("masters".to_owned(), Setup::Simulated(settings), Load::default());
    let report = run_plan(&Plan { name, seed, expect: Expect::NoneLost, setup, load, steps }, None, false);
    assert!(report.violations.is_empty() && report.missed.is_empty(), "{}", tell(&report));
    assert!(report.acknowledged > settings.requests, "{}", tell(&report));
    report
}

fn tell(report: &Report) -> String {
    let Report { plan, violations, missed, epochs_begun, went_directly, .. } = report;
    format!("{plan}\n{violations:?}\nmissed {missed:?}, epochs begun {epochs_begun:?}, went directly {went_directly:?}")
}

/// The shards that have noticed anything.
fn felt(report: &Report) -> Vec<u16> {
    let both = report.epochs_begun.iter().zip(&report.went_directly);
    (0..).zip(both).filter(|(_, (epochs, directly))| **epochs > 1 || **directly).map(|(shard, _)| shard).collect()
}

/// Three faults of one master, each when the one before is over.
fn faults(shard: u16) -> [Fault; 3] {
    [
        Fault::MasterLost { shard, how: Loss::Killed },
        Fault::SlotMoved { shard, times: 2 },
        Fault::MasterLost { shard, how: Loss::Hung },
    ]
}

#[test]
fn what_happens_to_a_master_is_felt_by_its_shards_only() {
    for seed in 0..SEEDS {
        let shard = 7 * seed as u16;
        let report = replay(seed, settings(SHARDS, MASTERS), &faults(shard));
        let (own, felt) = (|of: &u16| of % MASTERS == shard % MASTERS, felt(&report));
        assert!(!felt.is_empty() && felt.iter().all(own), "{felt:?}: {}", tell(&report));
        // Each move of a slot is one, and so is each new master.
        assert!(report.epochs_begun.iter().all(|begun| *begun <= 1 + 4), "{}", tell(&report));
    }
}

#[test]
fn where_there_is_only_one_master_all_shards_feel_it() {
    let report = replay(1, settings(MASTERS, 1), &faults(7));
    assert_eq!(felt(&report).len(), usize::from(MASTERS), "{}", tell(&report));
}

/// Views per second that were acknowledged, where each master works 10 ms at a batch of about ten views. Without a journal,
/// so that clients are answered by what the masters have done.
fn views_per_second(shards: u16, masters: u16) -> f64 {
    let busy = Settings {
        apply_ms: 10,
        has_journal: false,
        batch_views_max: 10,
        redis_patience_ms: 5_000,
        traffic_ms: 100,
        requests: 300 * u64::from(masters),
        articles: 4_000,
        ..settings(shards, masters)
    };
    let report = replay(1, busy, &[]);
    assert!(felt(&report).is_empty(), "not all went by way of the masters: {}", tell(&report));
    report.acknowledged as f64 * 1_000.0 / report.told_ms as f64
}

#[test]
fn masters_add_what_they_can_take() {
    let [one, four, sixteen] = [1, 4, MASTERS].map(|masters| views_per_second(4 * masters, masters));
    let only_shards = views_per_second(16, 1);
    let all = format!(
        "of 1, 4, 16 masters: {one:.0}, {four:.0}, {sixteen:.0} views/s; of one with 16 shards: {only_shards:.0}"
    );
    println!("{all}");
    // Shards have not quite as many views each, and the last one to be done is what counts.
    assert!(four > 3.2 * one && sixteen > 12.0 * one, "{all}");
    assert!(only_shards < 1.2 * one, "shards alone add nothing where it is the master that is busy: {all}");
}
