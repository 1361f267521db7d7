//! Faults of the clock: the time of day of ingests and flushers jumps, as if somebody had set it. That of this machine is
//! left alone; Redis and MariaDB go by it.

use super::{Draw, Recipe};
use crate::fault::Fault;
use crate::setup::Setup;
use crate::step::PlannedFault;
use crate::values::Who;

const HOUR_MS: i64 = 3_600_000;
const EIGHT_DAYS_MS: i64 = 8 * 24 * HOUR_MS;
/// The services see the change after up to a second.
const SHORT_MS: (u64, u64) = (1_300, 1_600);
const LONG_MS: (u64, u64) = (1_500, 5_000);

fn jump(draw: &Draw<'_>, services_ms: i64) -> Vec<PlannedFault> {
    draw.one(Fault::Clocks { redis_ms: 0, services_ms })
}

pub(super) const RECIPES: &[Recipe] = &[
    Recipe::new("clock-hour-ahead", "The services' clocks jump an hour ahead, and later back.", |draw| {
        jump(draw, HOUR_MS)
    })
    .on(Setup::Clock)
    .lasts(SHORT_MS, LONG_MS)
    .not_in_share("clock-8-days-ahead is the same, only further"),
    Recipe::new("clock-hour-back", "The services' clocks jump an hour back, and later ahead.", |draw| {
        jump(draw, -HOUR_MS)
    })
    .on(Setup::Clock)
    .lasts(SHORT_MS, LONG_MS)
    .not_in_share("clock-in-the-past-at-start goes further back"),
    Recipe::new("clock-8-days-ahead", "The services' clocks jump 8 days ahead, and later back.", |draw| {
        jump(draw, EIGHT_DAYS_MS)
    })
    .on(Setup::Clock)
    .lasts(SHORT_MS, LONG_MS),
    Recipe::new("clock-8-days-back", "The services' clocks jump 8 days back, and later ahead.", |draw| {
        jump(draw, -EIGHT_DAYS_MS)
    })
    .on(Setup::Clock)
    .lasts(SHORT_MS, LONG_MS)
    .not_in_share("clock-in-the-past-at-start goes as far back"),
    Recipe::new(
        "clock-in-the-past-at-start",
        "Every service is restarted with its clock 8 days back, which is then set right.",
        |draw| {
            let mut steps = jump(draw, -EIGHT_DAYS_MS);
            let restart = |who| PlannedFault { after_ms: 0, hold_ms: 0, fault: Fault::Kill { who } };
            steps.extend([Who::Flushers, Who::Ingests].map(restart));
            steps
        },
    )
    .on(Setup::Clock)
    .lasts(SHORT_MS, LONG_MS),
];
