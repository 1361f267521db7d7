//! The batcher by itself: submissions and answers go in, and it is looked at what it wants done and whom it answers.

use footfall_journal::Journal;
use footfall_shared::protocol::{DataSet, Position, Remembered};
use footfall_shared::redis::Applied;

use std::time::Duration;

use super::build::{CATCH_UP_PACE, LINGER_VIEWS};
use super::mode::{Mode, Reason, mode};
use super::*;
use crate::fixture::{FakeDisk, MINUTE, PRODUCER, SEGMENT_BYTES, journal, submission, view};
use crate::intake::{Acknowledgement, NotCounted};

const PATIENCE: Duration = Duration::from_millis(100);
/// Longer than any pause of a breaker.
const LATER: Duration = Duration::from_secs(2);
/// MySQL has nothing of the log.
const FIRST: u64 = 1;

struct Shard {
    batcher: Batcher,
    now: Instant,
    disk: FakeDisk,
    /// An fsync that was asked for and has not ended.
    sync: Option<SyncJob>,
}

impl Shard {
    fn new() -> Self {
        let disk = FakeDisk::default();
        let journal = journal(&disk, 64 * SEGMENT_BYTES);
        Self::with(disk, Some(journal))
    }

    fn with(disk: FakeDisk, journal: Option<Journal>) -> Self {
        Self::as_set(disk, journal, config::Durability::Process)
    }

    fn as_set(disk: FakeDisk, journal: Option<Journal>, durability: config::Durability) -> Self {
        let now = Instant::now();
        let limits = config::Ingest { journal_sync: PATIENCE, durability, ..config::Ingest::default() };
        let lane = Lane::new(PRODUCER, [].into(), 0, 0);
        let batcher = Batcher::new(limits, lane, journal, IdsLimit::new(1 << 20, 1), Metrics::new(), now);
        Self { batcher, now, disk, sync: None }
    }

    /// Open, with nothing under way.
    fn opened() -> Self {
        let mut shard = Self::new();
        assert_eq!(shard.wants(), ["report", "open"]);
        shard.opens(0);
        shard
    }

    /// All that is to be done now.
    fn wants(&mut self) -> Vec<String> {
        let mut wanted = vec![];
        while let Some(action) = self.batcher.poll(self.now) {
            wanted.push(match action {
                Action::Report(_) => "report".to_owned(),
                Action::Rotate(..) => "rotate".to_owned(),
                Action::Redis(LaneRequest::Open) => "open".to_owned(),
                Action::Redis(LaneRequest::Look) => "look".to_owned(),
                Action::Redis(LaneRequest::Apply { batches, .. }) => {
                    batches.iter().fold("apply".to_owned(), |said, batch| format!("{said} {}", batch.number))
                }
                Action::Direct(batch) => format!("direct {}", batch.number),
                Action::Sync(job) => {
                    self.sync = Some(job);
                    "sync".to_owned()
                }
            });
        }
        wanted
    }

    fn mode(&self) -> Mode {
        mode(&self.batcher.health())
    }

    fn takes(&self) -> bool {
        self.batcher.takes(self.now)
    }

    /// One view is handed in, with an id unless that is empty.
    fn submit(&mut self, id: &str) -> Acknowledgement {
        let (submission, acknowledgement) = submission(vec![view("u", id)]);
        self.batcher.take(submission, || None, MINUTE, self.now);
        acknowledgement
    }

    fn handle(&mut self, event: Event) {
        self.batcher.handle(event, self.now);
    }

    fn opens(&mut self, last: u64) {
        let position = Position { tail: last, first: FIRST };
        self.handle(Event::Redis(LaneReply::Opened(Ok((1, last, position)))));
    }

    /// Redis takes a batch, and has it at the position of its number.
    fn applies(&mut self, number: u64) {
        let position = Position { tail: number, first: FIRST };
        self.handle(Event::Redis(LaneReply::Applied(vec![(number, Ok(Applied::Ok(position)))])));
    }

    fn redis_is_away(&mut self) {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        self.handle(Event::Redis(LaneReply::Looked(Err(QueueError::Redis(refused.into())))));
    }

