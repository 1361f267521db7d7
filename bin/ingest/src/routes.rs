//! The HTTP interface: one table of routes, and what each of them does.

use std::sync::Arc;
use std::time::Duration;

use footfall_shared::config::{Config, ms};
use footfall_shared::counter::{Article, User, View};
use footfall_shared::http::{self, Answer};
use footfall_shared::reads::Reads;
use footfall_shared::telemetry::{self, IntCounterVec, Readiness};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, StatusCode};
use serde::Serialize;

use crate::intake::{Intake, NotCounted};
use crate::page;
use crate::request::{self, Posted, Refusal};

/// What all requests share.
pub struct Routes {
    intake: Intake,
    reads: Arc<Reads>,
    readiness: Readiness,
    answers: IntCounterVec,
    dashboard_url: String,
    body_bytes_max: usize,
    body_timeout: Duration,
    request_views_max: usize,
}

/// What can be asked for.
enum Endpoint<'a> {
    Views,
    Pixel,
    Demopage(&'a str),
    Article(&'a str),
    Realtime,
    Script,
    Style,
    Live,
    Ready,
}

/// The table of routes.
fn endpoint(path: &str) -> Option<(Method, Endpoint<'_>)> {
    Some(match path {
        "/v1/views" => (Method::POST, Endpoint::Views),
        "/v1/pixel.gif" => (Method::GET, Endpoint::Pixel),
        "/realtime" => (Method::GET, Endpoint::Realtime),
        "/assets/demopage.js" => (Method::GET, Endpoint::Script),
        "/assets/demopage.css" => (Method::GET, Endpoint::Style),
        "/livez" => (Method::GET, Endpoint::Live),
        "/readyz" => (Method::GET, Endpoint::Ready),
        _ => {
            if let Some(article) = path.strip_prefix("/demopage/") {
                (Method::GET, Endpoint::Demopage(article))
            } else {
                (Method::GET, Endpoint::Article(path.strip_prefix("/v1/articles/")?))
            }
        }
    })
}

/// A body that is too large is read on for this many times the limit, so that the client gets to see
/// the answer instead of a broken connection.
const OVERSIZE_READ_ON: usize = 16;
/// Refused views of a large request that are described one by one.
const ERRORS_LISTED: usize = 10;

/// The answer to a request with many views.
#[derive(Serialize)]
struct Outcome {
    accepted: usize,
    rejected: usize,
    /// The first ones that were rejected.
    errors: Vec<RejectedView>,
}

#[derive(Serialize)]
struct RejectedView {
    /// Position in the request, from 0.
    index: usize,
    error: String,
}

/// Everything that is not a plain answer.
enum Failure {
    Refused(Refusal),
    NotCounted(NotCounted),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<NotCounted> for Failure {
    fn from(not_counted: NotCounted) -> Self {
        Self::NotCounted(not_counted)
    }
}

impl Failure {
    fn answer(self) -> Answer {
        match self {
            Self::Refused(Refusal { status, sentence }) => http::sentence(status, &sentence),
            Self::NotCounted(error) => retry_later(&error.to_string()),
        }
    }
}

fn retry_later(sentence: &str) -> Answer {
    let mut answer = http::sentence(StatusCode::SERVICE_UNAVAILABLE, sentence);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

impl Routes {
    /// Routes that count through `intake` and read through `reads`.
    #[must_use]
    pub fn new(config: &Config, intake: Intake, reads: Arc<Reads>, readiness: Readiness) -> Self {
        Self {
            intake,
            reads,
            readiness,
            answers: telemetry::counters("footfall_http_answers_total", "Answers by HTTP status.", "status"),
            dashboard_url: config.dashboard.url.trim_end_matches('/').to_owned(),
            body_bytes_max: config.ingest.body_bytes_max,
            body_timeout: ms(config.ingest.body_timeout_ms),
            request_views_max: config.ingest.request_views_max,
        }
    }

    /// Answers one request.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let answer = self.route(request).await.unwrap_or_else(Failure::answer);
        self.answers.with_label_values(&[answer.status().as_str()]).inc();
        answer
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Answer, Failure> {
        let uri = request.uri().clone();
        let Some((method, endpoint)) = endpoint(uri.path()) else {
            let sentence =
                "there is nothing here: see /demopage/{article}?usrid=U, /v1/views and /v1/articles/{article}";
            return Err(Refusal::new(StatusCode::NOT_FOUND, sentence).into());
        };
        if *request.method() != method {
            let mut answer =
                http::sentence(StatusCode::METHOD_NOT_ALLOWED, &format!("{} takes {method} only", uri.path()));
            answer.headers_mut().insert(ALLOW, HeaderValue::from_str(method.as_str()).expect("a method is a token"));
            return Ok(answer);
        }
        match endpoint {
            Endpoint::Views => self.post_views(request).await.map(|answer| self.mark(answer)),
            Endpoint::Pixel => self.pixel(uri.query()).await.map(|answer| self.mark(answer)),
            Endpoint::Demopage(article) => self.demopage(article, uri.query()).await.map(|answer| self.mark(answer)),
            Endpoint::Article(article) => self.article(article, request.headers()).await,
            Endpoint::Realtime => Ok(self.realtime(uri.query())),
            Endpoint::Script => Ok(http::text(StatusCode::OK, "text/javascript; charset=utf-8", page::SCRIPT)),
            Endpoint::Style => Ok(http::text(StatusCode::OK, "text/css; charset=utf-8", page::STYLE)),
            Endpoint::Live => Ok(http::sentence(StatusCode::OK, "alive")),
            Endpoint::Ready => Ok(self.readiness.answer()),
        }
    }

    /// Says with the answer that the views are counted with less than there should be.
    fn mark(&self, mut answer: Answer) -> Answer {
        if let Some(what) = self.readiness.degraded()
            && let Ok(what) = HeaderValue::from_str(&what)
        {
            answer.headers_mut().insert("footfall-degraded", what);
        }
        answer
    }

    async fn post_views(&self, request: Request<Incoming>) -> Result<Answer, Failure> {
        let is_ndjson = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.contains("ndjson"));
        let body = self.body(request.into_body()).await?;
        match request::posted(&body, is_ndjson, self.request_views_max)? {
            Posted::One(view) => {
                self.intake.count(vec![view]).await?;
                Ok(http::empty(StatusCode::NO_CONTENT))
            }
            Posted::Many(results) => {
                let total = results.len();
                let mut views = Vec::with_capacity(total);
                let mut errors = Vec::new();
                for (index, result) in results.into_iter().enumerate() {
                    match result {
                        Ok(view) => views.push(view),
                        Err(error) if errors.len() < ERRORS_LISTED => errors.push(RejectedView { index, error }),
                        Err(_) => {}
                    }
                }
                let accepted = views.len();
                if accepted > 0 {
                    self.intake.count(views).await?;
                }
                Ok(http::json(StatusCode::OK, &Outcome { accepted, rejected: total - accepted, errors }))
            }
        }
    }

    /// The whole body, if it is small enough and comes in time.
    async fn body(&self, body: Incoming) -> Result<Vec<u8>, Refusal> {
        let mut body = Limited::new(body, self.body_bytes_max.saturating_mul(OVERSIZE_READ_ON));
        let mut bytes = Vec::new();
        let mut length = 0;
        let read = async {
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| {
                    Refusal::new(StatusCode::BAD_REQUEST, format!("the body could not be read: {error}"))
                })?;
                if let Some(data) = frame.data_ref() {
                    length += data.len();
                    if length <= self.body_bytes_max {
                        bytes.extend_from_slice(data);
                    }
                }
            }
            Ok(())
        };
        tokio::time::timeout(self.body_timeout, read).await.unwrap_or_else(|_| {
            let sentence = format!("the body did not arrive within {:?}", self.body_timeout);
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, sentence))
        })?;
        if length > self.body_bytes_max {
            let sentence = format!("the body has {length} bytes: at most {} are allowed", self.body_bytes_max);
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, sentence));
        }
        Ok(bytes)
    }

    async fn pixel(&self, query: Option<&str>) -> Result<Answer, Failure> {
        let article = request::article_in_query(query, "article")?;
        let user = request::user_in_query(query, "user")?;
        let id = request::view_id_in_query(query, "id")?;
        self.intake.count(vec![View { article, user, id }]).await?;
        let mut answer = http::text(StatusCode::OK, "image/gif", page::PIXEL);
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(answer)
    }

    async fn demopage(&self, article: &str, query: Option<&str>) -> Result<Answer, Failure> {
        let article: Article = request::article_in_path(article)?;
        let user: User = request::user_in_query(query, "usrid")?;
        self.intake.count(vec![View { article: article.clone(), user: user.clone(), id: None }]).await?;
        // The view is counted; that its numbers cannot be shown at the moment is no reason to say otherwise.
        let numbers = self.reads.article(&article).await.ok();
        let mut answer =
            http::text(StatusCode::OK, "text/html; charset=utf-8", page::render(&article, &user, numbers.as_ref()));
        let headers = answer.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::CONTENT_SECURITY_POLICY));
        Ok(answer)
    }

    async fn article(&self, article: &str, headers: &HeaderMap) -> Result<Answer, Failure> {
        let article = request::article_in_path(article)?;
        Ok(self.reads.answer(&article, headers).await)
    }

    /// A browser that asks the wrong service for the live numbers is shown the way.
    fn realtime(&self, query: Option<&str>) -> Answer {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let location = format!("{}/realtime{query}", self.dashboard_url);
        let mut answer = http::sentence(StatusCode::TEMPORARY_REDIRECT, &format!("the live numbers are at {location}"));
        if let Ok(location) = HeaderValue::from_str(&location) {
            answer.headers_mut().insert(LOCATION, location);
        }
        answer
    }
}
