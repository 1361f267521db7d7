//! Faults of MariaDB.

use super::{Recipe, Scale};
use crate::fault::Fault;
use crate::judge::Expect;
use crate::setup::Load;

pub(super) const RECIPES: &[Recipe] = &[
    Recipe::new("mysql-killed", "MariaDB is killed and started again.", |draw| draw.one(Fault::MysqlRestart {})),
    Recipe::new(
        "mysql-paused",
        "MariaDB stands still with all its connections open, as a hanging machine does.",
        |draw| draw.one(Fault::MysqlPause {}),
    )
    .lasts((1_200, 1_600), (2_000, 15_000)),
    Recipe::new("mysql-read-only", "MariaDB becomes read_only, and writable again.", |draw| {
        draw.one(Fault::MysqlReadOnly {})
    }),
    Recipe::new(
        "deadlocks",
        "Another session takes the same locks in the opposite order, so that the flusher's transactions are rolled back.",
        |draw| vec![draw.after(draw.dice.range(0, 300), Fault::Deadlocks { times: draw.scale.of(6, 20) })],
    )
    .lasts((0, 0), (0, 0)),
    Recipe::new(
        "lock-time-outs",
        "Another session holds the shard's lock for longer than innodb_lock_wait_timeout.",
        |draw| draw.one(Fault::LockHeld { ms: 11_500 }),
    )
    .lasts((11_000, 11_000), (11_000, 11_000))
    .not_in_share("the time-out is 10 s"),
    Recipe::new(
        "poison-rows",
        "MariaDB refuses the rows of some users for good; all others go on being counted.",
        |draw| draw.one(Fault::Poison {}),
    )
    .expect(Expect::Quarantined)
    .lasts((800, 1_200), (1_000, 3_000)),
    Recipe::new(
        "mysql-older-restored",
        "MariaDB comes back from a backup: the shard must stand still and say so, until the newest data are back.",
        |draw| draw.one(Fault::MysqlOlder { after_ms: draw.dice.range(0, 500) }),
    )
    .expect(Expect::Halts),
    Recipe::new(
        "million-readers",
        "One article gets up to a million readers while MariaDB is away (30,000 in a short run).",
        |draw| draw.one(Fault::MysqlRestart {}),
    )
    .under(|scale| match scale {
        Scale::Short => Load { rate: 12_000, articles: 1, users: 30_000, batch: 100, ..Load::default() },
        Scale::Long => Load { rate: 60_000, articles: 1, users: 1_000_000, batch: 200, ..Load::default() },
    })
    .lasts((1_500, 1_500), (25_000, 25_000)),
];
