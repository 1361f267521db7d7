//! What is wrong with a request's head, whatever it asks for. Where two servers in a row could understand it differently,
//! neither should.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderMap, TRANSFER_ENCODING};
use hyper::http::uri::Authority;
use hyper::{Request, StatusCode, Version};

/// One sentence and its status for a head that is refused.
pub(super) fn refusal<B>(request: &Request<B>) -> Option<(StatusCode, &'static str)> {
    let headers = request.headers();
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 {
        return Some((StatusCode::BAD_REQUEST, "the request has more than one Host: send one"));
    }
    if hosts == 0 && request.version() >= Version::HTTP_11 {
        return Some((StatusCode::BAD_REQUEST, "the request has no Host: HTTP/1.1 needs one"));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let only_chunked =
        codings.next().is_none_or(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    if !only_chunked || codings.next().is_some() {
        return Some((
            StatusCode::NOT_IMPLEMENTED,
            "the request's Transfer-Encoding is not `chunked` alone: nothing else is taken apart here",
        ));
    }
    None
}

/// Whether a request was sent to an address, to this machine by its own name, or to the name `ours`. A page of any site
/// can let its own name point to 127.0.0.1, and is then, for the browser of a person who sits here, the same site as this
/// server; what still shows it is the name.
#[must_use]
pub fn names_us(headers: &HeaderMap, ours: Option<&str>) -> bool {
    let names_us = |name: &str| {
        let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let is_local = name == "localhost" || name.ends_with(".localhost");
        is_address || is_local || ours.is_some_and(|ours| name.eq_ignore_ascii_case(ours))
    };
    headers.get_all(HOST).iter().all(|host| {
        let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
        authority.is_some_and(|authority| names_us(authority.host()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_can_be_understood_in_two_ways_is_refused() {
        let status = |version: Version, headers: &[(&str, &str)]| {
            let mut request = Request::builder().version(version);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            refusal(&request.body(()).expect("a request")).map(|(status, _)| status.as_u16())
        };
        for (version, headers, expected) in [
            (Version::HTTP_11, &[("host", "a")][..], None),
            (Version::HTTP_10, &[], None),
            (Version::HTTP_11, &[], Some(400)),
            (Version::HTTP_11, &[("host", "a"), ("host", "a")], Some(400)),
            (Version::HTTP_10, &[("host", "a"), ("host", "b")], Some(400)),
            (Version::HTTP_11, &[("host", "a"), ("transfer-encoding", "Chunked")], None),
            (Version::HTTP_11, &[("host", "a"), ("transfer-encoding", "gzip, chunked")], Some(501)),
            (
                Version::HTTP_11,
                &[("host", "a"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                Some(501),
            ),
            (Version::HTTP_11, &[("host", "a"), ("transfer-encoding", "identity")], Some(501)),
            (Version::HTTP_11, &[("host", "a"), ("transfer-encoding", "")], Some(501)),
        ] {
            assert_eq!(status(version, headers), expected, "{version:?} {headers:?}");
        }
    }
}
