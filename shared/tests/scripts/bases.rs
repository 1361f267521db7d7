//! A cached base of an article lacks nothing but what is in the log behind its position (I8).

use std::time::Duration;

use footfall_shared::protocol::keys::CacheTag;
use footfall_shared::protocol::{Delta, Position, StoredArticle};
use footfall_shared::redis::{Advanced, Base, Bases, QueueError};

use crate::common::{ALL, EPOCH, Fixture, TAG, TTL, article};

impl Fixture {
    /// Offers what MySQL had of an article; answers whether it was taken.
    async fn fill(&self, id: &str, position: u64, views: u64, readers: u64) -> bool {
        let stored = StoredArticle { epoch: EPOCH, position, version: 0, shard_views: 0, views, readers };
        self.queue.fill(TAG, &article(id), TTL, &stored).await.expect("fill")
    }

    /// Views, readers and position of what is cached and valid.
    async fn base(&self, id: &str) -> Option<(u64, u64, u64)> {
        let articles = [(&article(id), TTL)];
        let bases = Bases { version: 0, articles: &articles, kept: TTL };
        let page = self.queue.follow(EPOCH, 0, 0, Some(bases)).await.expect("follow");
        page.bases[0].map(|Base { views, readers, position, .. }| (views, readers, position))
    }

    /// Moves the bases of some articles along with a flush of these positions: `(article, views, new readers)`.
    async fn advance(&self, first: u64, tail: u64, deltas: &[(&str, u64, u64)]) -> Advanced {
        let deltas: Vec<Delta> = deltas
            .iter()
            .map(|(id, views, readers)| Delta { article: article(id), views: *views, readers: *readers })
            .collect();
        self.queue.advance(TAG, Position { first, tail }, &deltas, TTL).await.expect("advance")
    }

    async fn ack(&self, last: u64, are_advanced: bool) {
        self.queue.ack(EPOCH, last, 0, are_advanced).await.expect("ack");
    }
}

#[tokio::test]
async fn a_base_comes_with_the_entries_behind_it_in_one_look() {
    let fixture = Fixture::open().await;
    fixture.append(&["a", "b"]).await;
    assert!(fixture.fill("a", 0, 10, 3).await && fixture.fill("b", 2, 20, 4).await);
    let (a, b, c) = (article("a"), article("b"), article("c"));
    let articles = [(&b, TTL), (&c, TTL), (&a, TTL)];
    let bases = Bases { version: 0, articles: &articles, kept: TTL };
    let page = fixture.queue.follow(EPOCH, 0, ALL, Some(bases)).await.expect("follow");
    let base = |views, readers, position| Some(Base { views, readers, position, is_fresh: false });
    let as_said: Vec<Option<Base>> =
        page.bases.iter().map(|base| base.map(|base| Base { is_fresh: false, ..base })).collect();
    assert_eq!(as_said, [base(20, 4, 2), None, base(10, 3, 0)]);
    assert_eq!(page.entries.len(), 2);
    // Of another version nothing is known.
    let bases = Bases { version: 1, articles: &articles, kept: TTL };
    let other = fixture.queue.follow(EPOCH, 0, ALL, Some(bases)).await;
    assert!(matches!(other, Err(QueueError::Epoch)), "{other:?}");
}

#[tokio::test]
async fn a_base_that_lacks_what_was_trimmed_is_not_let_in() {
    let fixture = Fixture::open().await;
    fixture.append(&["a", "a", "a"]).await;
    fixture.ack(2, true).await;
    assert!(!fixture.fill("a", 1, 1, 1).await);
    assert_eq!(fixture.base("a").await, None);
    for position in [2, 3] {
        assert!(fixture.fill("a", position, position, 1).await);
        assert_eq!(fixture.base("a").await, Some((position, 1, position)));
    }
}

