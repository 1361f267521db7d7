//! The one way to read the log.

use std::sync::Arc;

use redis::Value;

use super::cache::{Base, Bases, base_of};
use super::errors::{QueueError, Result};
use super::queue::Queue;
use super::scripts::FOLLOW;
use crate::protocol::keys::CacheTag;
use crate::protocol::packed::{self, PackedError};
use crate::protocol::{Batch, Position};

/// When this part of its memory is in use Redis is full: the rest is for what leads to a flush.
pub const MEMORY_PERCENT_MAX: u64 = 80;

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
    /// See [`CacheTag::version`].
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

impl Queue {
    /// The entries behind `cursor`, of about so many bytes, and with them the bases of some articles.
    pub async fn follow(&self, epoch: u64, cursor: u64, bytes: usize, bases: Option<Bases<'_>>) -> Result<Page> {
        let mut live = Vec::new();
        if let Some(bases) = &bases {
            let tag = CacheTag { epoch, version: bases.version };
            live.extend(bases.articles.iter().map(|(article, _)| self.keys.live(tag, article)));
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
}

fn bytes_of(entry: &Value) -> Result<&[u8]> {
    match entry {
        Value::BulkString(bytes) => Ok(bytes),
        other => Err(QueueError::Corrupt(format!("the log holds {other:?}"))),
    }
}
