//! A Redis that comes back is opened again: what MySQL has is trimmed, and an overtaken or damaged history set aside.

use footfall_shared::protocol::packed::{self, Packed};
use footfall_shared::protocol::{Position, Producer, Recovery, State};
use footfall_shared::redis::{Applied, Entry, QueueError};

use crate::common::{EPOCH, Fixture, IDS_MAX, LOG, META, PRODUCER, SHARDS, batch, recovery};

const NEXT: u64 = EPOCH + 1;
const PRODUCERS: &str = "footfall:{0}:producers";
const ASIDE: &str = "footfall:{0}:aside:2:1";

/// What MySQL says that has the log up to this position, flushed under [`EPOCH`].
fn at(position: u64) -> Recovery {
    Recovery { position, flush_epoch: EPOCH, ..recovery(NEXT) }
}

impl Fixture {
    async fn state(&self) -> State {
        self.queue.state().await.expect("state")
    }

    async fn reopen(&self, recovery: &Recovery, discard: bool) -> Option<bool> {
        self.queue.reopen(&self.state().await, recovery, SHARDS, discard).await.expect("reopen")
    }

    /// Positions and numbers in the log that is open now.
    async fn log(&self, epoch: u64) -> (Position, Vec<(u64, u64)>) {
        let page = self.queue.follow(epoch, 0, 1 << 20, None).await.expect("follow");
        let number = |entry: &Entry| (entry.position, entry.batch().expect("whole").number);
        assert_eq!(page.pending_views, page.entries.len() as u64, "a view in each");
        (page.position, page.entries.iter().map(number).collect())
    }
}

#[tokio::test]
async fn what_mysql_has_is_trimmed_and_the_rest_kept() {
    for position in 0..=2 {
        let fixture = Fixture::open().await;
        fixture.append(&["a", "b", "c"]).await;
        assert_eq!(fixture.reopen(&at(position), false).await, Some(false));
        let kept = (position + 1..=3).map(|number| (number, number)).collect::<Vec<_>>();
        assert_eq!(fixture.log(NEXT).await, (Position { first: position + 1, tail: 3 }, kept));
        let oldest = fixture.queue.follow(NEXT, 0, 1 << 20, None).await.expect("follow").entries[0].came_ms;
        assert_eq!(fixture.meta(["oldest"]), [oldest]);
        // It goes on.
        let applied = fixture.queue.apply(NEXT, &Packed::new(batch(4, "d")), IDS_MAX).await.expect("apply");
        assert_eq!(applied, Applied::Ok(Position { first: position + 1, tail: 4 }));
    }
}

#[tokio::test]
async fn it_is_empty_where_mysql_has_all_or_more() {
    for position in [3, 4, 9] {
        let fixture = Fixture::open().await;
        fixture.append(&["a", "b", "c"]).await;
        assert_eq!(fixture.reopen(&at(position), false).await, Some(false));
        assert_eq!(fixture.log(NEXT).await, (Position { first: position + 1, tail: position }, vec![]));
        assert_eq!(fixture.query(&["KEYS", "footfall:{0}:aside:*"]), [""; 0]);
        assert_eq!(fixture.query(&["EXISTS", LOG]), ["0"]);
    }
}

#[tokio::test]
async fn no_producer_may_send_again_what_mysql_has() {
    let fixture = Fixture::open().await;
    fixture.append(&["a", "b", "c"]).await;
    let producers = vec![(PRODUCER, 2, 2), (Producer(8), 5, 50)];
    assert_eq!(fixture.reopen(&Recovery { producers, ..at(2) }, false).await, Some(false));
    let last = async |producer| fixture.queue.register(NEXT, producer, SHARDS).await.expect("register").0;
    assert_eq!((last(PRODUCER).await, last(Producer(8)).await), (3, 5), "never lowered, and raised");
}

