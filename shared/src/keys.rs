//! Every Redis key name of Footfall. No other module writes a key as text.
//!
//! All keys of a shard share the hash tag `{shard}`, so that one script can touch them on a
//! Redis Cluster too.

use crate::counter::{Article, Shard};

/// What belongs to one generation, while it is open or once it is sealed.
#[derive(Debug, Clone)]
pub struct GenerationKeys {
    /// LIST: the articles touched, each once.
    pub dirty: String,
    /// HASH: article -> views.
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
    /// Redis's clock, shown but never decided on), `sealed_views`, `shards`.
    pub meta: String,
    /// HASH: producer -> number of its last batch applied.
    pub producers: String,
    /// HASH: sealed generation -> `batches:views:opened`.
    pub headers: String,
    /// HASH: article -> views in the sealed generations, so that a read needs no sum over them.
    pub backlog: String,
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
            headers: format!("{prefix}headers"),
            backlog: format!("{prefix}backlog"),
            lease: format!("{prefix}lease"),
            open: GenerationKeys {
                dirty: format!("{prefix}dirty"),
                totals: format!("{prefix}totals"),
                log: format!("{prefix}log"),
            },
            prefix,
        }
    }

    /// The keys of sealed generation `generation`.
    #[must_use]
    pub fn sealed(&self, generation: u64) -> GenerationKeys {
        GenerationKeys {
            dirty: format!("{}:{generation}", self.open.dirty),
            totals: format!("{}:{generation}", self.open.totals),
            log: format!("{}:{generation}", self.open.log),
        }
    }

    /// HASH with a TTL: `views` and `readers` of an article as acknowledged by MySQL. The epoch is
    /// in the name, so that a recovery makes all older values invisible at once.
    #[must_use]
    pub fn live(&self, epoch: u64, article: &Article) -> String {
        format!("{}live:{epoch}:{article}", self.prefix)
    }

    /// LIST: the log of a generation that belongs to an overtaken history, set aside by the recovery
    /// that began `epoch`.
    #[must_use]
    pub fn aside(&self, epoch: u64, generation: u64) -> String {
        format!("{}aside:{epoch}:{generation}", self.prefix)
    }
}

/// HASH: `<interface>:hits` and `<interface>:misses` of the cache-first reads of all processes.
pub const READS: &str = "footfall:reads";

/// What every key of Footfall matches; `footfall clean` deletes by it.
pub const ALL: &str = "footfall:*";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_article_cannot_choose_its_cluster_slot() {
        let article = Article::parse(b"{evil}").expect("test id");
        let key = ShardKeys::new(Shard(3)).live(1, &article);
        assert!(key.starts_with("footfall:{3}:"), "{key}");
    }
}
