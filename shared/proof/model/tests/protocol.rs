//! The whole protocol holds; without any one of its rules it does not.

use std::sync::Mutex;
use std::time::Instant;

use footfall_model::invariants::{HEALS, NOBODY_STOPS, ONE_EPOCH_EACH};
use footfall_model::{Bounds, Protocol, Rules};
use footfall_proof::sentence;
use stateright::{Checker, HasDiscoveries, Model};

/// Every state within the bounds, and every property in it.
fn holds(all: &[Bounds]) {
    println!("configuration | bounds | unique states | longest path | seconds");
    let started = Instant::now();
    // A world for each core: stateright's own threads hardly share what is as small as these.
    let left = Mutex::new(all.iter());
    let next = || left.lock().expect("no other thread panics with it").next();
    let work = || {
        while let Some(&bounds) = next() {
            let started = Instant::now();
            let checker = Protocol { rules: Rules::ALL, bounds }.checker().spawn_bfs().join();
            println!(
                "{} | {bounds} | {} | {} | {:.1}",
                bounds.name,
                checker.unique_state_count(),
                checker.max_depth() - 1,
                started.elapsed().as_secs_f32()
            );
            checker.assert_properties();
        }
    };
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
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

/// The invariant that a rule keeps, and a small world in which it breaks without the rule.
/// The whole protocol holds in each: see above.
fn what_breaks(rule: &str) -> (&'static str, Bounds) {
    match rule {
        "commit_checks_hole" => (HEALS, Bounds::RESTORED_TWO_PRODUCERS),
        "commit_checks_producers" => (HEALS, Bounds::BOTH_RESTORED),
        "halts_when_mysql_is_older" | "next_epoch_halts_too" | "reopen_is_exact" => (HEALS, Bounds::RESTORED),
        "follow_checks_epoch" => (NOBODY_STOPS, Bounds::TWO_PRODUCERS),
        "follower_begins_anew" => (sentence!(I7), Bounds::TWO_PRODUCERS),
        "ack_checks_epoch" => (sentence!(I3), Bounds::TWO_PRODUCERS),
        "reopen_sets_aside" => (HEALS, Bounds::TWO_PRODUCERS),
        "next_epoch_compares" => (sentence!(I6), Bounds::TWO_RECOVERERS),
        "reopen_once" => (HEALS, Bounds::TWO_RECOVERERS),
        "direct_checks_fence" => (sentence!(I1), Bounds::ADOPTION),
        "direct_locks" => (sentence!(I4), Bounds::ADOPTION),
        "journal_before_send" => (sentence!(I3), Bounds::ADOPTION),
        "fsync_before_acknowledge" => (sentence!(I3), Bounds::POWER),
        "direct_raises_version" | "fill_checks_version" => (sentence!(I8), Bounds::READS),
        "fill_checks_epoch" => (sentence!(I8), Bounds::READS_OVERTAKEN),
        "fill_checks_first"
        | "base_has_position"
        | "read_adds_behind_base"
        | "read_says_partial"
        | "advance_checks_first"
        | "advance_checks_position"
        | "advance_stops_fills"
        | "ack_ends_unmoved_bases"
        | "bases_end_with_epoch" => (sentence!(I8), Bounds::READS_AND_RESTART),
        "probe_before_epoch" => (ONE_EPOCH_EACH, Bounds::REPLICA),
        "incarnation_has_owner" => (HEALS, Bounds::REPLICA),
        "paths_are_kept" => (sentence!(I2), Bounds::TWO_FLUSHERS),
        "apply_checks_number" | "reopen_trims" | "reopen_raises_producers" => (sentence!(I2), Bounds::STALE_COPY),
        "ack_moves_first" | "reopen_moves_first" => (sentence!(I7), Bounds::STALE_COPY),
        "commit_before_trim" | "retained_until_first" => (sentence!(I3), Bounds::STALE_COPY),
        "commit_checks_position" => (NOBODY_STOPS, Bounds::STALE_COPY),
        "epoch_before_reopen" => (sentence!(I6), Bounds::STALE_COPY),
        _ => (HEALS, Bounds::STALE_COPY),
    }
}

/// One line of the table, and whether the invariant broke.
fn try_without(rule: &str, rules: Rules) -> (String, bool) {
    let (invariant, bounds) = what_breaks(rule);
    let model = Protocol { rules, bounds };
    let names = model.properties().into_iter().map(|property| property.name).filter(|name| name.starts_with(invariant));
    let until = HasDiscoveries::AnyOf(names.clone().collect());
    // One thread: then the shortest ways come first.
    let discoveries = model.checker().finish_when(until).spawn_bfs().join().discoveries();
    let caught = names.filter_map(|name| Some((discoveries.get(name)?.clone().into_actions().len(), name))).min();
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
