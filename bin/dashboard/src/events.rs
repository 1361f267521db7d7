//! Which differences between two snapshots are events: what a person would want to know of. Each dashboard keeps the
//! events since its own start, newest first.

use footfall_shared::service::telemetry::HealthState;

use crate::now::Now;
use crate::snapshot::{Event, Instance, ShownConservation, Snapshot};

/// Events that are kept.
const EVENTS_MAX: usize = 30;

/// Puts `new` before the others, and drops the oldest.
pub(crate) fn add(events: &mut Vec<Event>, new: impl IntoIterator<Item = Event>) {
    for event in new {
        events.insert(0, event);
    }
    events.truncate(EVENTS_MAX);
}

/// What happened between two snapshots.
pub(crate) fn between(now: Now, before: &Snapshot, after: &Snapshot) -> Vec<Event> {
    let mut changes = Changes { at: now.rfc3339(), events: Vec::new() };
    changes.staleness(before, after);
    if let (Some(before), Some(after)) = (&before.conservation, &after.conservation) {
        changes.conservation(&before.found, &after.found);
    }
    changes.instances(&before.instances, &after.instances);
    changes.events
}

struct Changes {
    at: String,
    events: Vec<Event>,
}

impl Changes {
    fn push(&mut self, level: HealthState, text: impl Into<String>) {
        self.events.push(Event::new(&self.at, level, text));
    }

    fn staleness(&mut self, before: &Snapshot, after: &Snapshot) {
        // Before the first numbers nothing can be lost: a new installation has no numbers, no data set and no flusher yet.
        if before.as_of.is_none() {
            return;
        }
        let code = |snapshot: &Snapshot| snapshot.stale.as_ref().map(|stale| stale.code);
        match &after.stale {
            Some(stale) if code(before) != Some(stale.code) => self.push(stale.level, stale.reason.clone()),
            None if code(before).is_some() => self.push(HealthState::Ok, "The numbers are live again."),
            _ => {}
        }
        // While a store is away, what the flusher does follows from that.
        if after.stale.is_none() && before.flusher.state != after.flusher.state {
            match (before.flusher.state, after.flusher.state) {
                (HealthState::Degraded | HealthState::Down, HealthState::Ok) => {
                    self.push(HealthState::Ok, "The flusher has caught up.");
                }
                (_, HealthState::Degraded) => self.push(HealthState::Degraded, "The flusher is behind."),
                (_, HealthState::Down) => self.push(HealthState::Down, "The flusher does not flush."),
                _ => {}
            }
        }
    }

    fn conservation(&mut self, before: &ShownConservation, after: &ShownConservation) {
        if after.quarantined > before.quarantined {
            let views = after.quarantined - before.quarantined;
            let text = format!("{views} views were quarantined: see `footfall quarantine list`.");
            self.push(HealthState::Degraded, text);
        } else if after.quarantined < before.quarantined {
            let views = before.quarantined - after.quarantined;
            self.push(HealthState::Ok, format!("{views} views left the quarantine."));
        }
        match (before.is_broken(), after.is_broken()) {
            (false, true) => {
                self.push(HealthState::Down, "The conservation check failed: run `footfall verify --live`.");
            }
            (true, false) => self.push(HealthState::Ok, "The conservation check passes again."),
            _ => {}
        }
    }

    fn instances(&mut self, before: &[Instance], after: &[Instance]) {
        // The first read finds processes that have been running for long.
        if before.is_empty() {
            return;
        }
        let is_same = |one: &Instance, other: &Instance| (&one.role, &one.name) == (&other.role, &other.name);
        for gone in before.iter().filter(|was| !after.iter().any(|is| is_same(was, is))) {
            self.push_about(gone, HealthState::Degraded, "has stopped", None);
        }
        for is in after {
            let was = before.iter().find(|was| is_same(was, is));
            if was.is_none_or(|was| was.since != is.since) {
                self.push_about(is, HealthState::Ok, "has started", None);
                continue;
            }
            let had_note = was.is_some_and(|was| was.state == HealthState::Ok && was.reason.is_some());
            if is.state == HealthState::Ok && is.reason.is_some() && !had_note {
                self.push_about(is, HealthState::Degraded, "needs attention", is.reason.as_ref());
            }
            match (was.map_or(HealthState::Unknown, |was| was.state), is.state) {
                (was, is) if was == is => {}
                (HealthState::Degraded | HealthState::Down, HealthState::Ok) => {
                    self.push_about(is, is.state, "has recovered", None);
                }
                (_, HealthState::Degraded) => self.push_about(is, is.state, "is degraded", is.reason.as_ref()),
                (_, HealthState::Down) => self.push_about(is, is.state, "is down", is.reason.as_ref()),
                _ => {}
            }
        }
    }

