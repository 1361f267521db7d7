//! How often those are asked who know which server has which keys: every second, and soon after an error that something else
//! can be behind.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Mutex, MutexGuard, Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::service::telemetry::{self, IntCounter};

static MOVES: LazyLock<IntCounter> = LazyLock::new(|| {
    let help = "Times that Sentinels named another master, or that slots of a cluster were found elsewhere.";
    telemetry::counter("footfall_redis_moves_total", help)
});

/// How often they are asked.
const PERIOD: Duration = Duration::from_secs(1);
/// The same while something is known to be missing.
const SHORT_PERIOD: Duration = Duration::from_millis(100);
/// They are not asked more often than that, whatever fails.
const PAUSE: Duration = Duration::from_millis(50);
/// How long one may take. One that hangs is not waited for any longer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// How long the others are still waited for when most have answered.
const STRAGGLERS: Duration = Duration::from_millis(100);

/// What came of asking all of them, each of whom has a time-out of its own. Where most have answered, those that hang are
/// hardly waited for: what is asked is who has taken over from one of them.
pub(super) async fn answers<W, T, E>(
    mut open: FuturesUnordered<impl Future<Output = (W, Result<T, E>)>>,
) -> Vec<(W, Result<T, E>)> {
    let (all, mut most_at, mut answers) = (open.len(), None, Vec::with_capacity(open.len()));
    loop {
        let next = match most_at {
            None => open.next().await,
            Some(when) => timeout_at(when + STRAGGLERS, open.next()).await.unwrap_or(None),
        };
        let Some(answer) = next else { return answers };
        answers.push(answer);
        if most_at.is_none() && 2 * answers.iter().filter(|(_, answer)| answer.is_ok()).count() > all {
            most_at = Some(Instant::now());
        }
    }
}

/// The rounds in which they are asked.
#[derive(Default)]
pub(super) struct Rounds {
    /// Somebody has seen an error that something else can be behind.
    doubt: Notify,
    begun: AtomicU64,
    turn: Mutex<()>,
    moves: watch::Sender<u64>,
}

impl Rounds {
    /// Begins a round, which ends with what is answered; none if somebody else has begun one since.
    pub(super) async fn begin(&self) -> Option<MutexGuard<'_, ()>> {
        let before = self.begun.load(Ordering::Relaxed);
        let turn = self.turn.lock().await;
        if self.begun.load(Ordering::Relaxed) > before {
            return None;
        }
        self.begun.fetch_add(1, Ordering::Relaxed);
        Some(turn)
    }

    /// Waits for the time of the next one, which is sooner while something is missing.
    pub(super) async fn next(&self, is_missing: bool) {
        sleep(PAUSE).await;
        let period = if is_missing { SHORT_PERIOD } else { PERIOD };
        let _ = timeout(period - PAUSE, self.doubt.notified()).await; // Doubt or not, it is time.
    }

    /// Has the next one come soon.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Says that keys were found on another server. Those who wait at the one before hear of it first: what they wait for has
    /// failed, and that is nothing to hold against the other one.
    pub(super) fn moved(&self) {
        MOVES.inc();
        self.moves.send_modify(|moves| *moves += 1);
    }

    /// Changes whenever that is said.
    pub(super) fn moves(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of three, so many answer after these milliseconds; answers who did, and after which time that was known.
    async fn round(delays: [u64; 3]) -> (Vec<u64>, Duration) {
        let begun = Instant::now();
        let ask = |ms| async move {
            sleep(Duration::from_millis(ms).min(ANSWER_TIMEOUT)).await;
            (ms, if Duration::from_millis(ms) < ANSWER_TIMEOUT { Ok(()) } else { Err(()) })
        };
        let answers = answers(delays.into_iter().map(ask).collect()).await;
        (answers.into_iter().filter(|(_, answer)| answer.is_ok()).map(|(ms, _)| ms).collect(), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_is_not_waited_for_when_most_have_answered() {
        let hangs = 10_000;
        assert_eq!(round([3, 1, 2]).await, (vec![1, 2, 3], Duration::from_millis(3)));
        assert_eq!(round([hangs, 1, 2]).await, (vec![1, 2], Duration::from_millis(2) + STRAGGLERS));
        assert_eq!(round([90, 1, 2]).await, (vec![1, 2, 90], Duration::from_millis(90)), "only slow");
        assert_eq!(round([hangs, 1, hangs]).await, (vec![1], ANSWER_TIMEOUT), "most of them may have been away");
    }
}
