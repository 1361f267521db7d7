//! `[log]`: what the services log.

use std::fmt;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::setting::{section, settings_of_text};

section!(
    /// What the services log.
    Log {
        /// One readable line per event, or one JSON object.
        format: LogFormat = LogFormat::Human;
        /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,footfall_shared=debug`.
        level: LogFilter = LogFilter("info".into());
    }
);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line per event.
    Human,
    /// One JSON object per event.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err("human or json".into()),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Human => "human",
            Self::Json => "json",
        })
    }
}

/// What the log can be filtered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// The filter itself.
    #[must_use]
    pub fn filter(&self) -> EnvFilter {
        EnvFilter::builder().parse_lossy(&self.0)
    }
}

impl FromStr for LogFilter {
    type Err = String;

    /// A word alone would be a filter too: for a part of the program of that name, which there is none of if somebody
    /// writes `verbose`.
    fn from_str(text: &str) -> Result<Self, String> {
        let is_clear = |part: &str| part.contains(['=', '[']) || part.parse::<LevelFilter>().is_ok();
        let is_level = |part: &str| !part.bytes().all(|byte| byte.is_ascii_digit());
        let parts = || text.split(',').map(str::trim);
        let is_filter =
            EnvFilter::builder().parse(text).is_ok() && parts().all(|part| is_clear(part) && is_level(part));
        is_filter
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| "error, warn, info, debug or trace, or a filter such as info,footfall_shared=debug".into())
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

settings_of_text!(LogFormat: "`human` or `json`", LogFilter: "level or filter");
