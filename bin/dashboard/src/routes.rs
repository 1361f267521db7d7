//! What the dashboard answers, in one table; and who may open a WebSocket.

use std::sync::Arc;

use footfall_shared::http::{self, Answer};
use footfall_shared::reads::Reads;
use footfall_shared::telemetry::{self, IntCounter, IntGauge, Readiness};
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    REFERRER_POLICY, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, StatusCode};
use tokio::sync::{Semaphore, watch};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client;
use crate::frame::Frame;
use crate::lists::{self, Lists, Question, Refusal};
use crate::watched::Watched;

const PAGE: &str = include_str!("../page/index.html");
const SCRIPT: &str = include_str!("../page/app.js");
const STYLE: &str = include_str!("../page/app.css");

/// Nothing but our own files: an article's name can never become code.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What all requests share.
pub struct Routes {
    frames: watch::Receiver<Frame>,
    watched: Arc<Watched>,
    reads: Arc<Reads>,
    lists: Lists,
    readiness: Readiness,
    stop: CancellationToken,
    viewers: TaskTracker,
    seats: Arc<Semaphore>,
    viewers_now: IntGauge,
    viewers_refused: IntCounter,
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

impl Routes {
    /// At most `viewers_max` WebSockets at once.
    #[must_use]
    pub fn new(
        frames: watch::Receiver<Frame>,
        watched: Arc<Watched>,
        reads: Arc<Reads>,
        lists: Lists,
        readiness: Readiness,
        viewers_max: usize,
        stop: CancellationToken,
    ) -> Self {
        Self {
            frames,
            watched,
            reads,
            lists,
            readiness,
            stop,
            viewers: TaskTracker::new(),
            seats: Arc::new(Semaphore::new(viewers_max)),
            viewers_now: telemetry::gauge("footfall_dashboard_viewers", "WebSocket clients connected now"),
            viewers_refused: telemetry::counter(
                "footfall_dashboard_viewers_refused_total",
                "WebSocket upgrades refused, whatever the reason",
            ),
        }
    }

    /// Waits until every viewer has gone, once none can come any more.
    pub async fn viewers_gone(&self) {
        self.viewers.close();
        self.viewers.wait().await;
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>) -> Answer {
        let question = Question::parse(request.uri().path(), request.uri().query());
        let (mut answer, cache) = match question {
            Some(question) if is_read(request.method()) => (self.ask(question, request.headers()).await, "no-store"),
            question => self.route(request, question.is_some()),
        };
        let headers = answer.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static(cache));
        answer
    }

    async fn ask(&self, question: Result<Question, Refusal>, headers: &HeaderMap) -> Answer {
        match question {
            Ok(Question::Article(article)) => self.reads.answer(&article, headers).await,
            Ok(Question::List(list)) => self.lists.answer(list).await,
            Err(Refusal(status, sentence)) => http::sentence(status, &sentence),
        }
    }

    /// The answer, and how long it may be kept.
    fn route(&self, request: Request<Incoming>, is_question: bool) -> (Answer, &'static str) {
        let path = request.uri().path();
        let is_known = is_question
            || matches!(
                path,
                "/" | "/realtime" | "/v1/stats" | "/assets/app.js" | "/assets/app.css" | "/livez" | "/readyz"
            );
        if is_known && !is_read(request.method()) {
            let mut answer = http::sentence(StatusCode::METHOD_NOT_ALLOWED, "here is only GET");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return (answer, "no-store");
        }
        // Asked for again after each release: one small answer, and never a page of one with a script of another.
        let file = |content_type, body: &'static str| (http::text(StatusCode::OK, content_type, body), "no-cache");
        match path {
            "/realtime" if has_token(request.headers(), &UPGRADE, "websocket") => (self.upgrade(request), "no-store"),
            "/" | "/realtime" => file("text/html; charset=utf-8", PAGE),
            "/assets/app.js" => file("text/javascript; charset=utf-8", SCRIPT),
            "/assets/app.css" => file("text/css; charset=utf-8", STYLE),
            "/v1/stats" => {
                let stats = self.frames.borrow().full.to_string();
                (http::text(StatusCode::OK, "application/json", stats), "no-store")
            }
            "/livez" => (http::sentence(StatusCode::OK, "alive"), "no-store"),
            "/readyz" => (self.readiness.answer(), "no-store"),
            _ => (http::sentence(StatusCode::NOT_FOUND, "there is nothing here; the dashboard is at /"), "no-store"),
        }
    }

