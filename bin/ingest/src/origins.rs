//! Which pages of other sites may read our answers (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>). Pure.
//!
//! What is counted does not depend on it: a browser sends a view that is plain text to whichever site.

use footfall_shared::service::config::{self, ANY};
use footfall_shared::service::http::HttpResponse;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderMap, HeaderValue, ORIGIN, VARY,
};

/// The sites whose pages may read, as browsers call them; with [`ANY`] among them all may.
pub(crate) struct Origins(Vec<HeaderValue>);

/// How many seconds a browser may remember a preflight answer. No browser keeps one for more than two hours.
const PREFLIGHT_S: &str = "7200";

/// What a script may read of an answer beside its body.
const EXPOSED: &str = "footfall-not-counted, footfall-degraded, retry-after";

impl Origins {
    pub(crate) fn new(origins: &config::Origins) -> Self {
        Self(origins.list().to_vec())
    }

    /// Says with an answer who may read it.
    pub(crate) fn mark(&self, headers: &HeaderMap, answer: &mut HttpResponse) {
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
    pub(crate) fn allow(&self, methods: &'static str, headers: &HeaderMap, answer: &mut HttpResponse) {
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
        self.0.iter().find(|allowed| *allowed == origin).cloned()
    }

    fn are_all(&self) -> bool {
        self.0.iter().any(|origin| origin == ANY)
    }
}

#[cfg(test)]
mod tests {
    use footfall_shared::service::http;
    use hyper::StatusCode;

    use super::*;

    fn origins(text: &str) -> Origins {
        Origins::new(&text.parse().expect("valid"))
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
}
