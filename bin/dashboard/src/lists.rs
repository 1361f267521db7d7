//! Lists over HTTP, page by page: articles, their readers, users, and what they have read; views per hour and minute.

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use footfall_shared::mysql::{By, ListedArticle, RisingArticle, Store, StoreError};
use footfall_shared::protocol::errors::Grade;
use footfall_shared::protocol::{self, Article, User};
use footfall_shared::service::breaker::Breaker;
use footfall_shared::service::clock;
use footfall_shared::service::config::Database;
use footfall_shared::service::http::{self, Answer};
use footfall_shared::service::paths;
use footfall_shared::service::telemetry::{self, IntCounter};
use footfall_shared::stores::reads::{HitCounts, Interface};
use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde::Serialize;
use serde_json::json;

use crate::feed::LAG_MS_MAX;
use crate::numbers::StoredUntil;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// Entries of a page, if nobody says otherwise.
const LIMIT: u32 = 100;
/// Entries of a page, at most.
pub const LIMIT_MAX: u32 = 1_000;
/// Hours or minutes of a history, if nobody says otherwise.
const SPAN: u32 = 48;
/// Hours or minutes of a history, at most.
pub const SPAN_MAX: u32 = 1_440;
/// Articles that rise, at most: those that are read a little more than they were are nothing to tell.
const RISING_MAX: u32 = 100;
/// Lists of one kind that are asked for at once.
const READS_MAX: usize = 8;
/// Entries of all lists that are kept: some tens of MB.
const KEPT_MAX: u64 = 50_000;

/// Answers lists. Apart from the live numbers, so that a list that takes its time does not stop these.
pub struct Lists {
    store: Store,
    kinds: [Kind; KINDS],
    kept: Cache<List, Slot, Entries>,
    /// For how long a list is kept.
    ttl: Duration,
    /// How long a read waits for its turn.
    patience: Duration,
    counts: HitCounts,
    refused: IntCounter,
    stored_until: Arc<StoredUntil>,
}

/// Lists that take about as long as each other. Each kind has a breaker, seats and a share of the connections to MySQL: one
/// that has become slow does not stop the others.
struct Kind {
    mysql: Mutex<Breaker>,
    /// Whoever finds none is refused.
    seats: Arc<Semaphore>,
    /// Reads in MySQL at once; the others wait for them.
    turns: Arc<Semaphore>,
}

/// One for each variant of [`List`].
const KINDS: usize = 8;

/// The right to read a list in MySQL.
struct Turn {
    _seat: OwnedSemaphorePermit,
    _turn: OwnedSemaphorePermit,
}

/// One list as it was read last. Who reads it anew holds it, so that all others who want it wait for that one read.
type Slot = Arc<tokio::sync::Mutex<Option<Kept>>>;

struct Kept {
    since: Instant,
    read_at: String,
    list: serde_json::Value,
    /// What MySQL lacked then, in a sentence.
    lacks: Option<String>,
}

/// A list that lacks something is read again sooner.
const LACKING_TTL: Duration = Duration::from_secs(1);

impl Kept {
    fn is_fresh(&self, ttl: Duration) -> bool {
        self.since.elapsed() < if self.lacks.is_some() { ttl.min(LACKING_TTL) } else { ttl }
    }
}

/// Weighs a list by the entries that it may have.
#[derive(Clone)]
struct Entries;

impl Weighter<List, Slot> for Entries {
    fn weight(&self, list: &List, _: &Slot) -> u64 {
        u64::from(list.entries_max())
    }
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Question {
    /// The numbers of one article.
    Article(Article),
    /// Any other.
    List(List),
}

/// A list that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum List {
    /// Articles by a number, from behind an article with that number.
    ArticlesBy(By, Option<(u64, Article)>, u32),
    /// Articles that are read more than they were.
    Rising(u32),
    /// Articles whose name begins so, from behind one.
    ArticlesNamed(Vec<u8>, Option<Article>, u32),
    /// An article's readers.
    Readers(Article, Option<User>, u32),
    /// An article's views in each of the last hours.
    Hours(Article, u32),
    /// All users.
    Users(Option<User>, u32),
    /// What a user has read.
    Reads(User, Option<Article>, u32),
    /// The site's views in each of the last minutes.
    Minutes(u32),
}

/// A status and one sentence.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal(pub StatusCode, pub String);

