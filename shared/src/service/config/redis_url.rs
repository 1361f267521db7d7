//! The URLs of Redis servers: what is in them is understood and allowed before anybody connects. Pure, so that the queue and
//! the configuration can both use it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::secret::{SecretUrl, secret_setting, shown_as_text};
use super::store_url::{Parameter, Rule, StoreUrl};

const SCHEMES: [&str; 3] = ["redis", "rediss", "unix"];
const DEFAULT_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

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
shown_as_text!(RedisUrl);

/// The URLs of one Redis server or of several, with commas between them.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrls(Vec<RedisUrl>);
secret_setting!(RedisUrls: "URL, or several with commas between them");

impl RedisUrl {
    /// With its password: for Redis's client, and for nobody else.
    #[must_use]
    pub fn with_password(&self) -> &str {
        &self.text.0
    }

    /// Where the server is, without user and password, for people.
    #[must_use]
    pub fn place(&self) -> String {
        match self.is_socket() {
            true => format!("/{}", self.parts.path),
            false => self.parts.address(DEFAULT_PORT),
        }
    }

    /// Host and port, if it is no socket.
    #[must_use]
    pub fn server(&self) -> (&str, u16) {
        (&self.parts.host, self.parts.port.unwrap_or(DEFAULT_PORT))
    }

    /// Host and port, if it leads to a Sentinel.
    #[must_use]
    pub fn sentinel(&self) -> (&str, u16) {
        (&self.parts.host, self.parts.port.unwrap_or(SENTINEL_PORT))
    }

    /// What stands in the place of the host: with Sentinels, the name of the master.
    #[must_use]
    pub fn master(&self) -> &str {
        &self.parts.host
    }

    /// Whether the server is on this machine. When in doubt, it is not.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.is_socket() || self.parts.is_on_loopback()
    }

    /// Whether all that is said there is encrypted.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.parts.scheme == "rediss"
    }

    fn is_socket(&self) -> bool {
        self.parts.scheme == "unix"
    }

    /// Why what stands in the place of the host cannot be the name of a master, as the end of a sentence.
    pub(super) fn no_master(&self) -> Option<&'static str> {
        let is_address = self.parts.host.parse::<IpAddr>().is_ok() || self.parts.host == "localhost";
        if self.is_socket() {
            Some("is a socket")
        } else if is_address || self.parts.port.is_some() {
            Some("has an address")
        } else {
            None
        }
    }

    /// How to log in.
    pub(super) fn login(&self) -> &str {
        self.text.0.rsplit_once('@').map_or(&self.parts.scheme, |(login, _)| login)
    }

    /// Why it cannot lead to a node of a cluster, as the end of a sentence.
    pub(super) fn no_node(&self) -> Option<&'static str> {
        if self.is_socket() {
            Some("a node of a cluster has no socket")
        } else if !matches!(&*self.parts.path, "" | "0") {
            Some("a cluster has database 0 only")
        } else {
            None
        }
    }

    /// Why it cannot lead to a Sentinel, as the end of a sentence.
    pub(super) fn no_sentinel(&self) -> Option<&'static str> {
        if self.is_socket() {
            Some("a Sentinel has no socket")
        } else if !self.parts.path.is_empty() {
            Some("a Sentinel has no databases: nothing follows its port")
        } else {
            None
        }
    }
}

impl FromStr for RedisUrl {
    type Err = String;

    /// What is wrong is a part of a sentence.
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { parts: parse(text)?, text: SecretUrl(text.to_owned()) })
    }
}

impl RedisUrls {
    /// All of them, at least one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &RedisUrl> {
        self.0.iter()
    }

    /// The first one.
    #[must_use]
    pub fn first(&self) -> &RedisUrl {
        &self.0[0]
    }

    /// Who can listen on the way to these servers, a sentence; none if nobody can.
    pub(super) fn exposure(&self, setting: &str) -> Option<String> {
        let exposed = self.iter().find(|url| !url.has_tls() && !url.is_local())?;
        Some(format!(
            "{setting} leads to {} without TLS: who is on the way reads the password and can change what is counted; use \
             rediss://, and redis.ca if the authority is your own",
            exposed.parts.host
        ))
    }
}

impl Default for RedisUrls {
    fn default() -> Self {
        "redis://127.0.0.1:6379/0".parse().expect("the default is a URL")
    }
}

impl fmt::Display for RedisUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = self.iter().map(ToString::to_string).collect();
        f.write_str(&shown.join(","))
    }
}

impl fmt::Debug for RedisUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RedisUrls {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let texts = split(text);
        let urls = texts.iter().zip(1..).map(|(text, number)| {
            text.parse().map_err(|why| if texts.len() == 1 { why } else { format!("the URL number {number}: {why}") })
        });
        urls.collect::<Result<_, String>>().map(Self).map_err(|why| {
            format!(
                "cannot be used ({why}): it must be such as redis://user:password@host:6379/0, rediss://... for TLS, or \
                 unix:///path/to/socket?pass=password"
            )
        })
    }
}

/// At each comma with a URL behind it: another one may be in a password, or in the name of a socket.
fn split(text: &str) -> Vec<&str> {
    let mut urls = Vec::new();
    let mut begin = 0;
    for (comma, _) in text.match_indices(',') {
        let next = text[comma + 1..].trim_start();
        if SCHEMES.iter().any(|scheme| next.strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://"))) {
            urls.push(text[begin..comma].trim());
            begin = comma + 1;
        }
    }
    urls.push(if urls.is_empty() { text } else { text[begin..].trim() });
    urls
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
