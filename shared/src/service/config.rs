//! One configuration for all processes: defaults, then a TOML file, then the environment.
//!
//! `FOOTFALL_REDIS__URL` sets `url` in `[redis]`; `FOOTFALL_REDIS__URL_FILE` names a file that holds
//! the value, for secrets. The environment comes in as a parameter, so that this is testable.
//!
//! Each section is a file below, where a setting stands once with its meaning, type, default and limits: `reference` makes
//! the documents from that. A value is read into its type by one rule, wherever it comes from: `setting` has the rules,
//! `given` finds what was written and where. A duration's name ends in its unit in files, such as `timeout_ms`, and its
//! field is called `timeout`.

mod address;
mod bots;
mod dashboard;
mod database;
mod database_url;
mod flusher;
mod given;
mod http;
mod ingest;
mod log;
mod nearest;
mod origins;
mod reads;
mod redis;
mod redis_url;
mod reference;
mod secret;
mod setting;
mod store_url;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::num::NonZeroU16;
use std::path::Path;
use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};

use self::given::{Given, Written};
use self::nearest::did_you_mean;
use self::setting::{Described, Range, Rejected, Section, Setting, nonzero};

pub(crate) use self::given::read_bytes;

pub use self::address::WebUrl;
pub use self::bots::Bots;
pub use self::dashboard::Dashboard;
pub use self::database::Database;
pub use self::database_url::DatabaseUrl;
pub use self::flusher::Flusher;
pub use self::http::Http;
pub use self::ingest::{Durability, Ingest, JOURNAL_BYTES_MIN, Journal};
pub use self::log::{Log, LogFilter, LogFormat};
pub use self::origins::{ANY, Origins};
pub use self::reads::Reads;
pub use self::redis::{Redis, Topology};
pub use self::redis_url::{RedisUrl, RedisUrls};
pub use self::reference::{help, sample, table};
pub use self::secret::Token;

/// Of the number of slices: each is a task and a set of keys in every process.
const SHARDS: Range = 1..=1_024;

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Number of slices of all articles; recorded by `footfall init` and fixed from then on.
    pub shards: NonZeroU16,
    /// The queue and the cache.
    pub redis: Redis,
    /// The store.
    pub database: Database,
    /// What the services log.
    pub log: Log,
    /// What all HTTP services have in common.
    pub http: Http,
    /// Cache-first reads.
    pub reads: Reads,
    /// The HTTP service that counts.
    pub ingest: Ingest,
    /// The daemon that moves counts to the database.
    pub flusher: Flusher,
    /// The live statistics.
    pub dashboard: Dashboard,
    /// What was noticed while it was read and is neither a mistake nor a danger, a sentence each.
    pub notes: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: nonzero!(1),
            redis: Redis::default(),
            database: Database::default(),
            log: Log::default(),
            http: Http::default(),
            reads: Reads::default(),
            ingest: Ingest::default(),
            flusher: Flusher::default(),
            dashboard: Dashboard::default(),
            notes: Vec::new(),
        }
    }
}

/// What is wrong with the configuration; every sentence says what to change.
#[derive(Debug, thiserror::Error)]
#[error("the configuration cannot be used:\n  - {}", .0.join("\n  - "))]
pub struct ConfigError(pub Vec<String>);

impl Config {
    /// Reads the file, if one is named, and lays the environment over it.
    ///
    /// # Errors
    ///
    /// All mistakes at once.
    pub fn load<T: Into<OsString>>(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (T, T)>,
    ) -> Result<Self, ConfigError> {
        let Given { written, mut mistakes, notes } = given::collect(file, environment);
        let mut config = Self { notes, ..Self::default() };
        let mut rejected = Vec::new();
        for Written { section, key, whence, value } in &written {
            let name = section.as_ref().map_or_else(|| key.clone(), |section| format!("{section}.{key}"));
            match config.set(section.as_deref(), key, value) {
                Some(Ok(())) => {}
                None => mistakes.push(format!("{whence} is no setting{}", did_you_mean(&name))),
                Some(Err(why)) => {
                    mistakes.push(match why {
                        Rejected::Value(why) => format!("{whence} {why}"),
                        Rejected::Setting(why) => format!("{name} {why}"),
                    });
                    rejected.push(name);
                }
            }
        }
        mistakes.extend(config.mistakes(&rejected));
        if mistakes.is_empty() { Ok(config) } else { Err(ConfigError(mistakes)) }
    }

