//! What the dashboard answers, in one table; and who may open a WebSocket.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use footfall_shared::service::clock;
use footfall_shared::service::http::{self, Answer, PerAddress, is_read, other_method};
use footfall_shared::service::paths;
use footfall_shared::service::telemetry::{self, IntCounter, IntGauge, Readiness};
use footfall_shared::stores::reads::Reads;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
    RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, SET_COOKIE, UPGRADE, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, StatusCode};
use tokio::sync::{Semaphore, watch};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{Access, Denied, Scope};
use crate::assets::{self, LOGIN, PAGE};
use crate::client;
use crate::frame::Frame;
use crate::history::History;
use crate::lists::{self, Lists, Query, Question, Refusal};
use crate::watched::Watched;

/// What programs may ask, for people and programs.
const OPENAPI: &str = include_str!("../openapi.json");
/// What is asked for by its path alone, beside the page and what belongs to it.
const PLAIN: [&str; 5] = [paths::STATS, paths::HISTORY, paths::OPENAPI, paths::LIVEZ, paths::READYZ];

/// Nothing but our own files: an article's name can never become code.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// A token, and what a form puts around it.
const FORM_BYTES_MAX: usize = 4 * 1024;
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// Articles that one address watches at once: the pages that the people of an office have open.
const WATCHED_PER_ADDRESS_MAX: usize = 100;

/// What all requests share.
pub struct Routes {
    access: Access,
    frames: watch::Receiver<Frame>,
    history: Arc<History>,
    watched: Arc<Watched>,
    reads: Arc<Reads>,
    lists: Arc<Lists>,
    readiness: Readiness,
    stop: CancellationToken,
    viewers: TaskTracker,
    seats: Arc<Semaphore>,
    /// Viewers of a single article, by address: each may have the dashboard read another one, several times a second.
    watching: PerAddress,
    viewers_now: IntGauge,
    viewers_refused: IntCounter,
}

