//! Faults of ingest and of its way to Redis.

use super::Recipe;
use crate::fault::Fault;
use crate::values::{Fate, Hurt, Moment, Network, Point, Store, Who};

/// Kills whichever ingest comes to APPLY first.
const fn at_apply(moment: Moment) -> Fault {
    Fault::KillAt { who: Who::Ingests, point: Point::Apply, moment, fate: Fate::Lost }
}

pub(super) const RECIPES: &[Recipe] = &[
    Recipe::new("ingest-killed", "An ingest is killed, at any moment.", |draw| {
        draw.one(Fault::Kill { who: draw.ingest() })
    })
    .not_in_share("it is killed at each step of a batch"),
    Recipe::new(
        "ingest-killed-before-apply",
        "An ingest is killed while its batch is on its way to Redis, and Redis never gets it.",
        |draw| draw.one(at_apply(Moment::Request)),
    ),
    Recipe::new(
        "ingest-killed-after-apply",
        "An ingest is killed after Redis took its batch and before it knows.",
        |draw| draw.one(at_apply(Moment::Reply)),
    ),
    Recipe::new(
        "ingest-killed-after-reply",
        "An ingest is killed as soon as it was told that Redis has its batch.",
        |draw| {
            let who = draw.ingest();
            draw.one(Fault::KillAt { who, point: Point::Apply, moment: Moment::Told, fate: Fate::Delivered })
        },
    ),
    Recipe::new(
        "apply-answer-dropped",
        "Redis takes batches, and the connections break before or within its answers.",
        |draw| {
            let hurt = draw.dice.pick(&[Hurt::DropReply, Hurt::CutReply(3)]);
            draw.one(Fault::Messages { who: Who::Ingests, point: Point::Apply, hurt, times: 3 })
        },
    ),
    Recipe::new(
        "apply-cut-mid-frame",
        "Connections break while batches are being sent: Redis gets the first part of a command.",
        |draw| {
            let cut = |index, after_ms| {
                let hurt = Hurt::CutRequest(draw.dice.range(10, 990));
                draw.after(after_ms, Fault::Messages { who: Who::Ingest(index), point: Point::Apply, hurt, times: 1 })
            };
            [0, 0, 0, 1, 1, 1].into_iter().map(|index| cut(index, 0)).collect()
        },
    )
    .lasts((0, 0), (0, 0)),
    Recipe::new("ingest-paused", "An ingest stands still with all its connections open, and goes on later.", |draw| {
        draw.one(Fault::Pause { who: draw.ingest() })
    })
    .lasts((1_500, 2_000), (30_000, 30_000)),
    Recipe::new(
        "redis-cut-from-one-ingest",
        "One ingest cannot reach Redis; the other one and the flushers can.",
        |draw| {
            let state = Network { refused: true, ..Network::CALM };
            draw.one(Fault::Network { store: Store::Redis, who: draw.ingest(), state })
        },
    )
    .lasts((800, 1_500), (2_000, 12_000)),
];
