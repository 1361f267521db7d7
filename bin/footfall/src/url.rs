//! The little that this tool needs to know about URLs. Pure.

use std::net::IpAddr;

use tokio_tungstenite::tungstenite::http::Uri;

use crate::Result;
use crate::failure::Failure;

/// An `http://` URL without its scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpUrl {
    /// `host:port`, to connect to and for the `Host` header.
    pub(crate) address: String,
    /// Its path without a slash at the end.
    path: String,
}

impl HttpUrl {
    /// Reads `http://host[:port][/path]`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| Failure::Configuration(format!("the URL {text} {why}, such as http://127.0.0.1:8000"));
        let uri: Uri = text.parse().map_err(|_| refuse("is not valid: give one"))?;
        if uri.scheme_str() != Some("http") {
            // In front of TLS stands somebody else's proxy; these commands talk to the service itself.
            return Err(refuse("does not begin with http://: give the service's own URL"));
        }
        let host = uri.host().ok_or_else(|| refuse("names no host: give one with a host"))?;
        Ok(Self {
            address: format!("{host}:{}", uri.port_u16().unwrap_or(80)),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// The path of one of the service's endpoints; `endpoint` begins with a slash.
    pub(crate) fn path(&self, endpoint: &str) -> String {
        format!("{}{endpoint}", self.path)
    }

    /// The WebSocket at one of the service's endpoints.
    pub(crate) fn websocket(&self, endpoint: &str) -> String {
        format!("ws://{}{}", self.address, self.path(endpoint))
    }
}

/// Whether a store's URL leads to this machine. When in doubt, it does not.
pub(crate) fn is_local(store: &str) -> bool {
    let Some((scheme, rest)) = store.split_once("://") else {
        return false;
    };
    if scheme.ends_with("unix") {
        return true;
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    if query.split('&').any(|parameter| parameter.starts_with("socket=")) {
        return true;
    }
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host_and_port.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host_and_port.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_url_becomes_an_address_and_a_websocket() {
        for (text, address, websocket) in [
            ("http://127.0.0.1:8001", "127.0.0.1:8001", "ws://127.0.0.1:8001/realtime"),
            ("http://127.0.0.1:8001/", "127.0.0.1:8001", "ws://127.0.0.1:8001/realtime"),
            ("http://stats.example/footfall/", "stats.example:80", "ws://stats.example:80/footfall/realtime"),
            ("http://[::1]:8001", "[::1]:8001", "ws://[::1]:8001/realtime"),
        ] {
            let url = HttpUrl::parse(text).expect(text);
            assert_eq!((&*url.address, &*url.websocket("/realtime")), (address, websocket));
        }
        for text in ["https://stats.example", "stats.example:80", "/realtime", "", "http://a b"] {
            let error = HttpUrl::parse(text).expect_err(text).to_string();
            assert!(error.contains(text) && error.contains("such as"), "{error}");
        }
    }

    #[test]
    fn only_loopback_and_sockets_are_local() {
        for local in [
            "redis://127.0.0.1:6379/0",
            "redis://:p@ss@localhost",
            "redis://[::1]:6379",
            "unix:///run/redis.sock",
            "redis+unix:///run/redis.sock",
            "mysql://footfall@127.1.2.3:3306/footfall",
            "mysql://u:p@localhost/footfall?socket=/run/mysqld.sock",
            "mysql://u@db/footfall?ssl-mode=DISABLED&socket=/run/mysqld.sock",
        ] {
            assert!(is_local(local), "{local}");
        }
        for remote in [
            "redis://10.0.0.1:6379",
            "redis://localhost@evil.example",
            "redis://127.0.0.1.example",
            "mysql://u:127.0.0.1@db/footfall",
            "mysql://u@db/socket=",
            "127.0.0.1",
            "",
        ] {
            assert!(!is_local(remote), "{remote}");
        }
    }
}