    fn mysql_is_away(&mut self) {
        let gone = StoreError::Unreachable { place: "here".into(), why: "gone".into() };
        self.handle(Event::Direct(Err(gone)));
    }

    fn stores(&mut self) {
        self.handle(Event::Direct(Ok(Direct::Now { quarantined: 0 })));
    }

    fn syncs(&mut self) {
        let job = self.sync.take().expect("an fsync was asked for");
        self.handle(Event::Synced(job.run()));
    }

    /// A look shows that so many views wait in Redis.
    fn looks(&mut self, pending_views: u64) {
        let data = DataSet {
            is_current: true,
            epoch: 1,
            position: Position { tail: 0, first: FIRST },
            generation_before: None,
            pending_views,
            lag_ms: 0,
            version: 0,
            ids: Remembered::default(),
            is_damaged: false,
            is_behind: false,
        };
        self.handle(Event::Redis(LaneReply::Looked(Ok(Some(data)))));
    }
}

#[track_caller]
fn assert_waits(client: &mut Acknowledgement) {
    assert!(client.try_recv().is_err(), "it was answered");
}

#[track_caller]
fn assert_acknowledged(client: &mut Acknowledgement) {
    assert_eq!(client.try_recv(), Ok(Ok(())));
}

#[test]
fn a_client_is_answered_when_redis_has_its_view() {
    let mut shard = Shard::opened();
    let mut client = shard.submit("");
    assert!(shard.batcher.kept().journal_bytes > 0, "it is in the journal before it is sent");
    assert_eq!(shard.wants(), ["apply 1"]);
    assert_waits(&mut client);
    shard.applies(1);
    assert_acknowledged(&mut client);
    assert_eq!((shard.wants(), shard.batcher.is_idle()), (vec![], true));
    // I3: Redis may lose it.
    assert_eq!(shard.batcher.kept().retained_batches, 1);
}

#[test]
fn what_comes_meanwhile_is_one_batch() {
    let mut shard = Shard::opened();
    let mut first = shard.submit("");
    assert_eq!(shard.wants(), ["apply 1"]);
    assert!(!shard.takes(), "the next batch is built when this one is through");
    shard.applies(1);
    assert_acknowledged(&mut first);
    assert!(shard.takes());
    let (submissions, mut clients): (Vec<_>, Vec<_>) = (0..3).map(|_| submission(vec![view("u", "")])).unzip();
    let mut submissions = submissions.into_iter();
    let next = submissions.next().expect("three");
    shard.batcher.take(next, || submissions.next(), MINUTE, shard.now);
    assert_eq!(shard.wants(), ["apply 2"]);
    shard.applies(2);
    clients.iter_mut().for_each(assert_acknowledged);
}

#[test]
fn a_small_batch_is_followed_after_a_while_if_that_is_set() {
    const LINGER: Duration = Duration::from_millis(3);
    let mut shard = Shard::opened();
    shard.batcher.limits.linger = Some(LINGER);
    // It was quiet before: nothing is waited for.
    let mut first = shard.submit("");
    assert_eq!(shard.wants(), ["apply 1"]);
    shard.applies(1);
    assert_acknowledged(&mut first);
    assert!(!shard.takes(), "others may come");
    assert_eq!(shard.batcher.wake_at(shard.now), shard.now + LINGER);
    shard.now += LINGER;
    assert!(shard.takes());
    let (submission, _client) = submission(vec![view("u", ""); LINGER_VIEWS]);
    shard.batcher.take(submission, || None, MINUTE, shard.now);
    assert_eq!(shard.wants(), ["apply 2"]);
    shard.applies(2);
    assert!(shard.takes(), "a batch that is large enough is followed at once");
}

