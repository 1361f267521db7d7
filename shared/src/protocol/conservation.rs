//! Where all views are.

/// accepted = stored + pending + journalled + quarantined + dropped + repeated, at any moment (I9).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conservation {
    /// What the producers say that they have sent.
    pub accepted: u128,
    /// Counted in MySQL.
    pub stored: u128,
    /// In Redis, and not in MySQL yet.
    pub pending: u128,
    /// In the journals of ingests alone.
    pub journalled: u128,
    /// Kept aside with a reason.
    pub quarantined: u128,
    /// Given up by a person.
    pub dropped: u128,
    /// Left out because their id was counted before.
    pub repeated: u128,
}

impl Conservation {
    /// Views that are missing, or too many if below 0. Sums are compared up to what a column of MySQL holds: beyond that
    /// running totals stand still.
    #[must_use]
    pub fn difference(&self) -> i128 {
        let column = |sum: u128| i128::from(u64::try_from(sum).unwrap_or(u64::MAX));
        let Self { accepted, stored, pending, journalled, quarantined, dropped, repeated } = *self;
        column(accepted) - column(stored + pending + journalled + quarantined + dropped + repeated)
    }

    /// Whether views are missing or too many. Repeats in Redis are known only once they are flushed.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.difference() < 0 || (self.pending == 0 && self.difference() != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nowhere_is_missing() {
        let all = Conservation {
            accepted: 21,
            stored: 1,
            pending: 2,
            journalled: 3,
            quarantined: 4,
            dropped: 5,
            repeated: 6,
        };
        assert_eq!(all.difference(), 0);
        assert_eq!(Conservation { stored: 0, ..all }.difference(), 1);
        assert_eq!(Conservation { repeated: 8, ..all }.difference(), -2);
        let beyond = Conservation { accepted: u128::MAX / 2, stored: u128::from(u64::MAX), ..Conservation::default() };
        assert_eq!(beyond.difference(), 0);
    }
}
