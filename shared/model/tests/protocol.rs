//! The whole protocol holds; without any one of its rules it does not.

use std::sync::Mutex;
use std::time::Instant;

use footfall_model::{Bounds, Protocol, Rules};
use stateright::{Checker, HasDiscoveries, Model};

/// Every state within the bounds, and every property in it.
fn holds(all: &[Bounds]) {
    println!("configuration | bounds | unique states | longest path | seconds");
    let started = Instant::now();
    for &bounds in all {
        let started = Instant::now();
        let checker = Protocol { rules: Rules::ALL, bounds }.checker().threads(2).spawn_bfs().join();
        println!(
            "{} | {bounds} | {} | {} | {:.1}",
            bounds.name,
            checker.unique_state_count(),
            checker.max_depth() - 1,
            started.elapsed().as_secs_f32()
        );
        checker.assert_properties();
    }
    println!("all together | | | | {:.1}", started.elapsed().as_secs_f32());
}

#[test]
fn full_protocol_holds() {
    holds(&Bounds::ORDINARY);
}

#[test]
#[ignore = "takes some minutes"]
fn full_protocol_holds_in_larger_bounds() {
    holds(&Bounds::LARGER);
}

/// The smallest world in which a rule is missed. The whole protocol holds in each: see above.
fn where_it_is_missed(rule: &str) -> Bounds {
    match rule {
        "commit_checks_hole" => Bounds::RESTORED_TWO_PRODUCERS,
        "commit_checks_producers" => Bounds::BOTH_RESTORED,
        "halts_when_mysql_is_older" | "next_epoch_halts_too" | "reopen_is_exact" => Bounds::RESTORED,
        "overtaken_is_set_aside" | "read_checks_epoch" => Bounds::FLIP,
        "next_epoch_compares" | "reopen_once" => Bounds::TWO_RECOVERERS,
        "direct_checks_fence" | "direct_locks" | "journal_before_send" => Bounds::ADOPTION,
        "fsync_before_acknowledge" => Bounds::POWER,
        "direct_raises_version" | "fill_checks_version" => Bounds::READS,
        "ack_moves_cached" | "fill_checks_generation" | "fill_caches_at_first_only" | "cached_ends_with_epoch" => {
            Bounds::READS_AND_RESTART
        }
        "paths_are_kept" => Bounds::TWO_FLUSHERS,
        _ => Bounds::STALE_COPY,
    }
}

/// One line of the table, and whether a property broke.
fn try_without(rule: &str, rules: Rules) -> (String, bool) {
    let bounds = where_it_is_missed(rule);
    // One thread: then the shortest ways come first.
    let checker = Protocol { rules, bounds }.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let caught = checker
        .discoveries()
        .into_iter()
        .filter(|(name, _)| checker.model().property(name).expectation.discovery_is_failure())
        .map(|(name, path)| (path.into_actions().len(), name))
        .min_by_key(|&(steps, name)| (steps, name.starts_with("Healed"), name));
    let (by, steps) = caught.map_or(("NOTHING", String::new()), |(steps, name)| (name, steps.to_string()));
    (format!("{rule} | {by} | {steps} | {}", bounds.name), caught.is_some())
}

#[test]
fn every_mutant_is_caught() {
    let mutants = Rules::mutants();
    let next = Mutex::new(mutants.iter());
    let lines = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(&(rule, rules)) = next.lock().expect("no other thread panics").next() else { return };
                    let line = try_without(rule, rules);
                    lines.lock().expect("no other thread panics").push((rule, line));
                }
            });
        }
    });
    let mut lines = lines.into_inner().expect("no thread panicked");
    lines.sort_unstable_by_key(|(rule, _)| mutants.iter().position(|(name, _)| name == rule));
    println!("rule switched off | caught by | steps | configuration");
    for (_, (line, _)) in &lines {
        println!("{line}");
    }
    assert!(lines.iter().all(|(_, (_, is_caught))| *is_caught), "a rule can be left out and nothing notices");
}
