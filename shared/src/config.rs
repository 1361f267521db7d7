//! One configuration for all processes: defaults, then a TOML file, then the environment.
//!
//! `FOOTFALL_REDIS__URL` sets `url` in `[redis]`; `FOOTFALL_REDIS__URL_FILE` names a file that holds
//! the value, for secrets. The environment comes in as a parameter, so that this is testable.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use config::{Environment, File, FileFormat};
use serde::{Deserialize, Serialize, Serializer};

use crate::proxies::Proxies;

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
    }
);
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
    pub fn load(file: Option<&Path>, environment: HashMap<String, String>) -> Result<Self, ConfigError> {
        let mut mistakes = Vec::new();
        let environment = resolve_files(environment, &mut mistakes);
        let mut builder = config::Config::builder();
        if let Some(path) = file {
            match std::fs::read_to_string(path) {
                Ok(text) => builder = builder.add_source(File::from_str(&text, FileFormat::Toml)),
                Err(error) => mistakes.push(format!("{}: {error}", path.display())),
            }
        }
        // Values stay text until their field is known: a password 00123 must not become 123.
        let environment =
            Environment::with_prefix("FOOTFALL").prefix_separator("_").separator("__").source(Some(environment));
        match builder.add_source(environment).build().and_then(config::Config::try_deserialize::<Self>) {
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

    fn mistakes(&self) -> Vec<String> {
        let positive = [
            ("shards", u64::from(self.shards)),
            ("redis.timeout_ms", self.redis.timeout_ms),
            ("database.connections_max", u64::from(self.database.connections_max)),
            ("database.timeout_ms", self.database.timeout_ms),
            ("reads.ttl_ms", self.reads.ttl_ms),
            ("ingest.connections_max", self.ingest.connections_max as u64),
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
            ("dashboard.session_ms", self.dashboard.session_ms),
            ("dashboard.requests_per_second", u64::from(self.dashboard.requests_per_second)),
        ];
        let mut mistakes: Vec<String> = positive
            .iter()
            .filter(|(_, value)| *value == 0)
            .map(|(name, _)| format!("{name} is 0: it must be at least 1"))
            .collect();
        if self.ingest.queue_views_max < self.ingest.request_views_max {
            mistakes.push(
                "ingest.queue_views_max is below ingest.request_views_max: the largest request could never be taken"
                    .into(),
            );
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
        if self.dashboard.updates_per_second > 50 {
            mistakes.push("dashboard.updates_per_second is above 50: no eye sees that".into());
        }
        mistakes
    }
}

/// Replaces each `FOOTFALL_..._FILE` by the content of its file, and leaves out what is not ours or
/// is a flag's variable.
fn resolve_files(environment: HashMap<String, String>, mistakes: &mut Vec<String>) -> HashMap<String, String> {
    let mut resolved = HashMap::new();
    for (name, value) in environment {
        if !name.starts_with("FOOTFALL_") || name == "FOOTFALL_CONFIG" {
            continue;
        }
        match name.strip_suffix("_FILE") {
            None => drop(resolved.insert(name, value)),
            Some(target) => match std::fs::read_to_string(&value) {
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
            ("FOOTFALL_FLUSHER__UPDATE", "9", "update"),
            ("FOOTFALL_FLUSHER__UPDATES", "many", "many"),
            ("FOOTFALL_FLUSHER__UPDATES", "0", "flusher.updates"),
            ("FOOTFALL_REDIS__URL_FILE", "/does/not/exist", "/does/not/exist"),
            ("FOOTFALL_DASHBOARD__LISTEN", "0.0.0.0:8001", "dashboard.token"),
            ("FOOTFALL_DASHBOARD__TOKEN", "short", "dashboard.token"),
            ("FOOTFALL_DASHBOARD__READ_TOKEN", "0123456789abcdef", "dashboard.token"),
        ] {
            let error = Config::load(None, environment(&[(name, value)])).expect_err(name).to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
