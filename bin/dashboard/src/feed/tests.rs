//! The feed without I/O: what the stores hold goes in, what is to be read and shown comes out, and time passes by adding to
//! a number.

use std::collections::VecDeque;

use footfall_shared::mysql::{self, StoreError};
use footfall_shared::protocol::Position;
use footfall_shared::protocol::keys::CacheTag;
use footfall_shared::redis::presence::Report;
use footfall_shared::redis::{self, QueueError};
use footfall_shared::service::telemetry::Health;
use footfall_shared::stores::reads::LogStatus;

use super::*;
use crate::conservation::Reading;

const PERIOD_MS: u64 = 250;

/// What the stores hold, and what the feed has asked them for.
struct Harness {
    feed: Feed,
    start: Instant,
    ms: u64,
    /// What is found in the log of each shard, one after the other; the last one stays.
    looks: Vec<VecDeque<Option<LogStatus>>>,
    fences: Vec<Fence>,
    /// Views of the look in entries up to the fence's position.
    stored_views: Option<u64>,
    fence_copy: Option<Fence>,
    top: Vec<(Article, u64, u64)>,
    reports: Vec<Report>,
    reading: Reading,
    /// The action at which Redis or MySQL fails.
    fails_at: &'static [&'static str],
    mysql_error: fn() -> StoreError,
    asked: Vec<String>,
    counted: Vec<(Article, u64, u64)>,
    stored_until_ms: Option<u64>,
}

/// MySQL has 100 views, in entries up to this position.
fn fence(position: u64) -> Fence {
    Fence { epoch: 1, position, flush_epoch: 1, version: 0, views: 100, readers: 9, users: 8, articles: 7 }
}

/// A log with so many views in these entries.
fn look(first: u64, tail: u64, pending_views: u64) -> Option<LogStatus> {
    let tag = CacheTag { epoch: 1, version: 0 };
    Some(LogStatus {
        tag,
        position: Position { tail, first },
        pending_views,
        lag_ms: 20,
        is_behind: false,
        is_whole: true,
    })
}

fn article(id: &str) -> Article {
    Article::parse(id.as_bytes()).expect("test id")
}

/// What both stores say of one shard between two flushes: 20 views were accepted, 3 of them wait.
fn reading(position: u64) -> Reading {
    let (direct_views, repeated_views, quarantined_views, dropped_views) = (0, 0, 0, 0);
    Reading {
        held: vec![redis::LogTotals { first: 7, pending_views: 3, accepted_views: 20 }],
        reports: vec![],
        stored: vec![mysql::ShardTotals {
            position,
            stored_views: 17,
            dropped_views,
            direct_views,
            repeated_views,
            quarantined_views,
        }],
    }
}

impl Harness {
    /// Per shard, 43 views wait behind the 100 that MySQL has.
    fn new(shards: u16) -> Self {
        let start = Instant::now();
        let now = Now { at: start, unix_ms: 1_000_000 };
        let count = usize::from(shards);
        Self {
            feed: Feed::new(now, Duration::from_millis(PERIOD_MS), shards),
            start,
            ms: 0,
            looks: vec![VecDeque::from([look(7, 9, 43)]); count],
            fences: vec![fence(6); count],
            stored_views: None,
            fence_copy: None,
            top: vec![(article("a"), 60, 5), (article("b"), 40, 4)],
            reports: vec![],
            reading: reading(6),
            fails_at: &[],
            mysql_error: || StoreError::timed_out(Duration::from_secs(1)),
            asked: vec![],
            counted: vec![],
            stored_until_ms: None,
        }
    }

    fn now(&self) -> Now {
        Now { at: self.start + Duration::from_millis(self.ms), unix_ms: 1_000_000 + self.ms }
    }

    fn finds(&mut self, looks: impl IntoIterator<Item = Option<LogStatus>>) {
        self.looks[0] = looks.into_iter().collect();
    }

