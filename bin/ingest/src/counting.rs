//! Everything that counts in one life of ingest: an intake, a batcher per shard with its journal, and the adopter of what
//! others have left behind.

use std::io;
use std::sync::Arc;

use footfall_journal::{Disk, Journal, Life, Limits};
use footfall_shared::mysql::Fences;
use footfall_shared::protocol::{Producer, Shard};
use footfall_shared::redis::Redis;
use footfall_shared::service::config::Config;
use footfall_shared::service::telemetry::Readiness;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::adopt::{self, Adopter};
use crate::batch::Batcher;
use crate::batch::metrics::Metrics;
use crate::batch::task::Task;
use crate::blocking::Blocking;
use crate::ids::IdsLimit;
use crate::intake::Intake;
use crate::lane::Lane;
use crate::link::Link;

/// Largest segment of a journal, in bytes.
const SEGMENT_BYTES_MAX: u64 = 8 << 20;

/// What ingest depends on: real stores, or simulated ones.
pub struct Dependencies {
    /// Redis.
    pub redis: Redis,
    /// MySQL.
    pub fences: Arc<dyn Fences>,
    /// Where the journals are; none if the journal is off.
    pub disk: Option<Arc<dyn Disk>>,
    /// Where work that waits for the disk is done.
    pub blocking: Blocking,
    /// Names this life. It must never have been used before.
    pub producer: Producer,
    /// Where this life says whether it can count.
    pub readiness: Readiness,
}

/// One life of ingest, without its HTTP.
pub struct Counting {
    /// Where views are handed in. The batchers end when this and all its clones are dropped.
    pub intake: Intake,
    batchers: JoinSet<Option<Journal>>,
    life: Option<Life>,
    adopter: JoinSet<()>,
    stop: CancellationToken,
}

impl Counting {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// If the journal cannot be begun.
    pub fn start(config: &Config, dependencies: Dependencies) -> io::Result<Self> {
        let Dependencies { redis, fences, disk, blocking, producer, readiness } = dependencies;
        info!(%producer, "this life of ingest");
        let life = match &disk {
            Some(disk) => Some(Life::begin(Arc::clone(disk), &producer.to_string())?),
            None => None,
        };
        let bytes_max = config.ingest.journal_bytes_max.get();
        let limits = Limits { bytes_max, segment_bytes: SEGMENT_BYTES_MAX.min(bytes_max / 4), ..Limits::default() };
        let (intake, submissions) =
            Intake::new(config.shards.get(), config.ingest.queue_views_max.get(), config.ingest.answer_timeout);
        let links: Vec<Link> = Shard::all(config.shards.get())
            .map(|shard| Link {
                queue: redis.shard(shard),
                fences: Arc::clone(&fences),
                shards: config.shards.get(),
                ids: IdsLimit::new(config.ingest.ids_bytes_max.get(), config.shards.get()),
            })
            .collect();
        let metrics = Metrics::new();
        let mut batchers = JoinSet::new();
        for (link, submissions) in links.iter().zip(submissions) {
            let shard = link.queue.shard();
            let journal = life.as_ref().map(|life| Journal::new(life, shard.0, limits));
            let gauges = metrics.of(shard, if journal.is_some() { bytes_max } else { 0 });
            let batcher = Batcher::new(
                config.ingest.clone(),
                Lane::new(producer, [].into(), 0, 0),
                journal,
                link.ids.clone(),
                metrics.clone(),
                Instant::now(),
            );
            batchers.spawn(Task::new(batcher, link.clone(), blocking, readiness.clone(), gauges).run(submissions));
        }
        let stop = CancellationToken::new();
        let mut adopter = JoinSet::new();
        if let Some(disk) = disk {
            let metrics = adopt::Metrics::new();
            adopter.spawn(Adopter { disk, blocking, readiness, links, metrics }.run(stop.clone()));
        }
        Ok(Self { intake, batchers, life, adopter, stop })
    }

    /// Waits until every client has its answer, and leaves the journal in order: what MySQL does not have yet is there
    /// for the next life. All clones of the intake must be gone.
    pub async fn end(mut self) {
        drop(self.intake);
        self.stop.cancel();
        while let Some(ended) = self.batchers.join_next().await {
            if let Ok(Some(journal)) = ended {
                journal.end();
            }
        }
        self.adopter.shutdown().await;
        match self.life.map(Life::end) {
            None | Some(Ok(true)) => {}
            Some(Ok(false)) => {
                info!("the journal keeps views that MySQL does not have yet: the next ingest sends them");
            }
            Some(Err(error)) => info!("the journal's folder is left to the next ingest: {error}"),
        }
    }
}