    fn sections(&self) -> [(&'static str, &dyn Section); 8] {
        [
            ("redis", &self.redis),
            ("database", &self.database),
            ("log", &self.log),
            ("http", &self.http),
            ("reads", &self.reads),
            ("ingest", &self.ingest),
            ("flusher", &self.flusher),
            ("dashboard", &self.dashboard),
        ]
    }

    /// All settings with what is in force, by section; first the one that is in no section.
    fn settings(&self) -> Vec<(Option<&'static str>, Vec<Described>)> {
        let doc = "Slices of all articles; recorded by `footfall init`, fixed from then on.";
        let shards = Described::of("shards", &self.shards, Some(SHARDS), doc);
        let sections = self.sections().into_iter().map(|(name, section)| (Some(name), section.settings()));
        std::iter::once((None, vec![shards])).chain(sections).collect()
    }

    /// Takes a value, unless there is no such setting.
    fn set(&mut self, section: Option<&str>, key: &str, value: &setting::Value) -> Option<Result<(), Rejected>> {
        let section: &mut dyn Section = match (section, key) {
            (None, "shards") => return Some(Setting::read(value, Some(SHARDS)).map(|shards| self.shards = shards)),
            (Some("redis"), _) => &mut self.redis,
            (Some("database"), _) => &mut self.database,
            (Some("log"), _) => &mut self.log,
            (Some("http"), _) => &mut self.http,
            (Some("reads"), _) => &mut self.reads,
            (Some("ingest"), _) => &mut self.ingest,
            (Some("flusher"), _) => &mut self.flusher,
            (Some("dashboard"), _) => &mut self.dashboard,
            _ => return None,
        };
        section.set(key, value)
    }

    /// What no setting shows alone. Nothing is said of what rests on a default because the value for it was rejected.
    fn mistakes(&self, rejected: &[String]) -> Vec<String> {
        let mut mistakes = Vec::new();
        let of_redis = ["shards", "redis.url", "redis.topology", "redis.sentinels"];
        if !rejected.iter().any(|name| of_redis.contains(&name.as_str())) {
            mistakes.extend(self.redis.mistakes(self.shards.get()));
        }
        for (name, listen, admin) in [
            ("ingest", self.ingest.listen, self.ingest.admin),
            ("dashboard", self.dashboard.listen, self.dashboard.admin),
        ] {
            if listen == admin && listen.port() != 0 {
                mistakes
                    .push(format!("{name}.listen and {name}.admin are both {listen}: each needs a port of its own"));
            }
        }
        if self.ingest.queue_views_max < self.ingest.request_views_max {
            mistakes.push(
                "ingest.queue_views_max is below ingest.request_views_max: the largest request could never be taken"
                    .into(),
            );
        }
        if self.ingest.bodies_bytes_max < self.ingest.body_bytes_max {
            mistakes.push(
                "ingest.bodies_bytes_max is below ingest.body_bytes_max: the largest body could never be taken".into(),
            );
        }
        if self.ingest.durability == Durability::Power && self.ingest.journal.folder().is_none() {
            mistakes.push(
                "ingest.durability is power and ingest.journal is off: without a journal nothing outlives a power cut but \
                 what MySQL has; name a folder for the journal, or set ingest.durability to process"
                    .into(),
            );
        }
        let Dashboard { listen, token, read_token, .. } = &self.dashboard;
        if token.get().is_none() && !listen.ip().to_canonical().is_loopback() {
            mistakes.push(format!(
                "dashboard.listen is {listen}, where others can reach it: set dashboard.token, for example by \
                 FOOTFALL_DASHBOARD__TOKEN_FILE, or listen on 127.0.0.1"
            ));
        }
        if read_token.get().is_some() && (token.get().is_none() || token == read_token) {
            mistakes.push("dashboard.read_token needs a dashboard.token beside it, and another one".into());
        }
        if self.http.proxy_protocol && self.http.trusted_proxies.is_empty() {
            mistakes.push(
                "http.proxy_protocol is on, and nobody would be believed: name the proxies in http.trusted_proxies"
                    .into(),
            );
        }
        mistakes
    }

    /// What can be used and is a danger, a sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        warnings.extend(self.redis.exposures());
        warnings.extend(self.database.url.exposure("database.url"));
        warnings.extend(self.database.read_url.as_ref().and_then(|url| url.exposure("database.read_url")));
        if self.http.trusted_proxies.are_everybody() {
            warnings.push(
                "http.trusted_proxies has a network of all addresses: everybody may say whose request it is; name the \
                 proxies only"
                    .into(),
            );
        }
        warnings
    }
}

/// All settings as they are in force, without secrets.
impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (section, settings) in self.settings() {
            let mut shown = settings.into_iter().map(|setting| (setting.key, setting.value));
            match section {
                Some(name) => map.serialize_entry(name, &shown.collect::<serde_json::Map<_, _>>())?,
                None => shown.try_for_each(|(key, value)| map.serialize_entry(&key, &value))?,
            }
        }
        map.end()
    }
}

/// A count of milliseconds as a duration.
#[must_use]
pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
