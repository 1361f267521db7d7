//! The HTTP interface: one table of routes, and what each of them does.

mod failure;

use std::net::IpAddr;
use std::sync::Arc;

use footfall_shared::protocol::View;
use footfall_shared::service::config::Config;
use footfall_shared::service::http::{self, HttpResponse};
use footfall_shared::service::paths::{self, id_in};
use footfall_shared::service::telemetry::{self, IntCounter, IntCounterVec, Readiness};
use footfall_shared::stores::reads::Reads;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use tokio::time::Instant;
use tracing::warn;

use crate::bodies::Bodies;
use crate::budgets::Budgets;
use crate::intake::Intake;
use crate::origins::Origins;
use crate::page;
use crate::posted::{self, Posted};
use crate::request::{self, Reason, Rejection, Sent};
use crate::visitor::{Fate, LeftOut, Visitor, Visitors};

use failure::Failure;

/// What all requests share.
pub struct Routes {
    intake: Intake,
    reads: Arc<Reads>,
    visitors: Visitors,
    budgets: Option<Budgets>,
    origins: Origins,
    readiness: Readiness,
    answers: Answers,
    rejected: IntCounterVec,
    dashboard_url: String,
    bodies: Bodies,
    request_views_max: usize,
}

/// How many answers had which status.
struct Answers {
    all: IntCounterVec,
    /// Nearly all answers have one of two statuses, and to look a counter up costs more than to count.
    ok: IntCounter,
    no_content: IntCounter,
}

impl Answers {
    fn new() -> Self {
        let all = telemetry::counters("footfall_http_answers_total", "Answers by HTTP status.", "status");
        let of = |status: StatusCode| all.with_label_values(&[status.as_str()]);
        Self { ok: of(StatusCode::OK), no_content: of(StatusCode::NO_CONTENT), all }
    }

    fn count(&self, status: StatusCode) {
        match status {
            StatusCode::OK => self.ok.inc(),
            StatusCode::NO_CONTENT => self.no_content.inc(),
            status => self.all.with_label_values(&[status.as_str()]).inc(),
        }
    }
}

/// What can be asked for.
enum Endpoint<'a> {
    Views,
    Pixel,
    Demopage(&'a str),
    Article(&'a str),
    SiteScript,
    Realtime,
    Script,
    Style,
    Live,
    Ready,
}

impl Endpoint<'_> {
    fn takes(&self, method: &Method) -> bool {
        if self.is_posted() { *method == Method::POST } else { http::is_read(method) }
    }

    fn taken(&self) -> &'static str {
        if self.is_posted() { "POST, OPTIONS" } else { http::READ }
    }

    fn is_posted(&self) -> bool {
        matches!(self, Self::Views)
    }
}

/// The table of routes.
fn endpoint(path: &str) -> Option<Endpoint<'_>> {
    Some(match path {
        paths::VIEWS => Endpoint::Views,
        paths::PIXEL => Endpoint::Pixel,
        paths::SITE_SCRIPT => Endpoint::SiteScript,
        paths::DEMOPAGE_SCRIPT => Endpoint::Script,
        paths::DEMOPAGE_STYLE => Endpoint::Style,
        paths::REALTIME => Endpoint::Realtime,
        paths::LIVEZ => Endpoint::Live,
        paths::READYZ => Endpoint::Ready,
        _ => match id_in(paths::DEMOPAGE, path) {
            Some(article) => Endpoint::Demopage(article),
            None => Endpoint::Article(id_in(paths::ARTICLE, path)?),
        },
    })
}

/// The answer to a request with many views.
#[derive(Serialize)]
struct BulkResponse {
    accepted: usize,
    rejected: usize,
    /// Neither: of bots, or of people who ask not to be followed.
    #[serde(skip_serializing_if = "is_none")]
    left_out: usize,
    /// The first ones that were rejected.
    errors: Vec<RejectedView>,
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

#[derive(Serialize)]
struct RejectedView {
    /// Position in the request, from 0.
    index: usize,
    error: String,
}

/// Says with an answer that a view is not counted, and why.
fn tell(answer: &mut HttpResponse, left_out: Option<LeftOut>) {
    if let Some(why) = left_out {
        answer.headers_mut().insert("footfall-not-counted", HeaderValue::from_static(why.word()));
    }
}

impl Routes {
    /// Routes that count through `intake` and read through `reads`.
    #[must_use]
    pub fn new(config: &Config, intake: Intake, reads: Arc<Reads>, visitors: Visitors, readiness: Readiness) -> Self {
        Self {
            intake,
            reads,
            visitors,
            budgets: Budgets::new(&config.ingest),
            origins: Origins::new(&config.ingest.allowed_origins),
            readiness,
            answers: Answers::new(),
            rejected: telemetry::counters(
                "footfall_views_rejected_total",
                "Views, and requests with views, that were refused because of what they say, by reason.",
                "reason",
            ),
            dashboard_url: config.dashboard.url.as_str().trim_end_matches('/').to_owned(),
            bodies: Bodies::new(&config.ingest),
            request_views_max: config.ingest.request_views_max.get(),
        }
    }

