//! One connection's work: take the next views, wait until they are due, send them, report.

use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use footfall_proof::ledger::Outcome;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{Connection, Exchange};
use super::plan::{Ids, Plan};
use super::recorder::Record;
use crate::url::HttpUrl;

/// After the first failure in a row; doubled by each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
/// The longest pause: how late a connection may notice that the server is back.
const PAUSE_MAX: Duration = Duration::from_millis(320);

/// Bytes of an answer that are shown.
const ANSWER_BYTES_MAX: usize = 300;

/// What the connections share.
pub(super) struct Run {
    plan: Arc<Plan>,
    next_request: AtomicU64,
    started: Instant,
    /// After `started`.
    last_success_ms: AtomicU64,
    patience: Duration,
    stop: CancellationToken,
    gave_up: Mutex<Option<String>>,
    /// What was answered when views were refused, the last time.
    refusal: Mutex<String>,
}

impl Run {
    /// Starts the clock. After `stop` no further views are sent.
    pub(super) fn start(plan: Arc<Plan>, patience: Duration, stop: CancellationToken) -> Self {
        Self {
            plan,
            next_request: AtomicU64::new(0),
            started: Instant::now(),
            last_success_ms: AtomicU64::new(0),
            patience,
            stop,
            gave_up: Mutex::new(None),
            refusal: Mutex::default(),
        }
    }

    /// The last failure, if the run was given up.
    pub(super) fn gave_up(&self) -> Option<String> {
        self.gave_up.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last answer that refused views.
    pub(super) fn refusal(&self) -> String {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it was stopped from outside.
    pub(super) fn was_interrupted(&self) -> bool {
        self.stop.is_cancelled() && self.gave_up().is_none()
    }

    /// The next views that nobody has taken yet.
    fn take(&self) -> Option<Range<u64>> {
        if self.stop.is_cancelled() {
            return None;
        }
        self.plan.request(self.next_request.fetch_add(1, Ordering::Relaxed))
    }

    /// Waits until a view is due; answers the time from which its latency counts, or none if the run ended before.
    async fn wait_until_due(&self, view: u64) -> Option<Instant> {
        let Some(due) = self.plan.due(view) else {
            return Some(Instant::now());
        };
        let due = self.started + due;
        if due > Instant::now() {
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.stop.cancelled() => return None,
            }
        }
        Some(due)
    }

    fn succeeded(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_success_ms.store(now, Ordering::Relaxed);
    }

    /// Ends the run for all connections if none has had a success for too long.
    fn failed(&self, why: &str) {
        let last_success = Duration::from_millis(self.last_success_ms.load(Ordering::Relaxed));
        if self.started.elapsed() > last_success + self.patience && !self.stop.is_cancelled() {
            *self.gave_up.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
            self.stop.cancel();
        }
    }
}

/// Sends views until there are none left or the run is stopped: to the first of `targets`, and to the next one whenever
/// a connection cannot be opened, as a load balancer would.
pub(super) async fn send_views(run: Arc<Run>, targets: Vec<HttpUrl>, records: mpsc::Sender<Record>) {
    let mut request = RequestWriter::new(&targets[0], run.plan.batch);
    let mut sender = Sender { run: Arc::clone(&run), targets, connection: None, failures: 0 };
    while let Some(views) = run.take() {
        let Some(due) = run.wait_until_due(views.start).await else {
            return;
        };
        let bytes = request.write(&run.plan, views.clone());
        let Some(outcome) = sender.send(bytes, views.end - views.start).await else {
            return;
        };
        let record = Record { views, outcome, latency: due.elapsed() };
        if records.send(record).await.is_err() {
            return; // The ledger cannot be written any more: its error ends the run.
        }
        sender.pause_after_failure().await; // Before the next views are taken, so that it is not part of their latency.
    }
}

struct Sender {
    run: Arc<Run>,
    /// The one in use is at the front.
    targets: Vec<HttpUrl>,
    connection: Option<Connection>,
    /// In a row.
    failures: u32,
}

impl Sender {
    /// Sends a request, once: it is tried again only as long as none of it was sent. Answers none if the run ended
    /// before.
    async fn send(&mut self, request: &[u8], views: u64) -> Option<Outcome> {
        while !self.run.stop.is_cancelled() {
            if self.connection.is_none() {
                let opened = tokio::select! {
                    opened = Connection::open(&self.targets[0].address) => opened,
                    () = self.run.stop.cancelled() => return None,
                };
                match opened {
                    Ok(connection) => self.connection = Some(connection),
                    Err(error) => {
                        self.targets.rotate_left(1);
                        self.failed(&error.to_string());
                        self.pause_after_failure().await;
                        continue;
                    }
                }
            }
            let connection = self.connection.as_mut().expect("it was just opened");
            match connection.exchange(request).await {
                Exchange::Answered { status, body, reusable } => {
                    let outcome = judge(status, body, views);
                    if outcome == Outcome::Refused {
                        let refusal = answer(status, body);
                        *self.run.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
                    }
                    if !reusable {
                        self.connection = None;
                    }
                    if outcome == Outcome::Unknown {
                        self.failed(&format!("the answer {status}"));
                    } else {
                        self.failures = 0;
                        self.run.succeeded();
                    }
                    return Some(outcome);
                }
                Exchange::NotSent => {
                    self.connection = None;
                    self.failed("the server closed the connection");
                    self.pause_after_failure().await;
                }
                Exchange::Broken => {
                    self.connection = None;
                    self.failed("the connection broke, or no answer came in time");
                    return Some(Outcome::Unknown);
                }
            }
        }
        None
    }

