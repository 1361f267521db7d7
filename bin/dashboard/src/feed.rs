//! The live numbers, as a state machine without I/O: [`Feed::poll`] says what is to be read next, [`Feed::handle`] takes
//! what was read. It never reads a clock. `reader` carries the actions out.
//!
//! Both stores are read once for all viewers. Their numbers make a right total only if both were read in one state of the
//! flusher: Redis first, then the fence in MySQL, and again if entries were trimmed in between. While nothing is flushed,
//! MySQL is asked once a second.
//!
//! | file | what |
//! | --- | --- |
//! | `action` | what crosses the border to the stores |
//! | `schedule` | which step comes when |
//! | `stores` | whether the stores can be read, and when MySQL may be asked |
//! | `shard` | what is known of one shard, from both stores |
//! | `total` | the numbers of all shards as they are shown |
//! | `hits` | how often reads were answered from a cache |
//! | `health` | how each part does, and why numbers may be behind |

mod action;
mod health;
mod hits;
mod schedule;
mod shard;
mod stores;
mod total;

use std::collections::HashMap;
use std::time::Duration;

use footfall_shared::protocol::Fence;
use footfall_shared::protocol::{Article, Shard};
use footfall_shared::service::telemetry::HealthState;
use tokio::time::Instant;
use tracing::{error, warn};

pub(crate) use self::action::{Action, Activity, Input};
use self::health::Assessment;
use self::hits::Hits;
use self::schedule::{RoundStep, Schedule};
use self::shard::{FenceCopy, ShardView};
use self::stores::Stores;
use self::total::{Completeness, Readable, Total};
use crate::conservation::Ledger;
use crate::events;
use crate::instances::Instances;
use crate::now::Now;
use crate::numbers::{Ranking, Totals};
use crate::snapshot::{Event, Snapshot, Stale};

/// Makes a snapshot of both stores, once per period.
pub(crate) struct Feed {
    schedule: Schedule,
    stores: Stores,
    shards: Vec<ShardView>,
    ranking: Ranking,
    total: Total,
    hits: Hits,
    ledger: Ledger,
    instances: Instances,
    snapshot: Snapshot,
}

impl Feed {
    /// A feed that has read nothing yet.
    pub(crate) fn new(now: Now, period: Duration, shards: u16) -> Self {
        Self {
            schedule: Schedule::new(now.at, period),
            stores: Stores::default(),
            shards: Shard::all(shards).map(ShardView::new).collect(),
            ranking: Ranking::default(),
            total: Total::new(now.at),
            hits: Hits::default(),
            ledger: Ledger::new(),
            instances: Instances::default(),
            snapshot: Snapshot::initial(now.rfc3339()),
        }
    }

    /// What is shown, as of the last [`Action::Publish`].
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The last errors of the stores that cannot be read.
    pub(crate) fn store_errors(&self) -> Option<String> {
        self.stores.errors()
    }

    /// What MySQL has, as far as all of it is known.
    pub(crate) fn fences(&self) -> Vec<Fence> {
        self.shards.iter().filter_map(ShardView::fence).collect()
    }

    /// What of the tables in MySQL is not as this build needs them.
    pub(crate) fn schema_error(&self) -> Option<&str> {
        self.stores.mysql.schema_error()
    }

    /// What to do next. [`Action::Wait`] and [`Action::Publish`] have no result; the result of every other action is to be
    /// given to [`Self::handle`] before the next call.
    pub(crate) fn poll(&mut self, now: Now) -> Action {
        loop {
            let step = match self.schedule.next(now.at, self.shards.len()) {
                Ok(step) => step,
                Err(until) => return Action::Wait(until),
            };
            if let Some(action) = self.begin(&step, now.at) {
                if !matches!(action, Action::Publish { .. }) {
                    self.schedule.await_input(step);
                }
                return action;
            }
        }
    }

