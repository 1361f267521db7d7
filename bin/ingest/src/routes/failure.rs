//! Requests that are not answered with what they asked for, and what they are answered instead.

use footfall_shared::service::http::{self, HttpResponse};
use hyper::StatusCode;
use hyper::header::RETRY_AFTER;

use crate::bodies::NoBody;
use crate::intake::NotCounted;
use crate::request::{Reason, Rejection};

/// Everything that is not a plain answer.
pub(super) enum Failure {
    Rejected(Rejection),
    NotCounted(NotCounted),
    /// The bodies of others have all the room.
    Crowded,
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<NoBody> for Failure {
    fn from(no_body: NoBody) -> Self {
        match no_body {
            NoBody::Rejected(rejection) => Self::Rejected(rejection),
            NoBody::Crowded => Self::Crowded,
        }
    }
}

impl From<NotCounted> for Failure {
    fn from(not_counted: NotCounted) -> Self {
        Self::NotCounted(not_counted)
    }
}

impl Failure {
    pub(super) fn answer(self) -> HttpResponse {
        match self {
            Self::Rejected(Rejection { reason: Reason::Encoded, message }) => http::unsupported_encoding(&message),
            Self::Rejected(Rejection { reason: reason @ Reason::TooOften { wait_s }, message }) => {
                retry_later(reason.status(), &message, wait_s)
            }
            Self::Rejected(Rejection { reason: Reason::Slow, message }) => {
                http::closing(http::sentence(Reason::Slow.status(), &message))
            }
            Self::Rejected(Rejection { reason, message }) => http::sentence(reason.status(), &message),
            Self::NotCounted(error) => retry_later(StatusCode::SERVICE_UNAVAILABLE, &error.to_string(), 1),
            // What is still on its way of this body is not waited for.
            Self::Crowded => http::closing(retry_later(
                StatusCode::SERVICE_UNAVAILABLE,
                "there is no room for more large requests at the moment; this one was not counted: try again later",
                1,
            )),
        }
    }
}

fn retry_later(status: StatusCode, message: &str, wait_s: u64) -> HttpResponse {
    let mut answer = http::sentence(status, message);
    answer.headers_mut().insert(RETRY_AFTER, wait_s.into());
    answer
}
