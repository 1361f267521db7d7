//! What the topology of Redis does to a shard costs so many epochs as there were faults, and nothing that works is disturbed.

use footfall_proof::{Expect, Fault, Load, Plan, PlannedFault, Setup, Who};
use footfall_simulation::{Mutant, Report, run_plan};

/// How many seeds of each: what a request meets on its way follows from them.
const SEEDS: u64 = 10;

/// A plan of these faults, each held so long, read from its text; and what came of it.
fn replay(seed: u64, steps: &[(u64, Fault)], mutant: Option<Mutant>) -> Report {
    let step = |(hold_ms, fault): &(u64, Fault)| PlannedFault { after_ms: 1_000, hold_ms: *hold_ms, fault: *fault };
    let steps = steps.iter().map(step).collect();
    let (name, setup, load) = ("topology".to_owned(), Setup::Usual, Load::default());
    let plan = Plan { name, seed, expect: Expect::NoneLost, setup, load, steps };
    let read = plan.to_string().parse().expect("a plan can be read as it was written");
    assert_eq!(plan, read);
    let report = run_plan(&read, mutant, false);
    assert!(report.acknowledged > 0 && report.missed.is_empty(), "{}", tell(&report));
    report
}

fn tell(report: &Report) -> String {
    let Report { plan, violations, missed, epochs_begun, costs, .. } = report;
    format!("{plan}\n{violations:?}\nmissed {missed:?}, {epochs_begun:?} epochs begun, {costs:?}")
}

#[test]
fn a_replica_that_answers_costs_no_epoch_and_fences_nobody() {
    for seed in 0..SEEDS {
        for who in [Who::Ingest(0), Who::Flusher(0), Who::Ingests, Who::Flushers, Who::All] {
            let fault = Fault::ReplicaAnswers { who, lag_writes: seed };
            let report = replay(seed, &[(700, fault), (2_000, fault)], None);
            assert!(report.violations.is_empty(), "{}", tell(&report));
            assert_eq!((&report.epochs_begun[..], report.costs.fenced), (&[1][..], 0), "{}", tell(&report));
        }
    }
}

#[test]
fn a_slot_that_moves_costs_one_epoch_each_time_and_nothing_is_sent_again() {
    for seed in 0..SEEDS {
        // It stays; it comes back before anybody looks, a moment later, or after it was opened where it was moved to.
        for (hold_ms, moves) in [(0, 1), (1, 2), (20, 2), (1_500, 2)] {
            let report = replay(seed, &[(hold_ms, Fault::SlotsMoved {})], None);
            assert!(report.violations.is_empty(), "{}", tell(&report));
            assert!(report.epochs_begun[0] <= 1 + moves, "{}", tell(&report));
            assert_eq!(report.costs.repeats, 0, "{}", tell(&report));
        }
    }
}

#[test]
fn an_epoch_that_is_begun_for_a_replica_is_noticed() {
    let fault = Fault::ReplicaAnswers { who: Who::Flusher(0), lag_writes: 0 };
    let report = replay(1, &[(2_000, fault)], Some(Mutant::EpochBeforeProbe));
    assert!(report.epochs_begun[0] > 1 && !report.violations.is_empty(), "{}", tell(&report));
}