#[test]
fn the_journal_is_brought_to_the_disk_for_clients_that_wait_too_long() {
    let mut shard = Shard::opened();
    let mut client = shard.submit("");
    assert_eq!(shard.wants(), ["apply 1"]);
    assert_eq!(shard.batcher.wake_at(shard.now), shard.now + PATIENCE);
    shard.now += PATIENCE;
    assert_eq!(shard.wants(), ["sync"]);
    assert!(!shard.takes(), "those that come meanwhile share the next fsync");
    shard.syncs();
    assert_acknowledged(&mut client);
    // Redis is only slow. What comes now goes to the journal first, and is sent when Redis has answered.
    assert!(shard.takes() && shard.mode() == Mode::Redis);
    let mut second = shard.submit("");
    assert_eq!((shard.mode(), shard.wants()), (Mode::CatchingUp, vec!["sync".to_owned()]));
    shard.applies(1);
    assert_eq!(shard.wants(), ["apply 2"]);
    shard.applies(2);
    assert_acknowledged(&mut second);
}

#[test]
fn without_redis_views_go_to_mysql_and_those_with_an_id_wait_in_the_journal() {
    let mut shard = Shard::opened();
    shard.redis_is_away();
    assert_eq!(shard.mode(), Mode::Direct(Reason::RedisAway));
    let mut plain = shard.submit("");
    assert_eq!(shard.wants(), ["direct 1"]);
    assert!(!shard.takes(), "one transaction at a time");
    shard.stores();
    assert_acknowledged(&mut plain);
    let mut with_id = shard.submit("1");
    assert_eq!(shard.wants(), ["sync"], "only Redis can tell whether it was counted before");
    shard.syncs();
    assert_acknowledged(&mut with_id);
    assert_eq!(shard.batcher.kept().journalled_views, 1);
    // Redis is back.
    shard.now += LATER;
    assert_eq!(shard.wants(), ["apply 1"]);
    shard.applies(1);
    assert!(shard.mode() == Mode::Redis && shard.batcher.kept().journalled_views == 0);
}

/// Open, and what it acknowledges is to outlive a power cut.
fn opened_for_power() -> Shard {
    let disk = FakeDisk::default();
    let journal = journal(&disk, 64 * SEGMENT_BYTES);
    let mut shard = Shard::as_set(disk, Some(journal), config::Durability::Power);
    assert_eq!(shard.wants(), ["report", "open"]);
    shard.opens(0);
    shard
}

#[test]
fn where_power_is_to_be_outlived_the_disk_answers_and_not_redis() {
    let mut shard = opened_for_power();
    let mut first = shard.submit("");
    assert_eq!(shard.wants(), ["apply 1", "sync"], "at once, beside Redis");
    shard.applies(1);
    assert_waits(&mut first);
    // What comes meanwhile has to wait for the next fsync: this one may have begun before.
    let mut second = shard.submit("");
    assert_eq!(shard.wants(), ["apply 2"], "one fsync after the other");
    shard.applies(2);
    assert!(shard.takes(), "Redis gets the next batch while the disk is busy");
    shard.syncs();
    assert_acknowledged(&mut first);
    assert_waits(&mut second);
    assert_eq!(shard.wants(), ["sync"]);
    shard.syncs();
    assert_acknowledged(&mut second);
}

#[test]
fn where_power_is_to_be_outlived_mysql_may_answer_before_the_disk() {
    let mut shard = opened_for_power();
    let mut client = shard.submit("");
    assert_eq!(shard.wants(), ["apply 1", "sync"]);
    // The flusher was faster than the fsync; the journal need not keep the batch any more, and will not be asked for it.
    let position = Position { tail: 1, first: FIRST + 1 };
    shard.handle(Event::Redis(LaneReply::Applied(vec![(1, Ok(Applied::Ok(position)))])));
    assert_acknowledged(&mut client);
    // So does a transaction of the direct path.
    shard.redis_is_away();
    let mut direct = shard.submit("");
    assert!(shard.wants().contains(&"direct 1".to_owned()));
    shard.stores();
    assert_acknowledged(&mut direct);
}

#[test]
fn where_power_is_to_be_outlived_a_disk_that_fails_leaves_clients_without_an_answer() {
    let mut shard = opened_for_power();
    shard.disk.state().sync_fails = true;
    let mut client = shard.submit("");
    assert_eq!(shard.wants(), ["apply 1", "sync"]);
    shard.applies(1);
    shard.syncs();
    assert_waits(&mut client);
    shard.disk.state().sync_fails = false;
    shard.now += LATER;
    while shard.sync.is_none() {
        assert!(!shard.wants().is_empty(), "the disk is tried again");
    }
    shard.syncs();
    assert_acknowledged(&mut client);
}

