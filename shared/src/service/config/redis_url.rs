//! The URL of a Redis server: what is in it is understood and allowed before anybody connects. Pure, so that the queue and
//! the configuration can both use it.

use std::str::FromStr;

use super::secret::{SecretUrl, secret_url};
use super::store_url::{Parameter, Rule, StoreUrl};

const SCHEMES: [&str; 3] = ["redis", "rediss", "unix"];
const DEFAULT_PORT: u16 = 6379;

const BELONGS_TO_SOCKET: Rule =
    Rule::Never("belongs to a unix socket: with a host it is redis://user:password@host:6379/database");

/// Behind the `?` with a host: nothing.
const OF_HOST: [Parameter; 4] = [
    Parameter { name: "db", aliases: &["database"], rule: BELONGS_TO_SOCKET },
    Parameter { name: "user", aliases: &["username"], rule: BELONGS_TO_SOCKET },
    Parameter { name: "pass", aliases: &["password"], rule: BELONGS_TO_SOCKET },
    Parameter { name: "protocol", aliases: &[], rule: PROTOCOL },
];

/// Behind the `?` of a socket's path.
const OF_SOCKET: [Parameter; 4] = [
    Parameter { name: "db", aliases: &["database"], rule: Rule::Checked(database) },
    Parameter { name: "user", aliases: &["username"], rule: Rule::Checked(|_| Ok(())) },
    Parameter { name: "pass", aliases: &["password"], rule: Rule::Checked(|_| Ok(())) },
    Parameter { name: "protocol", aliases: &[], rule: PROTOCOL },
];

const PROTOCOL: Rule = Rule::Never("is chosen by Footfall: leave it out");

fn database(text: &str) -> Result<(), String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok();
    if is_number { Ok(()) } else { Err("is not the number of a database, such as 0".into()) }
}

/// The URL of a Redis server. It may hold a password and is shown without it.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    text: SecretUrl,
    parts: StoreUrl,
}
secret_url!(RedisUrl);

impl RedisUrl {
    /// With its password: for Redis's client, and for nobody else.
    #[must_use]
    pub fn with_password(&self) -> &str {
        &self.text.0
    }

    /// Where the server is, without user and password, for people.
    #[must_use]
    pub fn place(&self) -> String {
        match self.parts.scheme.as_str() {
            "unix" => format!("/{}", self.parts.path),
            _ => self.parts.address(DEFAULT_PORT),
        }
    }

    /// Whether the server is on this machine. When in doubt, it is not.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.parts.scheme == "unix" || self.parts.is_on_loopback()
    }

    pub(super) fn has_tls(&self) -> bool {
        self.parts.scheme == "rediss"
    }

    /// Who can listen on the way to this server, a sentence; none if nobody can.
    pub(super) fn exposure(&self) -> Option<String> {
        (!self.has_tls() && !self.is_local()).then(|| {
            format!(
                "redis.url leads to {} without TLS: who is on the way reads the password and can change what is counted; use \
                 rediss://, and redis.ca if the authority is your own",
                self.parts.host
            )
        })
    }
}

impl Default for RedisUrl {
    fn default() -> Self {
        "redis://127.0.0.1:6379/0".parse().expect("the default is a URL")
    }
}

impl FromStr for RedisUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).map(|parts| Self { text: SecretUrl(text.to_owned()), parts }).map_err(|why| {
            format!(
                "cannot be used ({why}): it must be such as redis://user:password@host:6379/0, rediss://... for TLS, or \
                 unix:///path/to/socket?pass=password"
            )
        })
    }
}

fn parse(text: &str) -> Result<StoreUrl, String> {
    if text.starts_with("rediss://") && text.ends_with("#insecure") {
        return Err(
            "#insecure would take the certificate of anybody for Redis's: leave it out, and name the authority \
                    that has signed it in redis.ca"
                .into(),
        );
    }
    let is_socket = text.starts_with("unix:");
    let url = StoreUrl::parse(text, &SCHEMES, if is_socket { &OF_SOCKET } else { &OF_HOST })?;
    if is_socket {
        match (url.host.is_empty(), url.path.is_empty()) {
            (true, false) => return Ok(url),
            _ => return Err("the path of a socket is absolute: three slashes".into()),
        }
    }
    if url.host.is_empty() {
        return Err("it names no host".into());
    }
    if matches!(url.host.as_str(), "0.0.0.0" | "::") {
        return Err("nothing can be reached at a wildcard address, 0.0.0.0 or ::".into());
    }
    if !url.path.is_empty() {
        // Not repeated: behind a slash in a password may be the rest of it.
        database(&url.path)
            .map_err(|_| "what follows the host is not the number of a database, such as /0".to_owned())?;
    }
    Ok(url)
}
