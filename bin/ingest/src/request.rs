//! From the bytes of a request to views, or to one sentence that says what is wrong. Pure.

use std::borrow::Cow;
use std::fmt;

use footfall_shared::counter::{Article, IdError, User, ViewId};
use footfall_shared::paths::{self, NotEncoded};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A request that is not counted: why, and what the client reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Refusal {
    /// What kind of mistake it is.
    pub reason: Reason,
    /// One sentence.
    pub sentence: String,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Its address has had so much counted that it must wait for so many seconds.
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

    /// What whoever runs the system should know: whoever sent the view may not look at the answer.
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

impl Refusal {
    pub(crate) fn new(reason: Reason, sentence: impl Into<String>) -> Self {
        Self { reason, sentence: sentence.into() }
    }
}

impl From<IdError> for Refusal {
    fn from(error: IdError) -> Self {
        Self::new(Reason::BadId, error.to_string())
    }
}

impl From<NotEncoded> for Refusal {
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

/// The views of one `POST /v1/views`.
#[derive(Debug, PartialEq, Eq)]
pub enum Posted {
    /// One JSON object.
    One(Sent),
    /// An array or NDJSON: some may be refused while the others count.
    Many(Vec<Result<Sent, Refusal>>),
}

/// The article in a path such as `/v1/articles/{article}`: everything behind the prefix.
pub fn article_in_path(encoded: &str) -> Result<Article, Refusal> {
    Ok(Article::parse(&paths::decode(encoded)?)?)
}

/// A user id from the query parameter `name`, if it is there.
pub fn user_in_query(query: Option<&str>, name: &str) -> Result<Option<User>, Refusal> {
    Ok(parameter(query, name)?.map(|user| User::parse(&user)).transpose()?)
}

/// An article id from the query parameter `name`.
pub fn article_in_query(query: Option<&str>, name: &str) -> Result<Article, Refusal> {
    let missing = || Refusal::new(Reason::Malformed, missing_in_query(name).sentence);
    Ok(Article::parse(&parameter(query, name)?.ok_or_else(missing)?)?)
}

/// An optional view id from the query parameter `name`.
pub fn view_id_in_query(query: Option<&str>, name: &str) -> Result<Option<ViewId>, Refusal> {
    Ok(parameter(query, name)?.map(|id| ViewId::parse(&id)).transpose()?)
}

/// The query parameter `name`, which names the reader, is needed.
#[must_use]
pub fn missing_in_query(name: &str) -> Refusal {
    Refusal::new(Reason::NoUser, format!("the query parameter `{name}` is missing"))
}

/// A query parameter as bytes; as forms write it, with `+` for a space. Those that others have added are not looked at.
fn parameter(query: Option<&str>, name: &str) -> Result<Option<Vec<u8>>, Refusal> {
    let pairs = query.unwrap_or("").split('&').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value);
    let value = values.next().map(|value| paths::decode(&value.replace('+', " "))).transpose()?;
    match values.next() {
        None => Ok(value),
        Some(_) => Err(Refusal::new(Reason::Malformed, format!("the query parameter `{name}` is there twice"))),
    }
}

/// A name that is not known is a mistake: a view whose `usr` was passed over would count for somebody without a name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Posting<'a> {
    #[serde(borrow)]
    article: Cow<'a, str>,
    #[serde(borrow)]
    user: Option<Text<'a>>,
    #[serde(borrow)]
    id: Option<Text<'a>>,
}

/// Text that stays where it lies in the body: serde borrows none behind an `Option` by itself.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Posting<'_> {
    fn sent(self) -> Result<Sent, Refusal> {
        let article = Article::parse(self.article.as_bytes())?;
        let user = self.user.map(|Text(user)| User::parse(user.as_bytes())).transpose()?;
        let id = self.id.map(|Text(id)| ViewId::parse(id.as_bytes())).transpose()?;
        Ok(Sent { article, user, id })
    }
}

/// A posted view has no user, and needs one.
#[must_use]
pub fn missing_in_body() -> Refusal {
    Refusal { reason: Reason::NoUser, ..malformed("missing field `user`") }
}

fn malformed(error: impl fmt::Display) -> Refusal {
    // It may repeat what was sent, however long that is.
    let error: String = error.to_string().chars().filter(|character| !character.is_control()).take(200).collect();
    let sentence = format!("the body is not {{\"article\": \"...\", \"user\": \"...\"}}: {error}");
    Refusal::new(Reason::Malformed, sentence)
}

/// Text without what is around it: white space, and the mark with which some programs begin a file in UTF-8.
fn bare(text: &str) -> &str {
    text.trim_start_matches('\u{feff}').trim()
}

