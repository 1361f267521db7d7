//! Which request gets which response, in one table; and the viewers of the WebSocket.
//!
//! | file | what |
//! | --- | --- |
//! | `upgrade` | which requests may become a WebSocket |
//! | `login` | logging in and out |
//! | `rejection` | the responses to requests that may not be served |

mod login;
mod rejection;
mod upgrade;

use std::net::IpAddr;
use std::sync::Arc;

use footfall_shared::service::clock;
use footfall_shared::service::http::{self, HttpResponse, PerAddress, is_read, other_method};
use footfall_shared::service::paths;
use footfall_shared::service::telemetry::{self, IntCounter, IntGauge, Readiness};
use footfall_shared::stores::reads::Reads;
use hyper::body::Incoming;
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue, REFERRER_POLICY, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Request, StatusCode};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::rejection::{denied, too_often};
use self::upgrade::{check_upgrade, is_upgrade};
use crate::access::{Access, Scope};
use crate::assets::{self, PAGE};
use crate::client;
use crate::frame::Frame;
use crate::history::History;
use crate::lists::{self, Lists, Rejection, Resource};
use crate::watched::Watched;

/// The HTTP API, for people and programs.
const OPENAPI: &str = include_str!("../openapi.json");
/// Resources that have no parameters, beside the page and its files.
const PLAIN: [&str; 5] = [paths::STATS, paths::HISTORY, paths::OPENAPI, paths::LIVEZ, paths::READYZ];

/// Nothing but our own files: an article's name can never become code.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Articles that one address watches at once: the pages that the people of an office have open.
const WATCHED_PER_ADDRESS_MAX: usize = 100;

/// What all requests share.
pub(crate) struct Routes {
    access: Access,
    frames: watch::Receiver<Frame>,
    history: Arc<History>,
    watched: Arc<Watched>,
    reads: Arc<Reads>,
    lists: Arc<Lists>,
    readiness: Readiness,
    stop: CancellationToken,
    viewers: TaskTracker,
    permits: Arc<Semaphore>,
    /// Viewers of a single article, by address: each may have the dashboard read another one, several times a second.
    watching: PerAddress,
    viewers_now: IntGauge,
    viewers_rejected: IntCounter,
}

