//! How a setting is declared, and how a value becomes one: the same rule for every setting, from file and environment.
//!
//! In a file a value has its kind: a whole number, `true` or `false`, or text in quotes. In the environment all is text,
//! and must read as that kind: digits, `true` or `false`. Nothing is rounded, and nothing means something else by chance.
//! Empty text is no value, which only what may be absent can be.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use config::ValueKind;
use serde_json::Value as Shown;

/// What was written for a setting.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Of the environment, or of a file that it names.
    Text(String),
    /// Of the configuration file.
    Kind(ValueKind),
}

/// Why a setting was not taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// There is none of this name.
    Unknown,
    /// What is wrong with the value, as the end of a sentence that begins with the name.
    Value(String),
}

/// A type that a setting can have.
pub(super) trait Setting: Sized {
    /// Reads a value. `range` limits numbers; in milliseconds for durations.
    fn read(value: &Value, range: Option<RangeInclusive<u64>>) -> Result<Self, String>;

    /// How it is written, without secrets.
    fn shown(&self) -> Shown;
}

/// The settings of a section.
pub(super) trait Section {
    /// Takes a value.
    fn set(&mut self, key: &str, value: &Value) -> Result<(), Refused>;
    /// All keys, with what is in force.
    fn shown(&self) -> serde_json::Map<String, Shown>;
}

/// Declares the settings of a section, each with its type and default, and for a number that is not from 1 to
/// [`NUMBER_MAX`], or a duration that is not from 1 ms to a year, its limits.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr $(, in $range:expr)?;)+
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl $crate::service::config::setting::Section for $name {
            fn set(
                &mut self,
                key: &str,
                value: &$crate::service::config::setting::Value,
            ) -> Result<(), $crate::service::config::setting::Refused> {
                use $crate::service::config::setting::{Refused, Setting};
                match key {
                    $(stringify!($field) => {
                        let range = None $(.or(Some($range)))?;
                        self.$field = Setting::read(value, range).map_err(Refused::Value)?;
                    })+
                    _ => return Err(Refused::Unknown),
                }
                Ok(())
            }

            fn shown(&self) -> serde_json::Map<String, serde_json::Value> {
                use $crate::service::config::setting::Setting;
                [$((stringify!($field).to_owned(), self.$field.shown()),)+].into_iter().collect()
            }
        }
    };
}
pub(super) use section;

/// The greatest number without a limit of its own: all sums of a few of them are far from an overflow.
pub(super) const NUMBER_MAX: u64 = 1_000_000_000_000_000;

/// The longest duration, a year: no clock is near its end after it.
const DURATION_MS_MAX: u64 = 365 * 24 * 60 * 60 * 1_000;

impl Value {
    /// The text, if it is one.
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Kind(ValueKind::String(text)) => Some(text),
            Self::Kind(_) => None,
        }
    }

    /// What is wrong, as the end of a sentence. What may hold a secret that was put into the wrong place is not repeated.
    pub(super) fn refuse(&self, wanted: &str) -> String {
        const SHOWN_CHARS_MAX: usize = 80;
        let is = match self {
            Self::Text(text) if text.is_empty() => "is empty".to_owned(),
            Self::Text(text) | Self::Kind(ValueKind::String(text)) => {
                let is_plain = !text.contains('@') && text.chars().count() <= SHOWN_CHARS_MAX;
                let quotes = if matches!(self, Self::Kind(_)) { "\"" } else { "" };
                match is_plain {
                    true => format!("is `{quotes}{}{quotes}`", text.escape_debug()),
                    false => "cannot be used".to_owned(),
                }
            }
            Self::Kind(ValueKind::Table(_)) => "is a section".to_owned(),
            Self::Kind(ValueKind::Array(_)) => "is a list".to_owned(),
            Self::Kind(kind) => format!("is `{kind}`"),
        };
        format!("{is}: it must be {wanted}")
    }
}

/// Reads text; `parse` answers what is wrong with it.
pub(super) fn text<T>(value: &Value, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, String> {
    parse(value.text().ok_or_else(|| value.refuse("text, in quotes"))?)
}

fn whole(value: &Value, range: RangeInclusive<u64>, unit: &str) -> Result<u64, String> {
    let number = match value {
        // Not `parse` alone, which takes a sign.
        Value::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        Value::Kind(ValueKind::I64(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    let (least, most) = (range.start(), range.end());
    let quoted = matches!(value, Value::Kind(ValueKind::String(_)));
    number.filter(|number| range.contains(number)).ok_or_else(|| {
        let without = if quoted { ", without quotes" } else { "" };
        value.refuse(&format!("a whole number{unit} from {least} to {most}{without}"))
    })
}

macro_rules! whole_numbers {
    ($($type:ty),+) => {
        $(impl Setting for $type {
            fn read(value: &Value, range: Option<RangeInclusive<u64>>) -> Result<Self, String> {
                let most = NUMBER_MAX.min(u64::try_from(Self::MAX).unwrap_or(u64::MAX));
                let range = range.unwrap_or(1..=most);
                let number = whole(value, range.clone(), "")?;
                Self::try_from(number).map_err(|_| value.refuse(&format!("a whole number up to {most}")))
            }

            fn shown(&self) -> Shown {
                (*self).into()
            }
        })+
    };
}
whole_numbers!(u16, u32, u64, usize);

impl Setting for Duration {
    fn read(value: &Value, range: Option<RangeInclusive<u64>>) -> Result<Self, String> {
        whole(value, range.unwrap_or(1..=DURATION_MS_MAX), " of milliseconds").map(Self::from_millis)
    }

    fn shown(&self) -> Shown {
        u64::try_from(self.as_millis()).unwrap_or(u64::MAX).into()
    }
}

/// For a duration that may be none.
pub(super) const FROM_ZERO_MS: RangeInclusive<u64> = 0..=DURATION_MS_MAX;

impl Setting for bool {
    fn read(value: &Value, _: Option<RangeInclusive<u64>>) -> Result<Self, String> {
        match value {
            Value::Kind(ValueKind::Boolean(value)) => Ok(*value),
            Value::Text(text) if text == "true" => Ok(true),
            Value::Text(text) if text == "false" => Ok(false),
            Value::Kind(ValueKind::String(_)) => Err(value.refuse("true or false, without quotes")),
            _ => Err(value.refuse("true or false")),
        }
    }

    fn shown(&self) -> Shown {
        (*self).into()
    }
}

/// A path that may be left out: empty text.
impl Setting for Option<PathBuf> {
    fn read(value: &Value, _: Option<RangeInclusive<u64>>) -> Result<Self, String> {
        text(value, |text| match text {
            "" => Ok(None),
            _ if text.trim() == text => Ok(Some(text.into())),
            _ => Err(value.refuse("a path without spaces around it")),
        })
    }

    fn shown(&self) -> Shown {
        self.as_ref().map_or_else(String::new, |path| path.display().to_string()).into()
    }
}

/// Types that are read from text and written as text.
macro_rules! settings_of_text {
    ($($type:ty),+ $(,)?) => {
        $(impl $crate::service::config::setting::Setting for $type {
            fn read(
                value: &$crate::service::config::setting::Value,
                _: Option<std::ops::RangeInclusive<u64>>,
            ) -> Result<Self, String> {
                $crate::service::config::setting::text(value, |text| {
                    text.parse().map_err(|wanted: String| value.refuse(&wanted))
                })
            }

            fn shown(&self) -> serde_json::Value {
                self.to_string().into()
            }
        })+
    };
}
pub(super) use settings_of_text;
