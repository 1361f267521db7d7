//! What came of it, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use footfall_proof::{Expect, Plan, Recipe};
use indicatif::HumanCount;

use crate::run::{RunOutcome, Verdict};

/// A line below the head and nothing else.
pub(crate) const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
/// Of tables with sentences.
const WIDTH: u16 = 118;

/// A row for each name, in the order of their first runs.
pub fn table(outcomes: &[RunOutcome]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for outcome in outcomes {
        if !names.contains(&outcome.plan.name.as_str()) {
            names.push(&outcome.plan.name);
        }
    }
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled).set_header([
        "fault",
        "runs",
        "acknowledged",
        "lost",
        "doubled",
        "degraded s",
        "recovered s",
        "drained s",
        "result",
    ]);
    for name in names {
        let runs: Vec<&RunOutcome> = outcomes.iter().filter(|outcome| outcome.plan.name == name).collect();
        table.add_row(row(name, &runs));
    }
    for column in 1..=7 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt() + &skipped(outcomes)
}

/// The same of runs on stores of several servers: what it cost their shards. Of times and of epochs the most that one shard
/// had in one run; none if there was no such run.
pub fn table_of_shards(outcomes: &[RunOutcome]) -> Option<String> {
    let mut runs: Vec<(&str, Vec<&RunOutcome>)> = Vec::new();
    for outcome in outcomes.iter().filter(|outcome| !outcome.measured.shards.is_empty()) {
        match runs.iter_mut().find(|(name, _)| *name == outcome.plan.name) {
            Some((_, runs)) => runs.push(outcome),
            None => runs.push((&outcome.plan.name, vec![outcome])),
        }
    }
    let mut table = Table::new();
    let head = ["fault", "runs", "longest degraded s", "at most s", "epochs", "changes", "lost", "doubled", "result"];
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled).set_header(head);
    for (name, runs) in &runs {
        let shards = || runs.iter().flat_map(|outcome| &outcome.measured.shards);
        let seconds = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.1}", ms as f64 / 1_000.0));
        let sum = |views: fn(&RunOutcome) -> u64| HumanCount(runs.iter().map(|run| views(run)).sum()).to_string();
        let dearest = shards().map(|shard| (shard.epochs, shard.changes)).max().unwrap_or_default();
        table.add_row([
            (*name).to_owned(),
            runs.len().to_string(),
            seconds(shards().map(|shard| shard.degraded_ms).max()),
            seconds(shards().filter_map(|shard| shard.degraded_ms_max).max().filter(|most| *most > 0)),
            dearest.0.to_string(),
            dearest.1.to_string(),
            sum(|run| run.measured.lost),
            sum(|run| run.measured.doubled),
            result(runs),
        ]);
    }
    for column in 1..=7 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    (!runs.is_empty()).then(|| table.trim_fmt())
}

/// Why some could not be done, each reason once.
fn skipped(outcomes: &[RunOutcome]) -> String {
    let mut reasons: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for outcome in outcomes {
        if let Verdict::Skipped(why) = &outcome.verdict {
            reasons.entry(why).or_default().insert(&outcome.plan.name);
        }
    }
    let line = |(why, names): (&str, BTreeSet<&str>)| {
        format!("\nSKIPPED, because {why}: {}", Vec::from_iter(names).join(", "))
    };
    reasons.into_iter().map(line).collect()
}

/// Sums of views; of times the longest.
fn row(name: &str, runs: &[&RunOutcome]) -> [String; 9] {
    let is_skipped = |outcome: &&RunOutcome| matches!(outcome.verdict, Verdict::Skipped(_));
    let real: Vec<&RunOutcome> = runs.iter().copied().filter(|outcome| !is_skipped(outcome)).collect();
    let sum = |views: fn(&RunOutcome) -> u64| HumanCount(real.iter().map(|outcome| views(outcome)).sum()).to_string();
    let longest = |times: Vec<Duration>| {
        times.into_iter().max().map_or_else(|| "-".to_owned(), |longest| format!("{:.1}", longest.as_secs_f64()))
    };
    [
        name.to_owned(),
        real.len().to_string(),
        sum(|outcome| outcome.measured.acknowledged),
        sum(|outcome| outcome.measured.lost),
        sum(|outcome| outcome.measured.doubled),
        longest(real.iter().map(|outcome| outcome.measured.degraded).collect()),
        longest(real.iter().filter_map(|outcome| outcome.measured.recovered).collect()),
        longest(real.iter().map(|outcome| outcome.measured.drained).collect()),
        result(runs),
    ]
}

fn result(runs: &[&RunOutcome]) -> String {
    let failed = runs.iter().filter(|outcome| matches!(outcome.verdict, Verdict::Failed(_))).count();
    let quarantined: u64 = runs.iter().map(|outcome| outcome.measured.quarantined).sum();
    let untold: u64 =
        runs.iter().map(|RunOutcome { measured, .. }| measured.lost.saturating_sub(measured.quarantined)).sum();
    let is_skipped = runs.iter().any(|outcome| matches!(outcome.verdict, Verdict::Skipped(_)));
    match failed {
        0 if is_skipped => "SKIPPED, see below".to_owned(),
        0 if untold > 0 => {
            format!("ok, {} in quarantine, {} of last records", HumanCount(quarantined), HumanCount(untold))
        }
        0 if quarantined > 0 => format!("ok, {} in quarantine", HumanCount(quarantined)),
        0 => "ok".to_owned(),
        1 if runs.len() == 1 => "FAILED".to_owned(),
        failed => format!("FAILED {failed} of {}", runs.len()),
    }
}