    /// Answers one request that came from `peer`.
    pub async fn answer(self: Arc<Self>, peer: IpAddr, request: Request<Incoming>) -> HttpResponse {
        let (head, body) = request.into_parts();
        let answer = self.route(peer, &head, body).await;
        self.answers.count(answer.status());
        answer
    }

    async fn route(&self, peer: IpAddr, head: &Parts, body: Incoming) -> HttpResponse {
        let path = head.uri.path();
        let Some(endpoint) = endpoint(path) else {
            // Some load balancers look by this whether somebody is there.
            if path == "*" && head.method == Method::OPTIONS {
                return http::other_method(&head.method, path, "GET, HEAD, POST, OPTIONS");
            }
            let message = "there is nothing here: see /demopage/{article}?usrid=U, /v1/views and /v1/articles/{article}, \
                            where a / in the article is written %2F";
            return http::sentence(StatusCode::NOT_FOUND, message);
        };
        let counts = matches!(endpoint, Endpoint::Views | Endpoint::Pixel | Endpoint::Demopage(_));
        // What the script in pages of other sites asks for.
        let is_for_pages = matches!(endpoint, Endpoint::Views | Endpoint::Article(_));
        let mut answer = if endpoint.takes(&head.method) {
            self.serve(endpoint, peer, head, body).await.unwrap_or_else(|failure| {
                if let (true, Failure::Rejected(rejection)) = (counts, &failure) {
                    self.reject(rejection.reason, 1, Some(rejection));
                }
                failure.answer()
            })
        } else {
            let mut answer = http::other_method(&head.method, path, endpoint.taken());
            if is_for_pages && head.method == Method::OPTIONS {
                self.origins.allow(if endpoint.is_posted() { "POST" } else { "GET, HEAD" }, &head.headers, &mut answer);
            }
            answer
        };
        if is_for_pages {
            self.origins.mark(&head.headers, &mut answer);
        }
        answer
    }

    async fn serve(
        &self,
        endpoint: Endpoint<'_>,
        peer: IpAddr,
        head: &Parts,
        body: Incoming,
    ) -> Result<HttpResponse, Failure> {
        let (query, headers) = (head.uri.query(), &head.headers);
        let visitor = || self.visitors.visitor(peer, &head.method, headers);
        match endpoint {
            Endpoint::Views => self.post_views(visitor(), headers, body).await.map(|answer| self.mark(answer)),
            Endpoint::Pixel => self.pixel(visitor(), query).await.map(|answer| self.mark(answer)),
            Endpoint::Demopage(article) => {
                self.demopage(visitor(), article, query).await.map(|answer| self.mark(answer))
            }
            Endpoint::Article(article) => self.article(article, headers).await,
            Endpoint::SiteScript => Ok(page::site_script(headers)),
            Endpoint::Realtime => Ok(self.realtime(query)),
            Endpoint::Script => Ok(http::text(StatusCode::OK, "text/javascript; charset=utf-8", page::SCRIPT)),
            Endpoint::Style => Ok(http::text(StatusCode::OK, "text/css; charset=utf-8", page::STYLE)),
            Endpoint::Live => Ok(http::sentence(StatusCode::OK, "alive")),
            Endpoint::Ready => Ok(self.readiness.answer()),
        }
    }

    /// Who sends views often ignores the answer, so a refusal is shown to the operator, too.
    fn reject(&self, reason: Reason, views: usize, example: Option<&Rejection>) {
        self.rejected.with_label_values(&[reason.label()]).inc_by(views as u64);
        if self.readiness.note(reason.note()) {
            let example = example.map(|rejection| format!(": {rejection}")).unwrap_or_default();
            warn!("{}{example}; further ones are only counted", reason.note());
        }
    }

    /// Says with the answer that the views are counted with less than there should be.
    fn mark(&self, mut answer: HttpResponse) -> HttpResponse {
        if let Some(what) = self.readiness.degraded()
            && let Ok(what) = HeaderValue::from_str(&what)
        {
            answer.headers_mut().insert("footfall-degraded", what);
        }
        answer
    }

