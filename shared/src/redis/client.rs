//! What a URL of the configuration says, as Redis's client needs it, and what can go wrong on the way to a server.

use std::io;

use redis::{Client, ErrorKind, RedisError, ServerErrorKind, TlsCertificates};

use crate::service::config::{self, RedisUrl};

/// Takes a URL apart.
pub(super) fn client(redis: &config::Redis, url: &RedisUrl) -> Result<Client, RedisError> {
    let text = url.with_password();
    let Some(ca) = redis.ca.as_ref().filter(|_| url.has_tls()) else { return Client::open(text) };
    let root_cert = Some(config::read_bytes(ca).map_err(io::Error::other)?);
    Client::build_with_tls(text, TlsCertificates { client_tls: None, root_cert })
}

/// What went wrong with a connection, of the same kind, and where; `setting` has the user and the password.
pub(super) fn at(place: &str, setting: &str, error: &RedisError) -> RedisError {
    if error.is_io_error() {
        let kind = match error.is_timeout() {
            true => io::ErrorKind::TimedOut,
            false if error.is_connection_refusal() => io::ErrorKind::ConnectionRefused,
            false => io::ErrorKind::NotConnected,
        };
        return io::Error::new(kind, format!("{place}: {error}")).into();
    }
    if error.kind() == ErrorKind::AuthenticationFailed {
        // The library has left out what Redis said.
        let sentence = format!("{place} refuses the user or the password of {setting}");
        return redis::make_extension_error("WRONGPASS".to_owned(), Some(sentence));
    }
    RedisError::from((error.kind(), "no connection", format!("{place}: {error}")))
}

/// No answer came in time: the outcome is not known.
pub(super) fn timed_out(sentence: String) -> RedisError {
    io::Error::new(io::ErrorKind::TimedOut, sentence).into()
}

/// A time-out does not cancel the command, and a server that became read-only is not the master any
/// more: a new connection is the way out of both.
pub(super) fn must_reconnect(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_unrecoverable_error()
        || matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configuration asks its own rules only, which must not be wider than the client's.
    #[test]
    fn the_client_takes_every_url_that_the_configuration_takes() {
        for url in [
            "redis://h",
            "redis://u:p%40%23%2F%3F%25@h:6380/15",
            "redis://:p@[::1]/65535",
            "redis://127.0.0.1:6379/",
            "rediss://:p@redis.example:6380/0",
            "unix:///run/redis.sock",
            "unix:///run/redis%20one.sock?db=1&user=u&pass=p@ss%2B",
        ] {
            client(&config::Redis::default(), &url.parse().expect(url)).expect(url);
        }
        for url in ["redis://0.0.0.0", "redis://[::]:6379", "redis://h/65536", "redis://h/-1", "redis://h/0?protocol=4"]
        {
            url.parse::<RedisUrl>().expect_err(url);
        }
    }
}