impl Routes {
    /// At most `viewers_max` WebSockets at once.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "each is a part that is made elsewhere")]
    pub fn new(
        access: Access,
        frames: watch::Receiver<Frame>,
        history: Arc<History>,
        watched: Arc<Watched>,
        reads: Arc<Reads>,
        lists: Lists,
        readiness: Readiness,
        viewers_max: usize,
        stop: CancellationToken,
    ) -> Self {
        Self {
            access,
            frames,
            history,
            watched,
            reads,
            lists: Arc::new(lists),
            readiness,
            stop,
            viewers: TaskTracker::new(),
            seats: Arc::new(Semaphore::new(viewers_max)),
            watching: PerAddress::new(WATCHED_PER_ADDRESS_MAX),
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
    pub async fn answer(&self, peer: IpAddr, request: Request<Incoming>) -> Answer {
        let mut answer = self.answer_if_allowed(peer, request).await;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        // To others nothing; but to ourselves: with `no-referrer` a browser would hide whose form it sends, see `login`.
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        answer
    }

    async fn answer_if_allowed(&self, peer: IpAddr, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        // Those who look after the process ask often, and all from one place.
        if matches!(path, paths::LIVEZ | paths::READYZ) {
            return self.route(peer, request, false);
        }
        if !self.access.may_ask(peer) {
            return too_often();
        }
        if !self.access.knows_host(request.headers()) {
            self.access.count_denied();
            return http::sentence(
                StatusCode::MISDIRECTED_REQUEST,
                "this dashboard is not known by this name: if the name is right, set `dashboard.url` to it",
            );
        }
        if path == paths::LOGIN {
            return self.login(peer, request).await;
        }
        if path == paths::LOGOUT {
            return logout(&request, &self.access);
        }
        let question = Question::parse(path, request.uri().query());
        let needed = match &question {
            Some(Ok(question)) if question.is_about_readers() => Scope::Everything,
            _ if path.starts_with("/assets/") || path == paths::OPENAPI => Scope::Nothing,
            _ => Scope::Numbers,
        };
        match self.access.scope(peer, request.headers(), clock::unix_ms() / 1_000) {
            Ok(scope) if scope >= needed => {}
            denied => {
                self.access.count_denied();
                let is_page = matches!(path, "/" | paths::REALTIME) && !is_upgrade(request.headers());
                return deny(denied, is_page);
            }
        }
        match question {
            Some(question) if is_read(request.method()) => self.ask(question, request.headers()).await,
            question => self.route(peer, request, question.is_some()),
        }
    }

    /// The form, or what was written into it.
    async fn login(&self, peer: IpAddr, request: Request<Incoming>) -> Answer {
        let page = |status, page: String| http::text(status, "text/html; charset=utf-8", page);
        if is_read(request.method()) {
            return page(StatusCode::OK, LOGIN.into());
        }
        if *request.method() != Method::POST {
            return other_method(request.method(), paths::LOGIN, "GET, HEAD, OPTIONS, POST");
        }
        // This and logging out is all that changes anything here. The session comes along with links from everywhere
        // (`SameSite=Lax`), the right to do these does not.
        if !self.access.is_same_origin(request.headers()) {
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
        match self.access.scope_of(peer, token.trim()).map(|scope| self.access.session_cookie(scope, now_s)) {
            Ok(cookie) => {
                let mut answer = http::empty(StatusCode::SEE_OTHER);
                answer.headers_mut().insert(LOCATION, HeaderValue::from_static("/"));
                if let Some(cookie) = cookie {
                    let cookie = HeaderValue::from_str(&cookie).expect("digits, letters and our own words");
                    answer.headers_mut().insert(SET_COOKIE, cookie);
                }
                answer
            }
            Err(Denied::WrongToken) => {
                self.access.count_denied();
                page(StatusCode::UNAUTHORIZED, LOGIN.replacen(" hidden>", ">", 1))
            }
            Err(Denied::TooOften) => too_often(),
        }
    }

    async fn ask(&self, question: Result<Question, Refusal>, headers: &HeaderMap) -> Answer {
        match question {
            Ok(Question::Article(article)) => self.reads.answer(&article, headers).await,
            Ok(Question::List(list)) => self.lists.answer(list).await,
            Err(Refusal(status, sentence)) => http::sentence(status, &sentence),
        }
    }

    fn route(&self, peer: IpAddr, request: Request<Incoming>, is_question: bool) -> Answer {
        let path = request.uri().path();
        let asset = assets::find(path);
        let is_known = is_question || asset.is_some() || PLAIN.contains(&path) || matches!(path, "/" | paths::REALTIME);
        if is_known && !is_read(request.method()) {
            return other_method(request.method(), path, http::READ);
        }
        match path {
            paths::REALTIME if is_upgrade(request.headers()) => self.upgrade(peer, request),
            "/" | paths::REALTIME => file("text/html; charset=utf-8", PAGE),
            paths::STATS => http::text(StatusCode::OK, "application/json", self.frames.borrow().full.to_string()),
            paths::HISTORY => self.history.answer(),
            paths::OPENAPI => file("application/json", OPENAPI),
            paths::LIVEZ => http::sentence(StatusCode::OK, "alive"),
            paths::READYZ => self.readiness.answer(),
            _ => match asset {
                Some(asset) => file(asset.content_type, asset.text),
                None => http::sentence(StatusCode::NOT_FOUND, "there is nothing here; the dashboard is at /"),
            },
        }
    }

    fn upgrade(&self, peer: IpAddr, request: Request<Incoming>) -> Answer {
        let accept = match check_upgrade(request.method(), request.headers(), &self.access) {
            Ok(accept) => accept,
            Err((status, reason)) => return self.refuse(status, reason),
        };
        if self.stop.is_cancelled() {
            return self.refuse(StatusCode::SERVICE_UNAVAILABLE, "the dashboard is being stopped");
        }
        let mut share = None;
        let frames = match lists::watched_article(request.uri().query()) {
            Ok(None) => Some(self.frames.clone()),
            Ok(Some(article)) => {
                share = self.watching.take(peer);
                if share.is_none() {
                    return self.refuse(
                        StatusCode::TOO_MANY_REQUESTS,
                        "this address watches as many articles as it may: close some of these pages",
                    );
                }
                self.watched.watch(article)
            }
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
            drop((seat, share));
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

/// Asked for again after each release: one small answer, and never a page of one with a script of another.
fn file(content_type: &'static str, body: &'static str) -> Answer {
    let mut answer = http::text(StatusCode::OK, content_type, body);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

/// Has the browser forget its session. Another copy of it, if somebody has one, goes on until its time is over, or until
/// the token is changed.
fn logout<B>(request: &Request<B>, access: &Access) -> Answer {
    if *request.method() != Method::POST {
        return other_method(request.method(), paths::LOGOUT, "OPTIONS, POST");
    }
    if !access.is_same_origin(request.headers()) {
        return http::sentence(StatusCode::FORBIDDEN, "a page of another site may not log out here");
    }
    let mut answer = http::empty(StatusCode::SEE_OTHER);
    let headers = answer.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_static("/login"));
    headers.insert(SET_COOKIE, HeaderValue::from_str(&Access::end_of_session()).expect("our own words"));
    answer
}

fn too_often() -> Answer {
    let mut answer =
        http::sentence(StatusCode::TOO_MANY_REQUESTS, "too many requests from this address: wait a little");
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("6"));
    answer
}

/// The answer to somebody who may see less than they ask for: a form for people, a sentence for programs.
fn deny(scope: Result<Scope, Denied>, is_page: bool) -> Answer {
    let mut answer = match scope {
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
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"footfall\""));
    answer
}

/// Whether a request may become a WebSocket (RFC 6455, section 4.2.1); answers the accept key.
fn check_upgrade(
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

fn is_upgrade(headers: &HeaderMap) -> bool {
    has_token(headers, &UPGRADE, "websocket")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use footfall_shared::service::config;
    use hyper::header::{HOST, ORIGIN};
    use serde_json::Value;

    use super::*;
    use crate::lists::FORMS;

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

    /// Each path and the query parameters of its GET.
    fn documented() -> BTreeSet<(String, BTreeSet<String>)> {
        let document: Value = serde_json::from_str(OPENAPI).expect("JSON");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let parameter = |parameter: &Value| {
            let named = parameter["$ref"].as_str().and_then(|name| document.pointer(name.strip_prefix('#')?));
            named.unwrap_or(parameter).clone()
        };
        let parameters = |operation: &Value| -> BTreeSet<String> {
            let all = operation["parameters"].as_array().into_iter().flatten().map(parameter);
            let of_query = all.filter(|parameter| parameter["in"] == "query");
            of_query.map(|parameter| parameter["name"].as_str().expect("a name").to_owned()).collect()
        };
        let paths = document["paths"].as_object().expect("paths");
        paths.iter().map(|(path, item)| (path.clone(), parameters(&item["get"]))).collect()
    }

    #[test]
    fn what_can_be_asked_is_what_the_document_says() {
        let plain = PLAIN.into_iter().filter(|path| *path != "/openapi.json");
        let plain = plain.chain(["/v1/articles/{article}"]).map(|path| (path.to_owned(), BTreeSet::new()));
        let lists = FORMS.iter().map(|form| {
            (form.path.to_owned(), form.parameters.iter().map(|parameter| (*parameter).to_owned()).collect())
        });
        assert_eq!(documented(), plain.chain(lists).collect());
    }

    #[test]
    fn what_can_be_asked_is_what_the_list_of_paths_says() {
        let lists = FORMS.iter().map(|form| form.path);
        let others = ["/", "/assets/{file}", paths::REALTIME, paths::LOGIN, paths::LOGOUT];
        let asked: BTreeSet<&str> = PLAIN.into_iter().chain(lists).chain(others).collect();
        assert_eq!(asked, paths::DASHBOARD.into_iter().collect());
    }
}
