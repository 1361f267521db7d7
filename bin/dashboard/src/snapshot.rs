//! What the dashboard shows at one moment, as data. The fields are those of the WebSocket's messages, see `openapi.json`.

use std::collections::BTreeMap;

use footfall_shared::service::telemetry::{Health, HealthState};
use serde::Serialize;

/// Everything that the dashboard shows at one moment. Fields are never left out, only null, so that an update can say that
/// something went away. What is not known now is null: no number is an old one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Snapshot {
    /// When `views` was last known (RFC 3339); null until it was once.
    pub(crate) as_of: Option<String>,
    /// Why something here may be behind; null while all is well.
    pub(crate) stale: Option<Stale>,
    /// All views that were accepted, those that wait for MySQL included, as of `as_of`.
    pub(crate) views: Option<u64>,
    /// The views that are known of, where that is a part; null where `views` is known.
    pub(crate) at_least: Option<u64>,
    /// The views that are in MySQL.
    pub(crate) stored_views: Option<u64>,
    /// The views that wait in Redis.
    pub(crate) pending_views: Option<u64>,
    /// By how much `views` increases per second; null while it cannot be known.
    pub(crate) views_per_second: Option<f64>,
    /// By how much `stored_views` increases per second: what the flushers bring to MySQL; null while it cannot be known.
    pub(crate) stored_views_per_second: Option<f64>,
    /// Distinct users in MySQL.
    pub(crate) readers: Option<u64>,
    /// Distinct (article, user) pairs in MySQL.
    pub(crate) reader_pairs: Option<u64>,
    /// Distinct articles in MySQL.
    pub(crate) articles: Option<u64>,
    /// The most viewed articles, the first one first.
    pub(crate) top: Vec<TopArticle>,
    /// When MySQL was last asked which these are: it is asked again when more was flushed. Null until it was once.
    pub(crate) top_as_of: Option<String>,
    /// Redis's own look-ups that found their key, in percent.
    pub(crate) redis_hits: HitPercent,
    /// Reads that a cache answered, in percent.
    pub(crate) query_hits: HitPercent,
    /// The same by what was read: `article`, `lists`, `readers`, `users`, as far as each was.
    pub(crate) interface_hits: BTreeMap<String, HitPercent>,
    /// Entries of the logs that MySQL is not known to have.
    pub(crate) log_entries: Option<u64>,
    /// Age of the oldest view that waits, in milliseconds.
    pub(crate) lag_ms: Option<u64>,
    /// Where all views are; null until it was known once.
    pub(crate) conservation: Option<ConservationCheck>,
    /// Redis, as the dashboard sees it.
    pub(crate) redis: Health,
    /// MySQL, as the dashboard sees it.
    pub(crate) mysql: Health,
    /// The flushers, as seen by their work.
    pub(crate) flusher: Health,
    /// What waits in each shard.
    pub(crate) shards: Vec<Backlog>,
    /// The processes that report their presence, by role and name.
    pub(crate) instances: Vec<Instance>,
    /// What happened since this dashboard was started, the newest first.
    pub(crate) events: Vec<Event>,
}

/// What waits in one shard; null while Redis cannot be read, or no recovery has opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Backlog {
    pub(crate) shard: u16,
    /// How often Redis was opened anew.
    pub(crate) epoch: Option<u64>,
    /// Of the newest entry of its log.
    pub(crate) position: Option<u64>,
    /// Views that wait.
    pub(crate) pending_views: Option<u64>,
    /// Entries of its log that MySQL is not known to have.
    pub(crate) log_entries: Option<u64>,
    /// Age of the oldest view that waits, in milliseconds.
    pub(crate) lag_ms: Option<u64>,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Instance {
    /// `ingest`, `flusher` or `dashboard`.
    pub(crate) role: String,
    /// Host and port.
    pub(crate) name: String,
    /// Of the program.
    pub(crate) version: String,
    /// When it was started (RFC 3339).
    pub(crate) since: String,
    /// Its health.
    pub(crate) state: HealthState,
    /// A message, when there is one.
    pub(crate) reason: Option<String>,
}

