//! How a setting is declared, read and described: one rule for every setting, from file and environment.
//!
//! In a file a value has its kind: a whole number, `true` or `false`, or text in quotes. In the environment all is text,
//! and must read as that kind: digits, `true` or `false`. Nothing is rounded, and nothing means something else by chance.
//! Empty text is no value, which only what may be absent can be.
//!
//! The type of a setting says what it may be: a [`Duration`] and a [`NonZero`] are not 0, and an `Option` of one is none
//! when 0 is written. What the documents say of it is made from its declaration too, see [`super::reference`].

use std::num::NonZero;
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

/// Why a value was not taken.
#[derive(Debug)]
pub(super) enum Rejected {
    /// The end of a sentence that begins with the place where the value was written.
    Value(String),
    /// The end of a sentence that begins with the name of the setting.
    Setting(String),
}

/// Limits of a number; in milliseconds for durations.
pub(super) type Range = RangeInclusive<u64>;

/// A type that a setting can have.
pub(super) trait Setting: Sized {
    /// The unit, at the end of the setting's name in a file and in the environment. A field has none: its type says it.
    const UNIT: &'static str = "";
    /// Whether it has a file of its own, so that the sample of a configuration file leaves it out.
    const IS_SECRET: bool = false;

    /// Reads a value. `range` is narrower than what the type allows.
    fn read(value: &Value, range: Option<Range>) -> Result<Self, Rejected>;

    /// How it is written, without secrets.
    fn shown(&self) -> Shown;

    /// What it may be, in Markdown.
    fn kind(range: Option<Range>) -> String;
}

/// A setting with all that the documents say of it.
#[derive(Debug, Clone)]
pub(super) struct Described {
    /// Its name within its section.
    pub(super) key: String,
    /// How its value is written, without secrets.
    pub(super) value: Shown,
    /// What it may be, in Markdown.
    pub(super) kind: String,
    /// What it means, in Markdown, on one line.
    pub(super) meaning: &'static str,
    pub(super) is_secret: bool,
}

impl Described {
    /// `doc` is the comment of its field.
    pub(super) fn of<T: Setting>(field: &str, value: &T, range: Option<Range>, doc: &'static str) -> Self {
        let (key, value, kind) = (key::<T>(field), value.shown(), T::kind(range));
        Self { key, value, kind, meaning: doc.trim(), is_secret: T::IS_SECRET }
    }

    /// With its section, such as `redis.url`.
    pub(super) fn name(&self, section: Option<&str>) -> String {
        section.map_or_else(|| self.key.clone(), |section| format!("{section}.{}", self.key))
    }
}

/// The name of a setting within its section.
pub(super) fn key<T: Setting>(field: &str) -> String {
    format!("{field}{}", T::UNIT)
}

/// The settings of a section.
pub(super) trait Section {
    /// What the section is about, in Markdown, on one line.
    fn about(&self) -> &'static str;
    /// Takes a value, unless there is no such setting.
    fn set(&mut self, key: &str, value: &Value) -> Option<Result<(), Rejected>>;
    /// All settings, in the order of their declaration, with what is in force.
    fn settings(&self) -> Vec<Described>;
}

/// Declares the settings of a section, each with its meaning, type and default, and with its limits where they are
/// narrower than the type's. The comments are also the documents' text: the table, the sample file and `--help`.
macro_rules! section {
    ($(#[doc = $about:literal])+ $name:ident {
        $($(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr $(, in $range:expr)?;)+
    }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name { $($(#[doc = $doc])+ pub $field: $type,)+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl super::setting::Section for $name {
            fn about(&self) -> &'static str {
                concat!($($about),+).trim()
            }

            fn set(
                &mut self,
                key: &str,
                value: &super::setting::Value,
            ) -> Option<Result<(), super::setting::Rejected>> {
                $(if key == super::setting::key::<$type>(stringify!($field)) {
                    let range = None $(.or(Some($range)))?;
                    return Some(super::setting::Setting::read(value, range).map(|read| self.$field = read));
                })+
                None
            }

            fn settings(&self) -> Vec<super::setting::Described> {
                vec![$(super::setting::Described::of(
                    stringify!($field),
                    &self.$field,
                    None $(.or(Some($range)))?,
                    concat!($($doc),+),
                )),+]
            }
        }
    };
}
pub(super) use section;

/// A default that is not 0, which the compiler checks.
macro_rules! nonzero {
    ($number:expr) => {
        const { std::num::NonZero::new($number).expect("a default that is not 0") }
    };
}
pub(super) use nonzero;

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
    pub(super) fn reject(&self, wanted: &str) -> Rejected {
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
        Rejected::Value(format!("{is}: it must be {wanted}"))
    }
}

/// Reads text.
pub(super) fn text(value: &Value) -> Result<&str, Rejected> {
    value.text().ok_or_else(|| value.reject("text, in quotes"))
}

fn whole(value: &Value, range: &Range, unit: &str) -> Result<u64, Rejected> {
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
        value.reject(&format!("a whole number{unit} from {least} to {most}{without}"))
    })
}