#[tokio::test]
async fn an_older_base_never_takes_the_place_of_a_newer_one() {
    let fixture = Fixture::open().await;
    fixture.append(&["a", "a"]).await;
    assert!(fixture.fill("a", 1, 1, 1).await);
    assert!(fixture.fill("a", 2, 2, 1).await);
    assert!(fixture.fill("a", 1, 1, 1).await, "it is right too, with what is behind it");
    assert_eq!(fixture.base("a").await, Some((2, 1, 2)));
}

#[tokio::test]
async fn a_base_of_another_version_is_not_let_in() {
    let fixture = Fixture::open().await;
    let offer = async |known, version| {
        let stored = StoredArticle { epoch: EPOCH, position: 0, version, shard_views: 0, views: 1, readers: 1 };
        fixture.queue.fill(CacheTag { epoch: EPOCH, version: known }, &article("a"), TTL, &stored).await
    };
    assert!(matches!(offer(1, 0).await, Err(QueueError::Epoch)), "Redis knows of version 0");
    assert!(matches!(offer(0, 1).await, Err(QueueError::Epoch)), "MySQL has changed: from here on Redis knows");
    assert!(matches!(offer(0, 0).await, Err(QueueError::Epoch)), "that was read before");
    assert!(offer(1, 1).await.expect("fill"));
    assert_eq!(fixture.meta(["version"]), [1]);
}

#[tokio::test]
async fn a_flush_moves_the_bases_that_it_touches_and_leaves_the_others_right() {
    let fixture = Fixture::open().await;
    fixture.append(&["a", "b", "a", "b"]).await;
    assert!(
        fixture.fill("a", 0, 10, 3).await && fixture.fill("b", 3, 20, 4).await && fixture.fill("c", 0, 30, 5).await
    );
    assert_eq!(fixture.advance(1, 3, &[("a", 2, 1), ("b", 1, 0), ("d", 1, 1)]).await, Advanced::Done);
    let expected = [("a", Some((12, 4, 3))), ("b", Some((20, 4, 3))), ("c", Some((30, 5, 0))), ("d", None)];
    for (id, base) in expected {
        assert_eq!(fixture.base(id).await, base, "{id}, before the trim");
    }
    fixture.ack(3, true).await;
    for (id, base) in expected {
        assert_eq!(fixture.base(id).await, base, "{id}, after it");
    }
    // One that the flush before did not touch is moved by the next one that does.
    fixture.append(&["c"]).await;
    assert_eq!(fixture.advance(4, 5, &[("b", 1, 0), ("c", 1, 1)]).await, Advanced::Done);
    fixture.ack(5, true).await;
    assert_eq!((fixture.base("b").await, fixture.base("c").await), (Some((21, 4, 5)), Some((31, 6, 5))));
}

#[tokio::test]
async fn while_bases_are_moved_none_comes_in_behind() {
    let fixture = Fixture::open().await;
    fixture.append(&["a", "b"]).await;
    // None of its articles is cached, and somebody has read `b` from MySQL before the flush.
    assert!(fixture.fill("c", 0, 1, 1).await);
    assert_eq!(fixture.advance(1, 2, &[("a", 1, 1), ("b", 1, 1)]).await, Advanced::Done);
    assert!(!fixture.fill("b", 0, 0, 0).await, "it would lack the flush when that is trimmed");
    assert!(fixture.fill("b", 2, 1, 1).await);
    fixture.ack(2, true).await;
    assert_eq!(fixture.base("b").await, Some((1, 1, 2)));
}

#[tokio::test]
async fn bases_are_moved_by_the_flush_that_is_trimmed_next_and_no_other() {
    let fixture = Fixture::open().await;
    fixture.append(&["a", "a", "a"]).await;
    assert!(fixture.fill("a", 0, 10, 3).await);
    let before = fixture.content();
    assert_eq!(fixture.advance(2, 3, &[("a", 2, 1)]).await, Advanced::Moved, "the one before is not trimmed");
    assert_eq!(fixture.content(), before);
    fixture.ack(1, false).await;
    assert_eq!(fixture.advance(1, 1, &[("a", 1, 1)]).await, Advanced::Moved, "it is trimmed");
    // A repeat finds them moved.
    assert!(fixture.fill("a", 1, 11, 4).await);
    for _ in 0..2 {
        assert_eq!(fixture.advance(2, 3, &[("a", 2, 1)]).await, Advanced::Done);
        assert_eq!(fixture.base("a").await, Some((13, 5, 3)));
    }
}

