//! What must hold at the end, computed from what clients were told and from what has happened to the stores.

use footfall_proof::{Expect, Findings, Tally, judge};
use footfall_shared::protocol::{Article, Shard};

use crate::books::{Pair, Rows, Told};
use crate::processes::World;

/// So many lines say enough.
const WRONG_MAX: usize = 8;

/// Everything that is wrong. Call it when nothing is under way any more.
#[must_use]
pub fn find_wrong(world: &World, shards: u16) -> Vec<String> {
    let mut findings = Findings { broken: world.database.audit(), ..Findings::default() };
    let mut differences = vec![];
    let told = world.books.told();
    let found = Found::of(world);
    for (pair, told) in &told {
        let (tally, may_be_lost) = found.tally(pair, told);
        let missing = tally.missing().saturating_sub(may_be_lost);
        let extra = if is_excused(world, shards, pair, told, &tally) { 0 } else { tally.extra() };
        if missing + extra > 0 {
            differences.push(format!(
                "{missing} missing, {extra} extra: {pair:?}: {told:?}, {tally:?}, {may_be_lost} may be lost"
            ));
        }
        findings.missing += missing;
        findings.extra += extra;
    }
    for (pair, views) in found.counted.iter().filter(|(pair, _)| !told.contains_key(*pair)) {
        differences.push(format!("invented: {pair:?}"));
        findings.extra += views;
    }
    // Which views may be lost or in quarantine is known for every pair, so of all others none may be.
    let mut wrong = judge(Expect::NoneLost, &findings);
    let more = differences.len().saturating_sub(WRONG_MAX);
    differences.truncate(WRONG_MAX);
    wrong.append(&mut differences);
    if more > 0 {
        wrong.push(format!("and {more} more"));
    }
    wrong
}

/// Ids are remembered in Redis only: when Redis forgets, a client that tries again may be counted again.
fn is_excused(world: &World, shards: u16, pair: &Pair, told: &Told, tally: &Tally) -> bool {
    let article = Article::parse(pair.0.as_bytes()).expect("clients send only what is valid");
    let shard = Shard::of(&article, shards).0;
    let stored = tally.stored + tally.quarantined;
    told.tries > 1 && stored <= told.tries && world.books.forgot_since(shard, told.first_ms)
}

/// Whether all views that were acknowledged are stored, but for those that may be lost.
#[must_use]
pub fn is_complete(world: &World) -> bool {
    let found = Found::of(world);
    world.books.told().iter().all(|(pair, told)| {
        let (tally, may_be_lost) = found.tally(pair, told);
        tally.missing() <= may_be_lost
    })
}

/// What is in MySQL, and what may be lost.
struct Found {
    counted: Rows,
    quarantined: Rows,
    allowance: Rows,
}

impl Found {
    fn of(world: &World) -> Self {
        let (counted, quarantined) = world.database.counts();
        let allowance =
            world.books.allowance(world.settings.outlives_power, |shard, write| world.farm.of(shard).has(shard, write));
        Self { counted, quarantined, allowance }
    }

    /// Of one reader of one article, with the views that may be lost.
    fn tally(&self, pair: &Pair, told: &Told) -> (Tally, u64) {
        let of = |rows: &Rows| rows.get(pair).copied().unwrap_or(0);
        let tally = Tally {
            acknowledged: told.acknowledged,
            unknown: told.attempted.saturating_sub(told.acknowledged),
            stored: of(&self.counted),
            pending: 0,
            quarantined: of(&self.quarantined),
        };
        (tally, of(&self.allowance))
    }
}
