//! What must hold at the end, computed from what clients were told and from what has happened to the stores.

use footfall_shared::protocol::{Article, Shard};

use crate::processes::World;

/// So many lines say enough.
const WRONG_MAX: usize = 8;

/// Everything that is wrong. Call it when nothing is under way any more.
#[must_use]
pub fn judge(world: &World, shards: u16) -> Vec<String> {
    let mut wrong = world.database.audit();
    let (counted, quarantined) = world.database.counts();
    let allowance = world.books.allowance(|shard, write| world.farm.has(shard, write));
    let tallies = world.books.tallies();
    for (pair, tally) in &tallies {
        let of = |rows: &crate::books::Rows| rows.get(pair).copied().unwrap_or(0);
        let stored = of(&counted) + of(&quarantined);
        if stored + of(&allowance) < tally.acknowledged {
            let (acknowledged, allowed) = (tally.acknowledged, of(&allowance));
            wrong.push(format!("lost: {pair:?}: {acknowledged} acknowledged, {stored} stored, {allowed} may be lost"));
        }
        if stored > tally.attempted {
            let article = Article::parse(pair.0.as_bytes()).expect("clients send only what is valid");
            let shard = Shard::of(&article, shards).0;
            // Ids are remembered in Redis only: when Redis forgets, a client that tries again may be counted again.
            let is_excused =
                tally.tries > 1 && stored <= tally.tries && world.books.forgot_since(shard, tally.first_ms);
            if !is_excused {
                wrong.push(format!("doubled: {pair:?}: {stored} stored, {tally:?}"));
            }
        }
    }
    for pair in counted.keys().filter(|pair| !tallies.contains_key(*pair)) {
        wrong.push(format!("invented: {pair:?}"));
    }
    let more = wrong.len().saturating_sub(WRONG_MAX);
    if more > 0 {
        wrong.truncate(WRONG_MAX);
        wrong.push(format!("and {more} more"));
    }
    wrong
}

/// Whether all views that were acknowledged are stored, but for those that may be lost.
#[must_use]
pub fn is_complete(world: &World) -> bool {
    let (counted, quarantined) = world.database.counts();
    let allowance = world.books.allowance(|shard, write| world.farm.has(shard, write));
    world.books.tallies().iter().all(|(pair, tally)| {
        let of = |rows: &crate::books::Rows| rows.get(pair).copied().unwrap_or(0);
        of(&counted) + of(&quarantined) + of(&allowance) >= tally.acknowledged
    })
}