#[tokio::test]
async fn an_overtaken_history_is_set_aside_whole() {
    let fixture = Fixture::open().await;
    fixture.append(&["a", "b", "c"]).await;
    fixture.query(&["SADD", "footfall:{0}:ids", "an id"]);
    let entries = fixture.query(&["LRANGE", LOG, "0", "-1"]);
    let overtaken =
        Recovery { position: 7, flush_epoch: NEXT, producers: vec![(PRODUCER, 1, 1)], ..recovery(NEXT + 1) };
    assert_eq!(fixture.reopen(&overtaken, false).await, Some(true));
    assert_eq!(fixture.log(NEXT + 1).await, (Position { first: 8, tail: 7 }, vec![]));
    let aside = "footfall:{0}:aside:3:1";
    assert_eq!(fixture.query(&["LRANGE", aside, "0", "-1"]), entries);
    assert_eq!(fixture.queue.aside().await.expect("aside"), [(3, 1)]);
    assert_eq!(fixture.queue.aside_log(3, 1, 1).await.expect("aside").len(), 2);
    // Its ids were those of views that are not counted now, and its producers' numbers too.
    assert_eq!(fixture.query(&["EXISTS", "footfall:{0}:ids"]), ["0"]);
    assert_eq!(fixture.queue.register(NEXT + 1, PRODUCER, SHARDS).await.expect("register").0, 1);
}

#[tokio::test]
async fn a_log_that_does_not_add_up_is_not_kept_and_can_be_set_aside() {
    let breaks: [&[&str]; 4] = [
        &["LPOP", LOG],
        &["RPUSH", LOG, "one more"],
        &["LSET", LOG, "0", "not an entry"],
        &["LSET", LOG, "1", "not an entry"],
    ];
    for broken in breaks {
        let fixture = Fixture::open().await;
        fixture.append(&["a", "b", "c"]).await;
        fixture.query(broken);
        let before = fixture.content();
        let reopened = fixture.queue.reopen(&fixture.state().await, &at(1), SHARDS, false).await;
        assert!(matches!(reopened, Err(QueueError::Corrupt(_))), "{broken:?}: {reopened:?}");
        assert_eq!(fixture.content(), before, "{broken:?}");
        assert_eq!(fixture.reopen(&at(1), true).await, Some(true), "{broken:?}");
        assert_eq!(fixture.log(NEXT).await, (Position { first: 2, tail: 1 }, vec![]));
        assert_eq!(fixture.query(&["EXISTS", ASIDE]), ["1"]);
    }
}

#[tokio::test]
async fn what_has_become_something_else_can_be_set_aside_too() {
    for key in ["log", "producers", "ids", "ids:before"] {
        let fixture = Fixture::open().await;
        fixture.append(&["a"]).await;
        fixture.query(&["SET", &format!("footfall:{{0}}:{key}"), "something else"]);
        assert!(fixture.state().await.data.expect("it holds something").is_damaged, "{key}");
        assert_eq!(fixture.reopen(&at(0), true).await, Some(true), "{key}");
        let data = fixture.state().await.data.expect("open");
        assert!(data.is_current && !data.is_damaged, "{key}: {data:?}");
    }
}

/// Keys come to another server one after the other, and some may be lost on the way.
#[tokio::test]
async fn nothing_is_believed_of_what_is_left_without_its_meta() {
    for gone in [&["DEL", META][..], &["DEL", META, LOG]] {
        let fixture = Fixture::open().await;
        fixture.append(&["a", "b", "c"]).await;
        fixture.query(&["SADD", "footfall:{0}:ids", "an id"]);
        fixture.query(gone);
        let had_log = gone.len() == 2;
        assert_eq!(fixture.reopen(&at(0), false).await, Some(had_log), "{gone:?}");
        assert_eq!(fixture.query(&["EXISTS", ASIDE]), [u8::from(had_log).to_string()], "{gone:?}");
        let (last, position) = fixture.queue.register(NEXT, PRODUCER, SHARDS).await.expect("register");
        assert_eq!((last, position), (0, Position { first: 1, tail: 0 }), "{gone:?}: its batches are gone");
        assert_eq!(fixture.query(&["EXISTS", "footfall:{0}:ids"]), ["0"], "{gone:?}");
        let applied = fixture.queue.apply(NEXT, &Packed::new(batch(1, "a")), IDS_MAX).await.expect("apply");
        assert_eq!(applied, Applied::Ok(Position { first: 1, tail: 1 }), "{gone:?}: it is sent again");
    }
}

