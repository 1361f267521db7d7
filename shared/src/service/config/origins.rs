//! The sites whose pages may read answers, as browsers name them.

use std::fmt;
use std::str::FromStr;

use hyper::header::HeaderValue;
use hyper::http::uri::Authority;

/// The sites, as browsers call them, separated by commas, such as `https://news.example, http://localhost:3000`; with
/// [`ANY`] among them all may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origins(Vec<HeaderValue>);

/// All sites.
pub const ANY: &str = "*";

/// An article's numbers are no secret to whoever can ask for them, and without them the tag in a page shows nothing.
impl Default for Origins {
    fn default() -> Self {
        Self(vec![HeaderValue::from_static(ANY)])
    }
}

impl Origins {
    /// Each of them, as it stands in a header.
    #[must_use]
    pub fn list(&self) -> &[HeaderValue] {
        &self.0
    }
}

/// As a browser would write it: scheme and host, in lower case, and a port only if it is not the scheme's.
fn origin(text: &str) -> Option<HeaderValue> {
    let is_origin = || {
        let (scheme, host) = text.split_once("://")?;
        let default_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._:[]".contains(&byte);
        let port = host.parse::<Authority>().ok()?.port_u16();
        Some(host.bytes().all(is_plain) && !host.ends_with(':') && port != Some(default_port))
    };
    if text == ANY || is_origin() == Some(true) { HeaderValue::from_str(text).ok() } else { None }
}

impl FromStr for Origins {
    type Err = String;

    /// Answers what it must be.
    fn from_str(text: &str) -> Result<Self, String> {
        let origins = text.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        let wanted = "sites as a browser names them, such as https://news.example or http://localhost:3000, separated by \
                      commas, or * for all";
        origins.map(origin).collect::<Option<_>>().map(Self).ok_or_else(|| wanted.into())
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, origin) in self.0.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { ", " }, origin.to_str().unwrap_or_default())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_would_send() {
        for origin in ["https://a.example", "http://a-b.example:8080", "http://127.0.0.1:8000", "http://[::1]:3000"] {
            assert_eq!(origin.parse::<Origins>().expect("valid").to_string(), origin);
        }
        let origins: Origins = " http://localhost,https://a.example,".parse().expect("valid");
        assert_eq!(origins.to_string(), "http://localhost, https://a.example");
        for text in [
            "null",
            "a.example",
            "https://",
            "https://a.example/",
            "https://A.example",
            "https://a.example:443",
            "http://a.example:80",
            "https://a.example:",
            "https://u@a.example",
            "https://*.example",
            "file://a",
            "https://a.example/x",
            "https://ä.example",
        ] {
            assert!(text.parse::<Origins>().is_err(), "{text}");
        }
    }
}
