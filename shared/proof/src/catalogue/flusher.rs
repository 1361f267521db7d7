//! Faults of the flusher and of its way to MySQL.

use super::{Draw, Recipe};
use crate::fault::Fault;
use crate::judge::Expect;
use crate::setup::Setup;
use crate::step::PlannedFault;
use crate::values::{Fate, Hurt, Moment, Point, Who};

/// Kills whichever flusher comes to a step first. What is under way goes on without it or is lost with it, by chance.
fn kill_at(draw: &Draw<'_>, point: Point, moment: Moment) -> Vec<PlannedFault> {
    let fate = draw.dice.pick(&[Fate::Delivered, Fate::Lost]);
    draw.one(Fault::KillAt { who: Who::Flushers, point, moment, fate })
}

fn commits(draw: &Draw<'_>, hurt: Hurt) -> Vec<PlannedFault> {
    draw.one(Fault::Messages { who: Who::Flushers, point: Point::Commit, hurt, times: 3 })
}

pub(super) const RECIPES: &[Recipe] = &[
    Recipe::new("flusher-killed", "A flusher is killed, at any moment.", |draw| {
        draw.one(Fault::Kill { who: draw.flusher() })
    })
    .not_in_share("it is killed at each of its steps"),
    Recipe::new(
        "flusher-killed-at-follow",
        "The working flusher is killed while it reads entries of the log.",
        |draw| kill_at(draw, Point::Follow, Moment::Reply),
    ),
    Recipe::new(
        "flusher-killed-at-lock",
        "The working flusher is killed at the beginning of its transaction, with or without the lock.",
        |draw| kill_at(draw, Point::Lock, Moment::Request),
    ),
    Recipe::new(
        "flusher-killed-at-commit",
        "The working flusher is killed while its COMMIT is on its way; MySQL may get it, or not.",
        |draw| kill_at(draw, Point::Commit, Moment::Request),
    ),
    Recipe::new(
        "flusher-killed-after-commit",
        "The working flusher is killed after MySQL committed and before it knows.",
        |draw| kill_at(draw, Point::Commit, Moment::Reply),
    ),
    Recipe::new(
        "flusher-killed-at-advance",
        "The working flusher is killed while it moves cached bases along; Redis may do so, or not.",
        |draw| kill_at(draw, Point::Advance, Moment::Request),
    ),
    Recipe::new(
        "flusher-killed-at-ack",
        "The working flusher is killed while it tells Redis what MySQL has; Redis may learn it, or not.",
        |draw| kill_at(draw, Point::Ack, Moment::Request),
    ),
    Recipe::new(
        "flusher-paused-past-its-lease",
        "The working flusher stands still in the middle of a flush; another takes over; then both go on.",
        |draw| {
            let (point, moment) = draw.dice.pick(&[
                (Point::Follow, Moment::Reply),
                (Point::Advance, Moment::Reply),
                (Point::Ack, Moment::Request),
            ]);
            draw.one(Fault::PauseAt { who: Who::Flushers, point, moment })
        },
    )
    .lasts((1_200, 1_600), (1_500, 8_000)),
    Recipe::new(
        "flushers-without-leases",
        "Three flushers flush the same entries at every turn, and one of them is killed.",
        |draw| kill_at(draw, Point::Commit, Moment::Reply),
    )
    .on(Setup::NoLeases)
    .lasts((1_000, 1_500), (3_000, 6_000)),
    Recipe::new("commit-answer-dropped", "MySQL commits, and the connections break before its answers.", |draw| {
        commits(draw, Hurt::DropReply)
    }),
    Recipe::new("commit-dropped", "Connections break and take COMMITs with them that MySQL never gets.", |draw| {
        commits(draw, Hurt::DropRequest)
    }),
    Recipe::new(
        "connection-killed-in-transaction",
        "MySQL's administrator kills the sessions that are in the middle of a transaction.",
        |draw| draw.one(Fault::SessionsKilled {}),
    ),
];

/// Not one of all: it must fail, or the success of all others says nothing.
pub const FENCE_FORGOTTEN: Recipe = Recipe::new(
    "fence-forgotten",
    "MySQL forgets that it committed a flush before the flusher knows, so nothing keeps it from writing it again.",
    |draw| draw.one(Fault::FenceForgotten {}),
)
.expect(Expect::NoneLost);
