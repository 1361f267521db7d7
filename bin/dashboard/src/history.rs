//! The last minutes of the live numbers, so that a page that is opened now shows how they developed.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use footfall_shared::service::http::{self, HttpResponse};
use hyper::StatusCode;
use serde::Serialize;
use tokio::time::Instant;

use crate::now::Now;
use crate::snapshot::Snapshot;

/// Time between two samples.
const PERIOD: Duration = Duration::from_secs(5);
/// Samples that are kept: ten minutes.
const SAMPLES_MAX: usize = 120;

/// Samples of the live numbers, the oldest first.
#[derive(Default)]
pub(crate) struct History(Mutex<Samples>);

#[derive(Default)]
struct Samples {
    last_at: Option<Instant>,
    samples: VecDeque<Sample>,
}

/// See [`Snapshot`] for the fields, which are null where it was not known then; hit rates in percent over a minute.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Sample {
    at: String,
    views: Option<u64>,
    views_per_second: Option<f64>,
    stored_views_per_second: Option<f64>,
    pending_views: Option<u64>,
    lag_ms: Option<u64>,
    readers: Option<u64>,
    query_hits: Option<f64>,
    redis_hits: Option<f64>,
}

impl History {
    /// Takes a snapshot if a sample is due; none before anything is known.
    pub(crate) fn add(&self, now: Now, snapshot: &Snapshot) {
        let mut kept = self.samples();
        if snapshot.as_of.is_none() || kept.last_at.is_some_and(|at| now.at - at < PERIOD) {
            return;
        }
        kept.last_at = Some(now.at);
        if kept.samples.len() == SAMPLES_MAX {
            kept.samples.pop_front();
        }
        kept.samples.push_back(Sample {
            at: now.rfc3339(),
            views: snapshot.views,
            views_per_second: snapshot.views_per_second,
            stored_views_per_second: snapshot.stored_views_per_second,
            pending_views: snapshot.pending_views,
            lag_ms: snapshot.lag_ms,
            readers: snapshot.readers,
            query_hits: snapshot.query_hits.minute,
            redis_hits: snapshot.redis_hits.minute,
        });
    }

    /// The response with all samples.
    pub(crate) fn response(&self) -> HttpResponse {
        #[derive(Serialize)]
        struct Shown<'a> {
            period_ms: u128,
            samples: &'a VecDeque<Sample>,
        }
        let kept = self.samples();
        http::json(StatusCode::OK, &Shown { period_ms: PERIOD.as_millis(), samples: &kept.samples })
    }

    fn samples(&self) -> MutexGuard<'_, Samples> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_taken_at_their_pace_and_the_oldest_are_forgotten() {
        let history = History::default();
        let start = Instant::now();
        let at = |seconds| Now { at: start + Duration::from_secs(seconds), unix_ms: 1_000 * seconds };
        let mut snapshot = Snapshot::initial("s".into());
        history.add(at(0), &snapshot);
        assert!(history.samples().samples.is_empty(), "nothing is known yet");
        snapshot.as_of = Some("t".into());
        for second in 0..=(SAMPLES_MAX as u64 * 5) {
            snapshot.views = Some(second);
            history.add(at(second), &snapshot);
        }
        history.add(at(SAMPLES_MAX as u64 * 5 + 5), &Snapshot { views: None, ..snapshot });
        let views: Vec<Option<u64>> = history.samples().samples.iter().map(|sample| sample.views).collect();
        let gap = &views[SAMPLES_MAX - 2..];
        assert_eq!((views.len(), views[0], gap), (SAMPLES_MAX, Some(10), &[Some(600), None][..]));
    }
}
