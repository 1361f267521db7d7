//! Lists as JSON.

use std::ops::RangeInclusive;

use footfall_shared::protocol;
use footfall_shared::service::clock;
use serde::Serialize;
use serde_json::json;

use crate::numbers::LAG_MS_MAX;

/// A page: its entries under `name`, and what `after` is for the next one; null on the last.
pub(super) fn page<T>(
    name: &str,
    mut entries: Vec<T>,
    limit: u32,
    cursor: impl Fn(&T) -> String,
    show: impl Fn(&T) -> serde_json::Value,
) -> serde_json::Value {
    let is_last = entries.len() <= limit as usize;
    entries.truncate(limit as usize);
    let next = entries.last().filter(|_| !is_last).map(cursor);
    json!({ name: entries.iter().map(show).collect::<Vec<_>>(), "next": next })
}

/// The response body of a list.
#[derive(Serialize)]
pub(super) struct ListBody<'a> {
    #[serde(flatten)]
    pub(super) list: &'a serde_json::Value,
    /// When MySQL was asked.
    pub(super) read_at: &'a str,
    /// Every view before this is in it; null where that is not known.
    pub(super) as_of: Option<&'a str>,
    /// Why it is older than it should be, or what is missing; absent while all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) degraded: Option<String>,
}

/// Views of a minute or an hour.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Span {
    from: String,
    /// None if some may not be in MySQL yet; then `at_least` is known.
    views: Option<u64>,
    at_least: Option<u64>,
}

/// Up to when a list that is read now is complete.
#[derive(Clone, Copy)]
pub(super) struct Horizon {
    pub(super) now_ms: u64,
    /// MySQL has every view before this.
    pub(super) stored_until_ms: Option<u64>,
    /// Whether it is read from a replica of MySQL.
    pub(super) is_replica: bool,
}

impl Horizon {
    /// Whether views from before `end_ms` may be missing. The lag of a flusher that keeps up does not count.
    fn may_lack_before(&self, end_ms: u64) -> bool {
        let until = self.stored_until_ms.map(|ms| ms.saturating_add(LAG_MS_MAX));
        until.is_none_or(|until| until < end_ms.min(self.now_ms))
    }

    pub(super) fn missing(&self) -> Option<String> {
        let seconds = |until: u64| self.now_ms.saturating_sub(until) / 1_000;
        self.may_lack_before(u64::MAX).then(|| match (self.stored_until_ms.map(seconds), self.is_replica) {
            (Some(seconds), false) => format!("views of the last {seconds} s may not be in MySQL yet"),
            (Some(seconds), true) => {
                format!("views of the last {seconds} s may not be in the replica at database.read_url yet")
            }
            (None, false) => "it is not known which views are not in MySQL yet".into(),
            (None, true) => "it is not known which views are not in the replica at database.read_url yet".into(),
        })
    }
}

/// One entry for each of these spans of `seconds`; those without views have zero.
pub(super) fn spans(found: &[(u32, u64)], all: RangeInclusive<u32>, seconds: u32, horizon: Horizon) -> Vec<Span> {
    let length_ms = u64::from(seconds) * 1_000;
    all.map(|at| {
        let from_ms = u64::from(at) * length_ms;
        let views = found
            .binary_search_by_key(&at, |(known, _)| *known)
            .map_or(0, |found_at| protocol::shown(found[found_at].1));
        let is_part = horizon.may_lack_before(from_ms + length_ms);
        Span { from: clock::rfc3339(from_ms), views: (!is_part).then_some(views), at_least: is_part.then_some(views) }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::query::SPAN_MAX;
    use super::*;

    /// Views of minutes 4 to 7, each with 60 s, or none where it is not known.
    fn views(stored_until_ms: Option<u64>, now_ms: u64) -> Vec<Option<u64>> {
        let spans = spans(&[(5, 2), (7, 9)], 4..=7, 60, Horizon { now_ms, stored_until_ms, is_replica: false });
        let at_least: Vec<u64> = spans.iter().map(|span| span.views.or(span.at_least).expect("one of them")).collect();
        assert_eq!(at_least, [0, 2, 0, 9]);
        spans.into_iter().map(|span| span.views).collect()
    }

    #[test]
    fn spans_that_may_lack_views_are_not_known() {
        // A flusher that keeps up; one that has stood still since the middle of minute 5; nothing known.
        assert_eq!(views(Some(456_000), 460_000), [Some(0), Some(2), Some(0), Some(9)]);
        assert_eq!(views(Some(330_000), 460_000), [Some(0), None, None, None]);
        assert_eq!(views(None, 460_000), [None; 4]);
        let missing = |stored_until_ms, now_ms| Horizon { now_ms, stored_until_ms, is_replica: false }.missing();
        assert_eq!(missing(Some(456_000), 460_000), None);
        assert_eq!(missing(Some(400_000), 460_000).as_deref(), Some("views of the last 60 s may not be in MySQL yet"));
        assert!(missing(None, 460_000).is_some());
        // A clock that was set back.
        assert_eq!(missing(Some(460_000), 400_000), None);
    }

    #[test]
    fn spans_without_views_are_zero() {
        assert_eq!(views(Some(480_000), 480_000), [Some(0), Some(2), Some(0), Some(9)]);
    }

    proptest! {
        #[test]
        fn every_clock_and_every_question_has_spans(unix_ms: u64, count in 0..=SPAN_MAX, at: u32) {
            clock::simulate(unix_ms);
            for (now, seconds) in [(clock::unix_minute(), 60), (clock::unix_minute() / 60, 3_600), (u32::MAX, 3_600)] {
                let horizon = Horizon { now_ms: u64::MAX, stored_until_ms: Some(u64::MAX), is_replica: false };
                let shown = spans(&[(at, 1)], clock::last(count, now), seconds, horizon);
                prop_assert!((1..=SPAN_MAX.max(1) as usize).contains(&shown.len()));
            }
        }
    }

    #[test]
    fn a_page_says_where_the_next_one_begins() {
        let page = |entries| page("numbers", entries, 2, ToString::to_string, |number: &u32| json!(number));
        assert_eq!(page(vec![1, 2, 3]), json!({ "numbers": [1, 2], "next": "2" }));
        assert_eq!(page(vec![1, 2]), json!({ "numbers": [1, 2], "next": null }));
    }
}