    fn failed(&mut self, why: &str) {
        self.failures += 1;
        self.run.failed(why);
    }

    /// Leaves a server in trouble some air, and does not burn through the views while it cannot take them.
    async fn pause_after_failure(&self) {
        if self.failures > 0 {
            let pause = PAUSE_MAX.min(PAUSE_FIRST * (1 << self.failures.min(16)) / 2);
            tokio::select! {
                () = tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))) => {}
                () = self.run.stop.cancelled() => {}
            }
        }
    }
}

/// An answer as a part of a sentence.
fn answer(status: u16, body: &[u8]) -> String {
    let body = String::from_utf8_lossy(&body[..body.len().min(ANSWER_BYTES_MAX)]);
    let line: String = body.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("the answer was {status} {}", line.trim()).trim_end().to_owned()
}

/// What an answer means for the views of its request, all of which are valid.
fn judge(status: u16, body: &[u8], views: u64) -> Outcome {
    match status {
        200..300 => match accepted(body) {
            Some(accepted) if accepted == views => Outcome::Acknowledged,
            None if views == 1 => Outcome::Acknowledged,
            // Some were taken, and nothing says which.
            Some(_) | None => Outcome::Unknown,
        },
        400..500 => Outcome::Refused,
        _ => Outcome::Unknown,
    }
}

/// The answer to many views is `{"accepted":A,"rejected":R}`, the answer to one is empty.
fn accepted(body: &[u8]) -> Option<u64> {
    serde_json::from_slice::<serde_json::Value>(body).ok()?.get("accepted")?.as_u64()
}

/// Writes requests over each other, into the same memory.
struct RequestWriter {
    head: String,
    body: Vec<u8>,
    request: Vec<u8>,
    ids: Ids,
}

impl RequestWriter {
    fn new(target: &HttpUrl, batch: u64) -> Self {
        let content_type = if batch == 1 { "application/json" } else { "application/x-ndjson" };
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: {content_type}\r\ncontent-length: ",
            target.path("/v1/views"),
            target.address,
        );
        Self { head, body: vec![], request: vec![], ids: Ids::default() }
    }

    fn write(&mut self, plan: &Plan, views: Range<u64>) -> &[u8] {
        let infallible = "writing to memory does not fail";
        self.body.clear();
        for view in views {
            plan.write_ids(view, &mut self.ids);
            // These ids need no escaping.
            writeln!(self.body, r#"{{"article":"{}","user":"{}"}}"#, self.ids.article, self.ids.user)
                .expect(infallible);
        }
        self.request.clear();
        self.request.extend_from_slice(self.head.as_bytes());
        write!(self.request, "{}\r\n\r\n", self.body.len()).expect(infallible);
        self.request.extend_from_slice(&self.body);
        &self.request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_judged_by_status_and_count() {
        for (status, body, views, outcome) in [
            (204, "", 1, Outcome::Acknowledged),
            (202, "queued", 1, Outcome::Acknowledged),
            (200, r#"{"accepted":3,"rejected":0}"#, 3, Outcome::Acknowledged),
            (200, r#"{"accepted":2,"rejected":1}"#, 3, Outcome::Unknown),
            (200, r#"{"accepted":0,"rejected":1}"#, 1, Outcome::Unknown),
            (204, "", 3, Outcome::Unknown),
            (404, "", 1, Outcome::Refused),
            (413, "", 3, Outcome::Refused),
            (503, "", 1, Outcome::Unknown),
            (302, "", 1, Outcome::Unknown),
        ] {
            assert_eq!(judge(status, body.as_bytes(), views), outcome, "{status} {body}");
        }
    }

    #[test]
    fn a_request_is_complete() {
        let target = HttpUrl::parse("http://127.0.0.1:8000/base").expect("valid");
        let plan = Plan::new(1, 10, 2, None, 1, 1);
        let mut writer = RequestWriter::new(&target, 2);
        for _ in 0..2 {
            assert_eq!(
                String::from_utf8_lossy(writer.write(&plan, 4..6)),
                "POST /base/v1/views HTTP/1.1\r\nhost: 127.0.0.1:8000\r\ncontent-type: application/x-ndjson\r\n\
                 content-length: 70\r\n\r\n{\"article\":\"load-1-1\",\"user\":\"u1\"}\n{\"article\":\"load-1-1\",\"user\":\"u1\"}\n"
            );
        }
    }
}
