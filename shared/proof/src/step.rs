//! One fault of a run, and when it comes.

use std::fmt;
use std::str::FromStr;

use crate::fault::Fault;

/// One fault of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedFault {
    /// So long after the one before, or after the beginning of the load.
    pub after_ms: u64,
    /// From its end until it is healed.
    pub hold_ms: u64,
    /// What is done.
    pub fault: Fault,
}

/// `+120 ms for 400 ms: flushall`
impl fmt::Display for PlannedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{} ms for {} ms: {}", self.after_ms, self.hold_ms, self.fault)
    }
}

impl FromStr for PlannedFault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = || {
            let (times, fault) = text.trim().strip_prefix('+')?.split_once(": ")?;
            let (after, hold) = times.strip_suffix(" ms")?.split_once(" ms for ")?;
            Some((after.parse().ok()?, hold.parse().ok()?, fault))
        };
        let (after_ms, hold_ms, fault) = parts().ok_or_else(|| format!("{text:?} is not `+N ms for N ms: FAULT`"))?;
        Ok(Self { after_ms, hold_ms, fault: fault.parse()? })
    }
}
