//! Which pages of other sites may read our answers (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>). Pure.
//!
//! What is counted does not depend on it: a browser sends a view that is plain text to whichever site.

use std::fmt;
use std::str::FromStr;

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use hyper::http::uri::Authority;

use crate::service::http::Answer;

/// The sites whose pages may read, as browsers call them, separated by commas, such as `https://news.example,
/// http://localhost:3000`; with `*` among them all may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origins(Vec<Origin>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin(HeaderValue);

const ANY: &str = "*";

/// For so many seconds a browser need not ask again; none takes more than two hours for an answer.
const PREFLIGHT_S: &str = "7200";

/// What a script may read of an answer beside its body.
const EXPOSED: &str = "footfall-not-counted, footfall-degraded, retry-after";

/// An article's numbers are no secret to whoever can ask for them, and without them the tag in a page shows nothing.
impl Default for Origins {
    fn default() -> Self {
        Self(vec![Origin(HeaderValue::from_static(ANY))])
    }
}

impl Origins {
    /// Says with an answer who may read it.
    pub fn mark(&self, headers: &HeaderMap, answer: &mut Answer) {
        if self.0.is_empty() {
            return;
        }
        if !self.are_all() {
            // With every answer: a cache would hand one without leave to a page that has it.
            answer.headers_mut().insert(VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = self.leave(headers) {
            answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            answer.headers_mut().insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }

    /// Says with the answer to a browser that asks it what a page of another site may send, if it may read anything.
    pub fn allow(&self, methods: &'static str, headers: &HeaderMap, answer: &mut Answer) {
        if self.leave(headers).is_none() {
            return;
        }
        let sent = answer.headers_mut();
        sent.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        sent.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type"));
        sent.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_S));
    }

    /// What allows the page that sent a request to read the answer.
    fn leave(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        if self.are_all() {
            return Some(HeaderValue::from_static(ANY));
        }
        self.0.iter().find(|allowed| allowed.0 == origin).map(|allowed| allowed.0.clone())
    }

    fn are_all(&self) -> bool {
        self.0.iter().any(|origin| origin.0 == ANY)
    }
}

impl FromStr for Origin {
    type Err = ();

    /// As a browser would write it: scheme and host, in lower case, and a port only if it is not the scheme's.
    fn from_str(text: &str) -> Result<Self, ()> {
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
        let value = (text == ANY || is_origin() == Some(true)).then(|| HeaderValue::from_str(text).ok());
        value.flatten().map(Self).ok_or(())
    }
}

impl FromStr for Origins {
    type Err = String;

    /// Answers what it must be.
    fn from_str(text: &str) -> Result<Self, String> {
        let origins = text.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        Ok(Self(origins.map(str::parse).collect::<Result<_, ()>>().map_err(|()| {
            "sites as a browser names them, such as https://news.example or http://localhost:3000, separated by commas, \
             or * for all"
        })?))
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Origin(origin)) in self.0.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { ", " }, origin.to_str().unwrap_or_default())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;
    use crate::service::http;

    fn origins(text: &str) -> Origins {
        text.parse().expect("valid")
    }

    /// Who may read, and on what the answer depends.
    fn marks(allowed: &str, origin: Option<&'static str>) -> (Option<String>, Option<String>) {
        let origins = origins(allowed);
        let headers: HeaderMap = origin.into_iter().map(|origin| (ORIGIN, HeaderValue::from_static(origin))).collect();
        let mut answer = http::empty(StatusCode::NO_CONTENT);
        origins.mark(&headers, &mut answer);
        origins.allow("POST", &headers, &mut answer);
        let may_read = answer.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN);
        assert_eq!(answer.headers().contains_key(ACCESS_CONTROL_ALLOW_METHODS), may_read);
        let text = |name| answer.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        (text(ACCESS_CONTROL_ALLOW_ORIGIN), text(VARY))
    }

    #[test]
    fn who_is_on_the_list_may_read() {
        const A: &str = "https://a.example";
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(marks("", Some(A)), (None, None));
        assert_eq!(marks("https://b.example, https://a.example", Some(A)), (some(A), some("origin")));
        for other in
            [None, Some("https://c.example"), Some("https://a.example.evil"), Some("http://a.example"), Some("null")]
        {
            assert_eq!(marks(A, other), (None, some("origin")));
        }
        for all in ["*", "https://b.example,*"] {
            assert_eq!(marks(all, Some(A)), (some("*"), None));
            assert_eq!(marks(all, None), (None, None));
        }
    }

    #[test]
    fn an_origin_is_what_a_browser_would_send() {
        for origin in ["https://a.example", "http://a-b.example:8080", "http://127.0.0.1:8000", "http://[::1]:3000"] {
            assert_eq!(origins(origin).to_string(), origin);
        }
        assert_eq!(origins(" http://localhost,https://a.example,").to_string(), "http://localhost, https://a.example");
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
