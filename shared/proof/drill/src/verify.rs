//! `footfall verify`, and what it says.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

/// What `footfall verify` found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verified {
    /// Acknowledged views that are not counted.
    pub(crate) missing: u64,
    /// Views counted above those attempted.
    pub(crate) extra: u64,
    /// Views that are kept aside, with a reason; they are neither missing nor counted.
    pub(crate) quarantined: u64,
    /// Whether it found nothing wrong, the invariants of the whole database included.
    pub(crate) is_right: bool,
    /// All that it said.
    pub(crate) report: String,
}

impl Verified {
    /// Runs the tool, which is told the stores, on ledgers; it may wait so long for views that are still on their way.
    pub(crate) fn run(mut tool: Command, ledgers: &[&Path], wait: Duration) -> anyhow::Result<Self> {
        tool.args(["verify", "--wait", &wait.as_secs().to_string()]);
        for ledger in ledgers {
            tool.arg("--ledger").arg(ledger);
        }
        let output = tool.output().context("footfall verify did not start")?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        Self::parse(&text, output.status.success()).with_context(|| format!("footfall verify failed:\n{text}"))
    }

    /// Reads the line `N missing, M extra`, which may go on; none without such a line.
    fn parse(text: &str, is_right: bool) -> Option<Self> {
        let line = text.lines().rfind(|line| line.contains(" missing, ") && line.contains(" extra"))?;
        let number = |what: &str| {
            let part = line.split(", ").find(|part| part.contains(what))?;
            part.split(' ').next()?.replace(',', "").parse::<u64>().ok()
        };
        Some(Self {
            missing: number("missing")?,
            extra: number("extra")?,
            quarantined: number("quarantined").unwrap_or(0),
            is_right,
            report: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_understood() {
        let seen = |line: &str| {
            let verified = Verified::parse(&format!("ok      I4: x\n\n{line}\n"), true)?;
            Some((verified.missing, verified.extra, verified.quarantined))
        };
        assert_eq!(seen("0 missing, 0 extra"), Some((0, 0, 0)));
        assert_eq!(seen("1,234 missing, 5 extra, 1 invariant FAILED"), Some((1_234, 5, 0)));
        assert_eq!(seen("0 missing, 2,000,000 extra, 17 quarantined"), Some((0, 2_000_000, 17)));
        assert_eq!(seen("error: mysql: away"), None);
    }
}
