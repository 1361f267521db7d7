//! Text forms: words for enums, `key=value` for everything with fields.

use std::fmt::Display;
use std::str::FromStr;

/// An enum whose variants are single words.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $variant:ident $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(match self { $(Self::$variant => $word,)+ })
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("{text:?} is none of {}", [$($word),+].join(", "))),
                }
            }
        }
    };
}
pub(crate) use words;

/// A struct as `key=value key=value`.
macro_rules! record {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $field:ident: $kind:ty,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $kind,)+
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let fields = [$(format!(concat!(stringify!($field), "={}"), self.$field),)+];
                f.write_str(&fields.join(" "))
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let mut fields = $crate::text::Fields::parse(text)?;
                let record = Self { $($field: fields.take(stringify!($field))?,)+ };
                fields.end()?;
                Ok(record)
            }
        }
    };
}
pub(crate) use record;

/// The fields of a text that have not been taken yet.
pub(crate) struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Fields<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, String> {
        let field = |word: &'a str| word.split_once('=').ok_or_else(|| format!("{word:?} is not key=value"));
        text.split_whitespace().map(field).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn take<T: FromStr<Err: Display>>(&mut self, key: &str) -> Result<T, String> {
        let at = self.0.iter().position(|(name, _)| *name == key).ok_or_else(|| format!("{key}= is missing"))?;
        let (_, value) = self.0.remove(at);
        value.parse().map_err(|why| format!("{key}={value}: {why}"))
    }

    /// Everything must have been taken.
    pub(crate) fn end(self) -> Result<(), String> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => Err(format!("{key}= is not known here, or is there twice")),
        }
    }
}

/// `word:number` and plain words.
pub(crate) fn numbered(text: &str) -> Result<(&str, Option<u64>), String> {
    match text.split_once(':') {
        None => Ok((text, None)),
        Some((word, number)) => {
            let number = number.parse().map_err(|_| format!("{text:?}: {number:?} is not a number"))?;
            Ok((word, Some(number)))
        }
    }
}
