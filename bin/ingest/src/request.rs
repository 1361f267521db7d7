//! From a request's path and query to a view, or to one sentence that says what is wrong. Pure.

use footfall_shared::protocol::{Article, IdError, User, ViewId};
use footfall_shared::service::paths::{self, NotEncoded};
use hyper::StatusCode;

/// A request that is not counted: why, and what the client reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// What kind of mistake it is.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
}

/// Why a request is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It names no reader, and must.
    NoUser,
    /// An id is empty, too long, or no text.
    BadId,
    /// It cannot be understood.
    Malformed,
    /// It is too large, or has too many views.
    TooLarge,
    /// It is compressed.
    Encoded,
    /// It did not arrive in time.
    Slow,
    /// Its address has used up its budget, and must wait for this many seconds.
    TooOften {
        /// Until it may come again.
        wait_s: u64,
    },
}

impl Reason {
    /// The answer's status: 4xx.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::NoUser | Self::Malformed => StatusCode::BAD_REQUEST,
            Self::BadId => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::TooOften { .. } => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// As metrics have it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NoUser => "no_user",
            Self::BadId => "bad_id",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Encoded => "encoded",
            Self::Slow => "slow",
            Self::TooOften { .. } => "too_often",
        }
    }

    /// The sentence for the operator, since who sends views may ignore the answers.
    pub(crate) fn note(self) -> &'static str {
        match self {
            Self::NoUser => {
                "views are refused, because they name no reader: let sites name one, or set `ingest.anonymous`"
            }
            Self::BadId => "views are refused, because an id in them is empty, too long or no text",
            Self::Malformed => "views are refused, because they are not written as they should be",
            Self::TooLarge => "requests are refused, because they are too large",
            Self::Encoded => "requests are refused, because they are compressed",
            Self::Slow => "requests are refused, because they arrive too slowly",
            Self::TooOften { .. } => {
                "views are refused, because one address sends more than `ingest.views_per_second` or \
                 `ingest.new_articles_per_minute` allows"
            }
        }
    }
}

impl Rejection {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl From<IdError> for Rejection {
    fn from(error: IdError) -> Self {
        Self::new(Reason::BadId, error.to_string())
    }
}

impl From<NotEncoded> for Rejection {
    fn from(error: NotEncoded) -> Self {
        Self::new(Reason::Malformed, error.to_string())
    }
}

/// A view as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// What was read.
    pub article: Article,
    /// Who read it, if the site says so.
    pub user: Option<User>,
    /// The client's name for this view, if it gave one.
    pub id: Option<ViewId>,
}

/// The article in a path such as `/v1/articles/{article}`: everything behind the prefix.
pub fn article_in_path(encoded: &str) -> Result<Article, Rejection> {
    countable(Article::parse(&paths::decode(encoded)?)?)
}

fn countable(article: Article) -> Result<Article, Rejection> {
    if can_be_asked_for(article.as_str()) { Ok(article) } else { Err(no_path("article")) }
}

/// A user id from the query parameter `name`, if it is there.
pub fn user_in_query(query: Option<&str>, name: &str) -> Result<Option<User>, Rejection> {
    let user = parameter(query, name)?.map(|user| User::parse(&user)).transpose()?;
    match user {
        Some(user) if !can_be_asked_for(user.as_str()) => Err(no_path("user")),
        user => Ok(user),
    }
}

/// An article id from the query parameter `name`.
pub fn article_in_query(query: Option<&str>, name: &str) -> Result<Article, Rejection> {
    let missing = || Rejection::new(Reason::Malformed, missing_in_query(name).message);
    countable(Article::parse(&parameter(query, name)?.ok_or_else(missing)?)?)
}

/// An optional view id from the query parameter `name`.
pub fn view_id_in_query(query: Option<&str>, name: &str) -> Result<Option<ViewId>, Rejection> {
    Ok(parameter(query, name)?.map(|id| ViewId::parse(&id)).transpose()?)
}

/// The query parameter `name`, which names the reader, is needed.
#[must_use]
pub fn missing_in_query(name: &str) -> Rejection {
    Rejection::new(Reason::NoUser, format!("the query parameter `{name}` is missing"))
}

/// A query parameter as bytes; as forms write it, with `+` for a space. Those that others have added are not looked at.
fn parameter(query: Option<&str>, name: &str) -> Result<Option<Vec<u8>>, Rejection> {
    let pairs = query.unwrap_or("").split('&').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value);
    let value = values.next().map(|value| paths::decode(&value.replace('+', " "))).transpose()?;
    match values.next() {
        None => Ok(value),
        Some(_) => Err(Rejection::new(Reason::Malformed, format!("the query parameter `{name}` is there twice"))),
    }
}

/// Whether a path can end with it. `.` and `..` are taken out of a path by browsers, however they are written, and by
/// many a proxy: what is called so could be counted and never looked at.
pub(crate) fn can_be_asked_for(id: &str) -> bool {
    !matches!(id, "." | "..")
}

/// An id of this kind is `.` or `..`.
pub(crate) fn no_path(kind: &str) -> Rejection {
    let message = format!("the {kind} id is `.` or `..`, which no browser can ask for in a path: choose another one");
    Rejection::new(Reason::BadId, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_in_urls_are_bytes() {
        assert_eq!(article_in_path("a%2Fb c%F0%9F%98%80").expect("valid").as_str(), "a/b c\u{1f600}");
        let user = |query| user_in_query(query, "usrid");
        assert_eq!(user(Some("x=1&usrid=a+b%2B")).expect("valid").expect("there").as_str(), "a b+");
        assert_eq!((user(None), user(Some("usrid"))), (Ok(None), Ok(None)));
        for query in ["usrid=", "usrid=%ff", "usrid=%0a", "usrid=a%00"] {
            assert_eq!(user(Some(query)).expect_err("bad").reason.status().as_u16(), 422, "{query}");
        }
        for id in [".", "%2e", "..", ".%2E"] {
            let rejections = [
                article_in_path(id).expect_err(id),
                article_in_query(Some(&format!("article={id}")), "article").expect_err(id),
                user_in_query(Some(&format!("usrid={id}")), "usrid").expect_err(id),
            ];
            assert!(rejections.iter().all(|rejection| rejection.reason == Reason::BadId), "{rejections:?}");
        }
        assert_eq!(article_in_path("%2e%2e%2e").expect("valid").as_str(), "...");
        assert_eq!(article_in_query(None, "article").expect_err("bad").reason.status().as_u16(), 400);
    }

    proptest! {
        #[test]
        fn any_id_survives_the_way_through_a_url(id in "[^\\p{Cc}]{1,40}") {
            prop_assume!(can_be_asked_for(&id));
            let encoded = percent_encoding::utf8_percent_encode(&id, percent_encoding::NON_ALPHANUMERIC).to_string();
            let article = article_in_path(&encoded).expect("valid");
            prop_assert_eq!(article.as_str(), &id);
        }
    }
}
