//! The messages that a viewer gets. Pure: values in, JSON text out.
//!
//! The first message is the whole snapshot, every later one holds only the fields that changed. Each message carries a
//! number, and an update applies on top of the message numbered one less. The text is made once, whatever the number of
//! viewers.

use serde::Serialize;
use serde_json::{Map, Value};
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// One snapshot as both messages, ready to be sent. Cloning shares the text.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// The number of both messages.
    pub(crate) seq: u64,
    /// The whole snapshot, for a viewer who does not have the previous message.
    pub(crate) full: Utf8Bytes,
    /// The fields that changed since the previous message.
    pub(crate) update: Utf8Bytes,
    fields: Map<String, Value>,
}

impl Frame {
    /// The first one, or the first after a break: there is nothing that it could be an update of.
    #[must_use]
    pub(crate) fn first(snapshot: &impl Serialize) -> Self {
        let fields = fields_of(snapshot);
        Self { seq: 0, full: text("snapshot", 0, &fields), update: text("update", 0, &fields), fields }
    }

    /// The one after `self`.
    #[must_use]
    pub(crate) fn next(&self, snapshot: &impl Serialize) -> Self {
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
    pub(crate) fn after(&self, seen: Option<u64>) -> Utf8Bytes {
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
    use footfall_shared::service::telemetry::{Health, HealthState};
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::{Snapshot, Stale, TopArticle};

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
            ..Snapshot::initial("s".into())
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
            let mut frame = Frame::first(&Snapshot::initial("s".into()));
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
        let before = Snapshot::initial("s".into());
        let after = Snapshot { views: Some(7), ..before.clone() };
        let frame = Frame::first(&before).next(&after);
        assert_eq!(frame.update.as_str(), r#"{"type":"update","seq":1,"views":7}"#);
        assert_eq!(frame.next(&after).update.as_str(), r#"{"type":"update","seq":2}"#);
    }

    #[test]
    fn whoever_missed_a_message_gets_the_whole_snapshot() {
        let snapshot = Snapshot::initial("s".into());
        let frame = Frame::first(&snapshot).next(&snapshot).next(&snapshot);
        assert_eq!(frame.after(Some(1)), frame.update);
        for seen in [None, Some(0), Some(2)] {
            assert_eq!(frame.after(seen), frame.full);
        }
    }
}
