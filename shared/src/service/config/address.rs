//! Where something listens, and how it is reached.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use hyper::Uri;

use super::setting::{Range, Rejected, Setting, Value, settings_of_text, text};

/// Also by name: the name is resolved when the configuration is read, and an IPv4 address of it is preferred, because that
/// is how others write it.
impl Setting for SocketAddr {
    fn read(value: &Value, _: Option<Range>) -> Result<Self, Rejected> {
        const WANTED: &str = "an address and a port, such as 127.0.0.1:8000, localhost:8000 or [::1]:8000, or 0.0.0.0:8000 \
                              for every address of this machine";
        let text = text(value)?;
        if let Ok(address) = text.parse::<Self>() {
            return Ok(match address {
                // What this means by itself.
                Self::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
                    Self::new(address.ip().to_canonical(), address.port())
                }
                address => address,
            });
        }
        let named = text.rsplit_once(':').and_then(|(host, port)| {
            let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.%:".contains(&byte);
            // Digits alone would be an address in a form of forty years ago.
            let is_host = host.bytes().all(is_name) && host.bytes().any(|byte| byte.is_ascii_alphabetic());
            let is_digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            (is_host && is_digits).then_some((host, port.parse::<u16>().ok()?))
        });
        let named = named.ok_or_else(|| value.reject(WANTED))?;
        let unknown = |error: io::Error| {
            format!("is `{text}`, which no address could be found for ({error}): it must be {WANTED}")
        };
        let found: Vec<Self> = named.to_socket_addrs().map_err(|error| Rejected::Value(unknown(error)))?.collect();
        let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
        first.copied().ok_or_else(|| value.reject(WANTED))
    }

    fn shown(&self) -> serde_json::Value {
        self.to_string().into()
    }

    fn kind(_: Option<Range>) -> String {
        "address and port".to_owned()
    }
}

/// How others reach a service: `http://` or `https://`, a host, perhaps a port and a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebUrl(String);

impl WebUrl {
    /// On this machine.
    pub(super) fn of(port: u16) -> Self {
        Self(format!("http://127.0.0.1:{port}"))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WebUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_usable = || {
            let url = text.parse::<Uri>().ok()?;
            let authority = url.authority()?;
            let has_port = !authority.as_str().ends_with(':')
                && (authority.as_str().len() == authority.host().len()
                    || authority.port_u16().is_some_and(|port| port > 0));
            let is_plain = !text.contains(['@', '#', '?']);
            let is_web = matches!(url.scheme_str(), Some("http" | "https")) && !authority.host().is_empty();
            Some(is_web && is_plain && has_port)
        };
        (is_usable() == Some(true)).then(|| Self(text.to_owned())).ok_or_else(|| {
            "a URL such as http://127.0.0.1:8000 or https://stats.example, without user, password, `?` and `#`".into()
        })
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

settings_of_text!(WebUrl: "URL");
