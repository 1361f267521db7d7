//! The dashboard's messages as text. Pure.

use std::fmt::Write;

use indicatif::HumanCount;
use serde_json::{Map, Value};

/// Lines of the ranking.
const TOP_MAX: usize = 10;
/// Lines about what happened.
const EVENTS_MAX: usize = 5;
/// Characters of an article's id that are shown.
const ARTICLE_CHARS_MAX: usize = 60;
/// Shown where the dashboard does not know.
const UNKNOWN: &str = "-";

/// What the messages so far come to.
#[derive(Default)]
pub(super) struct View {
    fields: Map<String, Value>,
    /// Number of the last message of this connection.
    seq: Option<u64>,
}

impl View {
    /// A new connection begins; it starts with a snapshot. The old numbers stay until then.
    pub(super) fn begin(&mut self) {
        self.seq = None;
    }

    /// Takes a message: a snapshot replaces everything, an update changes the fields that are in it.
    pub(super) fn apply(&mut self, message: &str) -> Result<(), String> {
        let message: Map<String, Value> =
            serde_json::from_str(message).map_err(|error| format!("a message is not a JSON object: {error}"))?;
        let seq = message.get("seq").and_then(Value::as_u64);
        match (message.get("type").and_then(Value::as_str), self.seq) {
            (Some("snapshot"), _) => self.fields = message,
            (Some("update"), Some(last)) if seq.is_some() && seq == last.checked_add(1) => self.fields.extend(message),
            (Some("update"), _) => return Err("a message was lost".into()),
            (other, _) => {
                return Err(format!("a message of unknown type {other:?} came: is this dashboard of another version?"));
            }
        }
        self.seq = seq;
        Ok(())
    }

    pub(super) fn has_numbers(&self) -> bool {
        !self.fields.is_empty()
    }

    /// Why the numbers are not those of now, if the dashboard says so.
    pub(super) fn stale(&self) -> Option<&str> {
        self.text(&["stale", "reason"])
    }

    /// Everything.
    pub(super) fn page(&self) -> String {
        self.page_with(EVENTS_MAX, TOP_MAX)
    }

    /// What a screen has room for, in this order: the numbers, the health of all, what is read most, what happened lately.
    pub(super) fn page_within(&self, lines: usize) -> String {
        let spare = |events, top| lines.saturating_sub(self.page_with(events, top).lines().count());
        // The first event is a line; the first article brings an empty line and a title with it.
        let top = match spare(0, 1) {
            0 if self.page_with(0, 1).lines().count() > lines => 0,
            spare => TOP_MAX.min(1 + spare),
        };
        self.page_with(EVENTS_MAX.min(spare(0, top)), top)
    }

    fn page_with(&self, events: usize, top: usize) -> String {
        let mut page = String::new();
        if !self.has_numbers() {
            return page;
        }
        self.write_page(&mut page, events, top).expect("writing to a string does not fail");
        page
    }

    fn write_page(&self, page: &mut String, events: usize, top_max: usize) -> std::fmt::Result {
        if let Some(reason) = self.stale() {
            writeln!(page, "STALE since {}: {reason}\n", self.text(&["stale", "since"]).unwrap_or(UNKNOWN))?;
        }
        writeln!(page, "views     {:>15}  {}/s", self.views(), self.rate())?;
        writeln!(page, "readers   {:>15}  of {} articles", self.count("readers"), self.count("articles"))?;
        let (entries, lag) = (self.count("log_entries"), self.lag());
        writeln!(page, "pending   {:>15}  lag {lag}, {entries} entries of the log", self.count("pending_views"))?;
        writeln!(
            page,
            "stored    {:>15}  as of {}",
            self.count("stored_views"),
            self.text(&["as_of"]).unwrap_or(UNKNOWN)
        )?;
        writeln!(page, "\nhit rates      last minute    in all")?;
        for (name, field) in [("Redis", "redis_hits"), ("queries", "query_hits")] {
            writeln!(page, "  {name:<10}{:>14}{:>10}", self.percent(field, "minute"), self.percent(field, "total"))?;
        }
        writeln!(page)?;
        for service in SERVICES {
            writeln!(page, "{service:<10}{}", self.health(service))?;
        }
        self.write_processes(page, events)?;
        let top = self.fields.get("top").and_then(Value::as_array);
        let Some(top) = top.filter(|top| !top.is_empty() && top_max > 0) else {
            return Ok(());
        };
        writeln!(page, "\n          views        readers  article")?;
        for article in top.iter().take(top_max) {
            let readers = article.get("readers").map_or(UNKNOWN.into(), count);
            let id = article.get("article").and_then(Value::as_str).unwrap_or(UNKNOWN);
            writeln!(
                page,
                "{:>15}{readers:>15}  {}",
                views(article.get("views"), article.get("at_least")),
                shortened(id)
            )?;
        }
        Ok(())
    }

