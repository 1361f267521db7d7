//! `footfall load` as a child process: its ledger is the judge, so it lives outside of everything that is hurt.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
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
        Self::start_to(&urls.join(","), stack, load, seed, ledger)
    }

    /// The same to these ingests alone.
    pub(crate) fn start_to(urls: &str, stack: &Stack, load: Load, seed: u32, ledger: &Path) -> anyhow::Result<Self> {
        let Load { rate, articles, users, connections, batch } = load;
        let mut command = stack.tool();
        command.args(["load", "--url", urls, "--ledger"]).arg(ledger);
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

    /// Its ledger, to be followed while it is written.
    pub(crate) fn tail(&self) -> io::Result<Tail<BufReader<File>>> {
        Ok(Tail::new(BufReader::new(File::open(&self.ledger)?)))
    }

    /// Why it has ended by itself, if it has.
    pub(crate) fn ended(&mut self) -> Option<io::Error> {
        (!self.process.is_running()).then(|| self.process.failure("ended by itself"))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Ends it as Ctrl-C does, so that open requests get their answers into the ledger first.
    pub(crate) fn finish(mut self) -> anyhow::Result<Totals> {
        self.ended().map_or(Ok(()), Err)?;
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
        let kind = ledger::read(ledger, |entry| totals.add(entry.outcome))?;
        Ok(Self { is_complete: kind.is_complete, ..totals })
    }

    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Acknowledged => self.acknowledged += 1,
            Outcome::Unknown => self.unknown += 1,
            Outcome::Refused => self.refused += 1,
        }
    }

    /// Of two loads.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            acknowledged: self.acknowledged + other.acknowledged,
            unknown: self.unknown + other.unknown,
            refused: self.refused + other.refused,
            is_complete: self.is_complete && other.is_complete,
        }
    }
}

/// A ledger that is still being written, summed up as it grows.
pub(crate) struct Tail<R> {
    ledger: R,
    /// What has come of the line that is being written.
    line: String,
    totals: Totals,
}

impl<R: BufRead> Tail<R> {
    fn new(ledger: R) -> Self {
        Self { ledger, line: String::new(), totals: Totals::default() }
    }

    /// Sums up what has come since the last look; answers the sums from the beginning on.
    pub(crate) fn look(&mut self) -> io::Result<Totals> {
        while self.ledger.read_line(&mut self.line)? > 0 && self.line.ends_with('\n') {
            // A comment has no outcome.
            if let Some((_, Ok(outcome))) =
                self.line.trim_end().rsplit_once('\t').map(|(ids, word)| (ids, word.parse()))
            {
                self.totals.add(outcome);
            }
            self.line.clear();
        }
        Ok(self.totals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_summed_up_while_it_is_written() -> Result<(), io::Error> {
        use io::{Seek, Write};
        let mut file = tempfile::tempfile()?;
        let mut tail = Tail::new(BufReader::new(file.try_clone()?));
        // Both share one place in the file, so each of them says where it is.
        let mut read = 0;
        let mut written = 0;
        for (text, acknowledged, unknown) in [
            ("# footfall ledger v1 seed=1 views=3\na\tu\tacknow", 0, 0),
            ("ledged\na\tv\tunknown\n", 1, 1),
            ("a\tu\tacknowledged\n# end\n", 2, 1),
        ] {
            file.seek(io::SeekFrom::Start(written))?;
            file.write_all(text.as_bytes())?;
            written += text.len() as u64;
            file.seek(io::SeekFrom::Start(read))?;
            assert_eq!(tail.look()?, Totals { acknowledged, unknown, ..Totals::default() }, "{text:?}");
            read = written;
        }
        Ok(())
    }

    #[test]
    fn a_ledger_is_summed_up() -> Result<(), String> {
        let text = "# footfall ledger v1 seed=1 views=3\na\tu\tacknowledged\na\tv\tunknown\na\tu\tacknowledged\n";
        let totals = Totals { acknowledged: 2, unknown: 1, refused: 0, is_complete: false };
        assert_eq!(Totals::read(text.as_bytes())?, totals);
        assert_eq!(Totals::read(format!("{text}# end\n").as_bytes())?, Totals { is_complete: true, ..totals });
        Ok(())
    }
}
