//! How often those are asked who know which server has which keys: every second, and soon after an error that something else
//! can be behind.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::time::{sleep, timeout};

/// How often they are asked.
const PERIOD: Duration = Duration::from_secs(1);
/// The same while something is known to be missing.
const SHORT_PERIOD: Duration = Duration::from_millis(200);
/// They are not asked more often than that, whatever fails.
const PAUSE: Duration = Duration::from_millis(50);
/// How long one may take. One that hangs is not waited for any longer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// The rounds in which they are asked.
#[derive(Default)]
pub(super) struct Rounds {
    /// Somebody has seen an error that something else can be behind.
    doubt: Notify,
    begun: AtomicU64,
    turn: Mutex<()>,
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
}
