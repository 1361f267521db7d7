//! What somebody may see.

/// What somebody may see; each sees also what those before it see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Whether the process lives, and the page to log in.
    Nothing,
    /// Numbers of articles and of the site.
    Numbers,
    /// Also who reads what.
    Everything,
}

/// Why somebody sees nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The token is neither of the two.
    WrongToken,
    /// This address tried too many wrong tokens, or asks too often.
    TooOften,
}
