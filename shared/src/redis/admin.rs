//! What the operator's tool looks at and sets right: `footfall verify`, `quarantine`, `erase`, `accept-restore`.

use std::collections::{BTreeMap, BTreeSet};

use redis::{InfoDict, Value};

use super::calls::{Calls, Redis};
use super::errors::{QueueError, Result};
use super::follow::Entry;
use super::queue::Queue;
use super::scripts::REWRITE;
use crate::protocol::keys::{self, ShardKeys};
use crate::protocol::{Position, Positions, Producer, Shard};

/// What a data set holds at one moment. The entries of its log never change: they are read later, see [`Queue::log`].
#[derive(Debug, Clone, Default)]
pub struct Moment {
    /// Its log; none if it holds nothing of this shard.
    pub position: Option<Position>,
    /// The last batch of every producer that it knows, and its cumulative views.
    pub producers: Positions,
}

/// Entries that are read at once, at most: nobody else is answered by Redis meanwhile.
const ENTRIES_TOGETHER: u64 = 256;

/// Reads entries of a log piece by piece: all of them together may be more than fits into memory.
pub struct LogReader<'a> {
    queue: &'a Queue,
    /// Where the list begins, as far as known.
    first: u64,
    next: u64,
    tail: u64,
}

impl LogReader<'_> {
    /// Some of the next entries, in order, without those that were trimmed meanwhile; empty at the end.
    pub async fn next(&mut self) -> Result<Vec<Entry>> {
        while self.next <= self.tail {
            let from = self.next - self.first;
            let last = (from + ENTRIES_TOGETHER - 1).min(self.tail - self.first);
            let mut pipeline = redis::pipe();
            pipeline.cmd("HMGET").arg(&self.queue.keys.meta).arg(&["first"]);
            pipeline.cmd("LRANGE").arg(&self.queue.keys.log).arg(from).arg(last);
            let ((first,), log): ((Option<u64>,), Vec<Vec<u8>>) = self.queue.at_once(pipeline).await?;
            match first {
                None => break,
                // Trimmed meanwhile: the list begins elsewhere.
                Some(first) if first != self.first => (self.first, self.next) = (first, self.next.max(first)),
                Some(_) if log.is_empty() => {
                    return Err(QueueError::Corrupt(format!("the log ends before position {}", self.next)));
                }
                Some(_) => {
                    let entries = (self.next..).zip(&log).map(|(position, entry)| Entry::parse(position, entry));
                    let entries = entries.collect::<Result<Vec<_>>>()?;
                    self.next += entries.len() as u64;
                    return Ok(entries);
                }
            }
        }
        Ok(vec![])
    }
}

impl Queue {
    /// One atomic look: what it holds of a producer is in the log, or in MySQL.
    pub async fn moment(&self) -> Result<Moment> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HMGET").arg(&self.keys.meta).arg(&["tail", "first"]).hgetall(&self.keys.producers);
        type Found = ((Option<u64>, Option<u64>), BTreeMap<String, String>);
        let ((tail, first), producers): Found = self.at_once(pipeline).await?;
        let parse = |(producer, position): (String, String)| {
            let (number, views) = position.split_once(':')?;
            Some((Producer::parse(&producer)?, (number.parse().ok()?, views.parse().ok()?)))
        };
        Ok(Moment {
            position: tail.zip(first).map(|(tail, first)| Position { tail, first }),
            producers: producers.into_iter().filter_map(parse).collect(),
        })
    }

    /// Reads the entries of the log at these positions, open or not.
    #[must_use]
    pub fn log(&self, Position { tail, first }: Position) -> LogReader<'_> {
        LogReader { queue: self, first, next: first, tail }
    }

    /// What the ingests say that MySQL has of their batches, through Redis and directly.
    pub async fn said_to_be_stored(&self) -> Result<[Positions; 2]> {
        let mut pipeline = redis::pipe();
        pipeline.hgetall(&self.keys.stored);
        let (said,): (BTreeMap<String, String>,) = self.calls.commands(pipeline).await?;
        let mut positions: [Positions; 2] = Default::default();
        for (producer, text) in said {
            let numbers: Vec<u64> = text.split(':').map_while(|number| number.parse().ok()).collect();
            let Some(producer) = Producer::parse(&producer) else { continue };
            let [number, views, direct, direct_views] = numbers[..] else { continue };
            positions[0].insert(producer, (number, views));
            positions[1].insert(producer, (direct, direct_views));
        }
        Ok(positions)
    }

    /// Epoch and first position of every log that was set aside, in order.
    pub async fn aside(&self) -> Result<Vec<(u64, u64)>> {
        let names = matching(&self.calls, &self.keys.all_aside()).await?;
        let mut found: Vec<_> = names.iter().filter_map(|name| self.keys.aside_of(name)).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Some of the records of a log that was set aside, from this one on, as they are: see [`Entry::parse`]. Empty if there
    /// are no more, or no such log. They may be damaged.
    pub async fn aside_log(&self, epoch: u64, first: u64, from: u64) -> Result<Vec<Vec<u8>>> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("LRANGE").arg(self.keys.aside(epoch, first)).arg(from).arg(from + ENTRIES_TOGETHER - 1);
        let (log,): (Vec<Vec<u8>>,) = self.calls.commands(pipeline).await?;
        Ok(log)
    }

    /// Deletes a log that was set aside; false if there is no such log.
    pub async fn drop_aside(&self, epoch: u64, first: u64) -> Result<bool> {
        let mut pipeline = redis::pipe();
        pipeline.del(self.keys.aside(epoch, first));
        let (deleted,): (u64,) = self.calls.commands(pipeline).await?;
        Ok(deleted == 1)
    }

    /// Puts other records in the place of some of a log that was set aside: `(index, old, new)`, all or, if one of them is
    /// not as it was, none.
    pub async fn rewrite_aside(&self, epoch: u64, first: u64, changes: Vec<(u64, Vec<u8>, Vec<u8>)>) -> Result<bool> {
        let key = self.keys.aside(epoch, first);
        let mut call = REWRITE.call([&*key]);
        for (index, old, new) in changes {
            call.arg(index).arg(old).arg(new);
        }
        let answer = self.calls.script(&REWRITE, call).await?;
        Ok(answer == Value::Int(1))
    }
}

