//! Who reads numbers while all this happens, with the real code of reads. What is shown as the whole must be what MySQL
//! has and what waits for it, as seen from outside, at some moment of the read.

use std::sync::Arc;

use footfall_shared::protocol::{Article, Shard};

use crate::processes::World;
use crate::redis::Waiting;
use crate::stage::sleep_ms;
use footfall_proof::{Dice, Invariant, Settings};

/// The truth about an article, if nothing stands between the stores.
struct Truth {
    waiting: Option<Waiting>,
    /// In MySQL.
    views: u64,
    readers: u64,
    /// Of its counts.
    version: u64,
    /// Views that MySQL has refused.
    refused: u64,
}

impl Truth {
    fn of(world: &World, shard: u16, article: &Article) -> Self {
        let (fence, views, readers) = world.database.look_up(shard, article);
        Self {
            waiting: world.farm.of(shard).waiting(shard, &fence, article),
            views,
            readers,
            version: fence.version,
            refused: world.database.refused(article),
        }
    }
}

/// Reads one article after the other, for ever.
pub async fn read(world: Arc<World>, settings: Settings, dice: Dice) {
    let reads = world.reads();
    loop {
        sleep_ms(dice.range(20, 300)).await;
        let article = article(dice.range(0, settings.articles));
        let shard = Shard::of(&article, settings.shards).0;
        let before = Truth::of(&world, shard, &article);
        let numbers = reads.article(&article).await;
        let after = Truth::of(&world, shard, &article);
        let shown =
            [numbers.views, numbers.at_least, numbers.readers].map(|number| number.map_or(0, |number| number + 1));
        world.stage.trace.note("read", &shown, || format!("{numbers:?}"));
        let (Some(views), Some(first), Some(last)) = (numbers.views, before.waiting, after.waiting) else { continue };
        if first.upsets != last.upsets {
            continue; // What was lost comes back.
        }
        // Until a flusher has told Redis, a base that was cached lacks what went to MySQL directly.
        let is_told = first.version == before.version;
        let least = if is_told { before.views + first.views - first.refused } else { 0 };
        let most = after.views + after.refused + last.views;
        if !(least..=most).contains(&views) || numbers.readers.is_some_and(|readers| readers > after.readers) {
            let what = format!("{}: {numbers:?} was shown, but there were {least} to {most} views", Invariant::I8);
            world.stage.trace.violation(what);
        }
    }
}

/// At the end everything is shown as MySQL has it.
pub async fn read_all(world: &World, settings: &Settings) {
    if world.stage.trace.has_violations() {
        return;
    }
    sleep_ms(6_000).await; // For so long an ingest's last word may hold that views are missing.
    let reads = world.reads();
    for number in 0..=settings.articles {
        let article = article(number);
        let (_, views, readers) = world.database.look_up(Shard::of(&article, settings.shards).0, &article);
        let numbers = reads.article(&article).await;
        if (numbers.views, numbers.readers) != (Some(views), Some(readers)) {
            let i8 = Invariant::I8;
            let what = format!("{i8}: at the end {numbers:?} is shown, but MySQL has {views} views, {readers} readers");
            world.stage.trace.violation(what);
        }
    }
}

fn article(number: u64) -> Article {
    Article::parse(format!("a{number}").as_bytes()).expect("it is short")
}
