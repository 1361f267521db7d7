//! What it may cost a shard that servers stand in for each other.

/// What was seen of one shard in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardSeen {
    /// Which.
    pub shard: u16,
    /// Epochs that were begun.
    pub epochs: u64,
    /// How often another server had it, or another life of the same one: each may cost an epoch, and all of them one more.
    pub changes: u64,
    /// How long an ingest was degraded for it, in milliseconds; of several ingests the longest.
    pub degraded_ms: u64,
    /// The longest that this may be; none where nothing is promised.
    pub degraded_ms_max: Option<u64>,
}

impl ShardSeen {
    /// What is not as it was promised.
    pub(crate) fn wrong(&self) -> impl Iterator<Item = String> {
        let Self { shard, epochs, changes, degraded_ms, degraded_ms_max } = *self;
        // The first to see the new server may find it still changing, and begin once more.
        let most = changes + u64::from(changes > 0);
        let many = (epochs > most)
            .then(|| format!("shard {shard}: {epochs} epochs were begun, and its server changed {changes} times"));
        let long = match degraded_ms_max {
            Some(0) if degraded_ms > 0 => {
                Some(format!("shard {shard}: degraded for {degraded_ms} ms, and nothing was done to its server"))
            }
            Some(most) if degraded_ms > most => Some(format!(
                "shard {shard}: degraded for {degraded_ms} ms by a server that hangs, of {most} ms at most"
            )),
            _ => None,
        };
        many.into_iter().chain(long)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_may_cost_an_epoch_and_what_is_not_touched_nothing() {
        let wrong = |epochs, changes, degraded_ms, degraded_ms_max| {
            ShardSeen { shard: 1, epochs, changes, degraded_ms, degraded_ms_max }.wrong().count()
        };
        assert_eq!(wrong(0, 0, 0, Some(0)), 0);
        assert_eq!(wrong(2, 2, 9_000, None), 0);
        assert_eq!((wrong(3, 2, 0, None), wrong(4, 2, 0, None)), (0, 1));
        assert_eq!(wrong(1, 0, 0, None), 1);
        assert_eq!(wrong(0, 0, 1, Some(0)), 1);
        assert_eq!((wrong(1, 1, 3_000, Some(3_000)), wrong(3, 1, 3_001, Some(3_000))), (0, 2));
    }
}
