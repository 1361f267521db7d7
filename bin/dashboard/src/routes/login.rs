//! Logging in and out: all that changes anything here.

use std::net::IpAddr;
use std::time::Duration;

use footfall_shared::service::clock;
use footfall_shared::service::http::{self, HttpResponse, is_read, other_method};
use footfall_shared::service::paths;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, LOCATION, SET_COOKIE};
use hyper::{Method, Request, StatusCode};

use super::rejection::too_often;
use crate::access::{Access, Denied};
use crate::assets::LOGIN;
use crate::lists::Query;

/// A token, and what a form puts around it.
const FORM_BYTES_MAX: usize = 4 * 1024;
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// Shows the form, or takes what was entered into it.
pub(super) async fn login(access: &Access, peer: IpAddr, request: Request<Incoming>) -> HttpResponse {
    let page = |status, page: String| http::text(status, "text/html; charset=utf-8", page);
    if is_read(request.method()) {
        return page(StatusCode::OK, LOGIN.into());
    }
    if *request.method() != Method::POST {
        return other_method(request.method(), paths::LOGIN, "GET, HEAD, OPTIONS, POST");
    }
    // The session cookie comes along with links from other sites (`SameSite=Lax`): that must not be enough to change anything.
    if !access.is_same_origin(request.headers()) {
        return http::sentence(StatusCode::FORBIDDEN, "a page of another site may not log in here");
    }
    if let Some(reason) = http::compressed(request.headers()) {
        return http::unsupported_encoding(&reason);
    }
    let body = Limited::new(request.into_body(), FORM_BYTES_MAX).collect();
    let Ok(Ok(body)) = tokio::time::timeout(FORM_TIMEOUT, body).await else {
        return http::sentence(StatusCode::BAD_REQUEST, "the form did not arrive, or is too large");
    };
    let form = String::from_utf8(body.to_bytes().into()).ok().and_then(|form| Query::parse(&form).ok());
    let token = form.as_ref().and_then(|form| form.get("token")).unwrap_or_default();
    let now_s = clock::unix_ms() / 1_000;
    match access.scope_of(peer, token.trim()).map(|scope| access.session_cookie(scope, now_s)) {
        Ok(cookie) => {
            let mut response = http::empty(StatusCode::SEE_OTHER);
            response.headers_mut().insert(LOCATION, HeaderValue::from_static("/"));
            if let Some(cookie) = cookie {
                let cookie = HeaderValue::from_str(&cookie).expect("digits, letters and our own words");
                response.headers_mut().insert(SET_COOKIE, cookie);
            }
            response
        }
        Err(Denied::WrongToken) => {
            access.count_denied();
            page(StatusCode::UNAUTHORIZED, LOGIN.replacen(" hidden>", ">", 1))
        }
        Err(Denied::TooOften) => too_often(),
    }
}

/// Has the browser forget its session. Another copy of it, if somebody has one, goes on until its time is over, or until
/// the token is changed.
pub(super) fn logout<B>(access: &Access, request: &Request<B>) -> HttpResponse {
    if *request.method() != Method::POST {
        return other_method(request.method(), paths::LOGOUT, "OPTIONS, POST");
    }
    if !access.is_same_origin(request.headers()) {
        return http::sentence(StatusCode::FORBIDDEN, "a page of another site may not log out here");
    }
    let mut response = http::empty(StatusCode::SEE_OTHER);
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_static("/login"));
    headers.insert(SET_COOKIE, HeaderValue::from_str(&Access::end_of_session()).expect("our own words"));
    response
}
