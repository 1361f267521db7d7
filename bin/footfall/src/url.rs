//! The little that this tool needs to know about URLs. Pure.

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
}
