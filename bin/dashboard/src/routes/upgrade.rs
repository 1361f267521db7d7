//! Which requests may become a WebSocket (RFC 6455, section 4.2.1).

use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Method, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::access::Access;

/// Whether a request may become a WebSocket; returns the accept key.
pub(super) fn check_upgrade(
    method: &Method,
    headers: &HeaderMap,
    access: &Access,
) -> Result<HeaderValue, (StatusCode, &'static str)> {
    if *method != Method::GET || !has_token(headers, &CONNECTION, "upgrade") {
        return Err((StatusCode::BAD_REQUEST, "a WebSocket is opened by GET with `Connection: Upgrade`"));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err((StatusCode::UPGRADE_REQUIRED, "only version 13 of the WebSocket protocol is spoken here"));
    }
    // Browsers let any page open a WebSocket to anywhere, and say which page it is.
    if !access.is_same_origin(headers) {
        return Err((StatusCode::FORBIDDEN, "a page of another site may not read this"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    // 16 bytes in base64.
    if key.len() != 24 || !key.ends_with(b"==") {
        return Err((StatusCode::BAD_REQUEST, "the Sec-WebSocket-Key is missing or wrong"));
    }
    Ok(HeaderValue::from_str(&derive_accept_key(key)).expect("base64 is printable ASCII"))
}

/// Whether a header that is a list contains `token`.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
}

pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    has_token(headers, &UPGRADE, "websocket")
}

#[cfg(test)]
mod tests {
    use footfall_shared::service::config;
    use hyper::header::{HOST, ORIGIN};

    use super::*;

    fn access() -> Access {
        Access::new(&config::Dashboard {
            url: "https://public.example".parse().expect("a URL"),
            ..config::Dashboard::default()
        })
    }

    fn headers(changes: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let usual = [
            (HOST, "numbers.example:8001"),
            (CONNECTION, "keep-alive, Upgrade"),
            (UPGRADE, "websocket"),
            (SEC_WEBSOCKET_VERSION, "13"),
            (SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for (name, value) in usual.into_iter().chain(changes.iter().cloned()) {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn an_upgrade_as_in_the_rfc_is_accepted() {
        let accept = check_upgrade(&Method::GET, &headers(&[]), &access()).expect("correct");
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        for (origin, allowed) in [
            ("http://numbers.example:8001", true),
            ("https://Numbers.Example:8001", true),
            // As `dashboard.url` says, whatever a proxy has made of the name.
            ("https://public.example", true),
            ("http://public.example", false),
            ("http://numbers.example", false),
            ("http://numbers.example:8001.evil.example", false),
            ("http://evil.example", false),
            ("null", false),
        ] {
            let checked = check_upgrade(&Method::GET, &headers(&[(ORIGIN, origin)]), &access());
            assert_eq!(checked.is_ok(), allowed, "{origin}");
            assert!(allowed || checked.is_err_and(|(status, _)| status == StatusCode::FORBIDDEN));
        }
    }

    #[test]
    fn a_wrong_upgrade_is_refused() {
        for (method, change, expected) in [
            (Method::GET, (CONNECTION, "close"), StatusCode::BAD_REQUEST),
            (Method::HEAD, (UPGRADE, "websocket"), StatusCode::BAD_REQUEST),
            (Method::GET, (SEC_WEBSOCKET_VERSION, "8"), StatusCode::UPGRADE_REQUIRED),
            (Method::GET, (SEC_WEBSOCKET_KEY, "short"), StatusCode::BAD_REQUEST),
        ] {
            let (status, _) = check_upgrade(&method, &headers(&[change]), &access()).expect_err("wrong");
            assert_eq!(status, expected);
        }
    }
}
