//! An upgrade: what the version before has left in both stores, and an ingest of it that has not ended yet and goes on
//! sending. It has no journal, so nobody sends again what Redis loses.

use std::sync::Arc;

use footfall_flusher::fold::fold;
use footfall_shared::protocol::keys::ShardKeys;
use footfall_shared::protocol::packed;
use footfall_shared::protocol::{Article, Batch, Position, Producer, Shard, User, View};

use crate::books::{Pair, rows_of};
use crate::processes::World;
use crate::stage::sleep_ms;
use footfall_proof::{Dice, Settings};

/// The script by which it appends.
const APPLY: &str = include_str!("before/apply.lua");
/// The epoch that everything is in.
const EPOCH: u64 = 1;

/// What such an ingest sends to one shard.
pub struct OldIngest {
    dice: Dice,
    shard: Shard,
    shards: u16,
    articles: u64,
    producer: Producer,
    number: u64,
    views: u64,
}

impl OldIngest {
    /// The next batch; none if this shard has no article.
    fn next(&mut self) -> Option<Batch> {
        let mut views = vec![];
        for at in 0..self.dice.range(1, 3) {
            let article = Article::parse(format!("a{}", self.dice.range(1, self.articles)).as_bytes()).ok()?;
            if Shard::of(&article, self.shards) == self.shard {
                let user = format!("old{}-{}-{at}", self.shard, self.number);
                views.push(View { article, user: User::parse(user.as_bytes()).ok()?, id: None });
            }
        }
        if views.is_empty() {
            return None;
        }
        let batch = Batch::fold(self.producer, self.number + 1, self.views, 0, views);
        (self.number, self.views) = (batch.number, batch.cumulative_views);
        Some(batch)
    }
}

/// As the version before packed it: with another version, and without a checksum.
fn pack(batch: &Batch) -> Vec<u8> {
    let mut bytes = packed::encode(batch);
    bytes.truncate(bytes.len() - 4);
    bytes[0] = 2;
    bytes
}

fn pairs(batch: &Batch) -> Vec<Pair> {
    let rows = rows_of(batch).into_iter();
    rows.flat_map(|(pair, views)| (0..views).map(move |_| pair.clone())).collect()
}

/// Puts into both stores what the version before has left.
#[must_use]
pub fn leave(world: &World, dice: &Dice, settings: &Settings) -> Vec<OldIngest> {
    Shard::all(settings.shards).map(|shard| leave_in(world, dice.fork(), settings, shard)).collect()
}

fn leave_in(world: &World, dice: Dice, settings: &Settings, shard: Shard) -> OldIngest {
    let (producer, redis) = (Producer(dice.number()), world.farm.of(shard.0));
    let Settings { shards, articles, .. } = *settings;
    // MySQL has the generations up to `position`; Redis has those from `first` on, and the last one is open.
    let (position, open) = (dice.range(0, 3), dice.range(3, 5) + 1);
    let first = if dice.chance(50) { position + 1 } else { position.max(1) };
    let mut ingest = OldIngest { dice, shard, shards, articles, producer, number: 0, views: 0 };
    let keys = ShardKeys::new(shard);
    let [headers, ..] = keys.before();
    let mut open_views = 0;
    let mut open_batches = 0;
    world.books.gone(producer.0);
    for generation in 1..=open {
        let wanted = ingest.dice.range(1, 3);
        let batches: Vec<Batch> = (0..wanted).filter_map(|_| ingest.next()).collect();
        for batch in &batches {
            let now_ms = world.stage.trace.now_ms();
            world.books.attempt(&pairs(batch), false, now_ms);
            world.books.acknowledged(&pairs(batch), false, now_ms);
        }
        if generation <= position {
            let log = Position { first: generation, tail: generation };
            let flush = fold(log, batches.iter()).expect("they follow each other");
            world.database.flushed_before(shard, EPOCH, &flush);
        }
        if generation < first {
            continue;
        }
        let views: u64 = batches.iter().map(Batch::views).sum();
        let [sealed, _] = keys.generation_before(generation);
        let log = if generation == open { &keys.log } else { &sealed };
        for batch in &batches {
            redis.put(&[b"RPUSH", log.as_bytes(), &pack(batch)]);
            redis.taken_before(shard.0, batch);
        }
        if generation == open {
            (open_views, open_batches) = (views, batches.len());
        } else {
            let header = format!("{}:{views}:{}", batches.len(), crate::redis::BEGIN_MS);
            redis.put(&[b"HSET", headers.as_bytes(), generation.to_string().as_bytes(), header.as_bytes()]);
        }
    }
    let known = format!("{}:{}", ingest.number, ingest.views);
    redis.put(&[b"HSET", keys.producers.as_bytes(), producer.to_string().as_bytes(), known.as_bytes()]);
    let meta = [
        ("epoch", EPOCH.to_string()),
        ("incarnation", crate::redis::replid(1)),
        ("gen", open.to_string()),
        ("first", first.to_string()),
        ("views", open_views.to_string()),
        ("batches", open_batches.to_string()),
        ("opened", crate::redis::BEGIN_MS.to_string()),
        ("sealed_views", "0".into()),
        ("shards", shards.to_string()),
        ("rotation", "0".into()),
    ];
    for (field, value) in meta {
        redis.put(&[b"HSET", keys.meta.as_bytes(), field.as_bytes(), value.as_bytes()]);
    }
    ingest
}

/// Goes on sending for a while, to whatever server there is. What is taken counts; once the log is carried over nothing
/// may be.
pub async fn send(world: Arc<World>, mut ingest: OldIngest) {
    for _ in 0..400 {
        sleep_ms(ingest.dice.pick(&[0, 1, 1, 5, 40])).await;
        let (number, views) = (ingest.number, ingest.views);
        let Some(batch) = ingest.next() else { continue };
        let now_ms = world.stage.trace.now_ms();
        world.books.attempt(&pairs(&batch), false, now_ms);
        if world.farm.of(ingest.shard.0).apply_before(APPLY, ingest.shard.0, EPOCH, &batch, pack(&batch)) {
            world.books.acknowledged(&pairs(&batch), false, now_ms);
        } else {
            world.books.refused(&pairs(&batch), false);
            (ingest.number, ingest.views) = (number, views);
        }
    }
}
