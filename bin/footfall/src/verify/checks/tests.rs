//! Each check must hold for what is right, and notice what is not.

use super::super::look::Head;
use super::*;
use footfall_shared::protocol::{Batch, Row, User, View};

fn view(article: &str) -> View {
    View {
        article: Article::parse(article.as_bytes()).expect("test id"),
        user: User::parse(b"u").expect("test id"),
        id: None,
    }
}

fn batch(number: u64, views_before: u64, views: usize) -> Head {
    Head::of(&Batch::fold(Producer(1), number, views_before, 0, vec![view("a"); views]))
}

fn audit() -> Audit {
    let fence =
        Fence { epoch: 1, position: 1, flush_epoch: 1, version: 0, views: 5, readers: 2, users: 1, articles: 1 };
    Audit {
        fences: vec![fence, fence],
        reader_views: 10,
        reader_rows: 4,
        users: 2,
        fenced_views: 9,
        direct_views: 6,
        repeats: 2,
        quarantined_views: 2,
        dropped_views: 1,
        quarantined: vec![],
        torn: vec![],
        pairs: vec![],
        through_redis: ProducerFences::from([((Shard(0), Producer(1)), (4, 7)), ((Shard(1), Producer(1)), (1, 2))]),
        direct: ProducerFences::from([((Shard(0), Producer(1)), (3, 6))]),
        top: vec![],
    }
}

/// MySQL has batch 4 of producer 1 in shard 0, Redis the two after it.
fn look() -> Observation {
    let batches = vec![batch(5, 7, 2), batch(6, 9, 3)];
    let producers = BTreeMap::from([(Producer(1), (6, 12)), (Producer(2), (0, 0))]);
    let rows = vec![Row { article: view("a").article, user: view("a").user, views: 5 }];
    let waiting = Waiting { batches, rows, producers, ..Waiting::default() };
    Observation { audit: audit(), shards: vec![waiting, Waiting::default()] }
}

#[test]
fn each_invariant_of_mysql_is_checked() {
    let broken = |change: fn(&mut Audit)| {
        let mut audit = audit();
        change(&mut audit);
        of_mysql(&audit).map(|(_, broken)| broken.is_some())
    };
    let (sums, sent, stored, rows, users) = (0, 1, 2, 3, 4);
    let only = |all: &[usize]| std::array::from_fn(|at| all.contains(&at));
    assert_eq!(broken(|_| {}), only(&[]));
    assert_eq!(broken(|audit| audit.torn.push(view("a").article)), only(&[sums]));
    assert_eq!(broken(|audit| audit.reader_views += 1), only(&[sent, stored]));
    assert_eq!(broken(|audit| audit.fenced_views += 1), only(&[sent]));
    assert_eq!(broken(|audit| audit.direct_views -= 1), only(&[sent]));
    assert_eq!(broken(|audit| audit.quarantined_views -= 1), only(&[sent]));
    assert_eq!(broken(|audit| audit.fences[0].views += 1), only(&[stored]));
    assert_eq!(broken(|audit| audit.reader_rows += 1), only(&[rows]));
    assert_eq!(broken(|audit| audit.users += 1), only(&[users]));
}

#[test]
fn what_waits_must_fit_onto_mysql() {
    let broken = |change: fn(&mut Observation)| {
        let mut look = look();
        change(&mut look);
        of_redis(&look).map(|(_, broken)| broken.is_some())
    };
    assert_eq!(broken(|_| {}), [false, false, false]);
    // Flushed since Redis was read: the fence passed both, and so the look left them out.
    let flushed = |look: &mut Observation| {
        look.shards[0].batches.clear();
        look.audit.through_redis.insert((Shard(0), Producer(1)), (8, 20));
        look.audit.reader_views += 13;
    };
    assert_eq!(broken(flushed), [false, false, false]);
    // A batch is gone, at the end or in between.
    assert_eq!(broken(|look| look.shards[0].batches.truncate(1)), [true, false, true]);
    assert_eq!(broken(|look| look.shards[0].batches.retain(|batch| batch.number == 6)), [true, false, false]);
    // One is there twice, or MySQL has it as well.
    assert_eq!(broken(|look| look.shards[0].batches.push(batch(6, 9, 3))), [true, false, true]);
    let in_both = |look: &mut Observation| {
        look.audit.through_redis.insert((Shard(0), Producer(1)), (5, 9));
        look.audit.reader_views += 2;
    };
    assert_eq!(broken(in_both), [true, false, true]);
    // Other views than the number says.
    assert_eq!(broken(|look| look.shards[0].batches[1] = batch(6, 8, 4)), [true, false, true]);
    assert_eq!(broken(|look| look.shards[0].damage.push("an entry".into())), [false, true, false]);
}

#[test]
fn views_that_a_journal_lost_are_pending_until_they_are_in_quarantine() {
    let mut look = look();
    look.shards[0].batches = vec![Head::of(&Batch::lost(Producer(1), 5, 9)), batch(6, 9, 3)];
    assert!(of_redis(&look).iter().all(|(_, broken)| broken.is_none()));
    assert_eq!(conservation(&look, 0).pending, 5);
}

#[test]
fn all_views_are_somewhere() {
    let all = conservation(&look(), 100);
    assert_eq!((all.accepted, all.pending, all.journalled, all.difference()), (12 + 2 + 6 + 100, 5, 100, 0));
    let mut less = look();
    less.audit.reader_views -= 1;
    assert_eq!(conservation(&less, 0).difference(), 1);
    assert_eq!(less.rows().map(|row: &Row| row.views).sum::<u64>(), 5);
}

#[test]
fn nothing_in_mysql_goes_back() {
    let broken = |change: fn(&mut Audit)| {
        let mut after = audit();
        change(&mut after);
        between(&audit(), &after).map(|(_, broken)| broken.is_some())
    };
    assert_eq!(broken(|_| {}), [false, false]);
    let forth = |audit: &mut Audit| {
        audit.fences[0].position += 3;
        audit.fences[1].epoch += 1;
        audit.through_redis.insert((Shard(0), Producer(9)), (1, 1));
        audit.reader_views += 1;
    };
    assert_eq!(broken(forth), [false, false]);
    assert_eq!(broken(|audit| audit.fences[1].position -= 1), [true, false]);
    assert_eq!(broken(|audit| audit.fences[0].epoch -= 1), [true, false]);
    assert_eq!(broken(|audit| audit.direct.clear()), [true, false]);
    assert_eq!(broken(|audit| audit.through_redis.extend([((Shard(0), Producer(1)), (3, 7))])), [true, false]);
    assert_eq!(broken(|audit| audit.reader_views -= 1), [false, true]);
}
