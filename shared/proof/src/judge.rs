//! Whether what came of a run is what was promised.

use crate::shards::ShardSeen;
use crate::text::words;

words! {
    /// What must become of the views that were acknowledged. None may be counted twice, ever.
    Expect {
        /// Every one is counted.
        NoneLost "none-lost",
        /// The shard stands still and says why, and after the healing every one is counted.
        Halts "halts",
        /// Every one is counted or in quarantine, and some are in quarantine.
        Quarantined "quarantined",
        /// Their last copy was damaged: what is lost is in quarantine, but for what was at the end of a journal.
        LostAsReported "lost-as-reported",
    }
}

/// What the senders of some views were told, and where the views are: of one reader of one article, or a sum of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many views were acknowledged.
    pub acknowledged: u64,
    /// How many more got no clear answer; these may be counted.
    pub unknown: u64,
    /// In MySQL.
    pub stored: u64,
    /// In Redis.
    pub pending: u64,
    /// Not counted, but not lost either.
    pub quarantined: u64,
}

impl Tally {
    /// Views that may be counted. A refused view is not among them.
    #[must_use]
    pub fn attempted(&self) -> u64 {
        self.acknowledged.saturating_add(self.unknown)
    }

    /// Views that are counted, or will be.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.stored.saturating_add(self.pending)
    }

    fn accounted(&self) -> u64 {
        self.counted().saturating_add(self.quarantined)
    }

    /// Acknowledged, but neither counted nor in quarantine.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.acknowledged.saturating_sub(self.accounted())
    }

    /// Counted, or in quarantine, more often than attempted.
    #[must_use]
    pub fn extra(&self) -> u64 {
        self.accounted().saturating_sub(self.attempted())
    }
}

/// What was found at the end of a run, after healing and draining.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Valid views that were refused.
    pub refused: u64,
    /// The sum of all [`Tally::missing`].
    pub missing: u64,
    /// The sum of all [`Tally::extra`].
    pub extra: u64,
    /// Views in quarantine.
    pub quarantined: u64,
    /// Views in records that a fault has destroyed at the end of a journal: nothing behind says that they were there.
    pub untold: u64,
    /// Invariants that do not hold, and whatever else must never be.
    pub broken: Vec<String>,
    /// Where servers stand in for each other: the shards.
    pub shards: Vec<ShardSeen>,
}

/// Everything that is not as it was promised (I10).
#[must_use]
pub fn judge(expect: Expect, findings: &Findings) -> Vec<String> {
    let Findings { refused, missing, extra, quarantined, untold, broken, shards } = findings;
    let mut wrong = Vec::new();
    let mut demand = |holds: bool, why: String| wrong.extend((!holds).then_some(why));
    demand(*refused == 0, format!("{refused} valid views were refused with 4xx"));
    demand(*extra == 0, format!("{extra} views were counted twice"));
    if expect == Expect::LostAsReported {
        demand(
            *missing <= quarantined + untold,
            format!(
                "{missing} views are lost, {quarantined} are in quarantine, and only {untold} could not be known of"
            ),
        );
        return wrong;
    }
    match expect {
        Expect::Quarantined => demand(*quarantined > 0, "nothing came into quarantine".to_owned()),
        _ => demand(*quarantined == 0, format!("{quarantined} views came into quarantine")),
    }
    demand(*missing == 0, format!("{missing} acknowledged views are lost"));
    wrong.extend(broken.iter().cloned());
    wrong.extend(shards.iter().flat_map(ShardSeen::wrong));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a run passes in which so many views are (lost, in quarantine, beyond knowing, doubled).
    fn passes(expect: Expect, (missing, quarantined, untold, extra): (u64, u64, u64, u64)) -> bool {
        judge(expect, &Findings { missing, quarantined, untold, extra, ..Findings::default() }).is_empty()
    }

    #[test]
    fn only_what_was_promised_to_be_lost_may_be() {
        let spoiled = Expect::LostAsReported;
        assert!(passes(spoiled, (0, 0, 0, 0)) && passes(spoiled, (32, 16, 16, 0)) && passes(spoiled, (16, 16, 0, 0)));
        assert!(!passes(spoiled, (33, 16, 16, 0)) && !passes(spoiled, (0, 0, 0, 1)));
        let usual = Expect::NoneLost;
        assert!(passes(usual, (0, 0, 0, 0)));
        for wrong in [(1, 0, 0, 0), (1, 0, 1, 0), (1, 1, 0, 0), (0, 1, 0, 0), (0, 0, 0, 1)] {
            assert!(!passes(usual, wrong) && !passes(Expect::Halts, wrong), "{wrong:?}");
        }
        assert!(passes(Expect::Quarantined, (0, 1, 0, 0)) && !passes(Expect::Quarantined, (0, 0, 0, 0)));
        assert!(!passes(Expect::Quarantined, (1, 1, 0, 0)));
    }

    #[test]
    fn a_broken_invariant_and_a_refused_view_are_wrong() {
        let broken = Findings { broken: vec!["I4".to_owned()], ..Findings::default() };
        assert_eq!(judge(Expect::NoneLost, &broken), ["I4"]);
        assert_eq!(judge(Expect::NoneLost, &Findings { refused: 2, ..Findings::default() }).len(), 1);
    }
}
