//! What viewers are told, and in which words. Pure: snapshots in, JSON text out.
//!
//! A viewer first gets a whole snapshot, then updates that hold only the fields that changed. Every
//! message carries a number; an update belongs on top of the message numbered one less. The text is
//! made once, whatever the number of viewers.

use std::collections::BTreeMap;

use footfall_shared::service::telemetry::{Health, HealthState};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::events::Event;

/// Everything that the dashboard shows at one moment. Fields are never left out, only null, so that
/// an update can say that something went away. What is not known now is null: no number is one of before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// When `views` was last known (RFC 3339); null until it was once.
    pub as_of: Option<String>,
    /// Why something here may be behind; null while all is well.
    pub stale: Option<Stale>,
    /// All views that were accepted, those that wait for MySQL included, as of `as_of`.
    pub views: Option<u64>,
    /// The views that are known of, where that is a part; null where `views` is known.
    pub at_least: Option<u64>,
    /// The views that are in MySQL.
    pub stored_views: Option<u64>,
    /// The views that wait in Redis.
    pub pending_views: Option<u64>,
    /// Growth of `views` over the last seconds; null while it cannot be known.
    pub views_per_second: Option<f64>,
    /// Growth of `stored_views`: what the flushers bring to MySQL; null while it cannot be known.
    pub stored_views_per_second: Option<f64>,
    /// Distinct users in MySQL.
    pub readers: Option<u64>,
    /// Distinct (article, user) pairs in MySQL.
    pub reader_pairs: Option<u64>,
    /// Distinct articles in MySQL.
    pub articles: Option<u64>,
    /// The most viewed articles, the first one first.
    pub top: Vec<TopArticle>,
    /// When MySQL was last asked which these are: it is asked again when more was flushed. Null until it was once.
    pub top_as_of: Option<String>,
    /// Redis's own look-ups that found their key, in percent.
    pub redis_hits: HitPercent,
    /// Reads that a cache answered, in percent.
    pub query_hits: HitPercent,
    /// The same by what was read: `article`, `lists`, `readers`, `users`, as far as each was.
    pub interface_hits: BTreeMap<String, HitPercent>,
    /// Entries of the logs that MySQL is not known to have.
    pub log_entries: Option<u64>,
    /// Age of the oldest view that waits, in milliseconds.
    pub lag_ms: Option<u64>,
    /// Where all views are; null until it was known once.
    pub conservation: Option<Books>,
    /// Redis, as the dashboard sees it.
    pub redis: Health,
    /// MySQL, as the dashboard sees it.
    pub mysql: Health,
    /// The flushers, as seen by their work.
    pub flusher: Health,
    /// What waits in each shard.
    pub shards: Vec<Backlog>,
    /// The processes that say that they are there, by role and name.
    pub instances: Vec<Instance>,
    /// What happened since this dashboard was started, the newest first.
    pub events: Vec<Event>,
}

/// What waits in one shard; null while Redis cannot be read, or no recovery has opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Backlog {
    /// Which.
    pub shard: u16,
    /// How often Redis was opened anew.
    pub epoch: Option<u64>,
    /// Of the newest entry of its log.
    pub position: Option<u64>,
    /// Views that wait.
    pub pending_views: Option<u64>,
    /// Entries of its log that MySQL is not known to have.
    pub log_entries: Option<u64>,
    /// Age of the oldest view that waits, in milliseconds.
    pub lag_ms: Option<u64>,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// `ingest`, `flusher` or `dashboard`.
    pub role: String,
    /// Host and port.
    pub name: String,
    /// Of the program.
    pub version: String,
    /// When it was started (RFC 3339).
    pub since: String,
    /// How it does.
    pub state: HealthState,
    /// In a sentence, when there is something to say.
    pub reason: Option<String>,
}