    fn push_about(&mut self, instance: &Instance, level: HealthState, text: &str, detail: Option<&String>) {
        let name = Some(format!("{} {}", instance.role, instance.name));
        self.events.push(Event { name, detail: detail.cloned(), ..Event::new(&self.at, level, text) });
    }
}

#[cfg(test)]
mod tests {
    use footfall_shared::service::telemetry::Health;

    use super::*;
    use crate::snapshot::{ConservationCheck, Stale};

    fn instance(name: &str, since: &str, state: HealthState) -> Instance {
        let [role, name, version, since] = ["ingest", name, "1", since].map(str::to_owned);
        Instance { role, name, version, since, state, reason: None }
    }

    fn texts(before: &Snapshot, after: &Snapshot) -> Vec<String> {
        let full = |event: Event| event.name.map_or(event.text.clone(), |name| format!("{name} {}", event.text));
        between(Now::read(), before, after).into_iter().map(full).collect()
    }

    #[test]
    fn a_person_reads_what_changed_and_nothing_else() {
        let starting = Snapshot::initial("s".into());
        let well = Snapshot { as_of: Some("t".into()), stale: None, flusher: Health::OK, ..starting.clone() };
        let stale = |code, reason: &str| {
            Some(Stale { code, level: HealthState::Down, reason: reason.into(), since: "s".into() })
        };
        let down = Snapshot { stale: stale("redis_down", "Redis is away."), ..well.clone() };
        let recovering = Snapshot { stale: down.stale.clone(), ..starting.clone() };
        assert_eq!(texts(&starting, &recovering), [""; 0]);
        assert_eq!(texts(&recovering, &well), [""; 0]);
        assert_eq!(texts(&well, &well), [""; 0]);
        assert_eq!(texts(&well, &down), ["Redis is away."]);
        assert_eq!(texts(&down, &well), ["The numbers are live again."]);
        let behind = Snapshot { flusher: Health::because(HealthState::Down, "x"), ..well.clone() };
        assert_eq!(texts(&well, &behind), ["The flusher does not flush."]);
        assert_eq!(texts(&behind, &well), ["The flusher has caught up."]);

        let checked = |quarantined, unaccounted| Snapshot {
            conservation: Some(ConservationCheck {
                as_of: "t".into(),
                is_current: true,
                found: ShownConservation { quarantined, unaccounted, ..ShownConservation::default() },
            }),
            ..well.clone()
        };
        assert_eq!(
            texts(&checked(1, 0), &checked(3, 0)),
            ["2 views were quarantined: see `footfall quarantine list`."]
        );
        assert_eq!(texts(&checked(3, 0), &checked(0, 0)), ["3 views left the quarantine."]);
        assert_eq!(texts(&checked(0, -1), &checked(0, 0)), ["The conservation check passes again."]);
        assert_eq!(texts(&checked(0, 0), &checked(0, -1)).len(), 1);
    }

    #[test]
    fn processes_that_come_and_go_are_told_of() {
        let of = |instances| Snapshot { instances, ..Snapshot::initial("s".into()) };
        let ok = |name, since| instance(name, since, HealthState::Ok);
        let [none, one] = [of(vec![]), of(vec![ok("a", "1")])];
        assert_eq!(texts(&none, &one), [""; 0], "it has long been there");
        let two = of(vec![ok("a", "1"), ok("b", "1")]);
        assert_eq!(texts(&one, &two), ["ingest b has started"]);
        assert_eq!(texts(&two, &one), ["ingest b has stopped"]);
        assert_eq!(texts(&one, &of(vec![ok("a", "2")])), ["ingest a has started"]);
        let note = |text: &str| of(vec![Instance { reason: Some(text.into()), ..ok("a", "1") }]);
        assert_eq!(texts(&one, &note("x")), ["ingest a needs attention"]);
        assert_eq!(texts(&note("x"), &note("y")), [""; 0], "it is shown all the time");
        assert_eq!(texts(&note("x"), &one), [""; 0]);
        let down = of(vec![instance("a", "1", HealthState::Down)]);
        assert_eq!(texts(&one, &down), ["ingest a is down"]);
        assert_eq!(texts(&down, &one), ["ingest a has recovered"]);
    }

    #[test]
    fn only_so_many_are_kept() {
        let mut events = Vec::new();
        for number in 0..2 * EVENTS_MAX {
            add(&mut events, [Event::new("t", HealthState::Ok, number.to_string())]);
        }
        assert_eq!((events.len(), events[0].text.as_str()), (EVENTS_MAX, "59"));
    }
}
