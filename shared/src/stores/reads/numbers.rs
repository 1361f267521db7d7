//! What is answered of what one look at the stores has found. Pure, so that all cases are a table in a test.

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, ETAG, HeaderMap, HeaderValue};

use crate::protocol::{Article, shown};
use crate::service::clock;
use crate::service::http::{self, HttpResponse};

/// One article's numbers. Either all of them are known, or only a part: then `views` and what belongs to them are none,
/// and there are `at_least` so many views. A part is never shown as the whole.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ArticleNumbers {
    /// Which article.
    pub article: String,
    /// Views, those that wait for MySQL included.
    pub views: Option<u64>,
    /// The views that are known of; none if `views` is known.
    pub at_least: Option<u64>,
    /// Readers, as of `as_of`.
    pub readers: Option<u64>,
    /// The part of `views` that MySQL does not have yet.
    pub pending: Option<u64>,
    /// Every view before this time is in MySQL and in `readers`.
    pub as_of: Option<String>,
    /// Why something is not known, or may be behind; none while all is well.
    pub degraded: Option<&'static str>,
    /// `cache` or `database`; none if neither could be read.
    pub source: Option<&'static str>,
}

/// What MySQL has of an article, with what waits on top of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Live {
    /// Views in MySQL.
    pub(super) stored_views: u64,
    /// Readers in MySQL.
    pub(super) readers: u64,
    /// Views that wait in Redis.
    pub(super) pending_views: u64,
    /// Everything before this time is in `stored_views` and `readers`; milliseconds since 1970.
    pub(super) as_of_ms: u64,
    /// Why all this is only a part, if it is.
    pub(super) lacks: Option<Lack>,
}

impl Live {
    /// Views in both stores.
    pub(super) fn views(&self) -> u64 {
        shown(self.stored_views.saturating_add(self.pending_views))
    }
}

/// What may be missing in the numbers of both stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    /// See [`crate::protocol::DataSet::is_behind`].
    Behind,
    /// A view that was acknowledged a moment ago may wait in a journal, and nobody has said so yet.
    RedisFull,
    /// The log is long, and this process has not read all of it yet.
    Following,
}

impl Lack {
    fn sentence(self) -> &'static str {
        match self {
            Self::Behind => BEHIND,
            Self::RedisFull => REDIS_FULL,
            Self::Following => FOLLOWING,
        }
    }
}

/// What one look at the stores has found of an article.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// What MySQL has, and what waits for it in Redis.
    All {
        live: Live,
        /// See [`ArticleNumbers::source`].
        source: &'static str,
        /// Whether MySQL was asked and could not be read: then what it has is from Redis.
        has_failed: bool,
    },
    /// What waits in Redis, and nothing of what MySQL has.
    Waiting { pending_views: u64 },
    /// What MySQL has, and nothing of what waits in Redis.
    Stored { views: u64 },
    /// Neither.
    Nothing,
}

impl Found {
    /// The views that are in it.
    pub(super) fn views(&self) -> u64 {
        match *self {
            Self::All { live, .. } => live.views(),
            Self::Waiting { pending_views: views } | Self::Stored { views } => shown(views),
            Self::Nothing => 0,
        }
    }
}

const NO_REDIS: &str = "redis cannot be read: views that wait there are missing";
const NO_MYSQL: &str =
    "mysql cannot be read, and what it has of this article is not cached: only a part of its views is known";
const NO_MYSQL_CACHED: &str = "mysql cannot be read: readers are those of its last flush";
const BEHIND: &str = "some views wait in a journal: only those in redis and mysql are known";
const REDIS_FULL: &str = "redis is full: some views are counted later";
const FOLLOWING: &str = "what waits in redis is being read: only a part of it is known";
const CATCHING_UP: &str = "redis is catching up: views shown before are not back yet";
const NO_STORE: &str = "neither redis nor mysql can be read: only the views shown before are known";

impl ArticleNumbers {
    /// What to answer of `found`, where `views` and `readers` were shown before.
    pub(super) fn of(article: &Article, found: Found, (views, readers): (u64, u64)) -> Self {
        let part = |at_least: u64, degraded, source| Self {
            article: article.to_string(),
            views: None,
            at_least: Some(shown(at_least.max(views))),
            readers: None,
            pending: None,
            as_of: None,
            degraded: Some(degraded),
            source,
        };
        match found {
            Found::All { live: live @ Live { lacks: Some(lack), .. }, source, .. } => {
                part(live.views(), lack.sentence(), Some(source))
            }
            Found::All { live, source, .. } if live.views() < views => part(views, CATCHING_UP, Some(source)),
            Found::All { live, source, has_failed } => Self {
                article: article.to_string(),
                views: Some(live.views()),
                at_least: None,
                // A cached value may be a flush behind what another read has seen in MySQL.
                readers: Some(shown(live.readers.max(readers))),
                pending: Some(shown(live.pending_views)),
                as_of: Some(clock::rfc3339(live.as_of_ms)),
                degraded: has_failed.then_some(NO_MYSQL_CACHED),
                source: Some(source),
            },
            Found::Waiting { pending_views } => part(pending_views, NO_MYSQL, Some("cache")),
            Found::Stored { views } => part(views, NO_REDIS, Some("database")),
            Found::Nothing => part(0, NO_STORE, None),
        }
    }