/// Reads a JSON object, an array of them, or one object per line. The body decides, not its content type:
/// beacons can only send `text/plain`. `is_ndjson` tells one line from one object.
pub fn posted(body: &[u8], is_ndjson: bool, views_max: usize) -> Result<Posted, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::new(Reason::Malformed, "the body is not valid UTF-8"))?;
    let text = bare(text);
    if text.is_empty() {
        return Err(Refusal::new(
            Reason::Malformed,
            "the body is empty: send {\"article\": \"...\", \"user\": \"...\"}",
        ));
    }
    let postings: Vec<Result<Posting<'_>, serde_json::Error>> = if text.starts_with('[') {
        let values: Vec<&RawValue> = serde_json::from_str(text).map_err(malformed)?;
        values.into_iter().map(|value| serde_json::from_str(value.get())).collect()
    } else {
        let one = if is_ndjson { None } else { one_object(text) };
        if let Some(posting) = one {
            return Ok(Posted::One(posting.map_err(malformed)?.sent()?));
        }
        text.lines().map(bare).filter(|line| !line.is_empty()).map(serde_json::from_str).collect()
    };
    if postings.len() > views_max {
        let sentence = format!("{} views in one request: at most {views_max} are allowed", postings.len());
        return Err(Refusal::new(Reason::TooLarge, sentence));
    }
    let views = postings.into_iter().map(|posting| posting.map_err(malformed)?.sent());
    Ok(Posted::Many(views.collect()))
}

/// The only JSON value in the text, or none if there are several, one per line.
fn one_object(text: &str) -> Option<Result<Posting<'_>, serde_json::Error>> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Posting<'_>>();
    let first = values.next()?;
    if first.is_ok() && values.next().is_some() {
        return None;
    }
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(article: &str, user: Option<&str>) -> Sent {
        Sent {
            article: Article::parse(article.as_bytes()).expect("test id"),
            user: user.map(|user| User::parse(user.as_bytes()).expect("test id")),
            id: None,
        }
    }

    #[test]
    fn ids_in_urls_are_bytes() {
        assert_eq!(article_in_path("a%2Fb c%F0%9F%98%80").expect("valid").as_str(), "a/b c\u{1f600}");
        let user = |query| user_in_query(query, "usrid");
        assert_eq!(user(Some("x=1&usrid=a+b%2B")).expect("valid").expect("there").as_str(), "a b+");
        assert_eq!((user(None), user(Some("usrid"))), (Ok(None), Ok(None)));
        for query in ["usrid=", "usrid=%ff", "usrid=%0a", "usrid=a%00"] {
            assert_eq!(user(Some(query)).expect_err("bad").reason.status().as_u16(), 422, "{query}");
        }
        assert_eq!(article_in_query(None, "article").expect_err("bad").reason.status().as_u16(), 400);
    }

    #[test]
    fn one_many_and_lines_are_told_apart() {
        let object = r#"{"article":"a","user":"u"}"#;
        let one = || sent("a", Some("u"));
        assert_eq!(posted(object.as_bytes(), false, 9), Ok(Posted::One(one())));
        for nobody in [r#"{"article":"a"}"#, r#"{"article":"a","user":null}"#] {
            assert_eq!(posted(nobody.as_bytes(), false, 9), Ok(Posted::One(sent("a", None))));
        }
        assert_eq!(posted(object.as_bytes(), true, 9), Ok(Posted::Many(vec![Ok(one())])));
        let many = Posted::Many(vec![Ok(one()), Ok(one())]);
        assert_eq!(posted(format!("[{object},{object}]").as_bytes(), false, 9), Ok(many));
        let Ok(Posted::Many(views)) = posted(format!("{object}\n\n{object}\n{{}}").as_bytes(), false, 9) else {
            panic!("lines are many");
        };
        assert_eq!(views.iter().filter(|view| view.is_ok()).count(), 2);
        assert!(views[2].as_ref().expect_err("empty object").sentence.contains("article"));
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let object = r#"{"article":"a","user":"u"}"#;
        for (body, status, said) in [
            ("", 400, "empty"),
            ("{", 400, "EOF"),
            ("[", 400, "EOF"),
            ("7", 400, "invalid type"),
            (r#"{"user":"u"}"#, 400, "article"),
            (r#"{"article":"a","user":7}"#, 400, "a string"),
            (r#"{"article":"a","user":""}"#, 422, "user id is empty"),
            (r#"{"article":"","user":"u"}"#, 422, "empty"),
            (r#"{"article":"a\n","user":"u"}"#, 422, "control"),
            (r#"{"article":"a","user":"u","id":""}"#, 422, "view id is empty"),
            (r#"{"article":"a","user":"u","id":7}"#, 400, "a string"),
        ] {
            let refusal = posted(body.as_bytes(), false, 9).expect_err(body);
            assert_eq!(refusal.reason.status().as_u16(), status, "{body}");
            assert!(refusal.sentence.contains(said), "{body}: {refusal}");
        }
        let many = [object; 10].join("\n");
        assert_eq!(posted(many.as_bytes(), false, 9).expect_err("too many").reason.status().as_u16(), 413);
        assert_eq!(posted(b"\xff", false, 9).expect_err("not UTF-8").reason.status().as_u16(), 400);
    }

    proptest! {
        #[test]
        fn any_body_is_answered(body: Vec<u8>, is_ndjson: bool) {
            let _ = posted(&body, is_ndjson, 100);
        }

        #[test]
        fn any_id_survives_the_way_through_a_url(id in "[^\\p{Cc}]{1,40}") {
            let encoded = percent_encoding::utf8_percent_encode(&id, percent_encoding::NON_ALPHANUMERIC).to_string();
            let article = article_in_path(&encoded).expect("valid");
            prop_assert_eq!(article.as_str(), &id);
        }
    }
}
