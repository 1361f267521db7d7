//! One configuration for all processes: defaults, then a TOML file, then the environment.
//!
//! `FOOTFALL_REDIS__URL` sets `url` in `[redis]`; `FOOTFALL_REDIS__URL_FILE` names a file that holds
//! the value, for secrets. The environment comes in as a parameter, so that this is testable.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::{Environment, File, FileFormat, FileSourceString, Map, Source, Value, ValueKind};
use hyper::Uri;
use serde::{Deserialize, Serialize, Serializer};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::bots::Bots;
use crate::origins::Origins;
use crate::proxies::Proxies;
use crate::{queue, store};

/// No time that is set is longer.
const MS_MAX: u64 = 365 * 24 * 60 * 60 * 1_000;
/// A process keeps a place for each, used or not; no server has as many.
const DATABASE_CONNECTIONS_MAX: u32 = 10_000;
/// Room for some ten thousand view ids, those of a few batches.
pub const IDS_BYTES_MIN: u64 = 1 << 20;

/// A journal needs room for a few segments.
pub const JOURNAL_BYTES_MIN: u64 = 8 << 20;

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Number of slices of all articles; recorded by `footfall init` and fixed from then on.
    pub shards: u16,
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
}

/// A URL that may hold a password: never shown whole.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(pub String);

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = match (self.0.find("://"), self.0.rfind('@')) {
            (Some(scheme), Some(at)) if scheme + 3 <= at => format!("{}***{}", &self.0[..scheme + 3], &self.0[at..]),
            _ => self.0.clone(),
        };
        // Of a unix socket.
        match shown.split_once("pass=") {
            Some((before, rest)) => write!(f, "{before}pass=***{}", rest.find('&').map_or("", |and| &rest[and..])),
            None => f.write_str(&shown),
        }
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A word that opens something: never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
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

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }
    };
}

section!(
    /// `[redis]`
    Redis {
        /// `redis://[user:password@]host:port/db`, `rediss://...` for TLS, or `unix:///path/to/socket?pass=password`.
        url: SecretUrl = SecretUrl("redis://127.0.0.1:6379/0".into()),
        /// With TLS: a PEM file with the authorities that may have signed Redis's certificate, instead of the system's.
        ca: String = String::new(),
        /// How long a connection or an answer may take.
        timeout_ms: u64 = 2_000,
    }
);
section!(
    /// `[database]`
    Database {
        /// `mysql://user:password@host:port/database`; `?socket=/path` for a unix socket,
        /// `?ssl-mode=VERIFY_IDENTITY&ssl-ca=/path` for TLS.
        url: SecretUrl = SecretUrl("mysql://footfall@127.0.0.1:3306/footfall".into()),
        /// Connections per process.
        connections_max: u32 = 4,
        /// How long a connection may take to be made or to become free.
        timeout_ms: u64 = 5_000,
    }
);
section!(
    /// `[log]`
    Log {
        /// `human` or `json`.
        format: LogFormat = LogFormat::Human,
        /// `error`, `warn`, `info`, `debug`, `trace`, or a filter like `info,footfall_shared=debug`.
        level: String = "info".into(),
    }
);
section!(
    /// `[http]`
    Http {
        /// Proxies in front of the services that are believed what they say in `X-Forwarded-For`.
        trusted_proxies: Proxies = Proxies::default(),
        /// Whether their connections to ingest and dashboard begin with a PROXY protocol header, of version 1 or 2.
        proxy_protocol: bool = false,
        /// Connections of one address (of one /64, in IPv6) to one service at once; more are closed at once. Trusted
        /// proxies may have as many as there are.
        connections_per_address_max: usize = 2_000,
    }
);

impl Http {
    /// The proxies whose connections begin with a PROXY protocol header.
    #[must_use]
    pub fn announced_by(&self) -> Arc<Proxies> {
        Arc::new(if self.proxy_protocol { self.trusted_proxies.clone() } else { Proxies::default() })
    }
}