/// What is to be known about each run that failed: why, its plan, where its data are, and the commands that do it again.
pub fn failures(outcomes: &[RunOutcome], again: impl Fn(&Plan) -> Vec<String>) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let Verdict::Failed(why) = &outcome.verdict else { continue };
        let plan = &outcome.plan;
        text += &format!("\n{} with seed {} FAILED: {why}\n", plan.name, plan.seed);
        for step in &plan.steps {
            text += &format!("  plan   {step}\n");
        }
        if let Some(kept) = &outcome.kept {
            text += &format!("  data   {}\n", kept.display());
        }
        for command in again(plan) {
            text += &format!("  again  {command}\n");
        }
    }
    text
}

/// One run in a line.
pub fn line(outcome: &RunOutcome) -> String {
    let RunOutcome { plan, verdict, measured, took, .. } = outcome;
    let result = match verdict {
        Verdict::Passed => "ok".to_owned(),
        Verdict::Skipped(why) => format!("skipped: {why}"),
        Verdict::Failed(why) => format!("FAILED: {}", why.lines().next().unwrap_or_default()),
    };
    let missed = match measured.missed.as_slice() {
        [] => String::new(),
        missed => format!(" (without an occasion for {})", missed.join(", ")),
    };
    format!("{:<34} seed {:<11} {:5.1} s  {result}{missed}", plan.name, plan.seed, took.as_secs_f64())
}

/// All faults with their sentences.
pub fn list<'a>(recipes: impl Iterator<Item = &'a Recipe>) -> String {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH).set_header([
        "fault",
        "what happens",
        "acknowledged views",
    ]);
    for recipe in recipes {
        let expected = match recipe.expect {
            Expect::NoneLost => "none lost",
            Expect::Halts => "none lost; stands still loudly",
            Expect::Quarantined => "none lost; some in quarantine",
            Expect::LostAsReported => "what is lost is in quarantine, but for a journal's last records",
        };
        table.add_row([recipe.name, recipe.about, expected]);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use footfall_proof::{Scale, ShardSeen, all, find};

    use super::*;
    use crate::run::Measured;

    fn outcome(name: &str, seed: u64, verdict: Verdict, doubled: u64) -> RunOutcome {
        let recipe = find(name).expect("there is one");
        let measured = Measured {
            acknowledged: 6_000,
            doubled,
            degraded: Duration::from_millis(seed * 1_000),
            recovered: Some(Duration::from_millis(1_240)),
            ..Measured::default()
        };
        RunOutcome { plan: Plan::of(recipe, seed, Scale::Short), verdict, measured, took: Duration::ZERO, kept: None }
    }

    #[test]
    fn runs_of_a_fault_are_one_row() {
        let outcomes = [
            outcome("flushall", 1, Verdict::Passed, 0),
            outcome("clock-hour-back", 1, Verdict::Skipped("no faketime".to_owned()), 0),
            outcome("flushall", 2, Verdict::Failed("3 views were counted twice".to_owned()), 3),
        ];
        let table = table(&outcomes);
        let row = |name| table.lines().find(|line| line.contains(name)).unwrap_or_default();
        let words = |name| row(name).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words("flushall"), "flushall 2 12,000 0 3 2.0 1.2 0.0 FAILED 1 of 2", "{table}");
        assert_eq!(words("clock-hour-back"), "clock-hour-back 0 0 0 0 - - - SKIPPED, see below", "{table}");
        assert!(table.ends_with("\nSKIPPED, because no faketime: clock-hour-back"), "{table}");
        let failures = failures(&outcomes, |plan| vec![format!("chaos {} {}", plan.name, plan.seed)]);
        assert!(failures.contains("again  chaos flushall 2") && failures.contains("counted twice"), "{failures}");
        assert_eq!(failures.matches("FAILED").count(), 1);
    }

    #[test]
    fn what_shards_cost_is_one_row_for_each_fault() {
        let shard = |epochs, degraded_ms| ShardSeen { epochs, changes: 1, degraded_ms, ..ShardSeen::default() };
        let run = |seed, shards| {
            let outcome = outcome("cluster-master-hung", seed, Verdict::Passed, 0);
            RunOutcome { measured: Measured { shards, ..outcome.measured }, ..outcome }
        };
        let bounded = ShardSeen { degraded_ms_max: Some(3_000), ..shard(0, 1_000) };
        let outcomes = [run(1, vec![shard(1, 2_140), bounded]), run(2, vec![shard(1, 0)]), run(3, vec![])];
        let table = table_of_shards(&outcomes).expect("there are some");
        let row = table.lines().last().unwrap_or_default();
        let words = row.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words, "cluster-master-hung 2 2.1 3.0 1 1 0 0 ok", "{table}");
        assert_eq!(table_of_shards(&outcomes[2..]), None);
    }

    #[test]
    fn the_list_names_every_fault() {
        let list = list(all());
        assert!(all().all(|recipe| list.contains(recipe.name)), "{list}");
    }
}
