//! What is added up must be what is in the log, whatever comes in one page and is trimmed between two.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use rustix::time::{ClockId, clock_gettime};

use super::*;
use crate::protocol::packed;
use crate::protocol::{Batch, Producer, Row, User, View};

fn article(number: u64) -> Article {
    Article::parse(format!("article-{number}").as_bytes()).expect("test id")
}

fn entry(position: u64, batch: &Batch) -> Entry {
    Entry { position, came_ms: 0, packed: packed::encode(batch).into() }
}

fn page(position: Position, entries: Vec<Entry>) -> Page {
    Page { position, entries, ..Page::default() }
}

/// What happens to a log.
#[derive(Debug, Clone)]
enum Step {
    /// A batch is appended: views of some articles, by number.
    Append(Vec<(u64, u64)>),
    /// So many entries are trimmed.
    Trim(u64),
    /// So many entries are read, at most.
    Page(usize),
}

fn step() -> impl Strategy<Value = Step> {
    // More than a count holds, too.
    let views = prop_oneof![8 => 1u64..5, 1 => Just(u64::from(u32::MAX)), 1 => Just(3 * u64::from(u32::MAX))];
    prop_oneof![
        4 => prop::collection::vec((0u64..6, views), 0..5).prop_map(Step::Append),
        2 => (1u64..5).prop_map(Step::Trim),
        4 => (0usize..5).prop_map(Step::Page),
    ]
}

/// A log, and what was done with it.
#[derive(Default)]
struct Log {
    batches: Vec<BTreeMap<u64, u64>>,
    trimmed: u64,
}

impl Log {
    fn position(&self) -> Position {
        Position { tail: self.batches.len() as u64, first: self.trimmed + 1 }
    }

    fn append(&mut self, rows: Vec<(u64, u64)>) {
        let mut batch = BTreeMap::new();
        rows.into_iter().for_each(|(article, views)| *batch.entry(article).or_default() += views);
        self.batches.push(batch);
    }

    fn page(&self, cursor: u64, most: usize) -> Page {
        let user = User::parse(b"u").expect("test id");
        let from = cursor.max(self.trimmed);
        let entries = (from..self.batches.len() as u64).take(most).map(|at| {
            let rows = &self.batches[usize::try_from(at).expect("few")];
            let row =
                |(number, views): (&u64, &u64)| Row { article: article(*number), user: user.clone(), views: *views };
            let batch = Batch { rows: rows.iter().map(row).collect(), ..Batch::lost(Producer(1), 1, 1 << 50) };
            entry(at + 1, &batch)
        });
        page(self.position(), entries.collect())
    }

    /// Views of an article in the entries behind `position`, up to `cursor`.
    fn above(&self, position: u64, cursor: u64, number: u64) -> u64 {
        let entries = (1..).zip(&self.batches).filter(|(at, _)| *at > position.max(self.trimmed) && *at <= cursor);
        entries.filter_map(|(_, batch)| batch.get(&number)).sum()
    }
}

proptest! {
    #[test]
    fn what_is_added_up_is_what_the_log_holds(steps in prop::collection::vec(step(), 1..80)) {
        let (mut log, mut pending) = (Log::default(), Pending::new(1));
        for step in steps {
            match step {
                Step::Append(rows) => log.append(rows),
                Step::Trim(count) => log.trimmed = (log.trimmed + count).min(log.batches.len() as u64),
                Step::Page(most) => {
                    pending.take(&log.page(pending.follower().cursor(), most)).expect("a right page");
                    let (cursor, trimmed) = (pending.follower().cursor(), log.trimmed);
                    prop_assert_eq!(pending.follower().is_whole(), cursor == log.batches.len() as u64);
                    for number in 0..6 {
                        let article = article(number);
                        for position in 0..=log.batches.len() as u64 + 1 {
                            let sum = log.above(position, cursor, number);
                            let known = (position >= trimmed).then_some(sum);
                            prop_assert_eq!(pending.above(position, &article), known, "{} behind {}", number, position);
                            prop_assert_eq!(pending.above_base(position, &article), sum);
                        }
                        prop_assert_eq!(pending.views(&article), log.above(0, cursor, number));
                    }
                }
            }
        }
        log.trimmed = log.batches.len() as u64;
        pending.take(&log.page(pending.follower().cursor(), 0)).expect("a right page");
        prop_assert_eq!((pending.bytes, pending.len()), (0, 0), "nothing is kept of what is trimmed");
    }
}

