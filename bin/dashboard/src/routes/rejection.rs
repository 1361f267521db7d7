//! The responses to requests that may not be served.

use footfall_shared::service::http::{self, HttpResponse};
use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use crate::access::{Denied, Scope};
use crate::assets::LOGIN;

pub(super) fn too_often() -> HttpResponse {
    let mut response =
        http::sentence(StatusCode::TOO_MANY_REQUESTS, "too many requests from this address: wait a little");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("6"));
    response
}

/// The response to a request whose sender may see less than that: a form for people, a message for programs.
pub(super) fn denied(scope: Result<Scope, Denied>, is_page: bool) -> HttpResponse {
    let mut response = match scope {
        Err(Denied::TooOften) => return too_often(),
        Err(Denied::WrongToken) => http::sentence(StatusCode::UNAUTHORIZED, "this token is not known"),
        Ok(Scope::Nothing) if is_page => http::text(StatusCode::UNAUTHORIZED, "text/html; charset=utf-8", LOGIN),
        Ok(Scope::Nothing) => {
            http::sentence(StatusCode::UNAUTHORIZED, "a token is needed: log in at /login, or `Authorization: Bearer`")
        }
        Ok(_) => http::sentence(
            StatusCode::UNAUTHORIZED,
            "who reads what is shown with `dashboard.token` only: log in at /login, or `Authorization: Bearer`",
        ),
    };
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"footfall\""));
    response
}