/// Where all views are that were ever accepted: accepted = stored + pending + journalled + quarantined + dropped +
/// repeated + unaccounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Conservation {
    /// Views that producers have numbered, as they say themselves.
    pub accepted: u64,
    /// Counted in MySQL.
    pub stored: u64,
    /// Waiting in Redis.
    pub pending: u64,
    /// Acknowledged, and only in a journal so far.
    pub journalled: u64,
    /// In quarantine.
    pub quarantined: u64,
    /// Dropped from there by a person.
    pub dropped: u64,
    /// Repeats of views with an id.
    pub repeated: u64,
    /// What is left over: repeats among the pending views; anything else would be a mistake.
    pub unaccounted: i64,
}

/// The books, and the moment that they are of: looked at less often than the other numbers, they are never of the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Books {
    /// When both stores were looked at for them (RFC 3339).
    pub as_of: String,
    /// Whether that is now, as near as they are kept: if not, nothing is known of whether they still add up.
    pub is_current: bool,
    /// What was found.
    #[serde(flatten)]
    pub found: Conservation,
}

impl Conservation {
    /// Whether views are missing or too many. Repeats in Redis are known only once they are flushed.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.unaccounted < 0 || (self.pending == 0 && self.unaccounted != 0)
    }
}

/// Why numbers may be behind, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stale {
    /// Which case it is, for programs; the page says what to do about it.
    pub code: &'static str,
    /// How bad it is.
    pub level: HealthState,
    /// A sentence for people.
    pub reason: String,
    /// RFC 3339.
    pub since: String,
}

/// One line of the ranking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopArticle {
    /// Its id. Anybody can choose one: never to be shown as markup.
    pub article: String,
    /// Views, those that wait for MySQL included.
    pub views: Option<u64>,
    /// The views that are known of; null where `views` is known.
    pub at_least: Option<u64>,
    /// The views that MySQL had at `top_as_of`.
    pub stored_views: u64,
    /// Readers that MySQL had then.
    pub readers: u64,
}

/// A hit rate; null where nothing was looked up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct HitPercent {
    /// Over the last minute.
    pub minute: Option<f64>,
    /// Since the counting began.
    pub total: Option<f64>,
}

impl Snapshot {
    /// What is shown before anything was read.
    #[must_use]
    pub fn before_the_first_look(since: String) -> Self {
        let unknown = || Health::because(HealthState::Unknown, "not asked yet");
        Self {
            as_of: None,
            stale: Some(Stale {
                code: "starting",
                level: HealthState::Unknown,
                reason: "Nothing was read yet.".into(),
                since,
            }),
            views: None,
            at_least: Some(0),
            stored_views: None,
            pending_views: None,
            views_per_second: None,
            stored_views_per_second: None,
            readers: None,
            reader_pairs: None,
            articles: None,
            top: Vec::new(),
            top_as_of: None,
            redis_hits: HitPercent::default(),
            query_hits: HitPercent::default(),
            interface_hits: BTreeMap::new(),
            log_entries: None,
            lag_ms: None,
            conservation: None,
            redis: unknown(),
            mysql: unknown(),
            flusher: unknown(),
            shards: Vec::new(),
            instances: Vec::new(),
            events: vec![Event::new(HealthState::Ok, "This dashboard was started.")],
        }
    }
}

/// One moment, ready to be sent. Cloning shares the text.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The number of both messages.
    pub seq: u64,
    /// The whole snapshot, for who does not have the message before.
    pub full: Utf8Bytes,
    /// What changed since the message before.
    pub update: Utf8Bytes,
    fields: Map<String, Value>,
}

impl Frame {
    /// The first one, or the first after a break: there is nothing that it could be an update of.
    #[must_use]
    pub fn first(snapshot: &impl Serialize) -> Self {
        let fields = fields_of(snapshot);
        Self { seq: 0, full: text("snapshot", 0, &fields), update: text("update", 0, &fields), fields }
    }