    /// Waits for the next snapshot.
    fn round(&mut self) -> &Snapshot {
        self.asked.clear();
        loop {
            let action = self.feed.poll(self.now());
            let (name, input) = match action {
                Action::Wait(until) => {
                    self.ms = u64::try_from((until - self.start).as_millis()).expect("it fits");
                    continue;
                }
                Action::Publish { stored_until_ms } => {
                    self.stored_until_ms = stored_until_ms;
                    return self.feed.snapshot();
                }
                action => self.result(action),
            };
            let input = match input {
                _ if !self.fails_at.contains(&&*name) => input,
                Input::SchemaIsRight | Input::TopArticles(_) | Input::Fence { .. } | Input::Conservation(_) => {
                    Input::MySqlFailed((self.mysql_error)())
                }
                _ => Input::RedisFailed(QueueError::timed_out()),
            };
            self.asked.push(name);
            self.feed.handle(input, self.now());
        }
    }

    fn result(&mut self, action: Action) -> (String, Input) {
        match action {
            Action::CheckSchema => ("schema".into(), Input::SchemaIsRight),
            Action::ReadTopArticles => ("top".into(), Input::TopArticles(self.top.clone())),
            Action::ReadFence { shard, .. } => {
                let fence = self.fences[usize::from(shard.0)];
                (format!("fence {}", shard.0), Input::Fence { fence, stored_views: self.stored_views })
            }
            Action::Follow(shard) => {
                let looks = &mut self.looks[usize::from(shard.0)];
                let look = if looks.len() > 1 { looks.pop_front().flatten() } else { looks[0] };
                (format!("follow {}", shard.0), Input::Followed(look))
            }
            Action::WriteFenceCopy(..) => ("write copy".into(), Input::FenceCopyWritten(true)),
            Action::ReadFenceCopy(_) => ("read copy".into(), Input::FenceCopy(self.fence_copy)),
            Action::ReadActivity => {
                let leases = vec![false; self.looks.len()];
                let activity = Activity { leases, reports: self.reports.clone(), ..Activity::default() };
                ("activity".into(), Input::Activity(activity))
            }
            Action::ForgetPresence(_) => ("forget".into(), Input::Done),
            Action::ReadConservation => {
                let Reading { held, reports, stored } = &self.reading;
                let (held, reports, stored) = (held.clone(), reports.clone(), stored.clone());
                ("conservation".into(), Input::Conservation(Some(Reading { held, reports, stored })))
            }
            Action::CountWaiting(articles) => {
                self.counted.clone_from(&articles);
                let waiting = articles.into_iter().map(|(article, ..)| (article, 2)).collect();
                ("waiting".into(), Input::Waiting(waiting))
            }
            Action::Wait(_) | Action::Publish { .. } => unreachable!("they have no result"),
        }
    }

    /// What the next round asks for.
    fn asked(&mut self) -> Vec<String> {
        self.round();
        std::mem::take(&mut self.asked)
    }

    /// How often the next round asks for this.
    fn asks_for(&mut self, action: &str) -> usize {
        self.asked().iter().filter(|asked| *asked == action).count()
    }

    fn stale(&mut self) -> Option<&'static str> {
        self.round().stale.as_ref().map(|stale| stale.code)
    }
}

#[test]
fn each_store_is_read_as_seldom_as_can_be() {
    let mut feed = Harness::new(1);
    let all = ["schema", "top", "fence 0", "follow 0", "write copy", "activity", "conservation", "waiting"];
    assert_eq!(feed.asked(), all);
    let snapshot = feed.feed.snapshot();
    assert_eq!((snapshot.views, snapshot.stored_views, snapshot.pending_views), (Some(143), Some(100), Some(43)));
    assert!(snapshot.stale.is_none() && snapshot.as_of.is_some());
    for ms in [250, 500, 750] {
        assert_eq!(feed.asked(), ["follow 0", "waiting"]);
        assert_eq!(feed.ms, ms);
    }
    assert_eq!(feed.asked(), ["follow 0", "activity", "conservation", "waiting"]);
    // More than a second after the last time: is MySQL there, and was it emptied?
    assert_eq!(feed.asked(), ["follow 0", "fence 0", "follow 0", "waiting"]);
}

