//! What happened, in sentences: the differences between one snapshot and the next that a person would want to know of.
//! Kept by each dashboard since its start, the newest first.

use footfall_shared::service::clock;
use footfall_shared::service::telemetry::HealthState;
use serde::Serialize;

use crate::frame::{Conservation, Instance, Snapshot};

/// Events that are kept.
const EVENTS_MAX: usize = 30;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// RFC 3339.
    pub at: String,
    /// How it is since then.
    pub level: HealthState,
    /// To whom it happened, if to one process.
    pub name: Option<String>,
    /// A sentence, or what `name` begins.
    pub text: String,
    /// In the words of whoever reported it.
    pub detail: Option<String>,
}

impl Event {
    /// An event of now.
    #[must_use]
    pub fn new(level: HealthState, text: impl Into<String>) -> Self {
        let at = clock::rfc3339(clock::unix_ms());
        Self { at, level, name: None, text: text.into(), detail: None }
    }
}

/// Puts `new` before the others, and forgets the oldest.
pub(crate) fn add(events: &mut Vec<Event>, new: impl IntoIterator<Item = Event>) {
    for event in new {
        events.insert(0, event);
    }
    events.truncate(EVENTS_MAX);
}

/// What happened between two snapshots.
pub(crate) fn between(before: &Snapshot, after: &Snapshot) -> Vec<Event> {
    let mut events = Vec::new();
    staleness(before, after, &mut events);
    if let (Some(before), Some(after)) = (&before.conservation, &after.conservation) {
        books(&before.found, &after.found, &mut events);
    }
    instances(&before.instances, &after.instances, &mut events);
    events
}

fn staleness(before: &Snapshot, after: &Snapshot, events: &mut Vec<Event>) {
    // Until there were numbers once, nothing is lost: a first start has no numbers, no data set and no flusher yet.
    if before.as_of.is_none() {
        return;
    }
    let code = |snapshot: &Snapshot| snapshot.stale.as_ref().map(|stale| stale.code);
    match &after.stale {
        Some(stale) if code(before) != Some(stale.code) => events.push(Event::new(stale.level, stale.reason.clone())),
        None if code(before).is_some() => {
            events.push(Event::new(HealthState::Ok, "The numbers are live again."));
        }
        _ => {}
    }
    // While one of the stores is away this says nothing new.
    if after.stale.is_none() && before.flusher.state != after.flusher.state {
        match (before.flusher.state, after.flusher.state) {
            (HealthState::Degraded | HealthState::Down, HealthState::Ok) => {
                events.push(Event::new(HealthState::Ok, "The flusher keeps up again."));
            }
            (_, HealthState::Degraded) => events.push(Event::new(HealthState::Degraded, "The flusher is behind.")),
            (_, HealthState::Down) => events.push(Event::new(HealthState::Down, "The flusher is not at work.")),
            _ => {}
        }
    }
}

fn books(before: &Conservation, after: &Conservation, events: &mut Vec<Event>) {
    if after.quarantined > before.quarantined {
        let views = after.quarantined - before.quarantined;
        let text = format!("{views} views went into quarantine: see `footfall quarantine list`.");
        events.push(Event::new(HealthState::Degraded, text));
    } else if after.quarantined < before.quarantined {
        let views = before.quarantined - after.quarantined;
        events.push(Event::new(HealthState::Ok, format!("{views} views left the quarantine.")));
    }
    match (before.is_broken(), after.is_broken()) {
        (false, true) => {
            events
                .push(Event::new(HealthState::Down, "The books do not add up any more: run `footfall verify --live`."));
        }
        (true, false) => events.push(Event::new(HealthState::Ok, "The books add up again.")),
        _ => {}
    }
}

