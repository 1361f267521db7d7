//! Reads both stores for the feed: carries its actions out, and sends its snapshots to the viewers. Only here are clocks
//! and stores read for the live numbers.

use std::sync::Arc;

use footfall_shared::mysql::{Fences, Store, StoreError};
use footfall_shared::protocol::errors::Severity;
use footfall_shared::protocol::{Article, Shard};
use footfall_shared::redis::{Queue, QueueError, Redis};
use footfall_shared::service::lifecycle::{EXIT_DEPENDENCY, ExitError};
use footfall_shared::service::telemetry::{Readiness, Reason};
use footfall_shared::stores::reads::{LogStatus, Reads};
use tokio::sync::watch;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::conservation::Reading;
use crate::feed::{Action, Activity, Feed, Input};
use crate::frame::Frame;
use crate::history::History;
use crate::now::Now;
use crate::numbers::{CANDIDATES, StoredUntil};

/// The stores, as the feed reads them.
pub(crate) struct Reader {
    redis: Redis,
    queues: Vec<Queue>,
    /// They follow the logs.
    reads: Arc<Reads>,
    store: Store,
}

/// Who gets what the feed finds out.
pub(crate) struct Outputs {
    pub(crate) frames: watch::Sender<Frame>,
    pub(crate) history: Arc<History>,
    pub(crate) stored_until: Arc<StoredUntil>,
    pub(crate) readiness: Readiness,
}

/// Why an action has no result.
enum ReadError {
    Redis(QueueError),
    MySql(StoreError),
}

impl From<QueueError> for ReadError {
    fn from(error: QueueError) -> Self {
        Self::Redis(error)
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::MySql(error)
    }
}

impl Reader {
    pub(crate) fn new(redis: Redis, reads: Arc<Reads>, store: Store, shards: u16) -> Self {
        Self { queues: Shard::all(shards).map(|shard| redis.shard(shard)).collect(), redis, reads, store }
    }

    /// Does what the feed asks for until `stop`. Fails only if the database belongs to another version.
    pub(crate) async fn run(self, mut feed: Feed, outputs: Outputs, stop: CancellationToken) -> anyhow::Result<()> {
        let mut is_ready = false;
        loop {
            let input = match feed.poll(Now::read()) {
                Action::Wait(until) => {
                    if stop.run_until_cancelled(sleep_until(until)).await.is_none() {
                        return Ok(());
                    }
                    continue;
                }
                Action::Publish { stored_until_ms } => {
                    outputs.publish(&feed, stored_until_ms, &mut is_ready);
                    continue;
                }
                action => match stop.run_until_cancelled(self.carry_out(action)).await {
                    Some(input) => input?,
                    None => return Ok(()),
                },
            };
            feed.handle(input, Now::read());
        }
    }

    /// The result of an action; what the stores fail with is one too. Fails if the tables are not those of this build, which
    /// no waiting helps against.
    async fn carry_out(&self, action: Action) -> Result<Input, ExitError> {
        let is_schema_check = action == Action::CheckSchema;
        match self.read(action).await {
            Ok(input) => Ok(input),
            Err(ReadError::Redis(error)) => {
                self.redis.forget_hits();
                Ok(Input::RedisFailed(error))
            }
            Err(ReadError::MySql(StoreError::Schema(sentence))) if is_schema_check => {
                Err(ExitError { code: EXIT_DEPENDENCY, sentence })
            }
            Err(ReadError::MySql(error)) => Ok(Input::MySqlFailed(error)),
        }
    }

    async fn read(&self, action: Action) -> Result<Input, ReadError> {
        Ok(match action {
            Action::CheckSchema => {
                let shards = u16::try_from(self.queues.len()).expect("there is one for each number below a u16");
                self.store.check_schema(shards).await?;
                Input::SchemaIsRight
            }
            Action::ReadTopArticles => Input::TopArticles(self.store.top_articles(CANDIDATES).await?),
            Action::ReadFence { shard, look } => self.fence(shard, look).await?,
            Action::Follow(shard) => Input::Followed(self.reads.follow(shard).await?),
            Action::WriteFenceCopy(shard, fence) => {
                Input::FenceCopyWritten(self.queue(shard).keep_fence(&fence).await.is_ok())
            }
            Action::ReadFenceCopy(shard) => Input::FenceCopy(self.queue(shard).kept_fence().await?),
            Action::ReadActivity => Input::Activity(self.activity().await?),
            Action::ForgetPresence(report) => {
                self.redis.forget_presence(&report).await?;
                Input::Done
            }
            Action::ReadConservation => Input::Conservation(self.conservation().await?),
            Action::CountWaiting(articles) => {
                let count = |(article, epoch, position): (Article, u64, u64)| {
                    let views = self.reads.waiting(&article, epoch, position);
                    (article, views)
                };
                Input::Waiting(articles.into_iter().map(count).collect())
            }
            Action::Wait(_) | Action::Publish { .. } => Input::Done,
        })
    }

    fn queue(&self, shard: Shard) -> &Queue {
        &self.queues[usize::from(shard.0)]
    }

    async fn fence(&self, shard: Shard, look: Option<LogStatus>) -> Result<Input, ReadError> {
        let fence = self.store.fence(shard).await?;
        let stored_views = look.and_then(|look| self.reads.views_up_to(shard, &look, fence.position));
        Ok(Input::Fence { fence, stored_views })
    }

    async fn activity(&self) -> Result<Activity, ReadError> {
        let mut leases = Vec::with_capacity(self.queues.len());
        for queue in &self.queues {
            leases.push(queue.lease_holder().await?.is_some());
        }
        Ok(Activity {
            leases,
            keyspace: self.redis.keyspace_hits().await?,
            reads: self.redis.reads().await?,
            reports: self.redis.presence().await?,
        })
    }

    async fn conservation(&self) -> Result<Option<Reading>, ReadError> {
        let mut reading = Reading::default();
        for queue in &self.queues {
            let Some(held) = queue.totals().await? else { return Ok(None) };
            reading.held.push(held);
            reading.reports.extend(queue.reports().await?);
        }
        reading.stored = self.store.totals().await?;
        Ok(Some(reading))
    }
}

impl Outputs {
    fn publish(&self, feed: &Feed, stored_until_ms: Option<u64>, is_ready: &mut bool) {
        let snapshot = feed.snapshot();
        if let Some(unix_ms) = stored_until_ms {
            self.stored_until.set(unix_ms, feed.fences());
        }
        self.history.add(Now::read(), snapshot);
        let differs = |what| (Severity::Critical, Reason::new("the tables are not as this build needs them", what));
        self.readiness.set_degraded("tables", feed.schema_error().map(differs));
        // Set once: later on, other tasks decide whether this process is ready.
        if !*is_ready && snapshot.as_of.is_some() {
            *is_ready = true;
            self.readiness.set(None);
            info!("the first numbers were read");
        } else if !*is_ready && let Some(errors) = feed.store_errors() {
            self.readiness.set(Some(Reason::new("no numbers were read yet", errors)));
        }
        self.frames.send_modify(|frame| *frame = frame.next(snapshot));
    }
}
