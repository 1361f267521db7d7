//! Faults of the clock: the time of day of ingests and flushers jumps, as if somebody had set it. That of this machine is
//! left alone; Redis and MariaDB go by it.

use super::{Fault, Healing, Part};
use crate::lab::Lab;
use crate::setting::{Setting, set_clock};

const SERVICES: &[Part] = &[Part::Ingest, Part::Flusher];
const HOUR: i64 = 3_600;
const EIGHT_DAYS: i64 = 8 * 24 * HOUR;
/// The services see the change after up to a second.
const SHORT_MS: (u64, u64) = (1_300, 1_600);
const LONG_MS: (u64, u64) = (1_500, 5_000);

pub(super) const FAULTS: &[Fault] = &[
    Fault::new("clock-hour-ahead", "The services' clocks jump an hour ahead, and later back.", SERVICES, |lab, _| {
        jump(lab, HOUR)
    })
    .on(Setting::Clock)
    .lasts(SHORT_MS, LONG_MS)
    .not_in_share("clock-8-days-ahead is the same, only further"),
    Fault::new("clock-hour-back", "The services' clocks jump an hour back, and later ahead.", SERVICES, |lab, _| {
        jump(lab, -HOUR)
    })
    .on(Setting::Clock)
    .lasts(SHORT_MS, LONG_MS)
    .not_in_share("clock-in-the-past-at-start goes further back"),
    Fault::new("clock-8-days-ahead", "The services' clocks jump 8 days ahead, and later back.", SERVICES, |lab, _| {
        jump(lab, EIGHT_DAYS)
    })
    .on(Setting::Clock)
    .lasts(SHORT_MS, LONG_MS),
    Fault::new("clock-8-days-back", "The services' clocks jump 8 days back, and later ahead.", SERVICES, |lab, _| {
        jump(lab, -EIGHT_DAYS)
    })
    .on(Setting::Clock)
    .lasts(SHORT_MS, LONG_MS)
    .not_in_share("clock-in-the-past-at-start goes as far back"),
    Fault::new(
        "clock-in-the-past-at-start",
        "Every service is restarted with its clock 8 days back, which is then set right.",
        SERVICES,
        |lab, _| {
            set_clock(lab.dir(), -EIGHT_DAYS)?;
            for service in lab.stack.services() {
                service.kill()?;
                service.restart()?;
            }
            Ok(Box::new(|lab| set_clock(lab.dir(), 0)))
        },
    )
    .on(Setting::Clock)
    .lasts(SHORT_MS, LONG_MS),
];

fn jump(lab: &mut Lab, seconds: i64) -> anyhow::Result<Healing> {
    set_clock(lab.dir(), seconds)?;
    Ok(Box::new(|lab| set_clock(lab.dir(), 0)))
}
