//! Every Redis key name of Footfall. No other module writes a key as text.
//!
//! All keys of a shard share the hash tag `{shard}`, so that one script can touch them on a
//! Redis Cluster too.

use crate::counter::{Article, Shard};

/// What belongs to one generation, while it is open or once it is sealed.
#[derive(Debug, Clone)]
pub struct GenerationKeys {
    /// HASH: each article touched -> its views. Of the newest sealed generation it is [`ShardKeys::newest`], of those
    /// before it a STRING, packed.
    pub totals: String,
    /// LIST: the packed batches.
    pub log: String,
}

/// The keys of one shard.
#[derive(Debug, Clone)]
pub struct ShardKeys {
    prefix: String,
    /// HASH: `epoch`, `incarnation`, `gen` (the open generation), `first` (the first one that is not
    /// acknowledged), `views` and `opened` (of the open generation; milliseconds since 1970 by
    /// Redis's clock, shown but never decided on), `sealed_views`, `shards`, `version` (of what MySQL has
    /// beside the generations), `rotation` (times that the view ids were rotated), `behind` (milliseconds since 1970 by
    /// Redis's clock, up to which acknowledged views may be elsewhere; shown, never decided on).
    pub meta: String,
    /// HASH: producer -> `number:cumulative views` of its last batch applied.
    pub producers: String,
    /// HASH: producer -> `beat:journalled views`, what an ingest says of itself.
    pub reports: String,
    /// HASH: producer -> `number:views:number:views`, what an ingest says that MySQL has of its batches: the last one and
    /// its cumulative views, through Redis and directly. Asked for when MySQL has gone back.
    pub stored: String,
    /// SET: ids of views counted lately.
    pub ids: String,
    /// SET: those of the period before, so that none is forgotten sooner than after one whole period.
    pub ids_before: String,
    /// HASH: sealed generation -> `batches:views:opened`.
    pub headers: String,
    /// HASH: article -> views in the sealed generations but the newest, so that a read needs no sum over them.
    pub backlog: String,
    /// HASH: article -> views in the newest sealed generation, until the next one is sealed.
    pub newest: String,
    /// STRING: what MySQL has, as a dashboard read it last, for one that is started while MySQL is away. Nothing is decided
    /// by it.
    pub fence: String,
    /// STRING with a TTL: the flusher at work. Saves work; correctness never rests on it.
    pub lease: String,
    /// The open generation.
    pub open: GenerationKeys,
}

impl ShardKeys {
    /// Names the keys of `shard`.
    #[must_use]
    pub fn new(shard: Shard) -> Self {
        let prefix = format!("footfall:{{{shard}}}:");
        Self {
            meta: format!("{prefix}meta"),
            producers: format!("{prefix}producers"),
            reports: format!("{prefix}reports"),
            stored: format!("{prefix}stored"),
            ids: format!("{prefix}ids"),
            ids_before: format!("{prefix}ids:before"),
            headers: format!("{prefix}headers"),
            backlog: format!("{prefix}backlog"),
            newest: format!("{prefix}newest"),
            fence: format!("{prefix}fence"),
            lease: format!("{prefix}lease"),
            open: GenerationKeys { totals: format!("{prefix}totals"), log: format!("{prefix}log") },
            prefix,
        }
    }

    /// The keys of sealed generation `generation`.
    #[must_use]
    pub fn sealed(&self, generation: u64) -> GenerationKeys {
        GenerationKeys {
            totals: format!("{}:{generation}", self.open.totals),
            log: format!("{}:{generation}", self.open.log),
        }
    }

    /// STRING with a TTL: `views:readers` of an article as acknowledged by MySQL. Its TTL is longer than its time to live:
    /// see the script `read`. Epoch and version are
    /// in the name, so that a recovery, or a count that went to MySQL directly, makes all older values invisible at once.
    #[must_use]
    pub fn live(&self, age: Age, article: &Article) -> String {
        format!("{}live:{}:{}:{article}", self.prefix, age.epoch, age.version)
    }

    /// LIST: the log of a generation that belongs to an overtaken history, set aside by the recovery
    /// that began `epoch`.
    #[must_use]
    pub fn aside(&self, epoch: u64, generation: u64) -> String {
        format!("{}aside:{epoch}:{generation}", self.prefix)
    }

    /// What the keys of all logs that were set aside match.
    #[must_use]
    pub fn all_aside(&self) -> String {
        format!("{}aside:*", self.prefix)
    }

    /// Epoch and generation of a log that was set aside, from the name of its key.
    #[must_use]
    pub fn aside_of(&self, key: &str) -> Option<(u64, u64)> {
        let (epoch, generation) = key.strip_prefix(&self.prefix)?.strip_prefix("aside:")?.split_once(':')?;
        Some((epoch.parse().ok()?, generation.parse().ok()?))
    }
}

/// What a cached value belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Age {
    /// The epoch under which the data set is open.
    pub epoch: u64,
    /// How often MySQL's counts were changed by anything but a flush, as far as Redis was told.
    pub version: u64,
}

/// HASH: `<interface>:hits` and `<interface>:misses` of the cache-first reads of all processes.
pub const READS: &str = "footfall:reads";

/// HASH: `<role> <host>:<port>` -> what a process says of itself, see [`crate::presence`].
pub const PRESENCE: &str = "footfall:presence";

/// STRING with a TTL: the salt of a day (days since 1970 UTC), which makes names for readers who have none.
#[must_use]
pub fn salt(day: u64) -> String {
    format!("footfall:salt:{day}")
}

/// What every key of Footfall begins with; `footfall clean` deletes by it.
pub const PREFIX: &str = "footfall:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_article_cannot_choose_its_cluster_slot() {
        let article = Article::parse(b"{evil}").expect("test id");
        let key = ShardKeys::new(Shard(3)).live(Age { epoch: 1, version: 0 }, &article);
        assert!(key.starts_with("footfall:{3}:"), "{key}");
    }

    #[test]
    fn a_log_that_was_set_aside_is_known_by_its_name() {
        let keys = ShardKeys::new(Shard(3));
        assert_eq!(keys.aside_of(&keys.aside(7, 12)), Some((7, 12)));
        for other in [keys.meta.as_str(), &ShardKeys::new(Shard(4)).aside(7, 12), &keys.all_aside()] {
            assert_eq!(keys.aside_of(other), None, "{other}");
        }
    }
}
