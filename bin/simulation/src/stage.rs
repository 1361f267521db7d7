//! What all parts of one simulated world share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::dice::Dice;
use crate::trace::Trace;

/// Clients of the stores: two ingests, then two flushers, then one who reads.
pub const CLIENTS: usize = 5;
/// How many of them are ingests.
pub const INGESTS: usize = 2;
/// How many are flushers.
pub const FLUSHERS: usize = 2;
/// The one who reads.
pub const READER: usize = INGESTS + FLUSHERS;

/// What all parts share.
pub struct Stage {
    /// Chance of the network and of what runs on it.
    pub dice: Dice,
    /// What has happened.
    pub trace: Arc<Trace>,
    /// Who is to be killed at which step.
    pub aims: Aims,
}

/// Kills that wait for a step of their victim in a store.
#[derive(Default)]
pub struct Aims {
    waiting: Mutex<Vec<Aim>>,
    hit: Mutex<Vec<usize>>,
    /// Rings when somebody was hit.
    pub bell: Notify,
}

/// Kill `who` as soon as a store has done `step` for it, before it hears of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aim {
    /// Which client.
    pub who: usize,
    /// Name of the script or of the transaction.
    pub step: &'static str,
}

impl Aims {
    /// Waits for a step.
    pub fn add(&self, aim: Aim) {
        lock(&self.waiting).push(aim);
    }

    /// Forgets whatever has not happened.
    pub fn clear(&self) {
        lock(&self.waiting).clear();
    }

    /// A step was done.
    pub fn done(&self, aim: Aim) {
        let mut waiting = lock(&self.waiting);
        if let Some(at) = waiting.iter().position(|waits| *waits == aim) {
            waiting.remove(at);
            lock(&self.hit).push(aim.who);
            self.bell.notify_one();
        }
    }

    /// Who was hit since the last call.
    pub fn take(&self) -> Vec<usize> {
        std::mem::take(&mut lock(&self.hit))
    }
}

/// Locks; a run has one thread, so that nobody ever waits.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the way between one client and one store is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weather {
    /// Connections are refused.
    pub refused: bool,
    /// Nothing arrives and nobody says so.
    pub silent: bool,
    /// So many of 100 requests get lost.
    pub lost_request: u64,
    /// So many of 100 answers get lost: what was asked for is done.
    pub lost_answer: u64,
    /// So many of 100 requests arrive after the client has given up.
    pub late: u64,
    /// Longest additional time under way, in milliseconds.
    pub slow_ms: u64,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// Nobody listens: nothing was done.
    Refused,
    /// None came in time.
    TimedOut,
    /// The connection broke.
    Broken,
}

/// One request and its answer. `serve` answers none if the server has died meanwhile. What was sent may be done even
/// if the client is gone.
pub async fn exchange<T: Send + 'static>(
    stage: &Arc<Stage>,
    weather: Weather,
    patience: Duration,
    serve: impl Future<Output = Option<T>> + Send + 'static,
) -> Result<T, Unanswered> {
    let dice = &stage.dice;
    if weather.refused {
        tokio::time::sleep(Duration::from_millis(1)).await;
        return Err(Unanswered::Refused);
    }
    let is_lost = weather.silent || dice.chance(weather.lost_request);
    let is_answer_lost = dice.chance(weather.lost_answer);
    // Some losses are seen at once, because the connection is closed; of the others nobody hears.
    let is_seen = !weather.silent && dice.chance(60);
    let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    let there_ms = match dice.chance(weather.late) {
        true => patience_ms + dice.range(0, 3000),
        false => dice.range(0, 2) + dice.range(0, weather.slow_ms),
    };
    let back_ms = dice.range(1, 2) + dice.range(0, weather.slow_ms);
    let (answer, answered) = oneshot::channel();
    tokio::spawn(async move {
        sleep_ms(there_ms).await;
        let reply = if is_lost { None } else { serve.await };
        sleep_ms(back_ms).await;
        let is_lost = is_lost || is_answer_lost;
        if is_lost && !is_seen {
            sleep_ms(patience_ms.saturating_add(1)).await;
        } else if let Some(reply) = reply.filter(|_| !is_lost) {
            let _ = answer.send(reply); // The client may be gone.
        }
    });
    match tokio::time::timeout(patience, answered).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(_)) => Err(Unanswered::Broken),
        Err(_) => Err(Unanswered::TimedOut),
    }
}

/// Sleeps; for 0 only lets others go first.
pub async fn sleep_ms(ms: u64) {
    match ms {
        0 => tokio::task::yield_now().await,
        _ => tokio::time::sleep(Duration::from_millis(ms)).await,
    }
}
