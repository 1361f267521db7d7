//! Requests that are not answered with what they asked for, and what they are answered instead.

use footfall_shared::http::{self, Answer};
use hyper::StatusCode;
use hyper::header::RETRY_AFTER;

use crate::bodies::NoBody;
use crate::intake::NotCounted;
use crate::request::{Reason, Refusal};

/// Everything that is not a plain answer.
pub(super) enum Failure {
    Refused(Refusal),
    NotCounted(NotCounted),
    /// The bodies of others have all the room.
    Crowded,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<NoBody> for Failure {
    fn from(no_body: NoBody) -> Self {
        match no_body {
            NoBody::Refused(refusal) => Self::Refused(refusal),
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
    pub(super) fn answer(self) -> Answer {
        match self {
            Self::Refused(Refusal { reason: Reason::Encoded, sentence }) => http::unsupported_encoding(&sentence),
            Self::Refused(Refusal { reason: reason @ Reason::TooOften { wait_s }, sentence }) => {
                retry_later(reason.status(), &sentence, wait_s)
            }
            Self::Refused(Refusal { reason: Reason::Slow, sentence }) => {
                http::closing(http::sentence(Reason::Slow.status(), &sentence))
            }
            Self::Refused(Refusal { reason, sentence }) => http::sentence(reason.status(), &sentence),
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

fn retry_later(status: StatusCode, sentence: &str, wait_s: u64) -> Answer {
    let mut answer = http::sentence(status, sentence);
    answer.headers_mut().insert(RETRY_AFTER, wait_s.into());
    answer
}
