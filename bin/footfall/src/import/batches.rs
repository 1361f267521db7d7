//! Hands sorted records over to MySQL, in numbered batches.

use std::collections::BTreeMap;

use footfall_shared::mysql::Store;
use footfall_shared::protocol::{Article, Batch, Direct, Histories, Producer, Row, Shard};
use footfall_shared::service::clock;

use super::sort::{Record, Sorted};
use crate::Result;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::terminal::Progress;

/// Records in one transaction. Part of what makes a repeat harmless: another number would number the batches anew.
pub(super) const BATCH_RECORDS: usize = 5_000;
/// Minutes that are written: those before are shown nowhere any more.
const MINUTES_SHOWN: u32 = 2 * 24 * 60;

/// Views, by what became of them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Done {
    /// Counted by this run.
    pub(super) now: u64,
    /// In MySQL by an earlier run, counted or in quarantine.
    pub(super) before: u64,
    /// Brought into quarantine by this run.
    pub(super) quarantined: u64,
}

impl Done {
    pub(super) fn views(&self) -> u64 {
        self.now + self.before + self.quarantined
    }
}

/// Stores all, with `total` views; answers whether it came to the end: it stops between two batches if it is interrupted.
pub(super) async fn store_all(
    store: &Store,
    mut sorted: Sorted,
    producer: Producer,
    total: u64,
    interrupt: &Interrupt,
    done: &mut Done,
) -> Result<bool> {
    let mut progress = Progress::new(Some(total), "view");
    let (mut shard, mut number, mut cumulative_views) = (Shard(0), 0, 0);
    let mut records: Vec<Record> = Vec::with_capacity(BATCH_RECORDS);
    loop {
        let next = sorted.next().map_err(|error| Failure::file("read the temporary file", &error))?;
        let is_full = records.len() == BATCH_RECORDS || next.as_ref().is_none_or(|next| next.shard != shard);
        if is_full && !records.is_empty() {
            if interrupt.has_come() {
                return Ok(false);
            }
            number += 1;
            let (rows, histories) = fold(records.drain(..));
            let views: u64 = rows.iter().map(|row| row.views).sum();
            cumulative_views += views;
            let batch = Batch { producer, number, cumulative_views, minute: 0, repeats: 0, rows, ids: vec![] };
            match store.import(shard, &batch, &histories).await? {
                Direct::Now { quarantined } => {
                    done.now += views.saturating_sub(quarantined);
                    done.quarantined += quarantined;
                }
                Direct::Before => done.before += views,
                Direct::Behind { number } => {
                    return Err(Failure::Dependency(format!(
                        "MySQL has forgotten batches of this import behind number {number}: was it restored from a backup?"
                    )));
                }
            }
            progress.show(done.views(), "");
        }
        let Some(next) = next else {
            progress.end();
            return Ok(true);
        };
        if next.shard != shard {
            (shard, number, cumulative_views) = (next.shard, 0, 0);
        }
        records.push(next);
    }
}

/// Rows without their times, and what the histories show.
fn fold(records: impl Iterator<Item = Record>) -> (Vec<Row>, Histories) {
    let first_minute = clock::unix_minute().saturating_sub(MINUTES_SHOWN);
    let mut rows: Vec<Row> = Vec::with_capacity(BATCH_RECORDS);
    let (mut hours, mut minutes) = (BTreeMap::<(Article, u32), u64>::new(), BTreeMap::<u32, u64>::new());
    for Record { article, user, minute, views, .. } in records {
        if minute > 0 {
            *hours.entry((article.clone(), minute / 60)).or_default() += views;
        }
        if minute >= first_minute && minute > 0 {
            *minutes.entry(minute).or_default() += views;
        }
        match rows.last_mut() {
            Some(row) if row.article == article && row.user == user => row.views += views,
            _ => rows.push(Row { article, user, views }),
        }
    }
    let hours = hours.into_iter().map(|((article, hour), views)| (article, hour, views)).collect();
    (rows, Histories { hours, minutes: minutes.into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use footfall_shared::protocol::User;

    #[test]
    fn views_are_in_their_hours_and_recent_ones_in_their_minutes() {
        let record = |article: &str, minute, views| Record {
            shard: Shard(0),
            article: Article::parse(article.as_bytes()).expect("test id"),
            user: User::parse(b"u").expect("test id"),
            minute,
            views,
        };
        let now = clock::unix_minute();
        let records =
            [record("a", 0, 1), record("a", 600, 2), record("a", 601, 4), record("a", now, 8), record("b", now, 16)];
        let (rows, histories) = fold(records.into_iter());
        let rows: Vec<_> = rows.iter().map(|row| (row.article.as_str(), row.views)).collect();
        assert_eq!(rows, [("a", 15), ("b", 16)]);
        let hours: Vec<_> =
            histories.hours.iter().map(|(article, hour, views)| (article.as_str(), *hour, *views)).collect();
        assert_eq!(hours, [("a", 10, 6), ("a", now / 60, 8), ("b", now / 60, 16)]);
        assert_eq!(histories.minutes, [(now, 24)]);
    }
}