#[test]
fn a_round_that_is_late_is_not_made_up_for() {
    let mut feed = Harness::new(1);
    feed.round();
    feed.ms = 10_100;
    feed.round();
    assert_eq!(feed.ms, 10_100);
    feed.round();
    assert_eq!(feed.ms, 10_100 + PERIOD_MS);
}

#[test]
fn after_a_flush_between_the_stores_redis_is_read_again() {
    let mut feed = Harness::new(1);
    feed.round();
    // All of it is trimmed, and by the time that MySQL is asked the next flush has come.
    feed.fences = vec![Fence { views: 150, ..fence(12) }];
    feed.finds([look(10, 9, 0), look(13, 14, 2)]);
    assert_eq!(feed.asked(), ["follow 0", "fence 0", "follow 0", "write copy", "waiting"]);
    assert_eq!(feed.feed.snapshot().views, Some(152));
    // It comes between each time: not for ever.
    feed.fences = vec![Fence { views: 160, ..fence(20) }];
    feed.finds([look(15, 16, 1)]);
    assert_eq!(feed.asks_for("follow 0"), 3);
    assert_eq!(feed.feed.snapshot().views, Some(152), "all numbers stay for a moment");
}

#[test]
fn what_is_in_mysql_already_is_not_counted_twice_before_it_is_trimmed() {
    let mut feed = Harness::new(1);
    feed.round();
    feed.ms += 1_250;
    // COMMIT, not yet ACK: 40 of the 43 views are in MySQL.
    (feed.fences, feed.stored_views) = (vec![Fence { views: 140, ..fence(8) }], Some(40));
    let snapshot = feed.round();
    assert_eq!((snapshot.views, snapshot.pending_views), (Some(143), Some(3)));
    // How many of the next look are in MySQL is another number.
    feed.finds([look(8, 9, 30)]);
    assert_eq!(feed.asked()[..4], ["top", "fence 0", "follow 0", "fence 0"]);
}

#[test]
fn of_a_redis_that_fails_in_a_round_nothing_is_kept() {
    let mut feed = Harness::new(2);
    assert_eq!(feed.round().views, Some(286));
    feed.fails_at = &["follow 1"];
    assert_eq!(feed.asked(), ["follow 0", "follow 1", "waiting"]);
    let snapshot = feed.feed.snapshot();
    assert_eq!((snapshot.views, snapshot.at_least, snapshot.pending_views), (None, Some(286), None));
    assert_eq!(snapshot.stored_views, Some(200), "MySQL is there");
    assert_eq!(snapshot.shards.iter().map(|shard| shard.pending_views).collect::<Vec<_>>(), [None, None]);
    assert_eq!(snapshot.redis.state, HealthState::Down);
    assert!(snapshot.events[0].text.starts_with("Redis cannot be read"), "{:?}", snapshot.events);
    assert_eq!((feed.stored_until_ms, feed.counted.len()), (None, 0));
    // Back at once: who is there is not known any more, and is read now, not when it is due.
    feed.fails_at = &[];
    assert_eq!(feed.asks_for("activity"), 1);
    // All may be down: MySQL is asked too, if it was not for a while.
    feed.fails_at = &["follow 1"];
    feed.ms += 2_000;
    assert_eq!(feed.asked(), ["follow 0", "fence 0", "follow 0", "follow 1", "fence 1", "waiting"]);
    feed.fails_at = &["follow 0", "follow 1", "fence 0"];
    feed.ms += 2_000;
    assert_eq!(feed.asked(), ["follow 0", "fence 0", "waiting"]);
    assert_eq!(feed.feed.snapshot().mysql.state, HealthState::Down);
    assert_eq!(feed.feed.store_errors().map(|errors| errors.matches("; ").count()), Some(1), "both are named");
    feed.fails_at = &[];
    feed.ms += 2_000;
    feed.round();
    let snapshot = feed.feed.snapshot();
    assert_eq!((snapshot.views, snapshot.redis.state, snapshot.stale.is_none()), (Some(286), HealthState::Ok, true));
}

