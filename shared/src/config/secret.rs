//! Settings that are never shown whole.

use std::fmt;
use std::ops::RangeInclusive;

use super::setting::{Setting, Value, text};

/// A URL that may hold a password: never shown whole.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(pub String);

impl fmt::Debug for SecretUrl {
    /// User and password stand before the last `@` in front of the path; the password of a unix socket is `pass`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        let (before, after) = match rest.split_once("pass=") {
            Some((before, rest)) => (before, format!("pass=***{}", rest.find('&').map_or("", |and| &rest[and..]))),
            None => (rest, String::new()),
        };
        let before = before.rsplit_once('@').map_or(before.to_owned(), |(_, place)| format!("***@{place}"));
        write!(f, "{scheme}://{before}{after}")
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Setting for SecretUrl {
    /// Taken apart with what belongs to it: see [`super::StoreUrl`].
    fn read(value: &Value, _: Option<RangeInclusive<u64>>) -> Result<Self, String> {
        text(value, |text| Ok(Self(text.to_owned())))
    }

    fn shown(&self) -> serde_json::Value {
        self.to_string().into()
    }
}

/// A word that opens something: never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Token(pub String);

/// Shorter ones could be guessed.
const TOKEN_CHARS_MIN: usize = 16;

impl Token {
    /// The token, if there is one.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|token| !token.is_empty())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "" } else { "***" })
    }
}

impl Setting for Token {
    fn read(value: &Value, _: Option<RangeInclusive<u64>>) -> Result<Self, String> {
        // Not by `Value::refuse`, which may repeat the value.
        text(value, |text| Ok(text.to_owned())).map_err(|_| "is not text: put it in quotes".to_owned()).and_then(
            |text| match text.chars().count() {
                1..TOKEN_CHARS_MIN => Err(format!(
                    "has fewer than {TOKEN_CHARS_MIN} characters and could be guessed: `openssl rand -hex 16` makes a \
                     good one"
                )),
                _ => Ok(Self(text)),
            },
        )
    }

    fn shown(&self) -> serde_json::Value {
        format!("{self:?}").into()
    }
}
