//! Every Redis key name of Footfall. No other module writes a key as text.
//!
//! All keys of a shard share the hash tag `{shard}`, so that one script can touch them on a
//! Redis Cluster too.

use crc::{CRC_16_XMODEM, Crc};

use super::ids::{Article, Shard};

/// Slots of a Redis Cluster.
pub const SLOTS: u16 = 16_384;

/// The slot that a key has in a Redis Cluster: a hash of what is between the first `{` and the next `}`, or else of all of it.
#[must_use]
pub fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    HASH.checksum(hashed.as_bytes()) % SLOTS
}

static HASH: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// The keys of one shard.
#[derive(Debug, Clone)]
pub struct ShardKeys {
    prefix: String,
    /// HASH: `epoch`, `incarnation`, `first` (position of the log's oldest entry), `tail` (of its newest; `first - 1` if there
    /// is none), `appended` and `acked` (views, ever), `oldest` (when the oldest entry came, in milliseconds since 1970 by
    /// Redis's clock, shown but never decided on), `cached_until` (no base is cached for longer), `valid_from` and
    /// `fill_from` (positions: a base below the one is not valid, and one below the other is not let in), `shards`, `version` (of
    /// what MySQL has beside the log), `rotation` (times that the view ids were rotated), `behind` (up to when acknowledged
    /// views may be elsewhere; shown, never decided on), `producers_epoch` (what `producers` says if it is not lost).
    pub meta: String,
    /// HASH: producer -> `number:cumulative views` of its last batch applied; and `epoch`, that of `meta`.
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
    /// LIST: the batches that MySQL does not have yet, in the order of their positions, each as `when it came:views appended
    /// up to it:packed batch`.
    pub log: String,
    /// STRING: what MySQL has, as a dashboard read it last, for one that is started while MySQL is away. Nothing is decided
    /// by it.
    pub fence: String,
    /// STRING with a TTL: the flusher at work. Saves work; correctness never rests on it.
    pub lease: String,
}

impl ShardKeys {
    /// Names the keys of `shard`.
    #[must_use]
    pub fn new(shard: Shard) -> Self {
        let prefix = Self::tag(shard);
        Self {
            meta: format!("{prefix}meta"),
            producers: format!("{prefix}producers"),
            reports: format!("{prefix}reports"),
            stored: format!("{prefix}stored"),
            ids: format!("{prefix}ids"),
            ids_before: format!("{prefix}ids:before"),
            log: format!("{prefix}log"),
            fence: format!("{prefix}fence"),
            lease: format!("{prefix}lease"),
            prefix,
        }
    }

    /// What all of them begin with.
    #[must_use]
    pub(crate) fn tag(shard: Shard) -> String {
        format!("footfall:{{{shard}}}:")
    }

    /// What the version before has beside them: `headers`, `totals`, `backlog`, `newest`.
    #[must_use]
    pub fn before(&self) -> [String; 4] {
        ["headers", "totals", "backlog", "newest"].map(|name| format!("{}{name}", self.prefix))
    }

    /// Log and totals of a generation that the version before has sealed.
    #[must_use]
    pub fn generation_before(&self, generation: u64) -> [String; 2] {
        ["log", "totals"].map(|name| format!("{}{name}:{generation}", self.prefix))
    }

    /// STRING with a TTL: `views:readers:position`, the base of an article as MySQL had it at that position. Its TTL is
    /// longer than its time to live: see the script `follow`. Epoch and version are
    /// in the name, so that a recovery, or a count that went to MySQL directly, makes all older values invisible at once.
    #[must_use]
    pub fn live(&self, tag: CacheTag, article: &Article) -> String {
        format!("{}live:{}:{}:{article}", self.prefix, tag.epoch, tag.version)
    }

    /// LIST: a log that belongs to an overtaken history, and began with the entry at `first`, set aside by the recovery
    /// that began `epoch`.
    #[must_use]
    pub fn aside(&self, epoch: u64, first: u64) -> String {
        format!("{}aside:{epoch}:{first}", self.prefix)
    }

    /// What the keys of all logs that were set aside match.
    #[must_use]
    pub(crate) fn all_aside(&self) -> String {
        format!("{}aside:*", self.prefix)
    }

    /// Epoch and first position of a log that was set aside, from the name of its key.
    #[must_use]
    pub(crate) fn aside_of(&self, key: &str) -> Option<(u64, u64)> {
        let (epoch, first) = key.strip_prefix(&self.prefix)?.strip_prefix("aside:")?.split_once(':')?;
        Some((epoch.parse().ok()?, first.parse().ok()?))
    }
}

/// The state of the counts that a cached base belongs to; it is part of the base's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheTag {
    /// The epoch under which the data set is open.
    pub epoch: u64,
    /// How often MySQL's counts were changed by anything but a flush, as far as Redis was told.
    pub version: u64,
}

/// HASH: `<interface>:hits` and `<interface>:misses` of the cache-first reads of all processes.
pub const READS: &str = "footfall:reads";

/// HASH: `<role> <host>:<port>` -> what a process says of itself.
pub const PRESENCE: &str = "footfall:presence";

/// STRING with a TTL: the salt of a day (days since 1970 UTC), which makes names for readers who have none.
#[must_use]
pub fn salt(day: u64) -> String {
    format!("footfall:salt:{day}")
}

/// What the keys of all logs that were set aside match, of whatever shard; an article may be called so too.
pub(crate) const ALL_ASIDE: &str = "footfall:{*}:aside:*";

/// What every key of Footfall begins with; `footfall clean` deletes by it.
pub const PREFIX: &str = "footfall:";

#[cfg(test)]
mod tests {
    use super::*;

    /// As Redis says it: `CLUSTER KEYSLOT`.
    #[test]
    fn a_key_has_the_slot_that_redis_gives_it() {
        for (key, known) in [
            ("", 0),
            ("123456789", 12_739),
            (READS, 10_150),
            ("footfall:{0}:meta", 13_907),
            ("footfall:{17}:live:1:0:{evil}", 12_304),
            ("a{}b", 13_694),
        ] {
            assert_eq!(slot(key), known, "{key}");
        }
    }

    #[test]
    fn an_article_cannot_choose_its_cluster_slot() {
        let article = Article::parse(b"{evil}").expect("test id");
        let key = ShardKeys::new(Shard(3)).live(CacheTag { epoch: 1, version: 0 }, &article);
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
