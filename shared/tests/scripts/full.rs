//! What a Redis does with each script while it uses more memory than it may: as the table in `queue/scripts.rs` says.

use footfall_shared::protocol::errors::{ErrorClass, Grade};
use footfall_shared::protocol::keys::{CacheTag, PRESENCE};
use footfall_shared::protocol::packed::Packed;
use footfall_shared::protocol::{Batch, Delta, Position, Producer, StoredArticle};
use footfall_shared::redis::presence::Report;
use footfall_shared::redis::{Advanced, Applied, Bases, QueueError, Script, WhenFull, scripts};
use footfall_shared::service::telemetry::Readiness;

use crate::common::{ALL, EPOCH, Fixture, IDS_MAX, PRODUCER, SHARDS, TAG, TTL, article, batch, recovery, view};

/// A Redis with two entries.
async fn begin() -> Fixture {
    let fixture = Fixture::open().await;
    fixture.apply(1, "one").await.expect("apply");
    fixture.apply(2, "two").await.expect("apply");
    fixture
}

/// What becomes of a full Redis.
impl Fixture {
    /// Somebody else's key leaves no room.
    fn fill_memory(&self) {
        self.query(&["SET", "somebody-elses", &"x".repeat(4 << 20)]);
        self.query(&["CONFIG", "SET", "maxmemory", "2mb"]);
        let refused = self.server.query(&["SET", "another", "key"]).expect_err("it is full");
        assert!(refused.to_string().contains("OOM"), "{refused}");
    }

    /// A batch of one view that has an id; the batches before had one each.
    async fn apply(&self, number: u64, id: &str) -> Result<Applied, QueueError> {
        let batch = Batch::fold(PRODUCER, number, number - 1, 0, vec![view(id)]);
        self.queue.apply(EPOCH, &Packed::new(batch), IDS_MAX).await
    }

    /// Runs a script by its way through the program, and looks at what came of it.
    async fn run(&self, script: &Script) -> Result<(), QueueError> {
        let queue = &self.queue;
        match script.name {
            "apply" => {
                let applied = self.apply(3, "three").await?;
                panic!("it was taken: {applied:?}");
            }
            "register" => {
                let (last, _) = queue.register(EPOCH, Producer(8), SHARDS).await?;
                assert_eq!(last, 0);
                assert!(self.query(&["HKEYS", "footfall:{0}:producers"]).contains(&Producer(8).to_string()));
            }
            "rotate" => {
                queue.rotate_ids(EPOCH, 0, false).await?;
                assert_eq!(self.query(&["SCARD", "footfall:{0}:ids:before"]), ["2"]);
                queue.rotate_ids(EPOCH, 1, true).await?;
                assert_eq!(self.query(&["EXISTS", "footfall:{0}:ids", "footfall:{0}:ids:before"]), ["0"]);
                let ids = queue.state().await?.data.expect("open").ids;
                assert_eq!((ids.rotation, ids.added, ids.before, ids.forgotten_early), (2, 0, 0, 2));
            }
            "follow" => {
                let articles = [(&article("a"), TTL)];
                let bases = Bases { version: 0, articles: &articles, kept: TTL };
                let page = queue.follow(EPOCH, 0, ALL, Some(bases)).await?;
                assert_eq!((page.entries.len(), &*page.bases, page.is_full), (2, &[None][..], true));
            }
            "advance" => {
                let deltas = [Delta { article: article("a"), views: 1, readers: 1 }];
                let flush = Position { first: 1, tail: 1 };
                assert_eq!(queue.advance(TAG, flush, &deltas, TTL).await?, Advanced::NoneCached);
            }
            "ack" => assert_eq!(queue.ack(EPOCH, 1, 0, true).await?, Position { first: 2, tail: 2 }),
            "version" => {
                queue.raise_version(CacheTag { version: 5, ..TAG }).await?;
                assert_eq!(queue.state().await?.data.expect("open").version, 5);
            }
            "behind" => {
                queue.report(PRODUCER, 1, 2, [(3, 4), (5, 6)], true).await?;
                assert!(queue.state().await?.data.expect("open").is_behind);
            }
            "reopen" => {
                let state = queue.state().await?;
                assert_eq!(queue.reopen(&state, &recovery(EPOCH + 1), SHARDS, false).await?, Some(false));
                assert_eq!(queue.state().await?.data.expect("open").epoch, EPOCH + 1);
            }
            "carry" => {
                self.query(&["CONFIG", "SET", "maxmemory", "0"]);
                super::carry::leave(self, &[&[batch(1, "a")]], &[batch(2, "a")]);
                self.query(&["CONFIG", "SET", "maxmemory", "2mb"]);
                let state =
                    queue.carry(queue.state().await?, &recovery(EPOCH + 1)).await?.expect("nobody else is there");
                assert_eq!(state.data.expect("carried").position, Position { first: 1, tail: 2 });
            }
            "probe" => {
                queue.probe(&queue.state().await?).await?;
            }
            "state" => assert_eq!(queue.state().await?.data.expect("open").pending_views, 2),
            "look" => {
                assert_eq!(queue.totals().await?.expect("open").accepted_views, 2);
                let moment = queue.moment().await?;
                let position = moment.position.expect("open");
                assert_eq!((position, moment.producers.len()), (Position { first: 1, tail: 2 }, 1));
                assert_eq!(queue.log(position).next().await?.len(), 2);
            }
            "lease" => assert!(queue.lease("somebody", TTL).await?),
            "note" => {
                queue.report(PRODUCER, 1, 2, [(3, 4), (5, 6)], false).await?;
                assert_eq!(queue.reports().await?, [(PRODUCER.to_string(), 1, 2)]);
                let report = Report {
                    beat: 1,
                    role: "ingest".into(),
                    name: "here:1".into(),
                    version: String::new(),
                    since: String::new(),
                    health: Readiness::default().health(),
                };
                self.redis.report_presence(&report).await?;
                assert_eq!(self.query(&["HLEN", PRESENCE]), ["1"]);
            }
            "salt" => {
                assert_eq!(self.redis.salt(1, "first", TTL).await?, "first");
                assert_eq!(self.redis.salt(1, "second", TTL).await?, "first");
            }
            "fill" => {
                let stored =
                    StoredArticle { epoch: EPOCH, position: 0, version: 0, shard_views: 0, views: 40, readers: 4 };
                assert!(queue.fill(TAG, &article("a"), TTL, &stored).await?, "nothing moved");
                assert!(self.query(&["KEYS", "footfall:*live*"]).is_empty(), "nothing more is cached");
            }
            "rewrite" => {
                self.query(&["CONFIG", "SET", "maxmemory", "0"]);
                self.query(&["RPUSH", "footfall:{0}:aside:1:1", "old"]);
                self.query(&["CONFIG", "SET", "maxmemory", "2mb"]);
                assert!(queue.rewrite_aside(1, 1, vec![(0, b"old".to_vec(), b"new".to_vec())]).await?);
            }
            other => panic!("say in `scripts.rs` what becomes of {other} when memory is full, and try it here"),
        }
        Ok(())
    }
}

