//! The bases that are cached beside the log: what MySQL has of an article, as of a position.

use std::time::Duration;

use redis::Value;

use super::errors::Result;
use super::queue::Queue;
use super::replies::{Word, number_of};
use super::scripts::{ADVANCE, FILL, VERSION};
use crate::protocol::keys::CacheTag;
use crate::protocol::{Article, Delta, Position, StoredArticle};

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
    /// Offers a base that MySQL had; it stays for `ttl` in all. False if it lacks entries that were trimmed: read again.
    pub async fn fill(&self, tag: CacheTag, article: &Article, ttl: Duration, stored: &StoredArticle) -> Result<bool> {
        let mut call = FILL.call([&*self.keys.meta, &self.keys.live(tag, article)]);
        call.arg(tag.epoch)
            .arg(tag.version)
            .arg(stored.position)
            .arg(stored.views)
            .arg(stored.readers)
            .arg(ttl.as_millis())
            .arg(stored.version);
        let (word, _) = self.call(&FILL, call).await?;
        Ok(word != Word::Moved)
    }

    /// Moves the bases of some articles along with a flush, by what each has grown. They live on for at least `warm`, and
    /// are kept for as long again.
    pub async fn advance(&self, tag: CacheTag, flush: Position, deltas: &[Delta], warm: Duration) -> Result<Advanced> {
        let live: Vec<String> = deltas.iter().map(|part| self.keys.live(tag, &part.article)).collect();
        let keys: Vec<&str> = [&*self.keys.meta].into_iter().chain(live.iter().map(String::as_str)).collect();
        let mut call = ADVANCE.call(keys);
        call.arg(tag.epoch).arg(flush.first - 1).arg(flush.tail).arg(2 * warm.as_millis());
        for part in deltas {
            call.arg(part.views).arg(part.readers);
        }
        let (word, reply) = self.call(&ADVANCE, call).await?;
        Ok(match word {
            Word::Moved => Advanced::Moved,
            _ if reply.number(0)? == 0 => Advanced::NoneCached,
            _ => Advanced::Done,
        })
    }

    /// Makes the bases that were cached under an older version invisible.
    pub async fn raise_version(&self, tag: CacheTag) -> Result<()> {
        let mut call = VERSION.call([&*self.keys.meta]);
        call.arg(tag.epoch).arg(tag.version);
        self.call(&VERSION, call).await.map(drop)
    }
}

pub(super) fn base_of(parts: &[Value]) -> Result<Option<Base>> {
    if parts[0] == Value::Nil {
        return Ok(None);
    }
    let [views, readers, position] = [&parts[0], &parts[1], &parts[2]].map(number_of);
    Ok(Some(Base { views: views?, readers: readers?, position: position?, is_fresh: number_of(&parts[3])? == 1 }))
}
