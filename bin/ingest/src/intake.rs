//! Where requests hand in their views and wait for the acknowledgement.

use std::sync::Arc;
use std::time::Duration;

use footfall_shared::protocol::{Shard, View};
use footfall_shared::service::telemetry::{self, IntCounter, IntGauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Why views were not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCounted {
    /// Too many views wait already, or nothing has room for them; these were not taken.
    #[error("there is no room for more views at the moment; these were not counted: try again later")]
    Full,
    /// No durable home could be confirmed in time.
    #[error("the counters cannot be reached; these views may be counted later: a repeat may count them twice")]
    Unknown,
}

/// Views of one request on their way to a batch.
pub(crate) struct Submission {
    pub(crate) views: Vec<View>,
    pub(crate) client: Client,
}

/// Where the acknowledgement of a submission arrives.
pub(crate) type Acknowledgement = oneshot::Receiver<Result<(), NotCounted>>;

impl Submission {
    pub(crate) fn new(views: Vec<View>, permits: OwnedSemaphorePermit) -> (Self, Acknowledgement) {
        let (answer, acknowledgement) = oneshot::channel();
        (Self { views, client: Client { answer, _permits: permits } }, acknowledgement)
    }
}

/// A request that waits for the acknowledgement of some of its views. The permits bound how many wait.
pub(crate) struct Client {
    answer: oneshot::Sender<Result<(), NotCounted>>,
    _permits: OwnedSemaphorePermit,
}

impl Client {
    pub(crate) fn answer(self, answer: Result<(), NotCounted>) {
        let _ = self.answer.send(answer); // It may have gone; what was counted is counted all the same.
    }
}

/// Where requests hand in their views. Cheap to clone; when all clones are gone the batchers end.
#[derive(Clone)]
pub struct Intake {
    shards: Arc<[(mpsc::UnboundedSender<Submission>, Arc<Semaphore>)]>,
    answer_timeout: Duration,
    metrics: Metrics,
}

impl Intake {
    /// An intake for so many shards, of each of which at most `queue_views_max` views wait, and for each shard where the
    /// submissions arrive.
    pub(crate) fn new(
        shards: u16,
        queue_views_max: usize,
        answer_timeout: Duration,
    ) -> (Self, Vec<mpsc::UnboundedReceiver<Submission>>) {
        let room = || Arc::new(Semaphore::new(queue_views_max.min(Semaphore::MAX_PERMITS)));
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..shards)
            .map(|_| {
                let (sender, receiver) = mpsc::unbounded_channel();
                ((sender, room()), receiver)
            })
            .unzip();
        (Self { shards: senders.into(), answer_timeout, metrics: Metrics::new() }, receivers)
    }

    /// Counts the views; answers when they have a durable home.
    pub async fn count(&self, views: Vec<View>) -> Result<(), NotCounted> {
        let count = views.len() as u64;
        let waiting = Waiting::new(&self.metrics.waiting, count);
        let result = self.submit(views).await;
        drop(waiting);
        match result {
            Ok(()) => self.metrics.accepted.inc_by(count),
            Err(NotCounted::Full) => self.metrics.refused.inc_by(count),
            Err(NotCounted::Unknown) => self.metrics.unknown.inc_by(count),
        }
        result
    }

    async fn submit(&self, views: Vec<View>) -> Result<(), NotCounted> {
        let all = async {
            let shards = u16::try_from(self.shards.len()).expect("there are at most u16::MAX shards");
            let shard_of = |view: &View| usize::from(Shard::of(&view.article, shards).0);
            if let [only] = views.as_slice() {
                return self.permit(shard_of(only), 1)?.submit(views)?.await.unwrap_or(Err(NotCounted::Unknown));
            }
            let mut by_shard = vec![vec![]; self.shards.len()];
            for view in views {
                by_shard[shard_of(&view)].push(view);
            }
            self.submit_parts(by_shard).await
        };
        tokio::time::timeout(self.answer_timeout, all).await.unwrap_or(Err(NotCounted::Unknown))
    }

    async fn submit_parts(&self, by_shard: Vec<Vec<View>>) -> Result<(), NotCounted> {
        let parts = by_shard.into_iter().enumerate().filter(|(_, views)| !views.is_empty());
        // All permits before the first view is submitted: a refused request has counted nothing.
        let permits: Vec<_> =
            parts.map(|(shard, views)| Ok((self.permit(shard, views.len())?, views))).collect::<Result<_, _>>()?;
        let answers: Vec<_> =
            permits.into_iter().map(|(permit, views)| permit.submit(views)).collect::<Result<_, _>>()?;
        let parts = answers.len();
        let mut result = Ok(());
        for answered in answers {
            // One shard may have refused what another has counted.
            match answered.await.unwrap_or(Err(NotCounted::Unknown)) {
                Ok(()) => {}
                Err(NotCounted::Full) if parts == 1 => result = Err(NotCounted::Full),
                Err(_) => result = Err(NotCounted::Unknown),
            }
        }
        result
    }

    fn permit(&self, shard: usize, views: usize) -> Result<Permit<'_>, NotCounted> {
        let (sender, room) = &self.shards[shard];
        let views = u32::try_from(views).map_err(|_| NotCounted::Full)?;
        let permits = Arc::clone(room).try_acquire_many_owned(views).map_err(|_| NotCounted::Full)?;
        Ok(Permit { sender, permits })
    }
}

/// Room for views of one shard.
struct Permit<'a> {
    sender: &'a mpsc::UnboundedSender<Submission>,
    permits: OwnedSemaphorePermit,
}

impl Permit<'_> {
    /// Hands the views in; the answer comes later.
    fn submit(self, views: Vec<View>) -> Result<Acknowledgement, NotCounted> {
        let (submission, acknowledgement) = Submission::new(views, self.permits);
        self.sender.send(submission).map_err(|_| NotCounted::Unknown)?;
        Ok(acknowledgement)
    }
}

/// Views that wait for their acknowledgement, taken off the gauge however the wait ends.
struct Waiting<'a> {
    gauge: &'a IntGauge,
    views: i64,
}

impl<'a> Waiting<'a> {
    fn new(gauge: &'a IntGauge, views: u64) -> Self {
        let views = i64::try_from(views).unwrap_or(i64::MAX);
        gauge.add(views);
        Self { gauge, views }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gauge.sub(self.views);
    }
}

#[derive(Clone)]
struct Metrics {
    accepted: IntCounter,
    refused: IntCounter,
    unknown: IntCounter,
    waiting: IntGauge,
}

impl Metrics {
    fn new() -> Self {
        Self {
            accepted: telemetry::counter("footfall_views_accepted_total", "Views that were acknowledged."),
            refused: telemetry::counter(
                "footfall_views_refused_total",
                "Views that were not taken, because nothing had room for them.",
            ),
            unknown: telemetry::counter(
                "footfall_views_unacknowledged_total",
                "Views that were taken, but not acknowledged in time.",
            ),
            waiting: telemetry::gauge("footfall_waiting_views", "Views taken that are not acknowledged yet."),
        }
    }
}
