//! What is sent to Redis, what is kept, and until when.

use super::*;
use crate::fixture::{PRODUCER, batch, packed};

const AT: fn(u64, u64) -> Position = |first, tail| Position { tail, first };

/// A lane that has built so many batches, each with one view.
fn lane(built: u64) -> Lane {
    let mut lane = Lane::new(PRODUCER, [].into(), 0, 0);
    (1..=built).for_each(|number| lane.push(Retained::built(packed(number), None)));
    lane
}

/// The same, open under epoch 1; Redis has batches up to `last`, each at the position of its number.
fn open(built: u64, last: u64) -> Lane {
    let mut lane = lane(built);
    lane.on(LaneReply::Opened(Ok((1, last, AT(1, last))))).expect("it is open");
    lane
}

fn applied(lane: &mut Lane, number: u64, applied: Applied) -> Result<(), LaneError> {
    lane.on(LaneReply::Applied(vec![(number, Ok(applied))]))
}

/// Numbers of the batches that are sent now.
fn sent(lane: &mut Lane) -> Vec<u64> {
    match lane.next(|_| None) {
        Some(LaneRequest::Apply { batches, .. }) => batches.iter().map(|batch| batch.number).collect(),
        _ => vec![],
    }
}

#[test]
fn what_redis_lacks_is_sent_in_order_and_only_to_an_open_data_set() {
    let mut lane = lane(20);
    assert!(matches!(lane.next(|_| None), Some(LaneRequest::Open)));
    lane.on(LaneReply::Opened(Ok((1, 2, AT(1, 2))))).expect("it is open");
    assert_eq!(sent(&mut lane), (3..=18).collect::<Vec<_>>(), "no more than 16 together");
    // The third was taken, the fourth was not: those behind it were refused.
    let outcomes = [(3, Ok(Applied::Ok(AT(1, 3)))), (4, Err(QueueError::timed_out())), (5, Ok(Applied::Behind))];
    assert!(lane.on(LaneReply::Applied(outcomes.into())).is_err());
    assert_eq!((lane.applied(), lane.backlog(), lane.backlog_views()), (3, 17, 17));
    assert_eq!(sent(&mut lane)[0], 4, "the same number again: whether Redis has it is not known");
}

/// I3: what Redis has may be lost with it, until MySQL has it too.
#[test]
fn a_batch_is_kept_until_mysql_has_it() {
    let mut lane = open(3, 0);
    for number in 1..=3 {
        applied(&mut lane, number, Applied::Ok(AT(1, number))).expect("it was taken");
    }
    assert_eq!((lane.retained(), sent(&mut lane).len()), (3, 0));
    // MySQL has the log up to its second entry.
    let data = data_set(1, AT(3, 3));
    lane.on(LaneReply::Looked(Ok(Some(data)))).expect("it is open");
    assert_eq!((lane.retained(), lane.stored(), lane.kept_behind()), (1, 2, (2, 2)));
    // Redis comes back without the third.
    lane.on(LaneReply::Looked(Ok(None))).expect("it is not open");
    assert!(matches!(lane.next(|_| None), Some(LaneRequest::Open)));
    lane.on(LaneReply::Opened(Ok((2, 2, AT(3, 2))))).expect("it is open");
    assert_eq!(sent(&mut lane), [3]);
}

#[test]
fn an_older_data_set_may_hold_a_batch_at_another_position() {
    let mut lane = open(1, 0);
    applied(&mut lane, 1, Applied::Ok(AT(1, 1))).expect("it was taken");
    // It has others' batches before ours now: MySQL has the log up to 4, and ours may be the fifth.
    lane.on(LaneReply::Opened(Ok((2, 1, AT(5, 5))))).expect("it is open");
    assert_eq!(lane.retained(), 1);
    lane.on(LaneReply::Looked(Ok(Some(data_set(2, AT(6, 5)))))).expect("it is open");
    assert_eq!(lane.retained(), 0);
}

#[test]
fn another_epoch_is_opened_first() {
    for outcome in [
        LaneReply::Applied(vec![(1, Err(QueueError::Epoch))]),
        LaneReply::Applied(vec![(1, Ok(Applied::Behind))]),
        LaneReply::Looked(Ok(None)),
        LaneReply::Looked(Ok(Some(data_set(2, AT(1, 0))))),
    ] {
        let mut lane = open(1, 0);
        lane.on(outcome).expect("it is no failure");
        assert!(lane.epoch().is_none() && matches!(lane.next(|_| None), Some(LaneRequest::Open)));
    }
}

#[test]
fn views_that_were_counted_before_are_left_out_and_back_in_another_data_set() {
    let mut lane = Lane::new(PRODUCER, [].into(), 0, 0);
    lane.push(Retained::built(Packed::new(batch(1, "id")), None));
    let views = |lane: &mut Lane| match lane.next(|_| None) {
        Some(LaneRequest::Apply { batches, .. }) => batches[0].views,
        step => panic!("{step:?}"),
    };
    lane.on(LaneReply::Opened(Ok((1, 0, AT(1, 0))))).expect("it is open");
    assert_eq!(views(&mut lane), 1);
    lane.push(Retained::built(packed(2), None));
    // The one behind it was refused for its sake, which says nothing about the data set.
    let outcomes = [(1, Ok(Applied::Seen(vec![0]))), (2, Ok(Applied::Behind))];
    lane.on(LaneReply::Applied(outcomes.into())).expect("it is no failure");
    assert_eq!(lane.epoch(), Some(1));
    assert_eq!(views(&mut lane), 0);
    lane.on(LaneReply::Opened(Ok((2, 0, AT(1, 0))))).expect("it is open");
    assert_eq!(views(&mut lane), 1);
}

#[test]
fn what_mysql_had_and_nobody_has_any_more_stops_the_lane() {
    let kept = || [Retained::kept(5, 5, None)].into();
    let mut lane = Lane::new(PRODUCER, kept(), 4, 4);
    let forgotten = lane.on(LaneReply::Opened(Ok((1, 2, AT(1, 2))))).expect_err("3 and 4 were in MySQL");
    assert_eq!(forgotten.class(), ErrorClass::DbBehind);
    assert!(forgotten.to_string().contains("batches 3 to 4"), "{forgotten}");
    // What was never in MySQL was lost, and must not keep the others from being sent.
    let mut lane = Lane::new(PRODUCER, kept(), 4, 2);
    lane.on(LaneReply::Opened(Ok((1, 2, AT(1, 2))))).expect("it is open");
    assert_eq!(sent(&mut lane), [3, 4, 5]);
}

fn data_set(epoch: u64, position: Position) -> DataSet {
    DataSet {
        is_current: true,
        epoch,
        position,
        generation_before: None,
        pending_views: 0,
        lag_ms: 0,
        version: 0,
        ids: Default::default(),
        is_damaged: false,
        is_behind: false,
    }
}