    /// The one after `self`.
    #[must_use]
    pub fn next(&self, snapshot: &impl Serialize) -> Self {
        let seq = self.seq + 1;
        let fields = fields_of(snapshot);
        let changed: Map<String, Value> = fields
            .iter()
            .filter(|(name, value)| self.fields.get(*name) != Some(value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        Self { seq, full: text("snapshot", seq, &fields), update: text("update", seq, &changed), fields }
    }

    /// What to send to a viewer whose last message had the number `seen`, if any.
    #[must_use]
    pub fn after(&self, seen: Option<u64>) -> Utf8Bytes {
        if seen.is_some_and(|seen| seen + 1 == self.seq) { self.update.clone() } else { self.full.clone() }
    }
}

fn fields_of(snapshot: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(snapshot) {
        Ok(Value::Object(fields)) => fields,
        _ => unreachable!("a snapshot is a struct of strings and numbers, which has the form of an object"),
    }
}

fn text(kind: &str, seq: u64, fields: &Map<String, Value>) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Message<'a> {
        r#type: &'a str,
        seq: u64,
        #[serde(flatten)]
        fields: &'a Map<String, Value>,
    }
    let message = Message { r#type: kind, seq, fields };
    serde_json::to_string(&message).expect("strings and numbers always have a JSON form").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &Utf8Bytes) -> Map<String, Value> {
        serde_json::from_str(text).expect("valid JSON")
    }

    /// What the page does with an update.
    fn apply(mut to: Map<String, Value>, update: Map<String, Value>) -> Map<String, Value> {
        assert_eq!(update["type"], "update");
        to.extend(update);
        to.insert("type".into(), "snapshot".into());
        to
    }

    fn snapshot(seed: (u64, Option<u8>, bool, Vec<(String, u64)>)) -> Snapshot {
        let (views, rate, is_stale, top) = seed;
        Snapshot {
            as_of: rate.map(|rate| format!("t{rate}")),
            stale: is_stale.then(|| Stale {
                code: "redis",
                level: HealthState::Down,
                reason: format!("r{views}"),
                since: "s".into(),
            }),
            views: Some(views),
            views_per_second: rate.map(|rate| f64::from(rate) / 10.0),
            top: top
                .into_iter()
                .map(|(article, views)| TopArticle {
                    article,
                    views: Some(views),
                    at_least: None,
                    stored_views: views,
                    readers: 1,
                })
                .collect(),
            flusher: if is_stale { Health::because(HealthState::Down, "x") } else { Health::OK },
            ..Snapshot::before_the_first_look("s".into())
        }
    }

    proptest! {
        #[test]
        fn updates_lead_from_each_snapshot_to_the_next(
            // Small ranges, so that fields often stay the same.
            seeds in prop::collection::vec(
                (0u64..3, prop::option::of(0u8..3), any::<bool>(), prop::collection::vec((".{0,3}", 0u64..3), 0..3)),
                1..6,
            )
        ) {
            let mut frame = Frame::first(&Snapshot::before_the_first_look("s".into()));
            let mut held = parsed(&frame.full);
            for seed in seeds {
                frame = frame.next(&snapshot(seed));
                held = apply(held, parsed(&frame.update));
                prop_assert_eq!(&held, &parsed(&frame.full));
            }
        }
    }

    #[test]
    fn an_update_holds_only_what_changed() {
        let before = Snapshot::before_the_first_look("s".into());
        let after = Snapshot { views: Some(7), ..before.clone() };
        let frame = Frame::first(&before).next(&after);
        assert_eq!(frame.update.as_str(), r#"{"type":"update","seq":1,"views":7}"#);
        assert_eq!(frame.next(&after).update.as_str(), r#"{"type":"update","seq":2}"#);
    }

    #[test]
    fn whoever_missed_a_message_gets_the_whole_snapshot() {
        let snapshot = Snapshot::before_the_first_look("s".into());
        let frame = Frame::first(&snapshot).next(&snapshot).next(&snapshot);
        assert_eq!(frame.after(Some(1)), frame.update);
        for seen in [None, Some(0), Some(2)] {
            assert_eq!(frame.after(seen), frame.full);
        }
    }
}
