//! The task around a batcher: it takes submissions in, carries out what the batcher wants done, and knows the time.

use footfall_journal::Journal;
use footfall_shared::service::clock;
use footfall_shared::service::telemetry::Readiness;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

use super::housekeeping::Report;
use super::metrics::Gauges;
use super::mode::mode;
use super::status::Status;
use super::{Action, Batcher, Event};
use crate::blocking::Blocking;
use crate::intake::Submission;
use crate::link::Link;

pub(crate) struct Task {
    batcher: Batcher,
    link: Link,
    blocking: Blocking,
    status: Status,
    gauges: Gauges,
    /// What is under way.
    work: FuturesUnordered<BoxFuture<'static, Event>>,
}

impl Task {
    pub(crate) fn new(batcher: Batcher, link: Link, blocking: Blocking, readiness: Readiness, gauges: Gauges) -> Self {
        let status = Status::new(readiness, link.queue.shard());
        Self { batcher, link, blocking, status, gauges, work: FuturesUnordered::new() }
    }

    /// Counts until every intake is gone and every client has its answer; gives the journal back.
    pub(crate) async fn run(mut self, mut submissions: mpsc::UnboundedReceiver<Submission>) -> Option<Journal> {
        let mut is_open = true;
        let mut moves = self.link.queue.moves();
        while is_open || !self.batcher.is_idle() {
            let now = Instant::now();
            while let Some(action) = self.batcher.poll(now) {
                let work = self.carry_out(action);
                self.work.push(work);
            }
            self.show();
            let takes = is_open && self.batcher.takes(now);
            tokio::select! {
                biased;
                Some(event) = self.work.next(), if !self.work.is_empty() => self.batcher.handle(event, Instant::now()),
                // Where nothing can move this is an error at once, and the branch is left out.
                Ok(()) = moves.changed() => self.batcher.handle(Event::Moved, Instant::now()),
                submission = submissions.recv(), if takes => match submission {
                    Some(first) => {
                        let more = || submissions.try_recv().ok();
                        self.batcher.take(first, more, clock::unix_minute(), Instant::now());
                    }
                    None => is_open = false,
                },
                () = tokio::time::sleep_until(self.batcher.wake_at(now)) => {}
            }
        }
        self.batcher.into_journal()
    }

    fn carry_out(&self, action: Action) -> BoxFuture<'static, Event> {
        let (link, producer) = (self.link.clone(), self.batcher.producer());
        match action {
            Action::Report(Report { beat, journalled_views, stored, is_behind }) => Box::pin(async move {
                let memory = link.queue.memory().await;
                // If one is missed, the next makes up for it.
                let _ = link.queue.report(producer, beat, journalled_views, stored, is_behind).await;
                Event::Memory(memory)
            }),
            Action::Rotate(epoch, rotation) => Box::pin(async move {
                if let Err(error) = link.queue.rotate_ids(epoch, rotation.after, rotation.is_early).await {
                    warn!("view ids are remembered for longer than they need be: {error}");
                }
                Event::Done
            }),
            Action::Redis(step) => Box::pin(async move { Event::Redis(link.perform(producer, step).await) }),
            Action::Direct(batch) => Box::pin(async move { Event::Direct(link.commit(&batch).await) }),
            Action::Sync(job) => {
                let blocking = self.blocking;
                Box::pin(async move { Event::Synced(blocking.run(move || job.run()).await) })
            }
        }
    }

    fn show(&mut self) {
        let health = self.batcher.health();
        self.gauges.show(&self.batcher.kept());
        self.status.show(mode(&health), &health, self.batcher.epoch(), self.batcher.detail());
    }
}