    /// What a step needs to be done; none if there is no need, or no use.
    fn begin(&mut self, step: &RoundStep, now: Instant) -> Option<Action> {
        let mysql = &self.stores.mysql;
        match *step {
            RoundStep::CheckSchema => mysql.is_schema_check_due(now).then_some(Action::CheckSchema),
            RoundStep::ReadRanking => {
                let is_flushed = !self.shards.iter().all(ShardView::is_ranked);
                let is_due = self.ranking.read_at().is_none_or(|at| is_flushed && Schedule::is_slow_due(now, at));
                (is_due && mysql.is_readable(now)).then_some(Action::ReadTopArticles)
            }
            RoundStep::ReadRankingFence { shard } => mysql.is_readable(now).then(|| self.read_fence(shard)),
            RoundStep::Follow { shard, .. } => Some(Action::Follow(self.shards[shard].shard)),
            RoundStep::ReadFence { shard, .. } => {
                (self.shards[shard].is_fence_due(now) && mysql.is_readable(now)).then(|| self.read_fence(shard))
            }
            RoundStep::CopyFence { shard } => {
                let view = &self.shards[shard];
                view.fence_copy(mysql.error().is_some()).map(|copy| match copy {
                    FenceCopy::Write(fence) => Action::WriteFenceCopy(view.shard, fence),
                    FenceCopy::Read => Action::ReadFenceCopy(view.shard),
                })
            }
            RoundStep::ReadActivity => Some(Action::ReadActivity),
            RoundStep::ForgetPresence(ref report) => Some(Action::ForgetPresence(report.clone())),
            RoundStep::CheckConservation { .. } => mysql.is_readable(now).then_some(Action::ReadConservation),
            RoundStep::RedisAnswered => {
                self.stores.redis.answered();
                None
            }
            RoundStep::AddUp => Some(Action::CountWaiting(self.unranked())),
            RoundStep::Publish { stored_until_ms } => Some(Action::Publish { stored_until_ms }),
        }
    }

    /// Takes the result of the last action.
    pub(crate) fn handle(&mut self, input: Input, now: Now) {
        match (self.schedule.take_current(), input) {
            (_, Input::Done) => {}
            (_, Input::RedisFailed(error)) => {
                self.stores.redis.failed(&error);
                // What was read of it before it failed is of another moment than the rest.
                self.shards.iter_mut().for_each(|shard| shard.set_look(None));
                self.schedule.skip_redis(now.at, self.shards.len());
            }
            (_, Input::MySqlFailed(error)) => self.stores.mysql.failed(now.at, &error),
            (Some(RoundStep::CheckSchema), Input::SchemaIsRight) => self.stores.mysql.schema_is_right(),
            (Some(RoundStep::ReadRanking), Input::TopArticles(articles)) => {
                self.ranking.set(now.at, articles);
                self.snapshot.top_as_of = Some(now.rfc3339());
                self.shards.iter_mut().for_each(|shard| shard.ranked = None);
                self.schedule.insert((0..self.shards.len()).map(|shard| RoundStep::ReadRankingFence { shard }));
            }
            (Some(RoundStep::ReadRankingFence { shard }), Input::Fence { fence, stored_views }) => {
                self.take_fence(shard, fence, stored_views, now);
                self.shards[shard].ranked = Some(fence);
            }
            (Some(RoundStep::Follow { shard, looks_left }), Input::Followed(look)) => {
                self.shards[shard].set_look(look);
                self.schedule.insert([RoundStep::ReadFence { shard, looks_left }]);
            }
            (Some(RoundStep::ReadFence { shard, looks_left }), Input::Fence { fence, stored_views }) => {
                self.take_fence(shard, fence, stored_views, now);
                if let Some(looks_left) = looks_left.checked_sub(1) {
                    self.schedule.insert([RoundStep::Follow { shard, looks_left }]);
                }
            }
            (Some(RoundStep::CopyFence { shard }), Input::FenceCopyWritten(is_written)) => {
                self.shards[shard].copy_written(is_written);
            }
            (Some(RoundStep::CopyFence { shard }), Input::FenceCopy(copy)) => {
                self.shards[shard].copy_read(now.at, copy);
            }
            (Some(RoundStep::ReadActivity), Input::Activity(activity)) => self.take_activity(activity, now.at),
            (Some(RoundStep::CheckConservation { tries_left }), Input::Conservation(Some(reading))) => {
                if !self.ledger.check(now, reading)
                    && let Some(tries_left) = tries_left.checked_sub(1)
                {
                    self.schedule.insert([RoundStep::CheckConservation { tries_left }]);
                }
            }
            (Some(RoundStep::CheckConservation { .. }), Input::Conservation(None)) => {}
            (Some(RoundStep::AddUp), Input::Waiting(waiting)) => self.add_up(&waiting, now),
            (step, input) => error!("{input:?} is no result of {step:?}: it is ignored"),
        }
    }

