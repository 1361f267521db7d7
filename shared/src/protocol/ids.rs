//! Who and what: ids of articles, users, views and producers, and the shards that articles are spread over.

use std::fmt;

/// Longest article id, in bytes of UTF-8.
const ARTICLE_BYTES_MAX: usize = 255;
/// Longest user id, in bytes of UTF-8.
const USER_BYTES_MAX: usize = 128;
/// Longest view id, in bytes of UTF-8; a UUID has 36.
const VIEW_ID_BYTES_MAX: usize = 64;

/// Why an id was refused; the text is what the client reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("the {0} id is empty: give 1 to {1} bytes of UTF-8")]
    Empty(&'static str, usize),
    /// Longer than the limit.
    #[error("the {0} id has {2} bytes: at most {1} are allowed")]
    TooLong(&'static str, usize, usize),
    /// Not UTF-8.
    #[error("the {0} id is not valid UTF-8")]
    NotUtf8(&'static str),
    /// Contains a control character, for example a line break.
    #[error("the {0} id contains a control character, which is not allowed")]
    Control(&'static str),
}

fn check<'a>(kind: &'static str, max: usize, raw: &'a [u8]) -> Result<&'a str, IdError> {
    if raw.is_empty() {
        return Err(IdError::Empty(kind, max));
    }
    if raw.len() > max {
        return Err(IdError::TooLong(kind, max, raw.len()));
    }
    let text = std::str::from_utf8(raw).map_err(|_| IdError::NotUtf8(kind))?;
    if text.chars().any(char::is_control) {
        return Err(IdError::Control(kind));
    }
    Ok(text)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks length, UTF-8 and control characters.
            pub fn parse(raw: &[u8]) -> Result<Self, IdError> {
                check($kind, $max, raw).map(|text| Self(text.into()))
            }

            /// The same without keeping it.
            pub fn check(raw: &[u8]) -> Result<&str, IdError> {
                check($kind, $max, raw)
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The id as the bytes by which it is compared, in Redis and in MySQL alike.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// What is read. Ids compare by bytes: `A` is not `a`, and a trailing space counts.
    Article, "article", ARTICLE_BYTES_MAX
);

id!(
    /// Who reads. Compared by bytes, like [`Article`].
    User, "user", USER_BYTES_MAX
);

id!(
    /// What a client calls one view, so that it can send it again without its being counted again.
    ViewId, "view", VIEW_ID_BYTES_MAX
);

/// One slice of all articles; every Redis key and every fence belongs to exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u16);

impl Shard {
    /// The shard of `article` among `shards`. Part of the stored format: changing the hash
    /// would move articles away from their pending views.
    #[must_use]
    pub fn of(article: &Article, shards: u16) -> Self {
        if shards <= 1 {
            return Self(0);
        }
        let hash = crc32fast::hash(article.as_bytes());
        Self(u16::try_from(hash % u32::from(shards)).expect("a remainder is below its u16 divisor"))
    }

    /// All shards, in order.
    pub fn all(shards: u16) -> impl Iterator<Item = Self> {
        (0..shards).map(Self)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of one ingest process. A restarted process is a new producer, so that its batch
/// numbers can begin at 1 again without being taken for repeats.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Producer(pub u64);

impl Producer {
    /// The id from its text form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked_by_bytes() {
        assert!(Article::parse(&[b'a'; 255]).is_ok());
        assert_eq!(Article::parse(&[b'a'; 256]), Err(IdError::TooLong("article", 255, 256)));
        assert_eq!(User::parse(b""), Err(IdError::Empty("user", 128)));
        assert_eq!(User::parse(b"\xff"), Err(IdError::NotUtf8("user")));
        assert_eq!(Article::parse(b"a\nb"), Err(IdError::Control("article")));
        assert_ne!(Article::parse(b"A"), Article::parse(b"a"));
        assert_ne!(Article::parse(b"a "), Article::parse(b"a"));
        assert!(Article::parse("{}'\"<script>\u{1f600}".as_bytes()).is_ok());
    }

    #[test]
    fn the_shard_of_an_article_is_part_of_the_stored_format() {
        let article = Article::parse(b"yumo").expect("test id");
        assert_eq!(Shard::of(&article, 1), Shard(0));
        assert_eq!(Shard::of(&article, 16), Shard((crc32fast::hash(b"yumo") % 16) as u16));
    }
}