#[tokio::test]
async fn a_trim_without_moved_bases_leaves_none_that_lacks_it() {
    let fixture = Fixture::open().await;
    fixture.append(&["a", "b", "b"]).await;
    assert!(
        fixture.fill("a", 0, 10, 3).await && fixture.fill("b", 0, 20, 4).await && fixture.fill("c", 1, 30, 5).await
    );
    fixture.ack(1, false).await;
    // What nobody has asked for is still there, and must not be moved on as if it were right.
    assert_eq!(fixture.advance(2, 3, &[("b", 2, 1)]).await, Advanced::Done);
    fixture.ack(3, true).await;
    assert_eq!((fixture.base("a").await, fixture.base("b").await), (None, None));
    assert_eq!(fixture.base("c").await, Some((30, 5, 1)), "it had what was trimmed");
    assert_eq!(fixture.query(&["KEYS", "footfall:*live*"]), ["footfall:{0}:live:1:0:c"], "and nothing is left of them");
}

#[tokio::test]
async fn a_base_that_cannot_be_read_is_dropped() {
    let fixture = Fixture::open().await;
    fixture.append(&["a", "b"]).await;
    assert!(fixture.fill("a", 0, 1, 1).await && fixture.fill("b", 0, 1, 1).await);
    for id in ["a", "b"] {
        fixture.query(&["SET", &format!("footfall:{{0}}:live:1:0:{id}"), "1:1"]);
    }
    assert_eq!(fixture.base("a").await, None);
    assert_eq!(fixture.advance(1, 2, &[("b", 1, 1)]).await, Advanced::Done);
    assert!(fixture.query(&["KEYS", "footfall:*live*"]).is_empty());
}

#[tokio::test]
async fn nothing_is_looked_for_when_no_base_can_be_left() {
    let fixture = Fixture::open().await;
    fixture.append(&["a"]).await;
    assert_eq!(fixture.advance(1, 1, &[("a", 1, 1)]).await, Advanced::NoneCached);
    assert!(!fixture.fill("a", 0, 0, 0).await, "none that lacks the flush is let in even so");
    assert!(fixture.fill("a", 1, 1, 1).await);
    assert_eq!(fixture.advance(1, 1, &[("a", 1, 1)]).await, Advanced::Done);
}

#[tokio::test]
async fn a_base_is_kept_beyond_its_time_while_it_is_moved_along() {
    let fixture = Fixture::open().await;
    fixture.append(&["a"]).await;
    let short = Duration::from_millis(200);
    for (id, views) in [("a", 5), ("zero", 0)] {
        let stored = StoredArticle { epoch: EPOCH, position: 0, version: 0, shard_views: 0, views, readers: views };
        assert!(fixture.queue.fill(TAG, &article(id), short, &stored).await.expect("fill"));
    }
    let (a, zero) = (article("a"), article("zero"));
    let articles = [(&a, short), (&zero, short)];
    let look = async || {
        let bases = Bases { version: 0, articles: &articles, kept: TTL };
        let page = fixture.queue.follow(EPOCH, 0, 0, Some(bases)).await.expect("follow");
        page.bases.iter().map(|base| base.map(|base| (base.views, base.is_fresh))).collect::<Vec<_>>()
    };
    look().await;
    tokio::time::sleep(2 * short).await;
    assert_eq!(look().await, [Some((5, false)), None], "what was never read is not kept: anybody can ask for it");
    assert_eq!(fixture.advance(1, 1, &[("a", 1, 1)]).await, Advanced::Done);
    assert_eq!(look().await[0], Some((6, true)), "a flush of its article makes it live again");
}