/// [`footfall_shared::protocol::Conservation`] as it is shown, in numbers that fit JSON: accepted = stored + pending +
/// journalled + quarantined + dropped + repeated + unaccounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ShownConservation {
    /// Views that producers have numbered, as they say themselves.
    pub(crate) accepted: u64,
    /// Counted in MySQL.
    pub(crate) stored: u64,
    /// Waiting in Redis.
    pub(crate) pending: u64,
    /// Acknowledged, and only in a journal so far.
    pub(crate) journalled: u64,
    /// In quarantine.
    pub(crate) quarantined: u64,
    /// Dropped from there by a person.
    pub(crate) dropped: u64,
    /// Repeats of views with an id.
    pub(crate) repeated: u64,
    /// What is left over: repeats among the pending views; anything else would be a mistake.
    pub(crate) unaccounted: i64,
}

/// A conservation check and its time: it is made less often than the other numbers are read, so it has a time of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ConservationCheck {
    /// When both stores were read for it (RFC 3339).
    pub(crate) as_of: String,
    /// Whether that was recently enough to still hold. If not, it is not known whether every view is accounted for now.
    pub(crate) is_current: bool,
    /// What was found.
    #[serde(flatten)]
    pub(crate) found: ShownConservation,
}

impl ShownConservation {
    /// See [`footfall_shared::protocol::Conservation::is_broken`].
    #[must_use]
    pub(crate) fn is_broken(&self) -> bool {
        self.unaccounted < 0 || (self.pending == 0 && self.unaccounted != 0)
    }
}

/// Why numbers may be behind, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Stale {
    /// The case, for programs; the page says what to do about it.
    pub(crate) code: &'static str,
    /// Its severity.
    pub(crate) level: HealthState,
    /// A sentence for people.
    pub(crate) reason: String,
    /// RFC 3339.
    pub(crate) since: String,
}

/// One line of the ranking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TopArticle {
    /// Its id. Anybody can choose one: never to be shown as markup.
    pub(crate) article: String,
    /// Views, those that wait for MySQL included.
    pub(crate) views: Option<u64>,
    /// The views that are known of; null where `views` is known.
    pub(crate) at_least: Option<u64>,
    /// The views that MySQL had at `top_as_of`.
    pub(crate) stored_views: u64,
    /// Readers that MySQL had then.
    pub(crate) readers: u64,
}

/// A hit rate; null where nothing was looked up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct HitPercent {
    /// Over the last minute.
    pub(crate) minute: Option<f64>,
    /// Since the counting began.
    pub(crate) total: Option<f64>,
}

impl Snapshot {
    /// What is shown before anything was read; `since`: when the process was started (RFC 3339).
    #[must_use]
    pub(crate) fn initial(since: String) -> Self {
        let event = Event::new(&since, HealthState::Ok, "This dashboard was started.");
        let unknown = || Health::because(HealthState::Unknown, "not checked yet");
        Self {
            as_of: None,
            stale: Some(Stale { code: "starting", level: HealthState::Unknown, reason: "No data yet.".into(), since }),
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
            events: vec![event],
        }
    }
}

/// Something that happened and that a person would want to know of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Event {
    /// RFC 3339.
    pub(crate) at: String,
    /// How things are since then.
    pub(crate) level: HealthState,
    /// The process that it is about, if it is about one.
    pub(crate) name: Option<String>,
    /// A sentence, or the rest of the sentence that begins with `name`.
    pub(crate) text: String,
    /// The message of whoever reported it.
    pub(crate) detail: Option<String>,
}

impl Event {
    /// An event about no particular process; `at` is RFC 3339.
    #[must_use]
    pub(crate) fn new(at: &str, level: HealthState, text: impl Into<String>) -> Self {
        Self { at: at.into(), level, name: None, text: text.into(), detail: None }
    }
}