section!(
    /// `[reads]`
    Reads {
        /// How long a cached value lives after its last touch.
        ttl_ms: u64 = 10_000,
        /// How long that of an article lives after its last view was flushed, if that is longer.
        warm_ttl_ms: u64 = 600_000,
    }
);
section!(
    /// `[ingest]`
    Ingest {
        /// Where views come in.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8000)),
        /// Where `/metrics` is.
        admin: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8010)),
        /// How others reach it; for `footfall load`.
        url: String = "http://127.0.0.1:8000".into(),
        /// Connections at once; more are closed at once.
        connections_max: usize = 20_000,
        /// A request's head must arrive within this time.
        header_timeout_ms: u64 = 10_000,
        /// A request's body must arrive within this time.
        body_timeout_ms: u64 = 10_000,
        /// Largest body of `POST /v1/views`.
        body_bytes_max: usize = 1 << 20,
        /// Largest number of views in one request.
        request_views_max: usize = 10_000,
        /// Views that may wait for their batch, per shard; more are refused with 503.
        queue_views_max: usize = 100_000,
        /// Views in one batch, at most.
        batch_views_max: usize = 2_000,
        /// Views in one generation, about; then ingest seals it itself.
        generation_views_max: u64 = 10_000,
        /// Redis's memory for the ids of views counted lately, all shards together, and never more than a quarter of its
        /// `maxmemory`. What does not fit is forgotten before its time: see `footfall_view_ids_window_seconds`.
        ids_bytes_max: u64 = 256 << 20,
        /// The folder of the journal, on a disk of this machine; several ingests may share it. `off`: without one, views
        /// that Redis loses are lost if ingest ends too, and while both stores are away none is counted.
        journal: String = "/var/lib/footfall/journal".into(),
        /// Disk space of the journal, per shard; beyond it views are refused with 503.
        journal_bytes_max: u64 = 1 << 30,
        /// When neither Redis nor MySQL has confirmed a batch after this, the journal is brought to the disk and the
        /// batch acknowledged.
        journal_sync_ms: u64 = 100,
        /// Without a journal: memory for batches that MySQL does not have yet, per shard; beyond it 503.
        retained_bytes_max: usize = 256 << 20,
        /// Sites whose pages may read the answers, such as `https://news.example`; `*`: all.
        allowed_origins: Origins = Origins::default(),
        /// Whether a view may come without a user: it is then counted for a name that is made of address and
        /// `User-Agent`, and lasts for a day.
        anonymous: bool = false,
        /// Views are not counted if one of these is in their `User-Agent`, in whatever case.
        bots: Bots = Bots::default(),
        /// How long a client waits for its acknowledgement before it gets 503.
        answer_timeout_ms: u64 = 10_000,
        /// After SIGTERM: how long open connections are served before they are closed.
        drain_ms: u64 = 5_000,
    }
);
section!(
    /// `[flusher]`
    Flusher {
        /// Where `/metrics`, `/livez` and `/readyz` are.
        admin: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8011)),
        /// This many views waiting start a flush,
        updates: u64 = 30,
        /// or this many articles touched,
        articles: u64 = 10,
        /// or a view waiting this long.
        timeout_ms: u64 = 1_000,
        /// How often the triggers are looked at: also the shortest time between two flushes of a shard.
        poll_ms: u64 = 50,
        /// Views in one transaction, about; at least one generation.
        transaction_views_max: u64 = 25_000,
        /// How long a flusher that died keeps the others away from its shard.
        lease_ms: u64 = 3_000,
    }
);
section!(
    /// `[dashboard]`
    Dashboard {
        /// Where the page and the WebSocket are.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8001)),
        /// Where `/metrics` is.
        admin: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8012)),
        /// How browsers reach it; ingest redirects `/realtime` to it.
        url: String = "http://127.0.0.1:8001".into(),
        /// Opens everything. Without one `listen` must be a loopback address.
        token: Token = Token::default(),
        /// Opens everything but who reads what: for a screen on the wall.
        read_token: Token = Token::default(),
        /// How long a browser stays logged in.
        session_ms: u64 = 12 * 60 * 60 * 1_000,
        /// Requests per second of one address; five seconds' worth may come at once.
        requests_per_second: u32 = 500,
        /// Updates per second that a viewer gets, at most.
        updates_per_second: u32 = 4,
        /// WebSocket clients and other connections at once.
        connections_max: usize = 10_000,
        /// A request's head must arrive within this time.
        header_timeout_ms: u64 = 10_000,
        /// After SIGTERM: how long open connections are served before they are closed.
        drain_ms: u64 = 2_000,
    }
);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line per event.
    Human,
    /// One JSON object per event.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: 1,
            redis: Redis::default(),
            database: Database::default(),
            log: Log::default(),
            http: Http::default(),
            reads: Reads::default(),
            ingest: Ingest::default(),
            flusher: Flusher::default(),
            dashboard: Dashboard::default(),
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
        let mut mistakes = Vec::new();
        let environment = resolve_files(of_ours(environment, &mut mistakes), &mut mistakes);
        // Values stay text until their field is known: a password 00123 must not become 123.
        let environment =
            Environment::with_prefix("FOOTFALL").prefix_separator("_").separator("__").source(Some(environment));
        let mut builder = config::Config::builder();
        if let Some(path) = file {
            match read(path) {
                Ok(source) => builder = builder.add_source(source),
                Err(why) => mistakes.push(format!("{}: {why}", path.display())),
            }
        }
        let given = builder.add_source(environment).build().and_then(|given| given.collect());
        let given = given.map(|given| fitting(given, &mut mistakes));
        match given.and_then(|given| Value::from(given).try_deserialize::<Self>()) {
            Ok(config) => {
                mistakes.extend(config.mistakes());
                if mistakes.is_empty() { Ok(config) } else { Err(ConfigError(mistakes)) }
            }
            Err(error) => {
                mistakes.push(error.to_string());
                Err(ConfigError(mistakes))
            }
        }
    }

    /// Each time that is longer than anybody means: stores and timers refuse such ones, and only once they run.
    fn too_long(&self) -> Vec<String> {
        let settings = serde_json::to_value(self).unwrap_or_default();
        let sections = settings.as_object().into_iter().flatten();
        let all = sections.flat_map(|(section, settings)| {
            settings.as_object().into_iter().flatten().map(move |(name, value)| (format!("{section}.{name}"), value))
        });
        let long = all.filter(|(name, value)| name.ends_with("_ms") && value.as_u64().is_some_and(|ms| ms > MS_MAX));
        long.map(|(name, value)| format!("{name} is {value}: it must be at most {MS_MAX}, which is 365 days")).collect()
    }

    fn mistakes(&self) -> Vec<String> {
        let positive = [
            ("shards", u64::from(self.shards)),
            ("redis.timeout_ms", self.redis.timeout_ms),
            ("database.connections_max", u64::from(self.database.connections_max)),
            ("database.timeout_ms", self.database.timeout_ms),
            ("reads.ttl_ms", self.reads.ttl_ms),
            ("http.connections_per_address_max", self.http.connections_per_address_max as u64),
            ("ingest.connections_max", self.ingest.connections_max as u64),
            ("ingest.header_timeout_ms", self.ingest.header_timeout_ms),
            ("ingest.body_timeout_ms", self.ingest.body_timeout_ms),
            ("ingest.body_bytes_max", self.ingest.body_bytes_max as u64),
            ("ingest.request_views_max", self.ingest.request_views_max as u64),
            ("ingest.queue_views_max", self.ingest.queue_views_max as u64),
            ("ingest.batch_views_max", self.ingest.batch_views_max as u64),
            ("ingest.generation_views_max", self.ingest.generation_views_max),
            ("ingest.journal_sync_ms", self.ingest.journal_sync_ms),
            ("ingest.retained_bytes_max", self.ingest.retained_bytes_max as u64),
            ("ingest.answer_timeout_ms", self.ingest.answer_timeout_ms),
            ("flusher.transaction_views_max", self.flusher.transaction_views_max),
            ("flusher.updates", self.flusher.updates),
            ("flusher.articles", self.flusher.articles),
            ("flusher.poll_ms", self.flusher.poll_ms),
            ("dashboard.updates_per_second", u64::from(self.dashboard.updates_per_second)),
            ("dashboard.connections_max", self.dashboard.connections_max as u64),
            ("dashboard.header_timeout_ms", self.dashboard.header_timeout_ms),
            ("dashboard.session_ms", self.dashboard.session_ms),
            ("dashboard.requests_per_second", u64::from(self.dashboard.requests_per_second)),
        ];
        let mut mistakes: Vec<String> = positive
            .iter()
            .filter(|(_, value)| *value == 0)
            .map(|(name, _)| format!("{name} is 0: it must be at least 1"))
            .collect();
        mistakes.extend(self.too_long());
        if self.database.connections_max > DATABASE_CONNECTIONS_MAX {
            mistakes.push(format!(
                "database.connections_max is {}: it must be at most {DATABASE_CONNECTIONS_MAX}",
                self.database.connections_max
            ));
        }
        mistakes.extend(queue::check(&self.redis).err());
        mistakes.extend(store::check(&self.database).err());
        for (name, url) in [("ingest.url", &self.ingest.url), ("dashboard.url", &self.dashboard.url)] {
            if !is_http(url) {
                mistakes.push(format!("{name} is `{url}`: it must be a URL such as http://127.0.0.1:8000"));
            }
        }
        if !is_log_filter(&self.log.level) {
            mistakes.push(format!(
                "log.level is `{}`: it must be error, warn, info, debug or trace, or a filter such as \
                 info,footfall_shared=debug",
                self.log.level
            ));
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
        if self.ingest.ids_bytes_max < IDS_BYTES_MIN {
            mistakes.push(format!(
                "ingest.ids_bytes_max is {}: it must be at least {IDS_BYTES_MIN}, or repeats of views would not be known",
                self.ingest.ids_bytes_max
            ));
        }
        if self.ingest.journal_bytes_max < JOURNAL_BYTES_MIN {
            mistakes.push(format!(
                "ingest.journal_bytes_max is {}: it must be at least {JOURNAL_BYTES_MIN}, or ingest.journal = \"off\"",
                self.ingest.journal_bytes_max
            ));
        }
        let Dashboard { listen, token, read_token, .. } = &self.dashboard;
        if token.get().is_none() && !listen.ip().is_loopback() {
            mistakes.push(format!(
                "dashboard.listen is {listen}, where others can reach it: set dashboard.token, for example by \
                 FOOTFALL_DASHBOARD__TOKEN_FILE, or listen on 127.0.0.1"
            ));
        }
        for (name, token) in [("token", token), ("read_token", read_token)] {
            if token.get().is_some_and(|token| token.chars().count() < TOKEN_CHARS_MIN) {
                mistakes.push(format!(
                    "dashboard.{name} has fewer than {TOKEN_CHARS_MIN} characters and could be guessed: \
                     `openssl rand -hex 16` makes a good one"
                ));
            }
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
        if self.dashboard.updates_per_second > 50 {
            mistakes.push("dashboard.updates_per_second is above 50: no eye sees that".into());
        }
        mistakes
    }
}

/// Files of settings and of secrets are no larger than this.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads a file that somebody has named, which may be no file, or have no end.
pub(crate) fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn read_text(path: &Path) -> std::io::Result<String> {
    String::from_utf8(read_file(path)?).map_err(|_| std::io::Error::other("it is not UTF-8"))
}

/// Reads a TOML file.
fn read(path: &Path) -> Result<File<FileSourceString, FileFormat>, String> {
    let text = read_text(path).map_err(|error| error.to_string())?;
    let source = File::from_str(&text, FileFormat::Toml);
    source.collect().map_err(|error| error.to_string())?;
    Ok(source)
}

/// What is left of all that was given, without what does not fit. Each setting is tried alone, so that all mistakes are
/// found at once.
fn fitting(given: Map<String, Value>, mistakes: &mut Vec<String>) -> Map<String, Value> {
    let mut try_alone = |name: String, value: &Value, alone: Value| {
        let error = alone.try_deserialize::<Config>().err()?;
        let name = match value.origin() {
            // Only what comes from the environment knows where it comes from.
            Some(_) => format!("FOOTFALL_{}", name.replace('.', "__").to_uppercase()),
            None => name,
        };
        mistakes.push(format!("{name}: {}", without_key(error)));
        Some(())
    };
    let mut fitting = Map::new();
    // In the same order each time.
    for (section, value) in given.into_iter().collect::<BTreeMap<_, _>>() {
        match value.kind {
            ValueKind::Table(settings) if !settings.is_empty() => {
                let settings: Map<String, Value> = settings
                    .into_iter()
                    .collect::<BTreeMap<_, _>>()
                    .into_iter()
                    .filter(|(key, value)| {
                        let alone = Map::from_iter([(key.clone(), value.clone())]);
                        let alone = Map::from_iter([(section.clone(), Value::from(alone))]);
                        try_alone(format!("{section}.{key}"), value, alone.into()).is_none()
                    })
                    .collect();
                if !settings.is_empty() {
                    fitting.insert(section, settings.into());
                }
            }
            _ => {
                let alone = Map::from_iter([(section.clone(), value.clone())]);
                if try_alone(section.clone(), &value, alone.into()).is_none() {
                    fitting.insert(section, value);
                }
            }
        }
    }
    fitting
}

/// What is wrong, without the name of the setting, which the reader knows.
fn without_key(error: config::ConfigError) -> String {
    match error {
        config::ConfigError::Type { unexpected, expected, .. } => format!("{unexpected} is not {expected}"),
        config::ConfigError::At { error, .. } => without_key(*error),
        error => error.to_string(),
    }
}

fn is_http(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some())
}

