//! Settings that are never shown whole.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::setting::{Range, Rejected, Setting, Value, text};

/// The text of a URL that may hold a password: never shown whole.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct SecretUrl(pub(super) String);

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

/// A type with a secret in it that is shown as its `text` shows itself.
macro_rules! shown_as_text {
    ($type:ty) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.text, f)
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.text, f)
            }
        }
    };
}
pub(super) use shown_as_text;

/// A setting with a secret in it: read by `FromStr`, shown as it shows itself.
macro_rules! secret_setting {
    ($type:ty: $kind:literal) => {
        impl super::setting::Setting for $type {
            const IS_SECRET: bool = true;

            fn read(
                value: &super::setting::Value,
                _: Option<super::setting::Range>,
            ) -> Result<Self, super::setting::Rejected> {
                super::setting::text(value)?.parse().map_err(super::setting::Rejected::Setting)
            }

            fn shown(&self) -> serde_json::Value {
                self.to_string().into()
            }

            fn kind(_: Option<super::setting::Range>) -> String {
                $kind.to_owned()
            }
        }

        impl super::setting::Setting for Option<$type> {
            const IS_SECRET: bool = true;

            fn read(
                value: &super::setting::Value,
                range: Option<super::setting::Range>,
            ) -> Result<Self, super::setting::Rejected> {
                if super::setting::text(value)?.is_empty() {
                    return Ok(None);
                }
                <$type as super::setting::Setting>::read(value, range).map(Some)
            }

            fn shown(&self) -> serde_json::Value {
                self.as_ref().map_or_else(String::new, ToString::to_string).into()
            }

            fn kind(_: Option<super::setting::Range>) -> String {
                concat!($kind, ", or empty").to_owned()
            }
        }
    };
}
pub(super) use secret_setting;

/// A word that opens something: never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Token(String);

/// Shorter ones could be guessed.
const TOKEN_CHARS_MIN: usize = 16;

/// So many different characters a token has beside what everybody thinks of first.
const TOKEN_CHARS_DIFFERENT_MIN: usize = 8;

/// What everybody thinks of first.
const WORDS: [&str; 16] = [
    "password",
    "passwort",
    "passwd",
    "p@ssw0rd",
    "token",
    "secret",
    "footfall",
    "dashboard",
    "changeme",
    "change",
    "replace",
    "letmein",
    "welcome",
    "admin",
    "example",
    "default",
];

/// Orders in which everybody types, forwards and backwards, also in part.
const ORDERS: [&str; 8] = [
    "0123456789abcdefghijklmnopqrstuvwxyz0123456789",
    "1234567890",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbn",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "1q2w3e4r5t6y7u8i9o0p",
    "a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6",
];

/// Fewer in a row are found in a good token too.
const ORDER_CHARS_MIN: usize = 4;

/// Why a token of enough characters could be guessed all the same, as the end of a sentence.
fn weakness(token: &str) -> Option<String> {
    let mut rest: Vec<char> = token.to_lowercase().chars().collect();
    let period =
        (1..TOKEN_CHARS_MIN.min(rest.len() / 2 + 1)).find(|period| rest[*period..] == rest[..rest.len() - period]);
    if let Some(period) = period {
        return Some(format!("repeats the same {period} characters"));
    }
    rest.retain(|c| !"-_. :/".contains(*c));
    let mut rest: String = rest.into_iter().collect();
    for word in WORDS {
        rest = rest.replace(word, "");
    }
    // `001122` is no better than `012`.
    let mut rest: Vec<char> = rest.chars().collect();
    rest.dedup();
    let mut rest: String = rest.into_iter().collect();
    let orders: Vec<String> =
        ORDERS.iter().flat_map(|order| [(*order).to_owned(), order.chars().rev().collect()]).collect();
    let mut left = BTreeSet::new();
    while let Some(first) = rest.chars().next() {
        let ends = rest.char_indices().map(|(at, c)| at + c.len_utf8());
        let in_order =
            ends.skip(ORDER_CHARS_MIN - 1).take_while(|end| orders.iter().any(|order| order.contains(&rest[..*end])));
        match in_order.last() {
            Some(end) => drop(rest.drain(..end)),
            None => {
                left.insert(first);
                rest.remove(0);
            }
        }
    }
    (left.len() < TOKEN_CHARS_DIFFERENT_MIN).then(|| {
        format!(
            "has fewer than {TOKEN_CHARS_DIFFERENT_MIN} different characters, leaving out words such as `password` and \
             runs such as `1234`"
        )
    })
}

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