fn bad(sentence: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, sentence.into())
}

impl Question {
    /// Whether the answer says who reads what.
    pub fn is_about_readers(&self) -> bool {
        matches!(self, Self::List(List::Readers(..) | List::Users(..) | List::Reads(..)))
    }

    /// Reads a request; none if nobody can ask that.
    pub fn parse(path: &str, query: Option<&str>) -> Option<Result<Self, Refusal>> {
        match paths::id_in(paths::ARTICLE, path) {
            Some(article) => Some(id(article, Article::parse).map(Self::Article)),
            None => Some(List::parse(path, query)?.map(Self::List)),
        }
    }
}

/// Which article a WebSocket is about; none if about all.
pub fn watched_article(query: Option<&str>) -> Result<Option<Article>, Refusal> {
    let query = Query::parse(query.unwrap_or(""))?;
    query.knows(&["article"])?;
    let article = query.get("article").map(|article| Article::parse(article.as_bytes())).transpose();
    article.map_err(|error| Refusal(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
}

/// How a list is asked for.
pub(crate) struct Form {
    /// The path; its part in braces, if there is one, stands for an id.
    pub(crate) path: &'static str,
    /// The query parameters that it knows.
    pub(crate) parameters: &'static [&'static str],
    /// Which list it is, with this id.
    list: fn(&str, &Query) -> Result<List, Refusal>,
}

const PAGED: &[&str] = &["after", "limit"];

/// All lists.
pub(crate) const FORMS: [Form; 6] = [
    Form {
        path: paths::ARTICLES,
        parameters: &["by", "prefix", "after", "limit"],
        list: |_, query| List::articles(query),
    },
    Form {
        path: paths::ARTICLE_READERS,
        parameters: PAGED,
        list: |article, query| {
            Ok(List::Readers(id(article, Article::parse)?, query.after(User::parse)?, query.limit()?))
        },
    },
    Form {
        path: paths::ARTICLE_HOURS,
        parameters: &["last"],
        list: |article, query| Ok(List::Hours(id(article, Article::parse)?, query.last()?)),
    },
    Form {
        path: paths::USERS,
        parameters: PAGED,
        list: |_, query| Ok(List::Users(query.after(User::parse)?, query.limit()?)),
    },
    Form {
        path: paths::USER_ARTICLES,
        parameters: PAGED,
        list: |user, query| Ok(List::Reads(id(user, User::parse)?, query.after(Article::parse)?, query.limit()?)),
    },
    Form { path: paths::MINUTES, parameters: &["last"], list: |_, query| Ok(List::Minutes(query.last()?)) },
];

impl List {
    fn parse(path: &str, query: Option<&str>) -> Option<Result<List, Refusal>> {
        let (form, id) = FORMS.iter().find_map(|form| Some((form, paths::id_in(form.path, path)?)))?;
        Some(Query::parse(query.unwrap_or("")).and_then(|query| {
            query.knows(form.parameters)?;
            (form.list)(id, &query)
        }))
    }

    fn articles(query: &Query) -> Result<List, Refusal> {
        let by = match (query.get("by"), query.get("prefix")) {
            (Some("name"), _) | (None, Some(_)) => {
                let prefix = query.get("prefix").unwrap_or("").as_bytes().to_vec();
                return Ok(List::ArticlesNamed(prefix, query.after(Article::parse)?, query.limit()?));
            }
            (Some("views") | None, None) => By::Views,
            (Some("readers"), None) => By::Readers,
            (Some("rise"), None) => {
                query.knows(&["by", "limit"])?;
                return Ok(List::Rising(query.number("limit", LIMIT.min(RISING_MAX), RISING_MAX)?));
            }
            (Some("views" | "readers" | "rise"), Some(_)) => return Err(bad("a search by `prefix` is listed by name")),
            (Some(_), _) => return Err(bad("`by` is one of: views, readers, rise, name")),
        };
        let after = query.get("after").map(|after| {
            let (number, article) = after.split_once('.').ok_or(NOT_A_CURSOR)?;
            let number = number.parse().map_err(|_| NOT_A_CURSOR)?;
            Ok((number, Article::parse(article.as_bytes()).map_err(|_| NOT_A_CURSOR)?))
        });
        let after = after.transpose().map_err(|sentence: &str| bad(sentence))?;
        Ok(List::ArticlesBy(by, after, query.limit()?))
    }

    fn kind(&self) -> usize {
        match self {
            Self::ArticlesBy(..) => 0,
            Self::Rising(_) => 1,
            Self::ArticlesNamed(..) => 2,
            Self::Readers(..) => 3,
            Self::Hours(..) => 4,
            Self::Users(..) => 5,
            Self::Reads(..) => 6,
            Self::Minutes(_) => 7,
        }
    }

    fn entries_max(&self) -> u32 {
        match self {
            Self::ArticlesBy(.., max) | Self::ArticlesNamed(.., max) | Self::Rising(max) | Self::Readers(.., max) => {
                *max
            }
            Self::Hours(_, max) | Self::Users(_, max) | Self::Reads(.., max) | Self::Minutes(max) => *max,
        }
    }

    /// Whether it may be some seconds old. Behind a number it may not: an article could have risen onto a page that was
    /// read since, and would be listed twice.
    fn may_be_kept(&self) -> bool {
        !matches!(self, Self::ArticlesBy(_, Some(_), _))
    }

    fn interface(&self) -> Interface {
        match self {
            Self::ArticlesBy(..) | Self::ArticlesNamed(..) | Self::Rising(_) | Self::Hours(..) | Self::Minutes(_) => {
                Interface::Lists
            }
            Self::Readers(..) => Interface::Readers,
            Self::Users(..) | Self::Reads(..) => Interface::Users,
        }
    }
}

const NOT_A_CURSOR: &str = "`after` is the `next` of the page before";

fn id<T, E: ToString>(encoded: &str, parse: impl Fn(&[u8]) -> Result<T, E>) -> Result<T, Refusal> {
    let bytes = paths::decode(encoded).map_err(|error| bad(error.to_string()))?;
    parse(&bytes).map_err(|error| Refusal(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
}

/// The parameters of a request, each at most once.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: &str) -> Result<Self, Refusal> {
        let text = |encoded: &str| {
            let decoded = paths::decode(&encoded.replace('+', " ")).map_err(|error| bad(error.to_string()))?;
            String::from_utf8(decoded).map_err(|_| bad("the query is not UTF-8"))
        };
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = text(key)?;
            if pairs.iter().any(|(known, _)| *known == key) {
                return Err(bad(format!("the query parameter `{key}` is there twice")));
            }
            pairs.push((key, text(value)?));
        }
        Ok(Self(pairs))
    }

    fn knows(&self, names: &[&str]) -> Result<(), Refusal> {
        match self.0.iter().find(|(key, _)| !names.contains(&key.as_str())) {
            Some((key, _)) => Err(bad(format!("unknown query parameter `{key}`; there are: {}", names.join(", ")))),
            None => Ok(()),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str, otherwise: u32, max: u32) -> Result<u32, Refusal> {
        let Some(text) = self.get(name) else { return Ok(otherwise) };
        let number = text.parse().ok().filter(|number| (1..=max).contains(number));
        number.ok_or_else(|| bad(format!("`{name}` is a number from 1 to {max}")))
    }

    fn limit(&self) -> Result<u32, Refusal> {
        self.number("limit", LIMIT, LIMIT_MAX)
    }

    fn last(&self) -> Result<u32, Refusal> {
        self.number("last", SPAN, SPAN_MAX)
    }

    fn after<T, E>(&self, parse: impl Fn(&[u8]) -> Result<T, E>) -> Result<Option<T>, Refusal> {
        self.get("after").map(|after| parse(after.as_bytes()).map_err(|_| bad(NOT_A_CURSOR))).transpose()
    }
}

/// A page: its entries under `name`, and what `after` is for the next one; null on the last.
fn page<T>(
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

/// A list as it is answered.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    list: &'a serde_json::Value,
    /// When MySQL was asked.
    read_at: &'a str,
    /// Why it is older than it should be, or what is missing; absent while all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded: Option<String>,
}

fn shown(kept: &Kept, degraded: Option<String>) -> Answer {
    let degraded = degraded.or_else(|| kept.lacks.clone());
    http::json(StatusCode::OK, &Shown { list: &kept.list, read_at: &kept.read_at, degraded })
}

/// Views of a minute or an hour.
#[derive(Debug, PartialEq, Serialize)]
struct Span {
    from: String,
    /// None if some may not be in MySQL yet.
    views: Option<u64>,
    /// Then there are at least so many.
    at_least: Option<u64>,
}

/// Up to when the answer to a question of now is complete.
#[derive(Clone, Copy)]
struct Horizon {
    now_ms: u64,
    /// MySQL has every view before this.
    stored_until_ms: Option<u64>,
}

impl Horizon {
    /// Whether views of before `end_ms` may be missing. What a flusher that keeps up has not brought yet is not counted.
    fn lacks_before(&self, end_ms: u64) -> bool {
        let until = self.stored_until_ms.map(|ms| ms.saturating_add(LAG_MS_MAX));
        until.is_none_or(|until| until < end_ms.min(self.now_ms))
    }

    fn lacks(&self) -> Option<String> {
        let seconds = |until: u64| self.now_ms.saturating_sub(until) / 1_000;
        self.lacks_before(u64::MAX).then(|| match self.stored_until_ms {
            Some(until) => format!("views of the last {} s may not be in MySQL yet", seconds(until)),
            None => "it is not known which views are not in MySQL yet".into(),
        })
    }
}

/// One entry for each of these spans of `seconds`; those without views have zero.
fn spans(found: &[(u32, u64)], all: RangeInclusive<u32>, seconds: u32, horizon: Horizon) -> Vec<Span> {
    let length_ms = u64::from(seconds) * 1_000;
    all.map(|at| {
        let from_ms = u64::from(at) * length_ms;
        let views = found
            .binary_search_by_key(&at, |(known, _)| *known)
            .map_or(0, |found_at| protocol::shown(found[found_at].1));
        let is_part = horizon.lacks_before(from_ms + length_ms);
        Span { from: clock::rfc3339(from_ms), views: (!is_part).then_some(views), at_least: is_part.then_some(views) }
    })
    .collect()
}

impl Lists {
    /// Reads from this store, over half of its connections for each kind of list at most, and keeps each list for `ttl`.
    #[must_use]
    pub fn new(
        store: Store,
        database: &Database,
        counts: HitCounts,
        ttl: Duration,
        stored_until: Arc<StoredUntil>,
    ) -> Self {
        let refused =
            telemetry::counter("footfall_dashboard_lists_refused_total", "Lists refused because too many were read.");
        let turns = (database.connections_max as usize / 2).clamp(1, READS_MAX);
        let kind = |_| Kind {
            mysql: Mutex::new(Breaker::new(0)),
            seats: Arc::new(Semaphore::new(READS_MAX)),
            turns: Arc::new(Semaphore::new(turns)),
        };
        Self {
            store,
            kinds: std::array::from_fn(kind),
            kept: Cache::with_weighter(1_000, KEPT_MAX, Entries),
            ttl,
            patience: database.timeout_ms,
            counts,
            refused,
            stored_until,
        }
    }

    /// Answers a request for a list.
    pub async fn answer(self: &Arc<Self>, list: List) -> Answer {
        let slot = if list.may_be_kept() {
            let Ok(slot) = self.kept.get_or_insert_with(&list, || Ok::<_, Infallible>(Slot::default()));
            slot
        } else {
            Slot::default()
        };
        let mut kept = slot.lock_owned().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.is_fresh(self.ttl)) {
            self.counts.hit(list.interface());
            return shown(kept, None);
        }
        let interface = list.interface();
        let read = match self.turn(&list).await {
            Ok(turn) => {
                // Whoever asked may go away, which MySQL does not notice: its work goes on to the end or to the time limit.
                // So the read keeps its turn until then, and what it found is there for the next one who asks.
                let lists = Arc::clone(self);
                let read = tokio::spawn(async move {
                    let _turn = turn;
                    let read = lists.read_now(&list).await.map(|list| *kept = Some(list));
                    (kept, read)
                });
                let Ok(read) = read.await else {
                    return unavailable("lists come from MySQL, which cannot be read now");
                };
                read
            }
            Err(reason) => (kept, Err(reason)),
        };
        match read {
            (kept, read) if kept.is_some() => {
                let reason = read.err();
                if reason.is_some() {
                    self.counts.hit(interface);
                }
                kept.as_ref().map_or_else(|| unavailable(""), |kept| shown(kept, reason))
            }
            (_, read) => unavailable(&read.err().unwrap_or_default()),
        }
    }

    /// The right to read a list, if there is a seat and MySQL is well, as far as is known.
    async fn turn(&self, list: &List) -> Result<Turn, String> {
        let kind = &self.kinds[list.kind()];
        let is_well = || {
            let allows = lock(&kind.mysql).allows(Instant::now());
            allows.then_some(()).ok_or("lists come from MySQL, which could not be read a moment ago")
        };
        is_well()?;
        let too_many = || {
            self.refused.inc();
            "too many lists are read at the moment: try again"
        };
        let seat = Arc::clone(&kind.seats).try_acquire_owned().map_err(|_| too_many())?;
        let turn = timeout(self.patience, Arc::clone(&kind.turns).acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok).ok_or_else(too_many)?;
        // It may have failed while this one waited.
        is_well()?;
        Ok(Turn { _seat: seat, _turn: turn })
    }

    async fn read_now(&self, list: &List) -> Result<Kept, String> {
        let mysql = &self.kinds[list.kind()].mysql;
        self.counts.miss(list.interface());
        // Known before MySQL is asked, so it has at least that.
        let horizon = Horizon { now_ms: clock::unix_ms(), stored_until_ms: self.stored_until.get() };
        let (since, read_at) = (Instant::now(), clock::rfc3339(horizon.now_ms));
        match self.read(list, horizon).await {
            Ok(list) => {
                lock(mysql).succeeded();
                Ok(Kept { since, read_at, list, lacks: horizon.lacks() })
            }
            Err(error) => {
                error.class().count();
                lock(mysql).failed(error.class(), Instant::now());
                Err(format!("lists come from MySQL, which cannot be read now: {error}"))
            }
        }
    }

    async fn read(&self, list: &List, horizon: Horizon) -> Result<serde_json::Value, StoreError> {
        let store = &self.store;
        let article = |listed: &ListedArticle| json!({ "article": listed.article.to_string(), "views": protocol::shown(listed.views), "readers": protocol::shown(listed.readers) });
        let name = |listed: &ListedArticle| listed.article.to_string();
        // One more than asked for tells whether there is another page.
        Ok(match *list {
            List::ArticlesBy(by, ref after, limit) => {
                let after = after.as_ref().map(|(number, article)| (*number, article));
                let cursor = |listed: &ListedArticle| match by {
                    By::Views => format!("{}.{}", listed.views, listed.article),
                    By::Readers => format!("{}.{}", listed.readers, listed.article),
                };
                page("articles", store.articles_by(by, after, limit + 1).await?, limit, cursor, article)
            }
            List::Rising(limit) => {
                let tenths = |number: f64| (number * 10.0).round() / 10.0;
                let show = |rising: &RisingArticle| {
                    json!({
                        "article": rising.article.to_string(),
                        "last_hour": tenths(rising.last_hour_60 as f64 / 60.0),
                        "day_before": protocol::shown(rising.day_before),
                        "rise": tenths(rising.rise()),
                    })
                };
                let articles = store.articles_rising(clock::unix_minute(), limit).await?;
                json!({ "articles": articles.iter().map(show).collect::<Vec<_>>() })
            }
            List::ArticlesNamed(ref prefix, ref after, limit) => {
                let articles = store.articles_named(prefix, after.as_ref(), limit + 1).await?;
                page("articles", articles, limit, name, article)
            }
            List::Readers(ref article, ref after, limit) => {
                let readers = store.readers_of(article, after.as_ref(), limit + 1).await?;
                let show =
                    |(user, views): &(User, u64)| json!({ "user": user.to_string(), "views": protocol::shown(*views) });
                page("readers", readers, limit, |(user, _)| user.to_string(), show)
            }
            List::Users(ref after, limit) => {
                let users = store.users(after.as_ref(), limit + 1).await?;
                page("users", users, limit, User::to_string, |user| json!({ "user": user.to_string() }))
            }
            List::Reads(ref user, ref after, limit) => {
                let articles = store.articles_of(user, after.as_ref(), limit + 1).await?;
                let show = |(article, views): &(Article, u64)| json!({ "article": article.to_string(), "views": protocol::shown(*views) });
                page("articles", articles, limit, |(article, _)| article.to_string(), show)
            }
            List::Hours(ref article, last) => {
                let hours = clock::last(last, clock::unix_minute() / 60);
                json!({ "hours": spans(&store.hours_of(article, *hours.start()).await?, hours, 3_600, horizon) })
            }
            List::Minutes(last) => {
                let minutes = clock::last(last, clock::unix_minute());
                json!({ "minutes": spans(&store.minutes(*minutes.start()).await?, minutes, 60, horizon) })
            }
        })
    }
}

