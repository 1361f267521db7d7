//! Reads articles' numbers from ingest, as a client does.

use std::fmt::Write;
use std::time::Duration;

use footfall_shared::protocol::Article;
use serde_json::Value;
use tokio::time::Instant;

use crate::Result;
use crate::load::client::{Connection, Exchange};
use crate::url::HttpUrl;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long a cached number may be behind what came to MySQL on other ways than a flush.
const BEHIND_MAX: Duration = Duration::from_secs(3);
/// Pause before another try.
const PAUSE: Duration = Duration::from_millis(100);
/// Numbers read of one article.
const READS: u32 = 3;

/// The numbers read of one article.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) lowest: u64,
    pub(super) highest: u64,
    /// Whether one was lower than the one before.
    pub(super) went_back: bool,
}

/// Reads from one ingest.
pub(super) struct Reader {
    url: HttpUrl,
    connection: Option<Connection>,
}

impl Reader {
    pub(super) fn new(url: &str) -> Result<Self> {
        Ok(Self { url: HttpUrl::parse(url)?, connection: None })
    }

    /// A few numbers in a row; none if ingest does not answer, or says itself that they may be behind.
    /// If the first is below `expected`, ingest has a moment to catch up.
    pub(super) async fn read(&mut self, article: &Article, expected: Option<u64>) -> Option<Reading> {
        let deadline = Instant::now() + BEHIND_MAX;
        let mut views = self.views(article).await?;
        while expected.is_some_and(|expected| views < expected) && Instant::now() < deadline {
            tokio::time::sleep(PAUSE).await;
            views = self.views(article).await?;
        }
        let mut reading = Reading { lowest: views, highest: views, went_back: false };
        for _ in 1..READS {
            let next = self.views(article).await?;
            reading.went_back |= next < views;
            reading.lowest = reading.lowest.min(next);
            reading.highest = reading.highest.max(next);
            views = next;
        }
        Some(reading)
    }

    async fn views(&mut self, article: &Article) -> Option<u64> {
        let views = tokio::time::timeout(ANSWER_MAX, self.try_to_read(article)).await.ok().flatten();
        if views.is_none() {
            self.connection = None;
        }
        views
    }

    async fn try_to_read(&mut self, article: &Article) -> Option<u64> {
        let path = self.url.path(&format!("/v1/articles/{}", encoded(article)));
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.url.address);
        if self.connection.is_none() {
            self.connection = Some(Connection::open(&self.url.address).await.ok()?);
        }
        let connection = self.connection.as_mut().expect("it was just opened");
        match connection.exchange(request.as_bytes()).await {
            Exchange::Answered { status: 200, body, reusable: true } => views_in(body),
            Exchange::Answered { .. } | Exchange::NotSent | Exchange::Broken => None,
        }
    }
}

/// The views in ingest's answer, unless it says that they may be behind.
fn views_in(body: &[u8]) -> Option<u64> {
    let numbers: Value = serde_json::from_slice(body).ok()?;
    if numbers["degraded"].is_null() { numbers["views"].as_u64() } else { None }
}

/// Any id as a part of a path.
fn encoded(article: &Article) -> String {
    let mut path = String::new();
    for byte in article.as_bytes() {
        write!(path, "%{byte:02X}").expect("writing to a string does not fail");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_may_be_behind_are_left_out() {
        assert_eq!(views_in(br#"{"article":"a","views":7,"degraded":null}"#), Some(7));
        assert_eq!(views_in(br#"{"article":"a","views":7,"degraded":"redis is away"}"#), None);
        assert_eq!(views_in(b"<html>"), None);
    }

    #[test]
    fn any_id_is_a_path() {
        let article = Article::parse("a/\u{e9}".as_bytes()).expect("test id");
        assert_eq!(encoded(&article), "%61%2F%C3%A9");
    }
}
