//! The one way to read the log, the bases that are cached beside it, and what a flusher does when MySQL has entries.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::scripts::{ACK, ADVANCE, FILL, FOLLOW, VERSION};
use super::{MEMORY_PERCENT_MAX, Queue, QueueError, Result, number_of};
use crate::protocol::{Article, Batch, Growth, Position, StoredArticle};
use crate::protocol::keys::Age;
use crate::protocol::packed::{self, PackedError};

/// One entry of the log. It never changes (I7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub position: u64,
    /// When it came, by Redis's clock: milliseconds since 1970. Shown, never decided on.
    pub came_ms: u64,
    /// The packed batch.
    pub packed: Arc<[u8]>,
}

impl Entry {
    /// Takes an entry apart; one that the version before has set aside is a batch and nothing else.
    pub fn parse(position: u64, entry: &[u8]) -> Result<Self> {
        let mut parts = entry.splitn(3, |byte| *byte == b':');
        let came = parts.next().and_then(|part| std::str::from_utf8(part).ok()?.parse().ok());
        let (came_ms, packed) = match (came, parts.nth(1)) {
            (Some(came_ms), Some(packed)) => (came_ms, packed),
            _ => (0, entry),
        };
        Ok(Self { position, came_ms, packed: packed.into() })
    }

    /// Views per article in its batch.
    pub fn views_of_articles(&self) -> Result<Vec<(&str, u64)>> {
        packed::views_of_articles(&self.packed).map_err(|error| self.damaged(&error))
    }

    fn damaged(&self, error: &PackedError) -> QueueError {
        QueueError::Corrupt(format!("the entry at position {}: {error}", self.position))
    }

    /// Its batch.
    pub fn batch(&self) -> Result<Batch> {
        packed::decode(&self.packed).map_err(|error| self.damaged(&error))
    }
}

/// What one call of [`Queue::follow`] has found.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// What of the log is there.
    pub position: Position,
    /// Everything before this time is in MySQL; milliseconds since 1970, by Redis's clock.
    pub stored_until_ms: u64,
    /// Redis's clock.
    pub now_ms: u64,
    /// Views in the log.
    pub pending_views: u64,
    /// See [`Age::version`].
    pub version: u64,
    /// See [`crate::protocol::DataSet::is_behind`].
    pub is_behind: bool,
    /// Whether so much of Redis's memory is in use that new views do not go there, see [`MEMORY_PERCENT_MAX`].
    pub is_full: bool,
    /// The entries behind the cursor, in order, as many as fit.
    pub entries: Vec<Entry>,
    /// One for each article that was asked for; none where nothing is cached.
    pub bases: Vec<Option<Base>>,
}

/// What MySQL has of an article, as of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Views in it.
    pub views: u64,
    /// Readers in it.
    pub readers: u64,
    /// All entries of its article up to this position are in it, and none behind it.
    pub position: u64,
    /// Whether its time to live is not over.
    pub is_fresh: bool,
}

/// What became of the bases of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advanced {
    /// Those that are cached were moved along.
    Done,
    /// No base is cached at all: nobody has read anything for long.
    NoneCached,
    /// Something else was trimmed meanwhile, or what comes before the flush was not: they cannot be moved.
    Moved,
}

/// Which bases to look up together with the log.
#[derive(Debug, Clone, Copy)]
pub struct Bases<'a> {
    /// They belong to this version.
    pub version: u64,
    /// What is asked for, and for how long each lives at least.
    pub articles: &'a [(&'a Article, Duration)],
    /// For how long they are kept beyond that.
    pub kept: Duration,
}