    fn read_fence(&self, shard: usize) -> Action {
        let ShardView { shard, look, .. } = self.shards[shard];
        Action::ReadFence { shard, look }
    }

    fn take_fence(&mut self, shard: usize, fence: Fence, stored_views: Option<u64>, now: Now) {
        self.stores.mysql.answered();
        if self.shards[shard].set_fence(now.at, fence, stored_views) {
            warn!("the numbers in mysql went back: it was emptied or restored; showing what it has now");
            self.total.forget();
            self.ranking = Ranking::default();
            let text = "The numbers in MySQL went back: it was emptied or restored.";
            let event = Event::new(&now.rfc3339(), HealthState::Degraded, text);
            events::add(&mut self.snapshot.events, [event]);
        }
    }

    fn take_activity(&mut self, activity: Activity, now: Instant) {
        for (shard, is_leased) in self.shards.iter_mut().zip(activity.leases) {
            shard.is_leased = is_leased;
        }
        self.hits.add(now, activity.keyspace, activity.reads, &mut self.snapshot);
        let silent = self.instances.look(now, activity.reports);
        self.schedule.activity_read(now, silent);
    }

    /// The ranked articles, each with the epoch and position behind which its views are not in the ranking yet. Where that
    /// is not known nothing is added: rather too few views for a moment than one view twice.
    fn unranked(&self) -> Vec<(Article, u64, u64)> {
        let shards = u16::try_from(self.shards.len()).expect("there is one for each number below a u16");
        let unranked = |article: &Article| {
            let (epoch, position) = self.shards[usize::from(Shard::of(article, shards).0)].unranked_from()?;
            Some((article.clone(), epoch, position))
        };
        self.ranking.articles().filter_map(unranked).collect()
    }

    /// Makes the snapshot from what is known now. `waiting`: views of ranked articles that are not in the ranking yet.
    fn add_up(&mut self, waiting: &HashMap<Article, u64>, now: Now) {
        let before = self.snapshot.clone();
        let snapshot = &mut self.snapshot;
        let totals = Totals::of(self.shards.iter().map(|shard| (shard.fence(), shard.look.zip(shard.pending()))));
        let is_redis_up = self.stores.redis.error().is_none();
        let can = Readable {
            redis: is_redis_up && self.shards.iter().all(|shard| shard.look.is_some()),
            mysql: self.stores.mysql.error().is_none(),
        };
        let completeness = self.total.show(now, &totals, can, snapshot);
        // While a long log is being read, it is not known yet whose views wait in it.
        let is_read = self.shards.iter().all(|shard| shard.look.is_some_and(|look| look.is_whole));
        snapshot.top = self.ranking.top(waiting, is_read && completeness != Completeness::Partial);
        snapshot.shards = self.shards.iter().map(ShardView::backlog).collect();
        snapshot.conservation = self.ledger.last(now.at, can.redis && can.mysql);
        if !is_redis_up {
            self.instances.missed(now.at);
            self.hits.missed(snapshot);
        }
        snapshot.instances = self.instances.show(now.at, is_redis_up);
        let assessment = Assessment { now: now.at, stores: &self.stores, shards: &self.shards, total: &self.total };
        snapshot.redis = assessment.redis();
        snapshot.mysql = self.stores.mysql.health();
        snapshot.flusher = assessment.flusher();
        let since = snapshot.stale.take().map(|stale| stale.since);
        snapshot.stale = assessment.stale().map(|(code, level, reason)| Stale {
            code,
            level,
            reason,
            since: since.unwrap_or_else(|| now.rfc3339()),
        });
        let new = events::between(now, &before, snapshot);
        events::add(&mut snapshot.events, new);
        let stored_until_ms =
            (completeness == Completeness::Complete).then(|| now.unix_ms.saturating_sub(totals.lag_ms));
        self.schedule.insert([RoundStep::Publish { stored_until_ms }]);
    }
}

#[cfg(test)]
mod tests;