fn instances(before: &[Instance], after: &[Instance], events: &mut Vec<Event>) {
    // The first look finds those that have long been there.
    if before.is_empty() {
        return;
    }
    let mut push = |instance: &Instance, level, text: &str, detail: Option<&String>| {
        let name = Some(format!("{} {}", instance.role, instance.name));
        events.push(Event { name, detail: detail.cloned(), ..Event::new(level, text) });
    };
    let same = |one: &Instance, other: &Instance| (&one.role, &one.name) == (&other.role, &other.name);
    for gone in before.iter().filter(|was| !after.iter().any(|is| same(was, is))) {
        push(gone, HealthState::Degraded, "was stopped", None);
    }
    for is in after {
        let was = before.iter().find(|was| same(was, is));
        if was.is_none_or(|was| was.since != is.since) {
            push(is, HealthState::Ok, "was started", None);
            continue;
        }
        let had_note = was.is_some_and(|was| was.state == HealthState::Ok && was.reason.is_some());
        if is.state == HealthState::Ok && is.reason.is_some() && !had_note {
            push(is, HealthState::Degraded, "needs a look", is.reason.as_ref());
        }
        let was = was.map_or(HealthState::Unknown, |was| was.state);
        match (was, is.state) {
            (was, is) if was == is => {}
            (HealthState::Degraded | HealthState::Down, HealthState::Ok) => push(is, is.state, "is well again", None),
            (_, HealthState::Degraded) => push(is, is.state, "is degraded", is.reason.as_ref()),
            (_, HealthState::Down) => push(is, is.state, "is down", is.reason.as_ref()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use footfall_shared::service::telemetry::Health;

    use super::*;
    use crate::frame::{Books, Stale};

    fn instance(name: &str, since: &str, state: HealthState) -> Instance {
        let [role, name, version, since] = ["ingest", name, "1", since].map(str::to_owned);
        Instance { role, name, version, since, state, reason: None }
    }

    fn texts(before: &Snapshot, after: &Snapshot) -> Vec<String> {
        let full = |event: Event| event.name.map_or(event.text.clone(), |name| format!("{name} {}", event.text));
        between(before, after).into_iter().map(full).collect()
    }

    #[test]
    fn a_person_reads_what_changed_and_nothing_else() {
        let starting = Snapshot::before_the_first_look("s".into());
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
        assert_eq!(texts(&well, &behind), ["The flusher is not at work."]);
        assert_eq!(texts(&behind, &well), ["The flusher keeps up again."]);

        let books = |quarantined, unaccounted| Snapshot {
            conservation: Some(Books {
                as_of: "t".into(),
                is_current: true,
                found: Conservation { quarantined, unaccounted, ..Conservation::default() },
            }),
            ..well.clone()
        };
        assert_eq!(
            texts(&books(1, 0), &books(3, 0)),
            ["2 views went into quarantine: see `footfall quarantine list`."]
        );
        assert_eq!(texts(&books(3, 0), &books(0, 0)), ["3 views left the quarantine."]);
        assert_eq!(texts(&books(0, -1), &books(0, 0)), ["The books add up again."]);
        assert_eq!(texts(&books(0, 0), &books(0, -1)).len(), 1);
    }

    #[test]
    fn processes_that_come_and_go_are_told_of() {
        let of = |instances| Snapshot { instances, ..Snapshot::before_the_first_look("s".into()) };
        let ok = |name, since| instance(name, since, HealthState::Ok);
        let [none, one] = [of(vec![]), of(vec![ok("a", "1")])];
        assert_eq!(texts(&none, &one), [""; 0], "it has long been there");
        let two = of(vec![ok("a", "1"), ok("b", "1")]);
        assert_eq!(texts(&one, &two), ["ingest b was started"]);
        assert_eq!(texts(&two, &one), ["ingest b was stopped"]);
        assert_eq!(texts(&one, &of(vec![ok("a", "2")])), ["ingest a was started"]);
        let note = |text: &str| of(vec![Instance { reason: Some(text.into()), ..ok("a", "1") }]);
        assert_eq!(texts(&one, &note("x")), ["ingest a needs a look"]);
        assert_eq!(texts(&note("x"), &note("y")), [""; 0], "it is shown all the time");
        assert_eq!(texts(&note("x"), &one), [""; 0]);
        let down = of(vec![instance("a", "1", HealthState::Down)]);
        assert_eq!(texts(&one, &down), ["ingest a is down"]);
        assert_eq!(texts(&down, &one), ["ingest a is well again"]);
    }

    #[test]
    fn only_so_many_are_kept() {
        let mut events = Vec::new();
        for number in 0..2 * EVENTS_MAX {
            add(&mut events, [Event::new(HealthState::Ok, number.to_string())]);
        }
        assert_eq!((events.len(), events[0].text.as_str()), (EVENTS_MAX, "59"));
    }
}