fn unavailable(reason: &str) -> Answer {
    let mut answer = http::sentence(StatusCode::SERVICE_UNAVAILABLE, reason);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

fn lock(breaker: &Mutex<Breaker>) -> MutexGuard<'_, Breaker> {
    breaker.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn article(id: &str) -> Article {
        Article::parse(id.as_bytes()).expect("test id")
    }

    fn parse(path: &str, query: &str) -> Result<List, Refusal> {
        List::parse(path, Some(query)).expect("there is such a list")
    }

    #[test]
    fn lists_are_found_by_path_and_query() {
        assert_eq!(parse("/v1/articles", ""), Ok(List::ArticlesBy(By::Views, None, LIMIT)));
        let after = Some((7, article("a.b c")));
        assert_eq!(
            parse("/v1/articles", "by=readers&after=7.a.b+c&limit=5"),
            Ok(List::ArticlesBy(By::Readers, after, 5))
        );
        assert_eq!(parse("/v1/articles", "prefix=%C3%A4"), Ok(List::ArticlesNamed("ä".into(), None, LIMIT)));
        assert_eq!(parse("/v1/articles/a%2Fb/readers", ""), Ok(List::Readers(article("a/b"), None, LIMIT)));
        assert_eq!(parse("/v1/articles/a/hours", "last=3"), Ok(List::Hours(article("a"), 3)));
        let user = User::parse(b"u").expect("test id");
        assert_eq!(parse("/v1/users/u/articles", "after=x"), Ok(List::Reads(user, Some(article("x")), LIMIT)));
        assert_eq!(parse("/v1/articles", "by=rise&limit=9"), Ok(List::Rising(9)));
        assert_eq!(parse("/v1/minutes", ""), Ok(List::Minutes(SPAN)));
        for path in ["/v1/nothing", "/v1/articles/a/b/readers", "/v1/users/u", "/v1/minutes/"] {
            assert_eq!(List::parse(path, None), None, "{path}");
        }
        assert_eq!(List::parse("/v1/articles/a", None), None);
        assert_eq!(Question::parse("/v1/articles/a%2Fb", None), Some(Ok(Question::Article(article("a/b")))));
        assert!(Question::parse("/v1/articles/", None).is_some_and(|question| question.is_err()));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_sentence() {
        for (path, query, status) in [
            ("/v1/articles", "limit=0", 400),
            ("/v1/articles", "limit=1001", 400),
            ("/v1/articles", "limit=5&limit=6", 400),
            ("/v1/articles", "by=weight", 400),
            ("/v1/articles", "by=views&prefix=a", 400),
            ("/v1/articles", "by=rise&after=1.a", 400),
            ("/v1/articles", "by=rise&limit=101", 400),
            ("/v1/articles", "after=a", 400),
            ("/v1/articles", "order=views", 400),
            ("/v1/users", "after=", 400),
            ("/v1/users", "after=%FF", 400),
            ("/v1/articles//readers", "", 422),
            ("/v1/articles/%00/readers", "", 422),
            ("/v1/minutes", "last=1441", 400),
        ] {
            let Err(Refusal(refused, sentence)) = parse(path, query) else { panic!("{path}?{query} is taken") };
            assert_eq!(refused.as_u16(), status, "{path}?{query}: {sentence}");
        }
    }

    /// Views of minutes 4 to 7, each with 60 s, or none where it is not known.
    fn views(stored_until_ms: Option<u64>, now_ms: u64) -> Vec<Option<u64>> {
        let spans = spans(&[(5, 2), (7, 9)], 4..=7, 60, Horizon { now_ms, stored_until_ms });
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
        let lacks = |stored_until_ms, now_ms| Horizon { now_ms, stored_until_ms }.lacks();
        assert_eq!(lacks(Some(456_000), 460_000), None);
        assert_eq!(lacks(Some(400_000), 460_000).as_deref(), Some("views of the last 60 s may not be in MySQL yet"));
        assert!(lacks(None, 460_000).is_some());
        // A clock that was set back.
        assert_eq!(lacks(Some(460_000), 400_000), None);
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
                let horizon = Horizon { now_ms: u64::MAX, stored_until_ms: Some(u64::MAX) };
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