#[test]
fn a_log_that_no_recovery_has_opened_is_not_zero_views() {
    let mut feed = Harness::new(1);
    feed.round();
    feed.finds([None]);
    assert_eq!(feed.stale(), Some("recovering"));
    let snapshot = feed.feed.snapshot();
    assert_eq!((snapshot.views, snapshot.at_least, snapshot.pending_views), (None, Some(143), None));
}

#[test]
fn mysql_is_left_alone_after_it_failed() {
    let mut feed = Harness::new(1);
    feed.fails_at = &["schema"];
    assert_eq!(feed.asked(), ["schema", "follow 0", "read copy", "activity", "waiting"]);
    let snapshot = feed.feed.snapshot();
    assert_eq!((snapshot.views, snapshot.at_least, snapshot.stored_views), (None, Some(43), None));
    // Another dashboard has left what MySQL had: that is as good, while nothing is flushed.
    feed.fence_copy = Some(fence(6));
    while feed.ms < 1_750 {
        assert!(feed.asked().iter().all(|action| action != "schema" && !action.starts_with("fence")));
    }
    let snapshot = feed.feed.snapshot();
    assert_eq!((snapshot.views, snapshot.mysql.state), (Some(143), HealthState::Down));
    assert_eq!(snapshot.stale.as_ref().map(|stale| stale.code), Some("mysql_down"));
    assert_eq!(feed.asked()[0], "schema");
    assert_eq!(feed.ms, 2_000);
    feed.fails_at = &[];
    feed.ms = 4_000;
    assert_eq!(feed.asked()[..3], ["schema", "top", "fence 0"]);
    assert_eq!(feed.feed.snapshot().mysql, Health::OK);
}

#[test]
fn tables_that_changed_are_told_apart_from_a_mysql_that_is_away() {
    let mut feed = Harness::new(1);
    feed.round();
    (feed.fails_at, feed.mysql_error) = (&["fence 0"], || StoreError::Schema("a column is gone".into()));
    feed.ms += 2_000;
    assert_eq!(feed.stale(), Some("schema"));
    assert_eq!(feed.feed.schema_error(), Some("a column is gone"));
}

#[test]
fn after_mysql_was_emptied_numbers_begin_anew() {
    let mut feed = Harness::new(1);
    feed.round();
    feed.fences = vec![Fence { epoch: 2, flush_epoch: 2, views: 1, ..fence(6) }];
    feed.top = vec![(article("a"), 1, 1)];
    let mut opened = look(7, 6, 0).expect("a look");
    opened.tag.epoch = 2;
    feed.finds([Some(opened)]);
    feed.ms += 2_000;
    let snapshot = feed.round();
    assert_eq!((snapshot.views, snapshot.at_least), (Some(1), None));
    assert!(snapshot.events.iter().any(|event| event.text.starts_with("The numbers in MySQL went back")));
    assert_eq!(feed.asks_for("top"), 1);
    let line = &feed.feed.snapshot().top[0];
    assert_eq!((line.article.as_str(), line.views), ("a", Some(3)), "not the 62 that were shown before");
}

#[test]
fn a_ranked_article_has_what_waits_behind_the_ranking_and_no_view_twice() {
    let mut feed = Harness::new(1);
    let snapshot = feed.round();
    assert_eq!(snapshot.top.iter().map(|line| line.views).collect::<Vec<_>>(), [Some(62), Some(42)]);
    assert_eq!(feed.counted, [(article("a"), 1, 6), (article("b"), 1, 6)]);
    // A flush since: the ranking does not have it, and is read again after a second.
    feed.fences = vec![Fence { views: 140, ..fence(8) }];
    feed.finds([look(9, 9, 3)]);
    feed.round();
    assert_eq!(feed.counted[0].2, 6);
    feed.ms = 1_000;
    assert_eq!(feed.asks_for("top"), 1);
    assert_eq!(feed.counted[0].2, 8);
    feed.ms = 2_100;
    assert_eq!(feed.asks_for("top"), 0, "nothing was flushed since");
    // While a long log is read it is not known whose views wait in it.
    feed.finds([look(9, 9, 3).map(|look| LogStatus { is_whole: false, ..look })]);
    let line = &feed.round().top[0];
    assert_eq!((line.views, line.at_least), (None, Some(62)));
    // Positions of another epoch are not compared.
    feed.finds([look(9, 9, 3).map(|look| LogStatus { tag: CacheTag { epoch: 2, version: 0 }, ..look })]);
    feed.round();
    assert_eq!(feed.counted, []);
}