impl Routes {
    /// At most `viewers_max` WebSockets at once.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "each is a part that is made elsewhere")]
    pub(crate) fn new(
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
            permits: Arc::new(Semaphore::new(viewers_max)),
            watching: PerAddress::new(WATCHED_PER_ADDRESS_MAX),
            viewers_now: telemetry::gauge("footfall_dashboard_viewers", "WebSocket clients connected now"),
            viewers_rejected: telemetry::counter(
                "footfall_dashboard_viewers_refused_total",
                "WebSocket upgrades refused, whatever the reason",
            ),
        }
    }

    /// Waits until every viewer has gone, once none can come any more.
    pub(crate) async fn viewers_gone(&self) {
        self.viewers.close();
        self.viewers.wait().await;
    }

    /// The response to one request.
    pub(crate) async fn respond(&self, peer: IpAddr, request: Request<Incoming>) -> HttpResponse {
        let mut response = self.respond_if_allowed(peer, request).await;
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        // Other sites learn nothing. But `no-referrer` would also hide from us which page a form comes from, see `login`.
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response
    }

    async fn respond_if_allowed(&self, peer: IpAddr, request: Request<Incoming>) -> HttpResponse {
        let path = request.uri().path();
        // Health checks come often, and all from one address.
        if matches!(path, paths::LIVEZ | paths::READYZ) {
            return self.route(peer, request, false);
        }
        if !self.access.admits(peer) {
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
            return login::login(&self.access, peer, request).await;
        }
        if path == paths::LOGOUT {
            return login::logout(&self.access, &request);
        }
        let resource = Resource::parse(path, request.uri().query());
        let needed = match &resource {
            Some(Ok(resource)) if resource.is_about_readers() => Scope::Everything,
            _ if path.starts_with("/assets/") || path == paths::OPENAPI => Scope::Nothing,
            _ => Scope::Numbers,
        };
        match self.access.scope(peer, request.headers(), clock::unix_ms() / 1_000) {
            Ok(scope) if scope >= needed => {}
            scope => {
                self.access.count_denied();
                let is_page = matches!(path, "/" | paths::REALTIME) && !is_upgrade(request.headers());
                return denied(scope, is_page);
            }
        }
        match resource {
            Some(resource) if is_read(request.method()) => self.read(resource, request.headers()).await,
            resource => self.route(peer, request, resource.is_some()),
        }
    }

    async fn read(&self, resource: Result<Resource, Rejection>, headers: &HeaderMap) -> HttpResponse {
        match resource {
            Ok(Resource::Article(article)) => self.reads.answer(&article, headers).await,
            Ok(Resource::List(list)) => self.lists.respond(list).await,
            Err(Rejection(status, message)) => http::sentence(status, &message),
        }
    }

    fn route(&self, peer: IpAddr, request: Request<Incoming>, is_resource: bool) -> HttpResponse {
        let path = request.uri().path();
        let asset = assets::find(path);
        let is_known = is_resource || asset.is_some() || PLAIN.contains(&path) || matches!(path, "/" | paths::REALTIME);
        if is_known && !is_read(request.method()) {
            return other_method(request.method(), path, http::READ);
        }
        match path {
            paths::REALTIME if is_upgrade(request.headers()) => self.upgrade(peer, request),
            "/" | paths::REALTIME => file("text/html; charset=utf-8", PAGE),
            paths::STATS => http::text(StatusCode::OK, "application/json", self.frames.borrow().full.to_string()),
            paths::HISTORY => self.history.response(),
            paths::OPENAPI => file("application/json", OPENAPI),
            paths::LIVEZ => http::sentence(StatusCode::OK, "alive"),
            paths::READYZ => self.readiness.answer(),
            _ => match asset {
                Some(asset) => file(asset.content_type, asset.text),
                None => http::sentence(StatusCode::NOT_FOUND, "there is nothing here; the dashboard is at /"),
            },
        }
    }

    fn upgrade(&self, peer: IpAddr, request: Request<Incoming>) -> HttpResponse {
        let accept = match check_upgrade(request.method(), request.headers(), &self.access) {
            Ok(accept) => accept,
            Err((status, reason)) => return self.reject(status, reason),
        };
        if self.stop.is_cancelled() {
            return self.reject(StatusCode::SERVICE_UNAVAILABLE, "the dashboard is being stopped");
        }
        let mut share = None;
        let frames = match lists::watched_article(request.uri().query()) {
            Ok(None) => Some(self.frames.clone()),
            Ok(Some(article)) => {
                share = self.watching.take(peer);
                if share.is_none() {
                    return self.reject(
                        StatusCode::TOO_MANY_REQUESTS,
                        "this address watches as many articles as it may: close some of these pages",
                    );
                }
                self.watched.watch(article)
            }
            Err(Rejection(status, message)) => return self.reject(status, &message),
        };
        let Some(frames) = frames else {
            return self.reject(StatusCode::SERVICE_UNAVAILABLE, "too many articles are watched: try again later");
        };
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return self.reject(StatusCode::SERVICE_UNAVAILABLE, "there are too many viewers: try again later");
        };
        let viewer = client::serve(hyper::upgrade::on(request), frames, self.stop.clone());
        let viewers_now = self.viewers_now.clone();
        self.viewers.spawn(async move {
            viewers_now.inc();
            viewer.await;
            viewers_now.dec();
            drop((permit, share));
        });
        let mut response = http::empty(StatusCode::SWITCHING_PROTOCOLS);
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        response
    }

    fn reject(&self, status: StatusCode, reason: &str) -> HttpResponse {
        self.viewers_rejected.inc();
        let mut response = http::sentence(status, reason);
        if status == StatusCode::UPGRADE_REQUIRED {
            response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}

/// A file of the page. A browser asks each time whether it has changed, so that a page of one release never runs a script
/// of another.
fn file(content_type: &'static str, body: &'static str) -> HttpResponse {
    let mut response = http::text(StatusCode::OK, content_type, body);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::lists::ROUTES;

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
        let lists = ROUTES.iter().map(|route| {
            (route.path.to_owned(), route.parameters.iter().map(|parameter| (*parameter).to_owned()).collect())
        });
        assert_eq!(documented(), plain.chain(lists).collect());
    }

    #[test]
    fn what_can_be_asked_is_what_the_list_of_paths_says() {
        let lists = ROUTES.iter().map(|route| route.path);
        let others = ["/", "/assets/{file}", paths::REALTIME, paths::LOGIN, paths::LOGOUT];
        let asked: BTreeSet<&str> = PLAIN.into_iter().chain(lists).chain(others).collect();
        assert_eq!(asked, paths::DASHBOARD.into_iter().collect());
    }
}