    /// The answer to a request with these headers: nothing new if the one who asks has these numbers already. Whoever
    /// keeps it asks again before it is used, so that nobody sees old numbers as live ones.
    pub(super) fn answer(&self, headers: &HeaderMap) -> HttpResponse {
        let keep =
            |answer: &mut HttpResponse, how| answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(how));
        let (None, Some(views), Some(readers), Some(pending)) = (self.degraded, self.views, self.readers, self.pending)
        else {
            let mut answer = http::json(StatusCode::OK, self);
            keep(&mut answer, "no-store");
            return answer;
        };
        // Weak, because `as_of` goes on with every flush while the numbers stay.
        let tag = format!("W/\"{views}.{readers}.{pending}\"");
        let mut answer = if http::is_known(headers, &tag) {
            http::empty(StatusCode::NOT_MODIFIED)
        } else {
            http::json(StatusCode::OK, self)
        };
        answer.headers_mut().insert(ETAG, HeaderValue::from_str(&tag).expect("digits and dots"));
        keep(&mut answer, "no-cache");
        answer
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn live(stored_views: u64, pending_views: u64, readers: u64) -> Live {
        Live { stored_views, readers, pending_views, as_of_ms: 1_000, lacks: None }
    }

    /// All cases, as docs/operations.md has them ("What readers see").
    #[test]
    fn a_part_is_never_answered_as_the_whole() {
        let article = Article::parse(b"a").expect("test id");
        let all = |live, source, has_failed| Found::All { live, source, has_failed };
        let known = |views: u64, readers: u64, pending: u64, degraded: Option<&str>, source: &str| {
            json!({
                "article": "a", "views": views, "at_least": null, "readers": readers, "pending": pending,
                "as_of": "1970-01-01T00:00:01.000Z", "degraded": degraded, "source": source,
            })
        };
        let part = |at_least: u64, degraded: &str, source: Value| {
            json!({
                "article": "a", "views": null, "at_least": at_least, "readers": null, "pending": null, "as_of": null,
                "degraded": degraded, "source": source,
            })
        };
        let behind = Live { lacks: Some(Lack::Behind), ..live(10, 5, 4) };
        let full = Live { lacks: Some(Lack::RedisFull), ..live(10, 5, 4) };
        let following = Live { lacks: Some(Lack::Following), ..live(10, 5, 4) };
        for (found, shown, expected) in [
            (all(live(10, 5, 4), "cache", false), (0, 0), known(15, 4, 5, None, "cache")),
            (all(live(10, 5, 4), "database", false), (15, 4), known(15, 4, 5, None, "database")),
            (all(live(0, 0, 0), "database", false), (0, 0), known(0, 0, 0, None, "database")),
            (all(live(10, 5, 4), "cache", true), (12, 3), known(15, 4, 5, Some(NO_MYSQL_CACHED), "cache")),
            // Another read has seen the next flush already.
            (all(live(10, 5, 4), "cache", false), (15, 6), known(15, 6, 5, None, "cache")),
            (all(live(10, 0, 4), "cache", false), (15, 4), part(15, CATCHING_UP, "cache".into())),
            (all(behind, "cache", false), (0, 0), part(15, BEHIND, "cache".into())),
            (all(behind, "database", false), (20, 4), part(20, BEHIND, "database".into())),
            (all(following, "database", false), (0, 0), part(15, FOLLOWING, "database".into())),
            (all(full, "cache", false), (0, 0), part(15, REDIS_FULL, "cache".into())),
            (all(full, "cache", true), (20, 4), part(20, REDIS_FULL, "cache".into())),
            (Found::Waiting { pending_views: 8 }, (0, 0), part(8, NO_MYSQL, "cache".into())),
            (Found::Waiting { pending_views: 8 }, (2_333, 200), part(2_333, NO_MYSQL, "cache".into())),
            (Found::Waiting { pending_views: 0 }, (0, 0), part(0, NO_MYSQL, "cache".into())),
            (Found::Stored { views: 10 }, (0, 0), part(10, NO_REDIS, "database".into())),
            (Found::Stored { views: 10 }, (15, 4), part(15, NO_REDIS, "database".into())),
            (Found::Nothing, (15, 4), part(15, NO_STORE, Value::Null)),
            (Found::Nothing, (0, 0), part(0, NO_STORE, Value::Null)),
        ] {
            let numbers = ArticleNumbers::of(&article, found, shown);
            assert_eq!(serde_json::to_value(&numbers).expect("JSON"), expected, "{found:?} after {shown:?}");
            let is_tagged = numbers.answer(&HeaderMap::new()).headers().contains_key(ETAG);
            assert_eq!(is_tagged, numbers.degraded.is_none(), "{found:?}");
        }
    }
}