    /// Who is there, and what happened lately.
    fn write_processes(&self, page: &mut String, events: usize) -> std::fmt::Result {
        let list = |name| self.fields.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let text = |entry: &Value, name| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let because = |reason: String| if reason.is_empty() { reason } else { format!(" ({reason})") };
        for instance in list("instances") {
            let (name, state) = (text(instance, "name"), text(instance, "state"));
            writeln!(page, "  {:<10}{name:<24}{state}{}", text(instance, "role"), because(text(instance, "reason")))?;
        }
        for (index, event) in list("events").iter().take(events).enumerate() {
            let title = if index == 0 { "lately" } else { "" };
            let words = [text(event, "name"), text(event, "text")].join(" ");
            writeln!(page, "{title:<10}{}  {}{}", text(event, "at"), words.trim(), because(text(event, "detail")))?;
        }
        Ok(())
    }

    /// The most important, in one line.
    pub(super) fn line(&self) -> String {
        let mut line = format!(
            "{} views, {}/s, {} readers, {} pending, lag {}, hits: Redis {}, queries {}",
            self.views(),
            self.rate(),
            self.count("readers"),
            self.count("pending_views"),
            self.lag(),
            self.percent("redis_hits", "minute"),
            self.percent("query_hits", "minute"),
        );
        for service in SERVICES {
            line += &format!(", {service} {}", self.health(service));
        }
        if let Some(reason) = self.stale() {
            line += &format!(", STALE: {reason}");
        }
        line
    }

    fn at(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.fields.get(*first)?, |value, name| value.get(name))
    }

    fn text(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.as_str()
    }

    fn count(&self, name: &str) -> String {
        self.fields.get(name).map_or(UNKNOWN.into(), count)
    }

    fn views(&self) -> String {
        views(self.fields.get("views"), self.fields.get("at_least"))
    }

    fn rate(&self) -> String {
        self.at(&["views_per_second"]).and_then(Value::as_f64).map_or(UNKNOWN.into(), |rate| format!("{rate:.1}"))
    }

    fn lag(&self) -> String {
        self.at(&["lag_ms"]).and_then(Value::as_u64).map_or(UNKNOWN.into(), |ms| format!("{:.1} s", ms as f64 / 1000.0))
    }

    fn percent(&self, field: &str, period: &str) -> String {
        self.at(&[field, period]).and_then(Value::as_f64).map_or(UNKNOWN.into(), |percent| format!("{percent:.1} %"))
    }

    fn health(&self, service: &str) -> String {
        let state = self.text(&[service, "state"]).unwrap_or(UNKNOWN);
        match self.text(&[service, "reason"]) {
            Some(reason) => format!("{state} ({reason})"),
            None => state.into(),
        }
    }
}

/// The parts of the system whose health is shown.
const SERVICES: [&str; 3] = ["redis", "mysql", "flusher"];

fn count(value: &Value) -> String {
    value.as_u64().map_or(UNKNOWN.into(), |count| HumanCount(count).to_string())
}

/// What is known only in part is not shown as the whole.
fn views(views: Option<&Value>, at_least: Option<&Value>) -> String {
    match (views.and_then(Value::as_u64), at_least.and_then(Value::as_u64)) {
        (Some(views), _) => HumanCount(views).to_string(),
        (None, Some(at_least @ 1..)) => format!("≥ {}", HumanCount(at_least)),
        (None, _) => UNKNOWN.into(),
    }
}

