//! What all parts of one simulated world share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::trace::Trace;
use footfall_proof::{Dice, Hurt, Moment, Network, Who};

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
    /// Who is to be hit at which step.
    pub aims: Aims,
    /// Which messages get lost.
    pub rules: Rules,
}

/// Blows that wait for their victim to come to a step.
#[derive(Default)]
pub struct Aims {
    waiting: Mutex<Vec<Aim>>,
    hit: Mutex<Vec<(usize, Aim)>>,
    /// Rings when somebody was hit.
    pub bell: Notify,
}

/// What happens to whoever is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is killed.
    Dies,
    /// It stands still.
    StandsStill,
}

/// Hit the first of `who` that comes to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aim {
    /// Which clients.
    pub who: Who,
    /// Name of the script or of the transaction.
    pub step: &'static str,
    /// Before a store has heard of it, or before the client hears that it is done, or then.
    pub moment: Moment,
    /// How long until it is back; 0 for a random time.
    pub hold_ms: u64,
    /// What happens to it.
    pub then: Then,
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

    /// A client has come to a step; whether it is hit.
    pub fn reached(&self, client: usize, step: &str, moment: Moment) -> bool {
        let mut waiting = lock(&self.waiting);
        let is_meant =
            |aim: &Aim| aim.step == step && aim.moment == moment && clients(aim.who).any(|who| who == client);
        let Some(at) = waiting.iter().position(is_meant) else { return false };
        lock(&self.hit).push((client, waiting.remove(at)));
        self.bell.notify_one();
        true
    }

    /// Who was hit since the last call.
    pub fn take(&self) -> Vec<(usize, Aim)> {
        std::mem::take(&mut lock(&self.hit))
    }
}

/// Single messages that get lost.
#[derive(Default)]
pub struct Rules(Mutex<(usize, Vec<Rule>)>);

struct Rule {
    number: usize,
    who: Who,
    step: &'static str,
    hurt: Hurt,
    /// By client.
    times_left: [u64; CLIENTS],
}

impl Rules {
    /// So many messages of a step of each of these clients are hurt. Answers the rule's number.
    pub fn add(&self, who: Who, step: &'static str, hurt: Hurt, times: u64) -> usize {
        let (numbers, rules) = &mut *lock(&self.0);
        *numbers += 1;
        rules.push(Rule { number: *numbers, who, step, hurt, times_left: [times; CLIENTS] });
        *numbers
    }

    /// The rule does not hold any more.
    pub fn remove(&self, number: usize) {
        lock(&self.0).1.retain(|rule| rule.number != number);
    }

    /// None does.
    pub fn clear(&self) {
        lock(&self.0).1.clear();
    }

    fn find(&self, client: usize, step: &str) -> Option<Hurt> {
        let rules = &mut lock(&self.0).1;
        let is_meant = |rule: &&mut Rule| {
            rule.step == step && rule.times_left[client] > 0 && clients(rule.who).any(|who| who == client)
        };
        let rule = rules.iter_mut().find(is_meant)?;
        rule.times_left[client] -= 1;
        Some(rule.hurt)
    }
}

impl Stage {
    /// The way of one request, which may be hurt, or be the last that its sender sends.
    #[must_use]
    pub fn way(&self, client: usize, step: &str, network: Network) -> Network {
        if self.aims.reached(client, step, Moment::Request) {
            return Network { silent: true, ..network };
        }
        match self.rules.find(client, step) {
            Some(Hurt::DropRequest | Hurt::CutRequest(_)) => Network { lost_request: 100, ..network },
            Some(Hurt::DropReply | Hurt::CutReply(_)) => Network { lost_answer: 100, ..network },
            None => network,
        }
    }
}

/// The clients that are meant, by number.
pub fn clients(who: Who) -> impl Iterator<Item = usize> {
    let range = match who {
        Who::All => 0..CLIENTS,
        Who::Ingests => 0..INGESTS,
        Who::Flushers => INGESTS..READER,
        Who::Ingest(index) => index..index + 1,
        Who::Flusher(index) => INGESTS + index..INGESTS + index + 1,
        Who::Reader => READER..CLIENTS,
    };
    range.filter(|client| *client < CLIENTS)
}

/// Who has this number.
#[must_use]
pub fn client(number: usize) -> Who {
    match number {
        0..INGESTS => Who::Ingest(number),
        INGESTS..READER => Who::Flusher(number - INGESTS),
        _ => Who::Reader,
    }
}

/// Locks; a run has one thread, so that nobody ever waits.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    network: Network,
    patience: Duration,
    serve: impl Future<Output = Option<T>> + Send + 'static,
) -> Result<T, Unanswered> {
    let dice = &stage.dice;
    if network.refused {
        tokio::time::sleep(Duration::from_millis(1)).await;
        return Err(Unanswered::Refused);
    }
    let is_lost = network.silent || dice.chance(network.lost_request);
    let is_answer_lost = dice.chance(network.lost_answer);
    // Some losses are seen at once, because the connection is closed; of the others nobody hears.
    let is_seen = !network.silent && dice.chance(60);
    let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    let there_ms = match dice.chance(network.late) {
        true => patience_ms + dice.range(0, 3000),
        false => dice.range(0, 2) + dice.range(0, network.slow_ms),
    };
    let back_ms = dice.range(1, 2) + dice.range(0, network.slow_ms);
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