/// Whether this is what the log can be filtered by. A word alone would be a filter too: for a part of the program of that
/// name, which there is none of if somebody writes `verbose`.
fn is_log_filter(level: &str) -> bool {
    let is_clear = |part: &str| part.contains(['=', '[']) || part.parse::<LevelFilter>().is_ok();
    EnvFilter::builder().parse(level).is_ok() && level.split(',').all(|part| is_clear(part.trim()))
}

/// Footfall's own variables. What others are called and hold is nobody's business, and need not be UTF-8.
fn of_ours<T: Into<OsString>>(
    environment: impl IntoIterator<Item = (T, T)>,
    mistakes: &mut Vec<String>,
) -> HashMap<String, String> {
    let environment = environment.into_iter().map(|(name, value)| (name.into(), value.into()));
    let ours = environment.filter(|(name, _)| {
        // A flag's variable names a file, whatever its bytes.
        name.as_encoded_bytes().starts_with(b"FOOTFALL_") && name != "FOOTFALL_CONFIG"
    });
    ours.filter_map(|(name, value)| {
        let shown = name.to_string_lossy().into_owned();
        let utf8 = name.into_string().ok().zip(value.into_string().ok());
        if utf8.is_none() {
            mistakes.push(format!("{shown}: its name or its value is not UTF-8"));
        }
        utf8
    })
    .collect()
}

