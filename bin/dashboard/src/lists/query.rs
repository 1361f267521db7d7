//! The query parameters of a request, and what they may be.

use footfall_shared::service::paths;
use hyper::StatusCode;

/// Entries of a page, unless the request says otherwise.
pub(super) const LIMIT: u32 = 100;
/// Entries of a page, at most.
const LIMIT_MAX: u32 = 1_000;
/// Hours or minutes of a history, unless the request says otherwise.
pub(super) const SPAN: u32 = 48;
/// Hours or minutes of a history, at most.
pub(super) const SPAN_MAX: u32 = 1_440;

pub(super) const NOT_A_CURSOR: &str = "`after` is the `next` of the page before";

/// Why a request gets nothing: a status and one message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rejection(pub(crate) StatusCode, pub(crate) String);

pub(super) fn bad_request(message: impl Into<String>) -> Rejection {
    Rejection(StatusCode::BAD_REQUEST, message.into())
}

/// An id as it stands in a path.
pub(super) fn id<T, E: ToString>(encoded: &str, parse: impl Fn(&[u8]) -> Result<T, E>) -> Result<T, Rejection> {
    let bytes = paths::decode(encoded).map_err(|error| bad_request(error.to_string()))?;
    parse(&bytes).map_err(|error| Rejection(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
}

/// The parameters of a request, each at most once.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: &str) -> Result<Self, Rejection> {
        let text = |encoded: &str| {
            let decoded = paths::decode(&encoded.replace('+', " ")).map_err(|error| bad_request(error.to_string()))?;
            String::from_utf8(decoded).map_err(|_| bad_request("the query is not UTF-8"))
        };
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = text(key)?;
            if pairs.iter().any(|(known, _)| *known == key) {
                return Err(bad_request(format!("the query parameter `{key}` is there twice")));
            }
            pairs.push((key, text(value)?));
        }
        Ok(Self(pairs))
    }

    pub(super) fn knows(&self, names: &[&str]) -> Result<(), Rejection> {
        match self.0.iter().find(|(key, _)| !names.contains(&key.as_str())) {
            Some((key, _)) => {
                Err(bad_request(format!("unknown query parameter `{key}`; there are: {}", names.join(", "))))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn number(&self, name: &str, otherwise: u32, max: u32) -> Result<u32, Rejection> {
        let Some(text) = self.get(name) else { return Ok(otherwise) };
        let number = text.parse().ok().filter(|number| (1..=max).contains(number));
        number.ok_or_else(|| bad_request(format!("`{name}` is a number from 1 to {max}")))
    }

    pub(super) fn limit(&self) -> Result<u32, Rejection> {
        self.number("limit", LIMIT, LIMIT_MAX)
    }

    pub(super) fn last(&self) -> Result<u32, Rejection> {
        self.number("last", SPAN, SPAN_MAX)
    }

    pub(super) fn after<T, E>(&self, parse: impl Fn(&[u8]) -> Result<T, E>) -> Result<Option<T>, Rejection> {
        self.get("after").map(|after| parse(after.as_bytes()).map_err(|_| bad_request(NOT_A_CURSOR))).transpose()
    }
}