#[test]
fn without_a_fence_read_after_it_a_ranking_gets_nothing_on_top() {
    let mut feed = Harness::new(1);
    feed.fails_at = &["fence 0"];
    feed.fence_copy = Some(fence(6));
    feed.round();
    assert_eq!((feed.counted.len(), feed.feed.snapshot().top[0].stored_views), (0, 60));

    let mut feed = Harness::new(1);
    feed.round();
    feed.fences = vec![Fence { views: 140, ..fence(8) }];
    feed.finds([look(9, 9, 3)]);
    feed.round();
    assert_eq!(feed.counted.len(), 2, "behind the old ranking");
    // The new ranking has some of these views: which, is not known.
    (feed.ms, feed.fails_at) = (1_000, &["fence 0"]);
    assert_eq!(feed.asks_for("top"), 1);
    assert_eq!(feed.counted, []);
}

#[test]
fn a_conservation_check_between_two_flushes_is_tried_again() {
    let mut feed = Harness::new(1);
    feed.reading = reading(9);
    assert_eq!(feed.asks_for("conservation"), 3);
    assert_eq!(feed.feed.snapshot().conservation, None);
    feed.reading = reading(6);
    feed.ms = 1_000;
    let check = feed.round().conservation.clone().expect("a check");
    assert_eq!((check.found.accepted, check.found.unaccounted, check.is_current), (20, 0, true));
    feed.fails_at = &["conservation", "fence 0"];
    feed.ms = 3_000;
    let check = feed.round().conservation.clone().expect("the same check");
    assert!(!check.is_current, "with a store away nobody knows whether it still holds");
}

#[test]
fn lists_are_told_up_to_when_mysql_has_everything_only_while_that_is_known() {
    let mut feed = Harness::new(1);
    feed.round();
    assert_eq!(feed.stored_until_ms, Some(1_000_000 - 20), "the oldest view has waited for 20 ms");
    feed.finds([look(7, 9, 43).map(|look| LogStatus { is_behind: true, ..look })]);
    feed.round();
    assert_eq!(feed.stored_until_ms, None, "views wait in journals");
    assert_eq!(feed.feed.snapshot().stale.as_ref().map(|stale| stale.code), Some("journalled"));
}

#[test]
fn a_flush_that_is_not_acknowledged_is_told_of_when_it_lasts() {
    let mut feed = Harness::new(1);
    feed.round();
    // The fence is in the middle of a log whose entries were not read.
    feed.fences = vec![Fence { views: 140, ..fence(8) }];
    feed.ms = 1_250;
    assert_eq!(feed.stale(), None);
    feed.ms = 3_500;
    assert_eq!(feed.stale(), Some("unsettled"));
    // MySQL lacks entries that it once had.
    feed.finds([look(12, 14, 5)]);
    assert_eq!(feed.stale(), Some("mysql_older"));
}

#[test]
fn the_report_of_a_process_that_is_silent_for_long_is_deleted() {
    let mut feed = Harness::new(1);
    let [role, name, version, since] = ["ingest", "a:8000", "1", "s"].map(str::to_owned);
    feed.reports = vec![Report { beat: 1, role, name, version, since, health: Health::OK }];
    assert_eq!(feed.asks_for("forget"), 0);
    while feed.ms < 599_000 {
        feed.ms += 1_000;
        assert_eq!(feed.asks_for("forget"), 0);
    }
    feed.ms += 2_000;
    assert_eq!(feed.asks_for("forget"), 1);
}

#[test]
fn a_result_that_nobody_asked_for_is_ignored() {
    let mut feed = Harness::new(1);
    feed.feed.handle(Input::FenceCopy(Some(fence(6))), feed.now());
    assert_eq!(feed.round().views, Some(143));
}