impl FromStr for Token {
    type Err = String;

    /// What is wrong with it does not repeat it.
    fn from_str(text: &str) -> Result<Self, String> {
        let weakness = match text.chars().count() {
            0 => None,
            1..TOKEN_CHARS_MIN => Some(format!("has fewer than {TOKEN_CHARS_MIN} characters")),
            _ => weakness(text),
        };
        match weakness {
            None => Ok(Self(text.to_owned())),
            Some(why) => Err(format!("{why} and could be guessed: `openssl rand -hex 16` makes a good one")),
        }
    }
}

impl Setting for Token {
    const IS_SECRET: bool = true;

    fn read(value: &Value, _: Option<Range>) -> Result<Self, Rejected> {
        // Not the usual sentence, which may repeat the value.
        let text = text(value).map_err(|_| Rejected::Value("is not text: put it in quotes".to_owned()))?;
        text.parse().map_err(Rejected::Value)
    }

    fn shown(&self) -> serde_json::Value {
        format!("{self:?}").into()
    }

    fn kind(_: Option<Range>) -> String {
        "text".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(token: &str) -> Result<Token, String> {
        token.parse()
    }

    #[test]
    fn a_token_that_can_be_guessed_is_refused() {
        for (token, why) in [
            ("4f9c01d7ab3e852", "fewer than 16 characters"),
            ("aaaaaaaaaaaaaaaa", "the same 1 characters"),
            ("abababababababababab", "the same 2 characters"),
            ("k3v9x2q7k3v9x2q7", "the same 8 characters"),
            ("K3v9x2q7mZk3V9x2q7Mzk3", "the same 10 characters"),
            ("passwordpassword", "the same 8 characters"),
            ("0123456789abcdef", "different"),
            ("fedcba9876543210", "different"),
            ("abcdefghijklmnop", "different"),
            ("0123456789012345", "different"),
            ("0123456789abcdef0123456789abcdef0", "different"),
            ("00112233445566778899", "different"),
            ("01-23-45-67-89-ab-cd-ef", "different"),
            ("qwertyuiopasdfgh", "different"),
            ("1q2w3e4r5t6y7u8i", "different"),
            ("a1b2c3d4e5f6g7h8", "different"),
            ("password12345678", "different"),
            ("Password-Token-Secret!", "different"),
            ("changeme-changeme-1", "different"),
            ("FootfallDashboard2026", "different"),
            ("my-secret-token-01", "different"),
            ("abcabcabdabcabcabe", "different"),
            ("                  ", "the same 1 characters"),
            ("ééééééééàààààààààà", "different"),
        ] {
            let error = read(token).expect_err(token);
            assert!(
                error.contains(why) && error.ends_with("`openssl rand -hex 16` makes a good one"),
                "{token}: {error}"
            );
            assert!(!error.contains(token), "{error}");
        }
    }

    #[test]
    fn a_good_token_is_taken() {
        for token in [
            "",
            "6f1c0e9ab7d24835",
            "9d0f7c2be4a1586390cb7de2f4813a65",
            "cGFzc3dvcmQgb2YgbWluZQ==",
            "correct horse battery staple",
            "the token that opens everything",
            "Wir zählen jede Ansicht genau einmal",
            "数字只有在每一次阅读都被记下时才值得相信",
        ] {
            assert!(read(token).is_ok_and(|read| read.0 == token), "{token}");
        }
    }

    proptest::proptest! {
        /// What the sentence recommends is never refused.
        #[test]
        fn what_openssl_makes_is_taken(bytes: [u8; 16]) {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let different: BTreeSet<u8> = hex.bytes().collect();
            proptest::prop_assume!(different.len() > 9);
            proptest::prop_assert!(read(&hex).is_ok(), "{hex}");
        }
    }
}