#[test]
fn a_page_that_does_not_follow_is_refused() {
    let batch = Batch::fold(Producer(1), 1, 0, 0, vec![]);
    let at = |first, tail, positions: &[u64]| {
        page(Position { tail, first }, positions.iter().map(|position| entry(*position, &batch)).collect())
    };
    let mut follower = Follower::new(1);
    follower.take(&at(3, 6, &[3, 4])).expect("it begins at the oldest");
    for wrong in [
        at(3, 6, &[4]),    // again
        at(3, 6, &[6]),    // a hole
        at(3, 6, &[6, 5]), // another order
        at(2, 6, &[5]),    // trimmed entries are back
        at(3, 5, &[5]),    // the newest one is gone
    ] {
        let mut same = follower;
        assert!(same.take(&wrong).is_err(), "{wrong:?}");
    }
    follower.take(&at(6, 8, &[6, 7])).expect("what was trimmed is not waited for");
    assert_eq!((follower.cursor(), follower.is_whole()), (7, false));
    follower.take(&at(9, 8, &[])).expect("all is trimmed");
    assert!(follower.is_whole());
}

#[test]
fn memory_is_shown_after_damage_too() {
    let view = View { article: article(1), user: User::parse(b"u").expect("test id"), id: None };
    let good = entry(1, &Batch::fold(Producer(1), 1, 0, 0, vec![view]));
    let damaged = Entry { position: 2, came_ms: 0, packed: b"?"[..].into() };
    let mut pending = Pending::new(1);
    pending.take(&page(Position { tail: 2, first: 1 }, vec![good, damaged])).expect_err("it cannot be read");
    assert_eq!((pending.len(), pending.shown), (1, pending.bytes));
}

/// Numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of so many, the n-th of which comes about once while the first comes n times (Zipf's law).
    fn below(&mut self, count: usize) -> usize {
        let uniform = self.next() as f64 / u64::MAX as f64;
        (count as f64).powf(uniform) as usize % count
    }
}

/// The processor's time for this thread: others on the machine do not count.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("it does not run backwards")
}

/// What a long backlog takes.
#[derive(Debug, Default)]
struct Cost {
    /// The longest time for one page.
    longest: Duration,
    /// Memory as it is reckoned, and that of its parts, when all is read.
    reckoned: usize,
    held: usize,
}

/// Follows a backlog of so many views to its end, and then what trims it.
fn follow_backlog(views: u64, per_batch: u64) -> Cost {
    const PAGE_BYTES: usize = 64 << 10;
    let articles: Vec<Article> = (0..100_000).map(article).collect();
    let user = User::parse(b"0123456789").expect("test id");
    let (mut numbers, mut cost, mut pending) = (Numbers(7), Cost::default(), Pending::new(1));
    let tail = views.div_ceil(per_batch);
    let take = |pending: &mut Pending, cost: &mut Cost, page: &Page| {
        let began = cpu_time();
        pending.take(page).expect("a right page");
        cost.longest = cost.longest.max(cpu_time() - began);
    };
    while !pending.follower().is_whole() {
        assert!(pending.wants(PAGE_BYTES) > 0, "it fits");
        let (mut entries, mut bytes, mut position) = (Vec::new(), 0, pending.follower().cursor());
        while bytes < PAGE_BYTES && position < tail {
            position += 1;
            let mut read: Vec<usize> = (0..per_batch).map(|_| numbers.below(articles.len())).collect();
            read.sort_unstable();
            let row = |at: &usize| Row { article: articles[*at].clone(), user: user.clone(), views: 1 };
            let batch = Batch {
                rows: read.iter().map(row).collect(),
                ..Batch::lost(Producer(1), position, per_batch * position)
            };
            entries.push(entry(position, &batch));
            bytes += entries.last().map_or(0, |entry| entry.packed.len());
        }
        take(&mut pending, &mut cost, &page(Position { tail, first: 1 }, entries));
    }
    cost.reckoned = pending.bytes;
    // A bucket of the map and its place in the table, the id, and the counts.
    let held = |(article, counts): (&Article, &Vec<Count>)| {
        size_of::<(u64, Article, Vec<Count>)>() + 10 + article.as_bytes().len() + counts.capacity() * size_of::<Count>()
    };
    cost.held = pending.articles.iter().flatten().map(held).sum();
    // MySQL takes it, a transaction's worth at a time.
    let transaction = 100_000 / per_batch;
    for last in (transaction..tail).step_by(usize::try_from(transaction).expect("it fits")).chain([tail]) {
        take(&mut pending, &mut cost, &page(Position { tail, first: last + 1 }, vec![]));
    }
    for _ in 0..articles.len() / SWEPT_PER_PAGE {
        take(&mut pending, &mut cost, &page(Position { tail, first: tail + 1 }, vec![]));
    }
    assert_eq!((pending.bytes, pending.len()), (0, 0), "nothing is kept of what is trimmed");
    cost
}

