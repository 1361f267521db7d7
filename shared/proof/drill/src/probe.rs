//! Watches the services beside the load: when they were degraded, and when that was over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::http::{self, Answer};

/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(40);
/// A service that needs longer for an answer does not serve.
const TIMEOUT: Duration = Duration::from_millis(500);
/// Counts a view of an article that is in no ledger, so it does not disturb what is proven.
const PIXEL: &str = "/v1/pixel.gif?article=drill-probe&user=probe";
/// The header of an answer that was not given as usual.
const HEADER: &str = "\r\nfootfall-degraded:";

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// Whether clients talk to it: then a view and a read are sent too, beside `/readyz`.
    pub(crate) serves_clients: bool,
}

/// Asks all services in turn, on a thread of its own, until it is told to end.
#[derive(Debug)]
pub(crate) struct Prober {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Timeline>,
}

impl Prober {
    /// Begins now. `article` is what reads ask for.
    pub(crate) fn start(targets: Vec<Target>, article: String) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let ended = Arc::clone(&ended);
            move || {
                let mut timeline = Timeline::default();
                while !ended.load(Ordering::Acquire) {
                    let is_well = targets.iter().all(|target| is_well(*target, &article));
                    timeline.0.push((Instant::now(), is_well));
                    thread::sleep(PAUSE);
                }
                timeline
            }
        });
        Self { ended, thread }
    }

    /// Ends it; answers what it saw.
    pub(crate) fn finish(self) -> Timeline {
        self.ended.store(true, Ordering::Release);
        // It does not panic; and without its times a run is still judged.
        self.thread.join().unwrap_or_default()
    }
}

/// Whether a service is ready and answers as usual, within the time that a probe gets.
pub(crate) fn is_well(target: Target, article: &str) -> bool {
    let ask = |path: &str| http::get(target.address, path, TIMEOUT).is_ok_and(|answer| is_as_usual(&answer));
    let paths = [PIXEL.to_owned(), format!("/v1/articles/{article}")];
    ask("/readyz") && (!target.serves_clients || paths.iter().all(|path| ask(path)))
}

fn is_as_usual(answer: &Answer) -> bool {
    let reason = answer.body.split_once("\"degraded\":").map_or("null", |(_, value)| value);
    answer.status == 200 && !answer.head.contains(HEADER) && ["null", "false"].iter().any(|no| reason.starts_with(no))
}

/// Moments, and whether all was well then.
#[derive(Debug, Default)]
pub(crate) struct Timeline(Vec<(Instant, bool)>);

impl Timeline {
    /// How long something was not well: each look counts for the time since the one before.
    pub(crate) fn degraded(&self) -> Duration {
        self.0.windows(2).filter(|pair| !pair[1].1).map(|pair| pair[1].0 - pair[0].0).sum()
    }

    /// How long after `healed` something was last not well; zero if nothing was. None if that went on to the end.
    pub(crate) fn recovered(&self, healed: Instant) -> Option<Duration> {
        match self.0.iter().rposition(|(_, is_well)| !is_well) {
            None => Some(Duration::ZERO),
            Some(last) => self.0.get(last + 1).map(|(when, _)| when.saturating_duration_since(healed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_not_as_usual_says_so() {
        let answer = |head: &str, body: &str| Answer { status: 200, head: head.to_owned(), body: body.to_owned() };
        assert!(is_as_usual(&answer("", "alive")));
        assert!(is_as_usual(&answer("", r#"{"views":1,"degraded":null,"source":"redis"}"#)));
        assert!(!is_as_usual(&answer("", r#"{"views":1,"degraded":"redis cannot be read","source":"mysql"}"#)));
        assert!(!is_as_usual(&answer("http/1.1 200 ok\r\nfootfall-degraded: redis is away", "GIF89a")));
        assert!(!is_as_usual(&Answer { status: 503, ..answer("", "") }));
    }

    #[test]
    fn time_that_was_not_well_is_summed() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let timeline = |looks: &[(u64, bool)]| Timeline(looks.iter().map(|(ms, well)| (at(*ms), *well)).collect());
        let seen = timeline(&[(0, true), (100, false), (250, false), (300, true), (400, false), (450, true)]);
        assert_eq!(seen.degraded(), Duration::from_millis(100 + 150 + 100));
        assert_eq!(seen.recovered(at(350)), Some(Duration::from_millis(100)));
        assert_eq!(seen.recovered(at(500)), Some(Duration::ZERO), "well again before it was healed");
        assert_eq!(timeline(&[(0, true)]).recovered(start), Some(Duration::ZERO));
        assert_eq!(timeline(&[(0, true), (10, false)]).recovered(start), None);
        assert_eq!(Timeline::default().degraded(), Duration::ZERO);
    }
}