#[test]
fn a_batch_stays_on_its_path() {
    let mut shard = Shard::opened();
    let mut client = shard.submit("");
    assert_eq!(shard.wants(), ["apply 1"]);
    // Whether Redis has it is not known: MySQL must not get it as well.
    shard.redis_is_away();
    assert_eq!(shard.wants(), ["sync"]);
    shard.syncs();
    assert_acknowledged(&mut client);
    shard.now += LATER;
    assert_eq!(shard.wants(), ["apply 1"]);
}

#[test]
fn without_both_the_journal_is_enough() {
    let mut shard = Shard::opened();
    shard.redis_is_away();
    let mut first = shard.submit("");
    assert_eq!(shard.wants(), ["direct 1"]);
    shard.mysql_is_away();
    assert_eq!(shard.mode(), Mode::JournalOnly(Reason::RedisAway));
    assert_eq!(shard.wants(), ["sync"]);
    assert_waits(&mut first);
    shard.syncs();
    assert_acknowledged(&mut first);
    assert!(shard.takes());
    let mut second = shard.submit("");
    assert_eq!(shard.wants(), ["sync"]);
    assert!(!shard.takes(), "one fsync after the other");
    shard.syncs();
    assert_acknowledged(&mut second);
    assert!(!shard.takes(), "few large batches");
    shard.now += CATCH_UP_PACE;
    assert!(shard.takes());
}

#[test]
fn without_both_and_without_a_journal_views_are_not_taken() {
    let mut shard = Shard::with(FakeDisk::default(), None);
    shard.wants();
    shard.opens(0);
    shard.redis_is_away();
    let mut client = shard.submit("");
    assert_eq!(shard.wants(), ["direct 1"]);
    shard.mysql_is_away();
    assert_eq!((shard.mode(), shard.takes()), (Mode::Unavailable(Reason::RedisAway), false));
    assert_eq!(shard.wants(), [""; 0]);
    assert_waits(&mut client);
}

#[test]
fn a_failed_fsync_answers_nobody() {
    let mut shard = Shard::opened();
    let mut client = shard.submit("");
    assert_eq!(shard.wants(), ["apply 1"]);
    shard.redis_is_away();
    shard.disk.state().sync_fails = true;
    assert_eq!(shard.wants(), ["sync"]);
    shard.syncs();
    assert_waits(&mut client);
    shard.disk.state().sync_fails = false;
    assert_eq!(shard.wants(), [""; 0], "the disk is left alone for a moment");
    shard.now += PATIENCE;
    assert!(shard.wants().contains(&"sync".to_owned()));
    shard.syncs();
    assert_acknowledged(&mut client);
}

#[test]
fn a_full_journal_turns_views_away_and_wastes_no_number() {
    let disk = FakeDisk::default();
    let journal = journal(&disk, 2 * SEGMENT_BYTES);
    let mut shard = Shard::with(disk, Some(journal));
    shard.wants();
    shard.opens(0);
    let mut taken = 0;
    while shard.mode() != Mode::Full {
        let mut client = shard.submit("");
        taken += 1;
        assert_eq!(shard.wants(), [format!("apply {taken}")]);
        shard.applies(taken);
        assert_acknowledged(&mut client);
    }
    assert!(shard.takes(), "they are answered at once");
    assert_eq!(shard.submit("").try_recv(), Ok(Err(NotCounted::Full)));
    assert_eq!(shard.batcher.kept().retained_batches as u64, taken);
    // MySQL has all of them: the journal has room again.
    shard.now += LATER;
    assert_eq!(shard.wants(), ["report", "look"]);
    let data = LaneReply::Opened(Ok((1, taken, Position { tail: taken, first: taken + 1 })));
    shard.handle(Event::Redis(data));
    assert_eq!(shard.batcher.kept().retained_batches, 0);
    let mut client = shard.submit("");
    assert_eq!(shard.wants(), [format!("apply {}", taken + 1)]);
    shard.applies(taken + 1);
    assert_acknowledged(&mut client);
}