/// What a whole number may be, for people: a limit that nobody comes near is none.
fn kind_of_number(range: Option<Range>, least: u64) -> String {
    match range.unwrap_or(least..=NUMBER_MAX).into_inner() {
        (least, NUMBER_MAX) => format!("{least} or more"),
        (least, most) => format!("{least} to {most}"),
    }
}

macro_rules! numbers {
    ($($type:ty),+) => {
        $(
            impl Setting for NonZero<$type> {
                fn read(value: &Value, range: Option<Range>) -> Result<Self, Rejected> {
                    let range = range.unwrap_or(1..=NUMBER_MAX);
                    let most = NUMBER_MAX.min(u64::try_from(<$type>::MAX).unwrap_or(u64::MAX)).min(*range.end());
                    let number = <$type>::try_from(whole(value, &(*range.start()..=most), "")?);
                    number.ok().and_then(Self::new).ok_or_else(|| value.reject("a whole number that is not 0"))
                }

                fn shown(&self) -> Shown {
                    self.get().into()
                }

                fn kind(range: Option<Range>) -> String {
                    kind_of_number(range, 1)
                }
            }

            /// 0 is none.
            impl Setting for Option<NonZero<$type>> {
                fn read(value: &Value, range: Option<Range>) -> Result<Self, Rejected> {
                    let most = range.map_or(NUMBER_MAX, |range| *range.end());
                    match whole(value, &(0..=most), "")? {
                        0 => Ok(None),
                        _ => NonZero::<$type>::read(value, Some(0..=most)).map(Some),
                    }
                }

                fn shown(&self) -> Shown {
                    self.map_or(0, NonZero::get).into()
                }

                fn kind(range: Option<Range>) -> String {
                    kind_of_number(range.map(|range| 0..=*range.end()), 0)
                }
            }
        )+
    };
}
numbers!(u16, u32, u64, usize);

fn duration(value: &Value, least_ms: u64, range: Option<Range>) -> Result<Duration, Rejected> {
    let range = range.unwrap_or(least_ms..=DURATION_MS_MAX);
    whole(value, &range, " of milliseconds").map(Duration::from_millis)
}

/// What a duration may be, for people.
fn kind_of_duration(range: Option<Range>, otherwise: &str) -> String {
    range.map_or_else(|| otherwise.to_owned(), |range| format!("{} to {} milliseconds", range.start(), range.end()))
}

/// In milliseconds.
fn shown_duration(duration: Duration) -> Shown {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).into()
}

/// In milliseconds, at least one.
impl Setting for Duration {
    const UNIT: &'static str = "_ms";

    fn read(value: &Value, range: Option<Range>) -> Result<Self, Rejected> {
        duration(value, 1, range)
    }

    fn shown(&self) -> Shown {
        shown_duration(*self)
    }

    fn kind(range: Option<Range>) -> String {
        kind_of_duration(range, "milliseconds")
    }
}

/// In milliseconds; 0 is none.
impl Setting for Option<Duration> {
    const UNIT: &'static str = Duration::UNIT;

    fn read(value: &Value, range: Option<Range>) -> Result<Self, Rejected> {
        duration(value, 0, range).map(|duration| Some(duration).filter(|duration| !duration.is_zero()))
    }

    fn shown(&self) -> Shown {
        shown_duration(self.unwrap_or_default())
    }

    fn kind(range: Option<Range>) -> String {
        kind_of_duration(range, "milliseconds, or 0")
    }
}

impl Setting for bool {
    fn read(value: &Value, _: Option<Range>) -> Result<Self, Rejected> {
        match value {
            Value::Kind(ValueKind::Boolean(value)) => Ok(*value),
            Value::Text(text) if text == "true" => Ok(true),
            Value::Text(text) if text == "false" => Ok(false),
            Value::Kind(ValueKind::String(_)) => Err(value.reject("true or false, without quotes")),
            _ => Err(value.reject("true or false")),
        }
    }

    fn shown(&self) -> Shown {
        (*self).into()
    }

    fn kind(_: Option<Range>) -> String {
        "`true` or `false`".to_owned()
    }
}

/// A path that may be left out: empty text.
impl Setting for Option<PathBuf> {
    fn read(value: &Value, _: Option<Range>) -> Result<Self, Rejected> {
        match text(value)? {
            "" => Ok(None),
            text if text.trim() == text => Ok(Some(text.into())),
            _ => Err(value.reject("a path without spaces around it")),
        }
    }

    fn shown(&self) -> Shown {
        self.as_ref().map_or_else(String::new, |path| path.display().to_string()).into()
    }

    fn kind(_: Option<Range>) -> String {
        "path".to_owned()
    }
}

/// Types that are read from text and written as text, each with what it may be in Markdown.
macro_rules! settings_of_text {
    ($($type:ty: $kind:literal),+ $(,)?) => {
        $(impl super::setting::Setting for $type {
            fn read(
                value: &super::setting::Value,
                _: Option<super::setting::Range>,
            ) -> Result<Self, super::setting::Rejected> {
                super::setting::text(value)?.parse().map_err(|wanted: String| value.reject(&wanted))
            }

            fn shown(&self) -> serde_json::Value {
                self.to_string().into()
            }

            fn kind(_: Option<super::setting::Range>) -> String {
                $kind.to_owned()
            }
        })+
    };
}
pub(super) use settings_of_text;