/// Replaces each `FOOTFALL_..._FILE` by the content of its file.
fn resolve_files(environment: HashMap<String, String>, mistakes: &mut Vec<String>) -> HashMap<String, String> {
    let mut resolved = HashMap::new();
    for (name, value) in &environment {
        match name.strip_suffix("_FILE") {
            None => drop(resolved.insert(name.clone(), value.clone())),
            Some(target) if environment.contains_key(target) => {
                mistakes.push(format!("{target} and {name} are both set: leave one of them out"));
            }
            Some(target) => match read_text(Path::new(value)) {
                Ok(text) => drop(resolved.insert(target.to_owned(), text.trim_end_matches(['\r', '\n']).to_owned())),
                Err(error) => mistakes.push(format!("{name} names {value}, which cannot be read: {error}")),
            },
        }
    }
    resolved
}

/// A count of milliseconds as a duration.
#[must_use]
pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn environment(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn the_environment_wins_over_the_file_and_both_over_the_defaults() {
        let mut file = tempfile::NamedTempFile::new().expect("temp file");
        writeln!(file, "[flusher]\nupdates = 7\narticles = 3").expect("write");
        let environment = environment(&[("FOOTFALL_FLUSHER__UPDATES", "9"), ("FOOTFALL_CONFIG", "x"), ("HOME", "/")]);
        let config = Config::load(Some(file.path()), environment).expect("valid");
        assert_eq!((config.flusher.updates, config.flusher.articles, config.flusher.timeout_ms), (9, 3, 1000));
    }

    #[test]
    fn a_secret_comes_from_a_file_and_is_never_shown() {
        let mut file = tempfile::NamedTempFile::new().expect("temp file");
        writeln!(file, "mysql://u:00123@db/footfall").expect("write");
        let path = file.path().to_str().expect("utf-8");
        let config = Config::load(None, environment(&[("FOOTFALL_DATABASE__URL_FILE", path)])).expect("valid");
        assert_eq!(config.database.url.0, "mysql://u:00123@db/footfall");
        assert!(!format!("{config:?}").contains("00123"));
    }

    #[test]
    fn no_password_is_shown() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("rediss://:se@cret@redis:6379/0", "rediss://***@redis:6379/0"),
            ("unix:///run/redis.sock?pass=secret", "unix:///run/redis.sock?pass=***"),
            ("unix:///run/redis.sock?pass=secret&db=1", "unix:///run/redis.sock?pass=***&db=1"),
            ("mysql://u:secret@db/footfall?ssl-mode=VERIFY_CA", "mysql://***@db/footfall?ssl-mode=VERIFY_CA"),
        ] {
            assert_eq!(SecretUrl(url.into()).to_string(), shown);
        }
    }

    #[test]
    fn with_a_token_the_dashboard_may_be_reached_by_others() {
        let given = [("FOOTFALL_DASHBOARD__LISTEN", "0.0.0.0:8001"), ("FOOTFALL_DASHBOARD__TOKEN", "0123456789abcdef")];
        let config = Config::load(None, environment(&given)).expect("valid");
        assert_eq!(config.dashboard.token.get(), Some("0123456789abcdef"));
        assert!(!format!("{config:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn a_mistake_is_named() {
        for (name, value, said) in [
            ("FOOTFALL_FLUSHER__UPDATE", "9", "FOOTFALL_FLUSHER__UPDATE: unknown field `update`"),
            ("FOOTFALL_FLUSHER__UPDATES", "many", r#"FOOTFALL_FLUSHER__UPDATES: string "many" is not an integer"#),
            ("FOOTFALL_FLUSHER", "9", "FOOTFALL_FLUSHER: "),
            ("FOOTFALL_FLUSHERS__UPDATES", "9", "FOOTFALL_FLUSHERS__UPDATES: unknown field `flushers`"),
            ("FOOTFALL_FLUSHER__UPDATES", "0", "flusher.updates"),
            ("FOOTFALL_REDIS__URL_FILE", "/does/not/exist", "/does/not/exist"),
            ("FOOTFALL_DASHBOARD__LISTEN", "0.0.0.0:8001", "dashboard.token"),
            (
                "FOOTFALL_INGEST__ALLOWED_ORIGINS",
                "*, https://a.example/",
                "FOOTFALL_INGEST__ALLOWED_ORIGINS: `https://a.example/`",
            ),
            ("FOOTFALL_INGEST__ANONYMOUS", "perhaps", "FOOTFALL_INGEST__ANONYMOUS: "),
            ("FOOTFALL_DASHBOARD__TOKEN", "short", "dashboard.token"),
            ("FOOTFALL_DASHBOARD__READ_TOKEN", "0123456789abcdef", "dashboard.token"),
            ("FOOTFALL_HTTP__PROXY_PROTOCOL", "true", "http.trusted_proxies"),
            ("FOOTFALL_HTTP__TRUSTED_PROXIES", "10.0.0.0/33", "FOOTFALL_HTTP__TRUSTED_PROXIES: `10.0.0.0/33`"),
            ("FOOTFALL_REDIS__URL", "127.0.0.1:6379", "redis.url"),
            ("FOOTFALL_REDIS__URL", "http://127.0.0.1", "redis.url"),
            ("FOOTFALL_REDIS__CA", "/does/not/exist", "/does/not/exist"),
            ("FOOTFALL_DATABASE__URL", "footfall", "database.url"),
            ("FOOTFALL_DATABASE__URL", "postgres://u@db/footfall", "database.url"),
            ("FOOTFALL_DATABASE__URL", "mysql://u@db", "database.url"),
            ("FOOTFALL_DATABASE__URL", "mysql://u@db/footfall?ssl-mode=maybe", "database.url"),
            ("FOOTFALL_INGEST__URL", "127.0.0.1:8000", "ingest.url"),
            ("FOOTFALL_LOG__LEVEL", "verbose", "log.level"),
            ("FOOTFALL_LOG__LEVEL", "info,a=loud", "log.level"),
            ("FOOTFALL_INGEST__IDS_BYTES_MAX", "1000", "ingest.ids_bytes_max"),
            ("FOOTFALL_INGEST__ADMIN", "127.0.0.1:8000", "ingest.listen and ingest.admin"),
        ] {
            let error = Config::load(None, environment(&[(name, value)])).expect_err(name);
            assert_eq!(error.0.len(), 1, "{error}");
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn all_mistakes_are_named_at_once() {
        let mut file = tempfile::NamedTempFile::new().expect("temp file");
        writeln!(file, "shards = 0\n[flusher]\nupdate = 1\narticles = 3\n[redis]\ntimeout_ms = []\n[nothing]\n")
            .expect("write");
        let given =
            [("FOOTFALL_INGEST__LISTEN", "localhost"), ("FOOTFALL_REDIS__URL", "x"), ("FOOTFALL_NO_FILE", "/no")];
        let error = Config::load(Some(file.path()), environment(&given)).expect_err("wrong").to_string();
        for said in [
            "shards is 0",
            "flusher.update: ",
            "redis.timeout_ms: ",
            "nothing: ",
            "FOOTFALL_INGEST__LISTEN: ",
            "redis.url",
            "/no",
        ] {
            assert!(error.contains(said), "{said}: {error}");
        }
        // A file that cannot be read as a whole hides nothing of the environment.
        writeln!(file, "[flusher\n").expect("write");
        let error = Config::load(Some(file.path()), environment(&given)).expect_err("wrong");
        assert_eq!(error.0.len(), 4, "{error}");
    }

    #[test]
    fn what_is_not_utf8_is_a_mistake_only_in_variables_of_ours() {
        use std::os::unix::ffi::OsStringExt;

        let pair = |name: &[u8], value: &[u8]| (OsString::from_vec(name.into()), OsString::from_vec(value.into()));
        let foreign =
            [pair(b"X", b"\xf6"), pair(b"\xf6", b"x"), pair(b"FOOTFALL", b"\xf6"), pair(b"FOOTFALL_CONFIG", b"\xf6")];
        assert!(Config::load(None, foreign).is_ok());
        for ours in
            [pair(b"FOOTFALL_REDIS__URL", b"\xf6"), pair(b"FOOTFALL_\xf6", b"x"), pair(b"FOOTFALL_X_FILE", b"\xf6")]
        {
            let error = Config::load(None, [ours]).expect_err("wrong");
            assert!(error.0.len() == 1 && error.0[0].ends_with(": its name or its value is not UTF-8"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_none_is_a_mistake() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (huge, binary) = (folder.path().join("huge"), folder.path().join("binary"));
        std::fs::write(&huge, "#".repeat(FILE_BYTES_MAX as usize + 1)).expect("written");
        std::fs::write(&binary, b"\0\xff\xfe").expect("written");
        for file in [folder.path(), &huge, &binary, Path::new("/dev/zero"), Path::new("/proc/self/mem")] {
            let path = file.to_str().expect("UTF-8");
            let secret = Config::load(None, environment(&[("FOOTFALL_DASHBOARD__TOKEN_FILE", path)]));
            for error in [secret.expect_err(path), Config::load(Some(file), environment(&[])).expect_err(path)] {
                assert!(error.0.len() == 1 && error.0[0].contains(path), "{error}");
            }
        }
    }

    #[test]
    fn no_number_is_so_large_that_a_service_could_not_start() {
        let settings = serde_json::to_value(Config::default()).expect("JSON");
        let mut tried = 0;
        for (section, settings) in settings.as_object().expect("sections") {
            for (name, _) in settings.as_object().into_iter().flatten().filter(|(_, value)| value.is_u64()) {
                let variable = format!("FOOTFALL_{section}__{name}").to_uppercase();
                match Config::load(None, environment(&[(&variable, "18446744073709551615")])) {
                    Err(error) => assert!(error.0.len() == 1, "{error}"),
                    Ok(_) => assert!(!name.ends_with("_ms"), "{variable}"),
                }
                tried += 1;
            }
        }
        assert!(tried >= 30, "{tried}");
    }

    #[test]
    fn a_value_is_given_once() {
        let given = [("FOOTFALL_REDIS__URL", "redis://a"), ("FOOTFALL_REDIS__URL_FILE", "/dev/null")];
        let error = Config::load(None, environment(&given)).expect_err("twice").to_string();
        assert!(error.contains("FOOTFALL_REDIS__URL and FOOTFALL_REDIS__URL_FILE"), "{error}");
    }
}
