//! Views come in: whether a batch is made of them now, on which path, and what becomes of it before it is sent.

use std::sync::Arc;
use std::time::Duration;

use footfall_journal::AppendError;
use footfall_shared::protocol::packed::{Packed, Path};
use footfall_shared::protocol::{Batch, View};
use tokio::time::Instant;

use super::Batcher;
use super::durability::class_of;
use super::mode::{Mode, mode};
use super::waiters::Waiting;
use crate::graded::GradedError;
use crate::intake::{Client, NotCounted, Submission};
use crate::lane::Retained;

/// Batches that cannot be sent at once are not built more often than this: few large ones are sent sooner later on, and
/// need less room until then.
pub(super) const CATCH_UP_PACE: Duration = Duration::from_millis(10);

/// Larger batches are not waited for: what each of them costs is divided by enough views.
pub(super) const LINGER_VIEWS: usize = 16;

impl Batcher {
    /// Whether a submission can be dealt with now, if only by refusing it.
    pub(crate) fn takes(&self, now: Instant) -> bool {
        match mode(&self.health()) {
            Mode::Full => true,
            mode => self.route(mode, now).is_some(),
        }
    }

    /// The path of a batch that is built now; none if it is better not to build one yet.
    fn route(&self, mode: Mode, now: Instant) -> Option<Path> {
        if now < self.build_at {
            return None;
        }
        // On the disk first, in Redis when it can be.
        let by_journal = self.durability.takes_alone(now).then_some(Path::Redis);
        match mode {
            Mode::Opening | Mode::Redis if self.upstream.is_idle() => Some(Path::Redis),
            Mode::Opening | Mode::Redis if self.upstream.is_slow(now) => by_journal,
            Mode::Direct(_) if self.direct.is_idle() => Some(Path::Direct),
            Mode::Direct(_) if self.direct.is_slow(now) => by_journal,
            Mode::CatchingUp | Mode::JournalOnly(_) => by_journal,
            // What is under way is waited for: its answer is near, and all that comes until then is one batch.
            Mode::Opening | Mode::Redis | Mode::Direct(_) | Mode::Unavailable(_) | Mode::Full => None,
        }
    }

    /// Makes a batch of the submission and all others that wait, or two if they cannot go the same path.
    pub(crate) fn take(
        &mut self,
        submission: Submission,
        mut more: impl FnMut() -> Option<Submission>,
        minute: u32,
        now: Instant,
    ) {
        let Some(path) = self.route(mode(&self.health()), now) else {
            return submission.client.answer(Err(NotCounted::Full));
        };
        // Only Redis can tell whether an id was counted before.
        let path_of = |submission: &Submission| match path {
            Path::Direct if submission.views.iter().all(|view| view.id.is_none()) => Path::Direct,
            _ => Path::Redis,
        };
        let mut batches: [(Vec<View>, Vec<Client>); 2] = Default::default();
        let mut next = Some(submission);
        let mut count = 0;
        while let Some(submission) = next {
            count += submission.views.len();
            let batch = &mut batches[usize::from(path_of(&submission) == Path::Direct)];
            batch.0.extend(submission.views);
            batch.1.push(submission.client);
            next = if count < self.limits.batch_views_max.get() { more() } else { None };
        }
        if !batches[0].0.is_empty() {
            self.build_at = now + self.pause_after(count);
        }
        for (path, (views, clients)) in [Path::Redis, Path::Direct].into_iter().zip(batches) {
            if !views.is_empty() {
                self.build(path, views, clients, minute, now);
            }
        }
    }

    /// How long the next batch of the same path is waited for, after one of so many views.
    fn pause_after(&self, views: usize) -> Duration {
        if self.upstream.is_behind() {
            CATCH_UP_PACE
        } else if views < LINGER_VIEWS {
            self.limits.linger.unwrap_or_default()
        } else {
            Duration::ZERO
        }
    }

    fn build(&mut self, path: Path, views: Vec<View>, clients: Vec<Client>, minute: u32, now: Instant) {
        let (producer, count) = (self.producer(), views.len() as u64);
        let ((number, views_before), stored) = match path {
            Path::Redis => (self.upstream.lane.newest(), self.upstream.lane.stored()),
            Path::Direct => (self.direct.lane.newest(), self.direct.stored()),
        };
        let batch = Batch::fold(producer, number + 1, views_before, minute, views);
        let direct = (path == Path::Direct).then(|| Arc::new(batch.clone()));
        let batch = Packed::new(batch);
        let location = match self.durability.append(path, stored, &batch, now) {
            Ok(location) => location,
            // Nothing was sent, so the number is free again.
            Err(error) => {
                let answer = match &error {
                    AppendError::Full => NotCounted::Full,
                    AppendError::Failed(_) => NotCounted::Unknown,
                };
                self.failed(GradedError::of_journal(class_of(&error), &error));
                return clients.into_iter().for_each(|client| client.answer(Err(answer)));
            }
        };
        self.metrics.count_batch(path);
        self.waiters.push(Waiting { path, number: batch.number, views: count, since: now, location, clients });
        match direct {
            Some(batch) => self.direct.lane.push(batch, location),
            None => self.upstream.lane.push(Retained::built(batch, location)),
        }
    }
}
