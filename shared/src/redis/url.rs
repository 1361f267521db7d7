//! Whether a server can be tried with some settings, and what is a danger about them.

use redis::Client;

use super::server::client;
use crate::service::config::{self, Parameter, Rule, StoreUrl, certificates};

const SCHEMES: [&str; 3] = ["redis", "rediss", "unix"];

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
    if !url.path.is_empty() {
        // Not repeated: behind a slash in a password may be the rest of it.
        database(&url.path)
            .map_err(|_| "what follows the host is not the number of a database, such as /0".to_owned())?;
    }
    Ok(url)
}

/// Whether a connection can be tried with these settings; a sentence if not.
pub fn check(redis: &config::Redis) -> Result<(), String> {
    let example = "redis://user:password@host:6379/0, rediss://... for TLS, or unix:///path/to/socket?pass=password";
    let refuse = |why: String| format!("redis.url cannot be used ({why}): it must be such as {example}");
    let text = redis.url.0.as_str();
    let url = parse(text).map_err(refuse)?;
    Client::open(text).map_err(|error| refuse(error.to_string()))?;
    if let Some(ca) = &redis.ca {
        if url.scheme != "rediss" {
            return Err("redis.ca is set, and redis.url is not rediss://: TLS is used with rediss:// only".into());
        }
        certificates(ca).map_err(|why| format!("redis.ca {why}"))?;
        client(redis).map_err(|error| format!("redis.ca, {}, cannot be used: {error}", ca.display()))?;
    }
    Ok(())
}

/// Whether the server is on this machine. When in doubt, it is not.
#[must_use]
pub fn is_local(redis: &config::Redis) -> bool {
    parse(&redis.url.0).is_ok_and(|url| url.scheme == "unix" || url.is_on_loopback())
}

/// Who can listen on the way to this server, a sentence; none if nobody can.
#[must_use]
pub fn exposure(redis: &config::Redis) -> Option<String> {
    let url = parse(&redis.url.0).ok()?;
    (url.scheme == "redis" && !is_local(redis)).then(|| {
        format!(
            "redis.url leads to {} without TLS: who is on the way reads the password and can change what is counted; use \
             rediss://, and redis.ca if the authority is your own",
            url.host
        )
    })
}

/// Where a server is, without user and password, for people.
pub(super) fn place(redis: &config::Redis) -> String {
    const PORT: u16 = 6379;
    match parse(&redis.url.0) {
        Ok(url) if url.scheme == "unix" => format!("/{}", url.path),
        Ok(url) => url.address(PORT),
        Err(_) => "its URL".to_owned(),
    }
}
