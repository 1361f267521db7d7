//! `footfall load` as a child process: its ledger is the judge, so it lives outside of everything that is hurt.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use footfall_proof::Load;
use footfall_proof::ledger::{self, Outcome};
use footfall_sandbox::{Process, Signal};

use crate::stack::{Role, Stack};

/// Longer than the tool waits for the answer to a request.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// More views than any run sends at its rate; the load ends when the drill stops it.
const HOURS: u64 = 24;

/// Traffic under way.
#[derive(Debug)]
pub(crate) struct Traffic {
    process: Process,
    ledger: PathBuf,
}

/// What a ledger holds, in views.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) acknowledged: u64,
    pub(crate) unknown: u64,
    pub(crate) refused: u64,
    /// Whether the load came to its end and told all it knew.
    pub(crate) is_complete: bool,
}

/// What the articles of a load begin with.
pub(crate) fn article_prefix(seed: u32) -> String {
    format!("load-{seed:x}-")
}

impl Traffic {
    /// Starts traffic to all ingests of a stack, written down in `ledger`.
    pub(crate) fn start(stack: &Stack, load: Load, seed: u32, ledger: &Path) -> anyhow::Result<Self> {
        let urls: Vec<String> = (0..stack.count(Role::Ingest)).map(|index| stack.url(Role::Ingest, index)).collect();
        let Load { rate, articles, users, connections, batch } = load;
        let mut command = stack.tool();
        command.args(["load", "--url", &urls.join(","), "--ledger"]).arg(ledger);
        for (name, value) in [
            ("--views", rate * HOURS * 3_600),
            ("--rate", rate),
            ("--articles", articles),
            ("--users", users),
            ("--connections", connections),
            ("--batch", batch),
            ("--seed", seed.into()),
        ] {
            command.args([name, &value.to_string()]);
        }
        let process = Process::spawn(command, &ledger.with_extension("log")).context("footfall load did not start")?;
        Ok(Self { process, ledger: ledger.to_owned() })
    }

    /// Whether something is in the ledger beside its first line.
    pub(crate) fn has_begun(&self) -> bool {
        self.ledger.metadata().is_ok_and(|ledger| ledger.len() > 200)
    }

    /// Ends it as Ctrl-C does, so that open requests get their answers into the ledger first.
    pub(crate) fn finish(mut self) -> anyhow::Result<Totals> {
        ensure!(self.process.is_running(), self.process.failure("ended by itself"));
        self.process.signal(Signal::INT)?;
        let status = self.process.wait(STOP_TIMEOUT)?;
        ensure!(status.success(), self.process.failure(&format!("failed ({status})")));
        let totals = Totals::read(BufReader::new(File::open(&self.ledger)?)).map_err(anyhow::Error::msg)?;
        ensure!(totals.is_complete, "the ledger {} has no end", self.ledger.display());
        Ok(totals)
    }
}

impl Totals {
    fn read(ledger: impl BufRead) -> Result<Self, String> {
        let mut totals = Self::default();
        let kind = ledger::read(ledger, |entry| match entry.outcome {
            Outcome::Acknowledged => totals.acknowledged += 1,
            Outcome::Unknown => totals.unknown += 1,
            Outcome::Refused => totals.refused += 1,
        })?;
        Ok(Self { is_complete: kind.is_complete, ..totals })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_summed_up() -> Result<(), String> {
        let text = "# footfall ledger v1 seed=1 views=3\na\tu\tacknowledged\na\tv\tunknown\na\tu\tacknowledged\n";
        let totals = Totals { acknowledged: 2, unknown: 1, refused: 0, is_complete: false };
        assert_eq!(Totals::read(text.as_bytes())?, totals);
        assert_eq!(Totals::read(format!("{text}# end\n").as_bytes())?, Totals { is_complete: true, ..totals });
        Ok(())
    }
}
