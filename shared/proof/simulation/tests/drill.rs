//! Plans of the drill, which were made for real servers, read from their text form and run here.

use footfall_proof::{FENCE_FORGOTTEN, Plan, Scale, Topology, of};
use footfall_simulation::{Mutant, Report, run_plan};

/// How many random schedules run by default.
const SCHEDULES: u64 = 60;

/// As `cargo xtask chaos` saves it and `footfall-simulation --plan` reads it.
fn replay(plan: &Plan, mutant: Option<Mutant>) -> Report {
    let read = plan.to_string().parse().expect("a plan can be read as it was written");
    run_plan(&read, mutant, false)
}

fn tell(report: &Report) -> String {
    format!("{}\n{}", report.plan, report.violations.join("\n"))
}

#[test]
fn every_fault_of_the_drill_can_be_replayed() {
    let mut wrong = Vec::new();
    let mut missed = Vec::new();
    for recipe in of(None) {
        let report = replay(&Plan::of(recipe, 1, Scale::Short), None);
        assert!(report.acknowledged > 0, "{}", tell(&report));
        wrong.extend((!report.violations.is_empty()).then(|| tell(&report)));
        missed.extend((!report.missed.is_empty()).then_some(recipe.name));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert_eq!(missed, ["mysql-older-restored"], "only this one needs real files");
}

#[test]
fn schedules_of_the_drill_lose_and_double_nothing_here_either() {
    for seed in 0..SCHEDULES {
        let report = replay(&Plan::schedule(None, seed, Scale::Short), None);
        assert!(report.violations.is_empty() && report.missed.is_empty(), "{}", tell(&report));
    }
}

#[test]
fn schedules_for_several_masters_lose_and_double_nothing_here_either() {
    for (seed, topology) in (0..SCHEDULES).flat_map(|seed| [(seed, Topology::Sentinel), (seed, Topology::Cluster)]) {
        let report = replay(&Plan::schedule(Some(topology), seed, Scale::Short), None);
        // A slot of a master that is down cannot be moved here.
        let is_known = |what: &String| what.contains("done to real servers only") || what.contains("has no slots");
        assert!(report.violations.is_empty() && report.missed.iter().all(is_known), "{}", tell(&report));
    }
}

#[test]
fn a_schedule_that_fails_with_a_rule_switched_off_fails_again_from_its_text() {
    let plans = || (0..SCHEDULES).map(|seed| Plan::schedule(None, seed, Scale::Short));
    let failing = plans().find(|plan| !run_plan(plan, Some(Mutant::NoFence), false).violations.is_empty());
    let failing = failing.expect("no schedule notices that the fence is switched off");
    let (first, second) = (run_plan(&failing, Some(Mutant::NoFence), false), replay(&failing, Some(Mutant::NoFence)));
    assert_eq!((first.hash, &first.violations), (second.hash, &second.violations), "{failing}");
    assert!(replay(&failing, None).violations.is_empty(), "with the rule it holds: {failing}");
}

#[test]
fn a_fence_that_is_forgotten_is_noticed_as_it_is_with_real_servers() {
    let report = replay(&Plan::of(&FENCE_FORGOTTEN, 1, Scale::Short), None);
    assert!(report.violations.iter().any(|what| what.contains("counted twice")), "{}", tell(&report));
}