/// Ids hold no control characters, so they are safe to print; they may be long.
fn shortened(id: &str) -> String {
    if id.chars().count() <= ARTICLE_CHARS_MAX {
        return id.to_owned();
    }
    id.chars().take(ARTICLE_CHARS_MAX - 1).chain(['\u{2026}']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNAPSHOT: &str = r#"{"type":"snapshot","seq":4,"as_of":"2026-11-23T16:00:00Z","stale":null,"views":1234567,
        "stored_views":1234000,"pending_views":567,"views_per_second":12.34,"readers":89,"articles":7,
        "top":[{"article":"yumo","views":99,"readers":8}],"redis_hits":{"minute":97.25,"total":null},
        "log_entries":2,"lag_ms":450,"redis":{"state":"ok","reason":null},"mysql":{"state":"ok","reason":null},
        "flusher":{"state":"degraded","reason":"one is behind"},
        "instances":[{"role":"ingest","name":"web1:8000","state":"down","reason":"not heard for 7 s"}],
        "events":[{"at":"noon","level":"down","name":"ingest web1:8000","text":"is down","detail":"not heard for 5 s"}]}"#;

    #[test]
    fn an_update_changes_only_what_it_holds() {
        let mut view = View::default();
        view.apply(SNAPSHOT).expect("valid");
        view.apply(r#"{"type":"update","seq":5,"views":1234568,"redis_hits":{"minute":null,"total":1.0}}"#)
            .expect("valid");
        assert_eq!(
            view.line(),
            "1,234,568 views, 12.3/s, 89 readers, 567 pending, lag 0.5 s, hits: Redis -, queries -, redis ok, mysql ok, \
             flusher degraded (one is behind)"
        );
    }

    #[test]
    fn a_lost_message_is_noticed() {
        let mut view = View::default();
        assert!(view.apply(r#"{"type":"update","seq":5}"#).is_err());
        view.apply(SNAPSHOT).expect("valid");
        assert!(view.apply(r#"{"type":"update","seq":6}"#).is_err());
        view.begin();
        assert!(view.apply(r#"{"type":"update","seq":5}"#).is_err());
        for strange in ["", "[]", "{}", r#"{"type":"farewell"}"#] {
            assert!(view.apply(strange).is_err(), "{strange}");
        }
    }

    #[test]
    fn the_page_shows_all_and_says_when_it_is_stale() {
        let mut view = View::default();
        assert_eq!(view.page(), "");
        view.apply(SNAPSHOT).expect("valid");
        let page = view.page();
        for part in [
            "1,234,567",
            "97.2 %",
            "yumo",
            "degraded (one is behind)",
            "2 entries of the log",
            "web1:8000               down (not heard for 7 s)",
            "lately    noon  ingest web1:8000 is down (not heard for 5 s)",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("STALE"), "{page}");
        let stale = r#"{"type":"update","seq":5,"stale":{"code":"redis","reason":"Redis is gone.","since":"noon"}}"#;
        view.apply(stale).expect("valid");
        assert!(view.page().starts_with("STALE since noon: Redis is gone."), "{}", view.page());
    }

    #[test]
    fn what_is_not_known_is_no_number() {
        let mut view = View::default();
        view.apply(SNAPSHOT).expect("valid");
        let part = r#"{"type":"update","seq":5,"views":null,"at_least":1234567,"views_per_second":null,"stored_views":null,
            "readers":null,"articles":null,"pending_views":null,"log_entries":null,"lag_ms":null,
            "redis_hits":{"minute":null,"total":null},"top":[{"article":"yumo","views":null,"at_least":99,"readers":8}]}"#;
        view.apply(part).expect("valid");
        let line = view.line();
        assert!(
            line.starts_with("≥ 1,234,567 views, -/s, - readers, - pending, lag -, hits: Redis -, queries -"),
            "{line}"
        );
        let page = view.page();
        for part in ["≥ 1,234,567  -/s", "≥ 99", "  of - articles", "lag -, - entries of the log"] {
            assert!(page.contains(part), "{part} in {page}");
        }
        view.apply(r#"{"type":"update","seq":6,"at_least":0}"#).expect("valid");
        assert!(view.line().starts_with("- views"), "{}", view.line());
    }

    #[test]
    fn long_ids_are_cut_between_characters() {
        assert_eq!(shortened("yumo"), "yumo");
        assert_eq!(shortened(&"\u{e9}".repeat(100)).chars().count(), ARTICLE_CHARS_MAX);
    }
}