    fn upgrade(&self, request: Request<Incoming>) -> Answer {
        let accept = match check_upgrade(request.method(), request.headers()) {
            Ok(accept) => accept,
            Err((status, reason)) => return self.refuse(status, reason),
        };
        if self.stop.is_cancelled() {
            return self.refuse(StatusCode::SERVICE_UNAVAILABLE, "the dashboard is being stopped");
        }
        let frames = match lists::watched_article(request.uri().query()) {
            Ok(None) => Some(self.frames.clone()),
            Ok(Some(article)) => self.watched.watch(article),
            Err(Refusal(status, sentence)) => return self.refuse(status, &sentence),
        };
        let Some(frames) = frames else {
            return self.refuse(StatusCode::SERVICE_UNAVAILABLE, "too many articles are watched: try again later");
        };
        let Ok(seat) = Arc::clone(&self.seats).try_acquire_owned() else {
            return self.refuse(StatusCode::SERVICE_UNAVAILABLE, "there are too many viewers: try again later");
        };
        let viewer = client::serve(hyper::upgrade::on(request), frames, self.stop.clone());
        let viewers_now = self.viewers_now.clone();
        self.viewers.spawn(async move {
            viewers_now.inc();
            viewer.await;
            viewers_now.dec();
            drop(seat);
        });
        let mut answer = http::empty(StatusCode::SWITCHING_PROTOCOLS);
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        answer
    }

    fn refuse(&self, status: StatusCode, reason: &str) -> Answer {
        self.viewers_refused.inc();
        let mut answer = http::sentence(status, reason);
        if status == StatusCode::UPGRADE_REQUIRED {
            answer.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        answer
    }
}

/// Whether a request may become a WebSocket (RFC 6455, section 4.2.1); answers the accept key.
fn check_upgrade(method: &Method, headers: &HeaderMap) -> Result<HeaderValue, (StatusCode, &'static str)> {
    if *method != Method::GET || !has_token(headers, &CONNECTION, "upgrade") {
        return Err((StatusCode::BAD_REQUEST, "a WebSocket is opened by GET with `Connection: Upgrade`"));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err((StatusCode::UPGRADE_REQUIRED, "only version 13 of the WebSocket protocol is spoken here"));
    }
    // Browsers let any page open a WebSocket to anywhere, and say which page it is.
    if !is_same_origin(headers) {
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

/// Whether the request comes from a page of this very host, or from no page at all.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let (Ok(origin), Some(Ok(host))) = (origin.to_str(), headers.get(HOST).map(HeaderValue::to_str)) else {
        return false;
    };
    origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let accept = check_upgrade(&Method::GET, &headers(&[])).expect("correct");
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        for (origin, allowed) in [
            ("http://numbers.example:8001", true),
            ("https://Numbers.Example:8001", true),
            ("http://numbers.example", false),
            ("http://numbers.example:8001.evil.example", false),
            ("http://evil.example", false),
            ("null", false),
        ] {
            let checked = check_upgrade(&Method::GET, &headers(&[(ORIGIN, origin)]));
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
            let (status, _) = check_upgrade(&method, &headers(&[change])).expect_err("wrong");
            assert_eq!(status, expected);
        }
    }

    #[test]
    fn the_page_has_nothing_that_the_policy_forbids() {
        assert!(!PAGE.contains("style=") && !PAGE.contains("<style") && !PAGE.contains(" onclick"));
        assert!(PAGE.matches("<script").count() == PAGE.matches("<script type=\"module\" src=").count());
        assert!(!SCRIPT.contains("innerHTML") && !SCRIPT.contains("insertAdjacentHTML"));
    }
}