#[tokio::test]
async fn each_script_does_what_is_said_when_memory_is_full() {
    for script in scripts() {
        let fixture = begin().await;
        fixture.fill_memory();
        let before = fixture.content();
        let result = fixture.run(script).await;
        println!("{}: {:?}, {result:?}", script.name, script.when_full);
        if script.when_full == WhenFull::Refused {
            let error = result.expect_err(script.name);
            assert_eq!(error.class(), ErrorClass::CacheFull, "{}: {error}", script.name);
        } else {
            result.unwrap_or_else(|error| panic!("{}: {error}", script.name));
        }
        if script.when_full != WhenFull::Runs {
            assert_eq!(fixture.content(), before, "{} has written", script.name);
        }
    }
}

#[tokio::test]
async fn no_more_view_ids_are_remembered_than_there_is_room_for() {
    let fixture = begin().await;
    let mut before = 2;
    for number in 3..40 {
        let views = (0..100).map(|at| view(&format!("{number}-{at}"))).collect();
        let batch = Batch::fold(PRODUCER, number, before, 0, views);
        before = batch.cumulative_views;
        let applied = fixture.queue.apply(EPOCH, &Packed::new(batch.clone()), 500).await.expect("there is memory");
        assert!(matches!(applied, Applied::Ok(_)), "{applied:?}");
        let ids = fixture.queue.state().await.expect("state").data.expect("open").ids;
        assert!(ids.added <= 500 && ids.before <= 500, "{ids:?}");
        // What was just counted is never forgotten.
        let repeat = Packed::new(Batch { number: number + 1, ..batch });
        let repeat = fixture.queue.apply(EPOCH, &repeat, 500).await;
        assert_eq!(repeat.expect("there is memory"), Applied::Seen((0..100).collect()));
    }
    let ids = fixture.queue.state().await.expect("state").data.expect("open").ids;
    assert!(ids.rotation >= 6 && ids.forgotten_early >= 2_500, "{ids:?}");
    assert_eq!(ids.forgotten_early + ids.added + ids.before, before, "each is remembered, or said to be forgotten");
}

#[tokio::test]
async fn an_id_that_an_earlier_version_remembered_is_known() {
    let fixture = begin().await;
    // Those remembered the id as it is.
    fixture.query(&["SADD", "footfall:{0}:ids", "three"]);
    fixture.query(&["SADD", "footfall:{0}:ids:before", "four"]);
    for id in ["three", "four", "one"] {
        assert_eq!(fixture.apply(3, id).await.expect("there is memory"), Applied::Seen(vec![0]), "{id}");
    }
    assert!(matches!(fixture.apply(3, "five").await.expect("there is memory"), Applied::Ok(_)));
}