/// `FOOTFALL_TEST_BACKLOG_VIEWS` sets how long the backlog is; the default keeps the ordinary run short.
#[test]
fn a_long_backlog_stays_within_its_bound_and_nobody_waits_for_long() {
    let views = std::env::var("FOOTFALL_TEST_BACKLOG_VIEWS").ok().and_then(|text| text.parse().ok()).unwrap_or(600_000);
    for per_batch in [20, 250, 2_000] {
        let cost = follow_backlog(views, per_batch);
        println!("{views} views in batches of {per_batch}: {cost:?}");
        assert!(cost.reckoned.max(cost.held) < FOLLOWED_BYTES_MAX, "{cost:?}");
    }
}

/// The sums of views up to a position.
mod sums {
    use proptest::prelude::*;

    use super::super::*;
    use crate::protocol::{Batch, Producer, User, View};
    use crate::redis::Entry;

    fn article(name: u8) -> Article {
        Article::parse(&[b'a' + name]).expect("test id")
    }

    /// An entry in which one reader has read these articles.
    fn entry(position: u64, articles: &[u8]) -> Entry {
        let user = User::parse(b"u").expect("test id");
        let view = |name: &u8| View { article: article(*name), user: user.clone(), id: None };
        let batch = Batch::fold(Producer(1), position, 0, 0, articles.iter().map(view).collect());
        Entry { position, came_ms: 0, packed: crate::protocol::packed::encode(&batch).into() }
    }

    proptest! {
        /// A log grows, is read in pages and trimmed, by any steps.
        #[test]
        fn what_waits_is_added_up_behind_any_position(
            steps in prop::collection::vec((prop::collection::vec(prop::collection::vec(0u8..4, 0..5), 0..4), 0u64..4, 0usize..6), 1..20),
        ) {
            let (mut log, mut first) = (vec![], 1);
            let mut pending = Pending::new(1);
            for (appended, trimmed, page) in steps {
                log.extend(appended);
                let tail = log.len() as u64;
                first = (first + trimmed).min(tail + 1);
                let cursor = pending.follower().cursor().max(first - 1);
                let entries = (cursor + 1..=tail).take(page).map(|at| entry(at, &log[at as usize - 1]));
                pending.take(&Page { position: Position { tail, first }, entries: entries.collect(), ..Page::default() })?;
                let cursor = pending.follower().cursor();
                let views = |from: u64, to: u64| log[(from - 1) as usize..(to.max(from - 1)) as usize].iter().flatten();
                for position in 0..=tail + 1 {
                    let up_to = (first - 1..=cursor).contains(&position).then(|| views(first, position).count() as u64);
                    prop_assert_eq!(pending.views_up_to(position), up_to, "{} of {}..{}", position, first, cursor);
                    for name in 0..4 {
                        let from = position.max(first - 1).min(cursor) + 1;
                        let above = views(from, cursor).filter(|viewed| **viewed == name).count() as u64;
                        prop_assert_eq!(pending.above_base(position, &article(name)), above);
                        let is_whole = position + 1 >= first;
                        prop_assert_eq!(pending.above(position, &article(name)), is_whole.then_some(above));
                    }
                }
            }
            // Once all is trimmed, two rounds let go of everything.
            let tail = log.len() as u64;
            for _ in 0..2 {
                pending.take(&Page { position: Position { tail, first: tail + 1 }, ..Page::default() })?;
            }
            prop_assert_eq!((pending.bytes, pending.len(), pending.sums.len()), (0, 0, 0));
        }
    }
}