impl Redis {
    /// How many logs were set aside, of all shards.
    pub async fn asides(&self, shards: u16) -> Result<u64> {
        let shards: Vec<_> = Shard::all(shards).map(ShardKeys::new).collect();
        let mut found = 0;
        for (_, server) in self.masters().await? {
            let names = matching(&server, keys::ALL_ASIDE).await?;
            found += names.iter().filter(|name| shards.iter().any(|keys| keys.aside_of(name).is_some())).count() as u64;
        }
        Ok(found)
    }

    /// Deletes every key of Footfall and nothing else; answers how many. For `footfall clean`.
    pub async fn delete_everything(&self) -> Result<u64> {
        let mut deleted = 0;
        for (_, server) in self.masters().await? {
            deleted += delete_everything(&server).await?;
        }
        Ok(deleted)
    }

    /// Has Redis write its append-only file anew from what it holds now, on every server. Answers false if none keeps such
    /// a file.
    pub async fn rewrite_file(&self) -> Result<bool> {
        let mut has_file = false;
        for (_, server) in self.masters().await? {
            if persistence(&server).await?.get::<u8>("aof_enabled") == Some(1) {
                has_file = true;
                let mut pipeline = redis::pipe();
                pipeline.cmd("BGREWRITEAOF").ignore();
                server.commands::<()>(pipeline).await?;
            }
        }
        Ok(has_file)
    }

    /// Whether a server is at [`Redis::rewrite_file`], or is about to begin.
    pub async fn is_rewriting_file(&self) -> Result<bool> {
        for (_, server) in self.masters().await? {
            let info = persistence(&server).await?;
            let is_on = |field| info.get::<u8>(field) == Some(1);
            if is_on("aof_rewrite_in_progress") || is_on("aof_rewrite_scheduled") {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The keys of a server whose names are so.
async fn matching(server: &Calls, pattern: &str) -> Result<BTreeSet<String>> {
    let mut cursor = 0u64;
    let mut found = BTreeSet::new(); // A scan may show a key twice.
    loop {
        let mut scan = redis::pipe();
        scan.cmd("SCAN").arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(1000);
        let ((next, names),): ((u64, Vec<String>),) = server.commands(scan).await?;
        found.extend(names);
        if next == 0 {
            return Ok(found);
        }
        cursor = next;
    }
}

async fn delete_everything(server: &Calls) -> Result<u64> {
    let mut cursor = 0u64;
    let mut deleted = 0;
    loop {
        let mut scan = redis::pipe();
        scan.cmd("SCAN").arg(cursor).arg("MATCH").arg(format!("{}*", keys::PREFIX)).arg("COUNT").arg(1000);
        let ((next, names),): ((u64, Vec<String>),) = server.commands(scan).await?;
        if !names.is_empty() {
            let mut unlink = redis::pipe();
            for name in &names {
                unlink.unlink(name); // Each by itself: in a cluster they are of different slots.
            }
            let counts: Vec<u64> = server.commands(unlink).await?;
            deleted += counts.iter().sum::<u64>();
        }
        if next == 0 {
            return Ok(deleted);
        }
        cursor = next;
    }
}

async fn persistence(server: &Calls) -> Result<InfoDict> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("INFO").arg("persistence");
    let (info,): (InfoDict,) = server.commands(pipeline).await?;
    Ok(info)
}