#[test]
fn a_mysql_that_is_older_than_it_was_gets_nothing() {
    let mut shard = Shard::opened();
    shard.redis_is_away();
    let mut client = shard.submit("");
    assert_eq!(shard.wants(), ["direct 1"]);
    shard.stores();
    assert_acknowledged(&mut client);
    let mut second = shard.submit("");
    assert_eq!(shard.wants(), ["direct 2"]);
    shard.handle(Event::Direct(Ok(Direct::Behind { number: 0 })));
    assert_eq!(shard.mode(), Mode::JournalOnly(Reason::MysqlClosed));
    assert_eq!(shard.wants(), ["sync"]);
    shard.syncs();
    assert_acknowledged(&mut second);
    assert!(shard.batcher.detail().contains("was it restored?"), "{}", shard.batcher.detail());
}

#[test]
fn of_a_full_redis_it_is_first_asked_what_fills_it() {
    for (pending_views, expected) in [(1, vec!["apply 1"]), (1_000_000, vec![])] {
        let mut shard = Shard::opened();
        shard.handle(Event::Memory(Ok((90, 100))));
        assert_eq!(shard.mode(), Mode::Direct(Reason::RedisFull));
        let _client = shard.submit("with an id");
        assert!(!shard.wants().iter().any(|wanted| wanted.starts_with("apply")));
        shard.now += LATER;
        assert_eq!(shard.wants(), ["report", "look"]);
        shard.looks(pending_views);
        assert_eq!(shard.mode(), Mode::Direct(Reason::RedisFull), "that it answers does not make room");
        assert_eq!(shard.wants(), expected, "{pending_views} views wait in it");
        shard.handle(Event::Memory(Ok((70, 100))));
        assert_ne!(shard.mode(), Mode::Direct(Reason::RedisFull));
    }
}

#[test]
fn a_server_that_has_the_keys_now_is_asked_at_once() {
    let mut shard = Shard::opened();
    for _ in 0..5 {
        shard.redis_is_away();
    }
    shard.now += Duration::from_millis(100);
    assert_eq!(shard.wants(), [""; 0], "it is left alone for a while");
    shard.handle(Event::Moved);
    assert_eq!(shard.wants(), ["look"]);
    // What was under way at the server before ends with an error, which is no reason to wait for long.
    shard.handle(Event::Moved);
    shard.redis_is_away();
    shard.now += Duration::from_millis(100);
    assert_eq!(shard.wants(), ["look"]);
}

#[test]
fn of_a_store_that_does_not_answer_it_is_said_for_how_long() {
    let mut shard = Shard::opened();
    let _client = shard.submit("");
    assert_eq!(shard.wants(), ["apply 1"]);
    shard.now += Duration::from_millis(600);
    shard.wants();
    assert_eq!(shard.mode(), Mode::Direct(Reason::RedisAway));
    assert_eq!(shard.batcher.detail(), "no answer of Redis within 500ms");
}

#[test]
fn what_waits_is_sent_when_redis_is_back_and_new_views_wait_behind_it() {
    let mut shard = Shard::opened();
    shard.redis_is_away();
    for _ in 0..3 {
        let mut client = shard.submit("with an id");
        shard.wants();
        shard.syncs();
        assert_acknowledged(&mut client);
        shard.now += CATCH_UP_PACE;
    }
    shard.now += LATER;
    assert!(shard.wants().contains(&"apply 1 2 3".to_owned()));
    shard.applies(1);
    assert_eq!((shard.mode(), shard.wants()), (Mode::CatchingUp, vec!["apply 2 3".to_owned()]));
    let mut late = shard.submit("");
    assert_eq!(shard.wants(), ["sync"], "it is not sent soon");
    shard.syncs();
    assert_acknowledged(&mut late);
    shard.applies(2);
    shard.applies(3);
    shard.applies(4);
    assert_eq!(shard.mode(), Mode::Redis);
}
