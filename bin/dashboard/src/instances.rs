//! Which processes there are, by what each reports in Redis. Silence is measured with our own clock, because clocks of other
//! machines may be wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use footfall_shared::redis::presence::{PERIOD, Report};
use footfall_shared::service::telemetry::{Health, HealthState};
use tokio::time::Instant;

use crate::snapshot::Instance;

/// A process that reports nothing for this long has died, or cannot reach Redis.
const SILENCE_MAX: Duration = PERIOD.saturating_mul(5);
/// A report that is gone for this long was deleted by its process. Until then Redis may just have lost it, and the next one
/// is on its way.
const ABSENCE_MAX: Duration = PERIOD.saturating_mul(3);
/// A process that is silent for this long is not shown any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// All processes that have reported.
#[derive(Default)]
pub(crate) struct Instances(BTreeMap<(String, String), Known>);

struct Known {
    report: Report,
    /// Whether it has reported anything new since we know of it.
    is_heard: bool,
    /// When it reported last, or when we came to know of it.
    heard_at: Instant,
    /// When its report was there last.
    there_at: Instant,
}

impl Instances {
    /// Takes all reports that are there, and returns those that are to be deleted.
    pub(crate) fn look(&mut self, now: Instant, reports: Vec<Report>) -> Vec<Report> {
        for report in reports {
            let key = (report.role.clone(), report.name.clone());
            let new = || Known { report: report.clone(), is_heard: false, heard_at: now, there_at: now };
            let known = self.0.entry(key).or_insert_with(new);
            known.there_at = now;
            if known.report != report {
                *known = Known { report, is_heard: true, heard_at: now, there_at: now };
            }
        }
        self.0.retain(|_, known| now - known.there_at < ABSENCE_MAX);
        let silent = self.0.values().filter(|known| now - known.heard_at >= FORGOTTEN_AFTER);
        silent.map(|known| known.report.clone()).collect()
    }

    /// Redis could not be read: no process is silent or absent because of that.
    pub(crate) fn missed(&mut self, now: Instant) {
        for known in self.0.values_mut() {
            known.there_at = now;
            if now - known.heard_at < SILENCE_MAX {
                known.heard_at = now;
            }
        }
    }

    pub(crate) fn show(&self, now: Instant, is_redis_readable: bool) -> Vec<Instance> {
        let health = |known: &Known| {
            let silence = now - known.heard_at;
            if !is_redis_readable {
                Health::because(HealthState::Unknown, "unknown without Redis")
            } else if silence >= SILENCE_MAX {
                Health::because(HealthState::Down, format!("not heard for {} s", silence.as_secs()))
            } else if known.is_heard {
                known.report.health.clone()
            } else {
                Health::because(HealthState::Unknown, "not heard yet")
            }
        };
        let show = |known: &Known| {
            let Health { state, reason } = health(known);
            let Report { role, name, version, since, .. } = known.report.clone();
            Instance { role, name, version, since, state, reason }
        };
        self.0.values().map(show).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(beat: u64) -> Report {
        let text = |text: &str| text.to_owned();
        Report {
            beat,
            role: text("ingest"),
            name: text("a:8000"),
            version: text("1"),
            since: text("s"),
            health: Health::OK,
        }
    }

    #[test]
    fn a_process_is_there_while_it_is_heard() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut all = Instances::default();
        let state = |all: &Instances, now| all.show(now, true).first().map(|instance| instance.state);
        all.look(at(0), vec![report(1)]);
        assert_eq!(state(&all, at(0)), Some(HealthState::Unknown), "it may have died long ago");
        all.look(at(1), vec![report(2)]);
        assert_eq!(state(&all, at(1)), Some(HealthState::Ok));
        assert_eq!(all.show(at(1), false)[0].state, HealthState::Unknown);
        for second in 2..=7 {
            assert!(all.look(at(second), vec![report(2)]).is_empty());
        }
        assert_eq!(state(&all, at(7)), Some(HealthState::Down));
        // A report that Redis lost for a moment.
        all.look(at(8), vec![]);
        all.look(at(9), vec![report(3)]);
        assert_eq!(state(&all, at(9)), Some(HealthState::Ok));
        // One that was taken back.
        all.look(at(12), vec![]);
        assert_eq!(state(&all, at(12)), None);
    }

    #[test]
    fn an_outage_of_redis_is_nobodys_silence() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut all = Instances::default();
        all.look(at(0), vec![report(1)]);
        all.look(at(1), vec![report(2)]);
        (2..60).for_each(|second| all.missed(at(second)));
        all.look(at(60), vec![report(2)]);
        assert_eq!(all.show(at(60), true)[0].state, HealthState::Ok);
    }

    #[test]
    fn who_is_silent_for_long_is_forgotten() {
        let start = Instant::now();
        let mut all = Instances::default();
        all.look(start, vec![report(1)]);
        assert!(all.look(start + FORGOTTEN_AFTER - PERIOD, vec![report(1)]).is_empty());
        assert_eq!(all.look(start + FORGOTTEN_AFTER, vec![report(1)]), [report(1)]);
    }
}