#[tokio::test]
async fn producers_that_are_gone_are_damage_whoever_registers_meanwhile() {
    for is_new in [false, true] {
        let fixture = Fixture::open().await;
        fixture.append(&["a", "b", "c"]).await;
        fixture.query(&["DEL", PRODUCERS]);
        if is_new {
            fixture.queue.register(EPOCH, Producer(8), SHARDS).await.expect("register");
        }
        assert!(fixture.state().await.data.expect("it holds something").is_damaged);
        assert_eq!(fixture.reopen(&at(2), true).await, Some(true));
        let data = fixture.state().await.data.expect("open");
        assert!(data.is_current && !data.is_damaged, "{data:?}");
    }
    // A version that did not note it has opened it last.
    let fixture = Fixture::open().await;
    fixture.query(&["HDEL", PRODUCERS, "epoch"]);
    fixture.query(&["HDEL", META, "producers_epoch"]);
    assert!(!fixture.state().await.data.expect("open").is_damaged);
    assert_eq!(fixture.reopen(&at(0), false).await, Some(false));
    assert!(!fixture.state().await.data.expect("open").is_damaged);
}

#[tokio::test]
async fn what_has_changed_since_it_was_looked_at_is_not_opened() {
    let mut fixture = Fixture::open().await;
    fixture.append(&["a", "b"]).await;
    let state = fixture.state().await;
    fixture.queue.ack(EPOCH, 1, 0, true).await.expect("ack");
    let reopen = async |fixture: &Fixture, state| fixture.queue.reopen(state, &at(1), SHARDS, false).await;
    assert_eq!(reopen(&fixture, &state).await.expect("reopen"), None, "something was trimmed");
    let state = fixture.state().await;
    fixture.restart();
    let before = fixture.content();
    assert_eq!(reopen(&fixture, &state).await.expect("reopen"), None, "another life of the server");
    assert_eq!(fixture.content(), before);
    let state = fixture.state().await;
    assert_eq!(reopen(&fixture, &state).await.expect("reopen"), Some(false));
    assert_eq!(reopen(&fixture, &state).await.expect("reopen"), None, "another epoch");
    fixture.query(&["FLUSHALL"]);
    assert_eq!(reopen(&fixture, &state).await.expect("reopen"), None, "nothing is left");
}

/// Views come all the time. A recovery that gave up for each of them would never come to an end.
#[tokio::test]
async fn what_is_appended_after_the_look_is_kept() {
    let fixture = Fixture::open().await;
    fixture.append(&["a"]).await;
    let state = fixture.state().await;
    fixture.queue.apply(EPOCH, &Packed::new(batch(2, "b")), IDS_MAX).await.expect("apply");
    assert_eq!(fixture.queue.reopen(&state, &at(1), SHARDS, false).await.expect("reopen"), Some(false));
    assert_eq!(fixture.log(NEXT).await, (Position { first: 2, tail: 2 }, vec![(2, 2)]));
}

#[tokio::test]
async fn bases_of_before_are_not_valid_any_more() {
    let fixture = Fixture::open().await;
    fixture.append(&["a", "b"]).await;
    assert_eq!(fixture.reopen(&at(1), false).await, Some(false));
    assert_eq!(fixture.meta(["valid_from", "fill_from", "first"]), [1, 1, 2]);
}

#[tokio::test]
async fn records_of_a_log_that_was_set_aside_are_replaced_as_they_were_seen() {
    let fixture = Fixture::open().await;
    fixture.append(&["a", "b"]).await;
    assert_eq!(fixture.reopen(&at(0), true).await, Some(true));
    let queue = &fixture.queue;
    let log = queue.aside_log(NEXT, 1, 0).await.expect("aside");
    for (record, number) in log.iter().zip(1..) {
        let entry = Entry::parse(number, record).expect("an entry");
        assert!(
            entry.came_ms > 0 && packed::decode(&entry.packed) == Ok(batch(number, ["a", "b"][number as usize - 1]))
        );
    }
    let change = |index: u64, old: &[u8]| (index, old.to_vec(), b"new".to_vec());
    let rewritten = queue.rewrite_aside(NEXT, 1, vec![change(0, &log[0]), change(1, b"another")]).await;
    assert!(!rewritten.expect("rewrite"), "one is not as it was seen");
    assert_eq!(queue.aside_log(NEXT, 1, 0).await.expect("aside"), log);
    assert!(queue.rewrite_aside(NEXT, 1, vec![change(1, &log[1])]).await.expect("rewrite"));
    assert_eq!(queue.aside_log(NEXT, 1, 1).await.expect("aside"), [b"new"]);
    assert!(queue.drop_aside(NEXT, 1).await.expect("drop"));
    assert!(queue.aside_log(NEXT, 1, 0).await.expect("aside").is_empty());
}