impl Queue {
    /// The entries behind `cursor`, of about so many bytes, and with them the bases of some articles.
    pub async fn follow(&self, epoch: u64, cursor: u64, bytes: usize, bases: Option<Bases<'_>>) -> Result<Page> {
        let mut live = Vec::new();
        if let Some(bases) = &bases {
            let age = Age { epoch, version: bases.version };
            live.extend(bases.articles.iter().map(|(article, _)| self.keys.live(age, article)));
        }
        let keys: Vec<&str> =
            [&*self.keys.meta, &self.keys.log].into_iter().chain(live.iter().map(String::as_str)).collect();
        let mut call = FOLLOW.call(keys);
        call.arg(epoch).arg(cursor).arg(bytes);
        match bases {
            None => {
                call.arg("").arg(0);
            }
            Some(Bases { version, articles, kept }) => {
                call.arg(version).arg(kept.as_millis());
                for (_, ttl) in articles {
                    call.arg(ttl.as_millis());
                }
            }
        }
        let (_, reply) = self.call(&FOLLOW, call).await?;
        let position = reply.position(0)?;
        let from = cursor.saturating_add(1).max(position.first);
        let entries = (from..).zip(reply.list(9)?).map(|(position, entry)| Entry::parse(position, bytes_of(entry)?));
        Ok(Page {
            position,
            stored_until_ms: reply.number(2)?,
            now_ms: reply.number(3)?,
            pending_views: reply.number(4)?,
            version: reply.number(5)?,
            is_behind: reply.number(6)? == 1,
            is_full: reply.number(7)? > MEMORY_PERCENT_MAX,
            entries: entries.collect::<Result<_>>()?,
            bases: reply.list(10)?.chunks_exact(4).map(base_of).collect::<Result<_>>()?,
        })
    }

    /// Offers a base that MySQL had; it stays for `ttl` in all. False if it lacks entries that were trimmed: read again.
    pub async fn fill(&self, age: Age, article: &Article, ttl: Duration, stored: &StoredArticle) -> Result<bool> {
        let mut call = FILL.call([&*self.keys.meta, &self.keys.live(age, article)]);
        call.arg(age.epoch)
            .arg(age.version)
            .arg(stored.position)
            .arg(stored.views)
            .arg(stored.readers)
            .arg(ttl.as_millis())
            .arg(stored.version);
        let (word, _) = self.call(&FILL, call).await?;
        Ok(word != "MOVED")
    }

    /// Moves the bases of some articles along with a flush, by what each has grown. They live on for at least `warm`, and
    /// are kept for as long again.
    pub async fn advance(&self, age: Age, flush: Position, growth: &[Growth], warm: Duration) -> Result<Advanced> {
        let live: Vec<String> = growth.iter().map(|part| self.keys.live(age, &part.article)).collect();
        let keys: Vec<&str> = [&*self.keys.meta].into_iter().chain(live.iter().map(String::as_str)).collect();
        let mut call = ADVANCE.call(keys);
        call.arg(age.epoch).arg(flush.first - 1).arg(flush.tail).arg(2 * warm.as_millis());
        for part in growth {
            call.arg(part.views).arg(part.readers);
        }
        let (word, reply) = self.call(&ADVANCE, call).await?;
        Ok(match word.as_str() {
            "MOVED" => Advanced::Moved,
            _ if reply.number(0)? == 0 => Advanced::NoneCached,
            _ => Advanced::Done,
        })
    }

    /// Trims the entries up to `last`, which MySQL has; `version` is that of MySQL. Unless all bases of what is trimmed
    /// `are_advanced`, those that stand below are not valid any more.
    pub async fn ack(&self, epoch: u64, last: u64, version: u64, are_advanced: bool) -> Result<Position> {
        let mut call = ACK.call([&*self.keys.meta, &self.keys.log]);
        call.arg(epoch).arg(last).arg(version).arg(u8::from(are_advanced));
        let (_, reply) = self.call(&ACK, call).await?;
        reply.position(0)
    }

    /// Makes the bases that were cached under an older version invisible.
    pub async fn raise_version(&self, age: Age) -> Result<()> {
        let mut call = VERSION.call([&*self.keys.meta]);
        call.arg(age.epoch).arg(age.version);
        self.call(&VERSION, call).await.map(drop)
    }
}

fn bytes_of(entry: &Value) -> Result<&[u8]> {
    match entry {
        Value::BulkString(bytes) => Ok(bytes),
        other => Err(QueueError::Corrupt(format!("the log holds {other:?}"))),
    }
}

fn base_of(parts: &[Value]) -> Result<Option<Base>> {
    if parts[0] == Value::Nil {
        return Ok(None);
    }
    let [views, readers, position] = [&parts[0], &parts[1], &parts[2]].map(number_of);
    Ok(Some(Base { views: views?, readers: readers?, position: position?, is_fresh: number_of(&parts[3])? == 1 }))
}
