//! Faults of the disk that the journals are on.

use super::{Draw, Recipe};
use crate::fault::Fault;
use crate::judge::Expect;
use crate::setup::Setup;
use crate::step::PlannedFault;
use crate::values::{Damage, Restart, Who};

/// Why damage to journals is not mixed with other faults.
const ONLY_COPY: &str = "when Redis loses data too, the journal is the only copy";

/// Nobody writes a journal while it is damaged.
fn damage(draw: &Draw<'_>, how: Damage) -> Vec<PlannedFault> {
    let damage = Fault::JournalDamage { host: 0, how, dice: draw.dice.number() };
    vec![draw.longer(Fault::Kill { who: Who::Ingests }), PlannedFault { hold_ms: 0, ..draw.after(0, damage) }]
}

pub(super) const RECIPES: &[Recipe] = &[
    Recipe::new(
        "journal-bits-flipped",
        "All ingests are killed, and some bits of their journals change; Redis still has what is in them.",
        |draw| damage(draw, Damage::Bits),
    )
    .alone(ONLY_COPY),
    Recipe::new(
        "journal-tail-torn",
        "All ingests are killed, and the end of a journal's last record is lost; Redis still has it.",
        |draw| damage(draw, Damage::TornTail),
    )
    .alone(ONLY_COPY),
    Recipe::new(
        "journal-bits-flipped-redis-lost",
        "All ingests are killed, some bits of their journals change, and Redis loses everything.",
        |draw| {
            // So that the journals hold something that nobody else has.
            let alone_ms = draw.dice.range(300, 600);
            let mysql = draw.after(0, Fault::MysqlRestart {});
            let mut steps = vec![PlannedFault { hold_ms: alone_ms + mysql.hold_ms, ..mysql }];
            steps.extend(damage(draw, Damage::Bits));
            steps[1].after_ms = alone_ms;
            steps.push(draw.after(0, Fault::RedisRestart { data: Restart::Empty }));
            steps
        },
    )
    .expect(Expect::LostAsReported),
    Recipe::new("journal-disk-full", "The disk of the journals is full, until somebody makes room.", |draw| {
        draw.one(Fault::DiskFull { host: 0 })
    })
    .on(Setup::SmallDisk)
    .lasts((800, 1_500), (2_000, 10_000)),
    Recipe::new(
        "journal-disk-full-redis-away",
        "The disk of the journals is full, and Redis is away; views go to MySQL or are refused.",
        |draw| {
            let redis = Fault::RedisRestart { data: Restart::Whole };
            vec![draw.longer(Fault::DiskFull { host: 0 }), draw.after(0, redis)]
        },
    )
    .on(Setup::SmallDisk)
    .lasts((800, 1_500), (2_000, 10_000)),
];
