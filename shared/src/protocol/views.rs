//! Numbers of views: their limits, and sums that end no process.

/// The most views that an article has, or a reader of it: 2^53 - 1. Redis's scripts and JavaScript reckon in floating-point
/// numbers, which are exact up to here. MySQL takes no view beyond it: that view goes to quarantine. Sums over articles (of a
/// shard, of an hour, of the site) may be greater, and are shown as this number then.
pub const VIEWS_MAX: u64 = (1 << 53) - 1;
/// The most views that one row hands over: 10^12. It lies far below [`VIEWS_MAX`], so that one mistaken number in an
/// import does not fill an article for good.
pub const ROW_VIEWS_MAX: u64 = 1_000_000_000_000;

/// Why a number of views was refused; the text is what a person reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CountError {
    /// Not a whole number above zero.
    #[error("`{0}` is no number of views: give a whole number from 1 to {ROW_VIEWS_MAX}")]
    NotANumber(String),
    /// Above [`ROW_VIEWS_MAX`].
    #[error("{0} views are too many: one reader of one article has at most {ROW_VIEWS_MAX} in one row")]
    RowTooLarge(String),
    /// Above [`VIEWS_MAX`].
    #[error("these are more views than can be counted: at most {VIEWS_MAX} together")]
    TotalTooLarge,
}

/// The views of one row, as a person writes them.
pub fn parse_views(text: &str) -> Result<u64, CountError> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(CountError::NotANumber(text.to_owned()));
    }
    match text.parse() {
        Ok(0) => Err(CountError::NotANumber(text.to_owned())),
        Ok(views @ 1..=ROW_VIEWS_MAX) => Ok(views),
        _ => Err(CountError::RowTooLarge(text.to_owned())),
    }
}

/// Adds the views of a row to those that were handed over before it.
pub fn add_views(before: u64, views: u64) -> Result<u64, CountError> {
    before.checked_add(views).filter(|sum| *sum <= VIEWS_MAX).ok_or(CountError::TotalTooLarge)
}

/// The sum of counts. It stops at `u64::MAX`, which no counts reach that were let in; those that a damaged or older
/// store holds may, and they end no process.
pub fn total(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

/// A count as it is shown: no greater than what every reader of it takes exactly.
#[must_use]
pub fn shown(count: u64) -> u64 {
    count.min(VIEWS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_views_is_within_its_limit_or_refused_with_a_sentence() {
        for (text, views) in [("1", 1), (" 7 ", 7), ("007", 7), ("1000000000000", ROW_VIEWS_MAX)] {
            assert_eq!(parse_views(text), Ok(views));
        }
        for text in ["", "0", "-1", "+1", "1.5", "1e3", "x", "\u{661}"] {
            assert_eq!(parse_views(text), Err(CountError::NotANumber(text.into())), "{text}");
        }
        for text in ["1000000000001", "9007199254740993", "18446744073709551615", "99999999999999999999999"] {
            let refused = parse_views(text).expect_err("too many").to_string();
            assert!(refused.contains(text) && refused.contains("at most 1000000000000 "), "{refused}");
        }
    }
}
