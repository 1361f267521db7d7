//! Faults of several parts at once.

use super::Recipe;
use crate::fault::Fault;
use crate::step::PlannedFault;
use crate::values::{Restart, Who};

const INGESTS: Fault = Fault::Kill { who: Who::Ingests };
const FLUSHERS: Fault = Fault::Kill { who: Who::Flushers };
const REDIS: Fault = Fault::RedisRestart { data: Restart::Whole };
const REDIS_EMPTY: Fault = Fault::RedisRestart { data: Restart::Empty };
const MYSQL: Fault = Fault::MysqlRestart {};

/// So long before the second store, in a short run and in a long one.
const FIRST_BACK_MS: (u64, u64) = (400, 2_000);

pub(super) const RECIPES: &[Recipe] = &[
    Recipe::new("both-down-redis-first", "Redis and MariaDB are killed; Redis comes back first.", |draw| {
        let later_ms = draw.scale.of(FIRST_BACK_MS.0, FIRST_BACK_MS.1);
        let mysql = draw.after(draw.dice.range(0, 300), MYSQL);
        vec![draw.after(0, REDIS), PlannedFault { hold_ms: mysql.hold_ms + later_ms, ..mysql }]
    })
    .lasts((600, 1_200), (2_000, 15_000)),
    Recipe::new("both-down-mysql-first", "Redis and MariaDB are killed; MariaDB comes back first.", |draw| {
        let later_ms = draw.scale.of(FIRST_BACK_MS.0, FIRST_BACK_MS.1);
        let mysql = draw.after(draw.dice.range(0, 300), MYSQL);
        let hold_ms = mysql.after_ms + mysql.hold_ms + later_ms;
        vec![PlannedFault { hold_ms, ..draw.after(0, REDIS) }, mysql]
    })
    .lasts((600, 1_200), (2_000, 15_000)),
    Recipe::new("rolling-restart", "Every service and both stores are restarted in order, one by one.", |draw| {
        draw.one(Fault::RollingRestart {})
    })
    .lasts((0, 0), (0, 0)),
    Recipe::new("everything-killed", "Every service and both stores are killed at once.", |draw| {
        vec![draw.longer(INGESTS), draw.longer(FLUSHERS), draw.after(0, REDIS), draw.after(0, MYSQL)]
    }),
    Recipe::new(
        "ingests-killed-redis-lost",
        "All ingests are killed and Redis loses everything: what it had is in the journals alone.",
        |draw| vec![draw.longer(INGESTS), draw.after(0, REDIS_EMPTY)],
    ),
    Recipe::new(
        "mysql-down-all-else-killed",
        "MariaDB is away; meanwhile all ingests and flushers are killed, and Redis loses everything.",
        |draw| {
            // Views pile up.
            let pile_ms = draw.dice.range(200, draw.scale.of(600, 3_000));
            let mysql = draw.after(0, MYSQL);
            vec![
                PlannedFault { hold_ms: pile_ms + mysql.hold_ms, ..mysql },
                PlannedFault { after_ms: pile_ms, ..draw.longer(INGESTS) },
                draw.longer(FLUSHERS),
                draw.after(0, REDIS_EMPTY),
            ]
        },
    ),
];