    async fn post_views(
        &self,
        visitor: Visitor<'_>,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<HttpResponse, Failure> {
        let is_ndjson = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.to_ascii_lowercase().contains("ndjson"));
        if let Some(reason) = http::compressed(headers) {
            return Err(Rejection::new(Reason::Encoded, reason).into());
        }
        let body = self.bodies.whole(body).await?;
        match posted::posted(body.bytes(), is_ndjson, self.request_views_max)? {
            Posted::One(sent) => {
                let mut answer = http::empty(StatusCode::NO_CONTENT);
                tell(&mut answer, self.count(&visitor, visitor.view(sent, posted::missing_in_body)?).await?);
                Ok(answer)
            }
            Posted::Many(many) => {
                let mut views = Vec::with_capacity(many.sent.len());
                let (mut left_out, mut why, mut rejected) = (0, None, many.rejected);
                for (index, sent) in many.sent {
                    match visitor.view(sent, posted::missing_in_body) {
                        Ok(Ok(view)) => views.push(view),
                        Ok(Err(reason)) => {
                            left_out += 1;
                            why = Some(reason);
                        }
                        Err(rejection) => rejected.add(index, rejection.reason, || rejection),
                    }
                }
                for (reason, views) in &rejected.reasons {
                    let example =
                        rejected.first.iter().map(|(_, rejection)| rejection).find(|first| first.reason == *reason);
                    self.reject(*reason, *views, example);
                }
                let accepted = views.len();
                if accepted > 0 {
                    self.count_all(&visitor, views).await?;
                }
                let count = rejected.count();
                let errors = rejected.first.into_iter();
                let errors =
                    errors.map(|(index, Rejection { message: error, .. })| RejectedView { index, error }).collect();
                let mut answer =
                    http::json(StatusCode::OK, &BulkResponse { accepted, rejected: count, left_out, errors });
                tell(&mut answer, why);
                Ok(answer)
            }
        }
    }

    /// Counts one view; answers why it is left out, if it is.
    async fn count(&self, visitor: &Visitor<'_>, fate: Fate) -> Result<Option<LeftOut>, Failure> {
        match fate {
            Ok(view) => self.count_all(visitor, vec![view]).await?,
            Err(why) => return Ok(Some(why)),
        }
        Ok(None)
    }

    /// Counts all views of one request, or none.
    async fn count_all(&self, visitor: &Visitor<'_>, views: Vec<View>) -> Result<(), Failure> {
        if let Some(budgets) = &self.budgets {
            budgets.take(visitor.limited(), &views, Instant::now())?;
        }
        Ok(self.intake.count(views).await?)
    }

    async fn pixel(&self, visitor: Visitor<'_>, query: Option<&str>) -> Result<HttpResponse, Failure> {
        let article = request::article_in_query(query, "article")?;
        let user = request::user_in_query(query, "user")?;
        let id = request::view_id_in_query(query, "id")?;
        let missing = || request::missing_in_query("user");
        let left_out = self.count(&visitor, visitor.view(Sent { article, user, id }, missing)?).await?;
        let mut answer = http::text(StatusCode::OK, "image/gif", page::PIXEL);
        tell(&mut answer, left_out);
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(answer)
    }

    async fn demopage(
        &self,
        visitor: Visitor<'_>,
        article: &str,
        query: Option<&str>,
    ) -> Result<HttpResponse, Failure> {
        let missing = || request::missing_in_query("usrid");
        let article = request::article_in_path(article)?;
        // The page says by whom it is read, so there must be somebody.
        let user = request::user_in_query(query, "usrid")?.ok_or_else(missing)?;
        let sent = Sent { article: article.clone(), user: Some(user.clone()), id: None };
        let left_out = self.count(&visitor, visitor.view(sent, missing)?).await?;
        let numbers = self.reads.article(&article).await;
        let page = page::render(&article, &user, left_out, &numbers);
        let mut answer = http::text(StatusCode::OK, "text/html; charset=utf-8", page);
        tell(&mut answer, left_out);
        let headers = answer.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::CONTENT_SECURITY_POLICY));
        Ok(answer)
    }

    async fn article(&self, article: &str, headers: &HeaderMap) -> Result<HttpResponse, Failure> {
        let article = request::article_in_path(article)?;
        Ok(self.reads.answer(&article, headers).await)
    }

    /// A browser that asks the wrong service for the live numbers is shown the way.
    fn realtime(&self, query: Option<&str>) -> HttpResponse {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let location = format!("{}/realtime{query}", self.dashboard_url);
        let mut answer = http::sentence(StatusCode::TEMPORARY_REDIRECT, &format!("the live numbers are at {location}"));
        if let Ok(location) = HeaderValue::from_str(&location) {
            answer.headers_mut().insert(LOCATION, location);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_what_the_list_of_paths_says() {
        let sample = |form: &str| form.replace("{article...}", "a/b").replace("{article}", "a%2Freaders");
        for form in paths::INGEST {
            assert!(endpoint(&sample(form)).is_some(), "{form}");
        }
        // What is not on it, although ingest has it, has no load balancer before it.
        let alone = [paths::REALTIME, paths::LIVEZ, paths::READYZ];
        for form in paths::DASHBOARD {
            let path = sample(form).replace("{user}", "u").replace("{file}", "app.js");
            assert_eq!(endpoint(&path).is_some(), alone.contains(&form), "{path}");
        }
        for path in ["/v1/articles/a/b", "/v1/views/", "//v1/views", "/v1/articles", "/V1/views"] {
            assert!(endpoint(path).is_none(), "{path}");
        }
    }
}
