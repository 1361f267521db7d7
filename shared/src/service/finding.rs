//! What is not as it should be at a store or a machine, found by looking: at the start of a service, and by `footfall doctor`.

use std::fmt;

use crate::protocol::errors::Severity;

/// What is not as it should be, and what to do about it; or what an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is: a service does not start on what is [`Severity::Critical`].
    pub severity: Severity,
    /// What is wrong, and what that leads to.
    pub what: String,
    /// What to do; empty if nothing.
    pub next: String,
}

impl Finding {
    /// Views would be lost, or none is counted.
    #[must_use]
    pub fn critical(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { severity: Severity::Critical, what: what.into(), next: next.into() }
    }

    /// A risk, or less than there should be.
    #[must_use]
    pub fn degraded(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { severity: Severity::Degraded, what: what.into(), next: next.into() }
    }

    /// Nothing is wrong.
    #[must_use]
    pub fn note(what: impl Into<String>) -> Self {
        Self { severity: Severity::Info, what: what.into(), next: String::new() }
    }
}

/// One sentence.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.next.as_str() {
            "" => f.write_str(&self.what),
            next => write!(f, "{}; {next}", self.what),
        }
    }
}
