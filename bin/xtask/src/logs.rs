//! Shows log files that grow, line by line, each line marked with where it comes from.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const POLL: Duration = Duration::from_millis(50);

/// Prints what is appended to some log files, on a thread of its own.
///
/// The services write to files and not to pipes, so that a terminal that is held up never holds up a service.
pub(crate) struct Printer {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Printer {
    /// Prints the labelled files from their beginning on.
    pub(crate) fn start(logs: Vec<(String, PathBuf)>) -> io::Result<Self> {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let mut followers = Vec::new();
        for (number, (label, path)) in logs.into_iter().enumerate() {
            let prefix = prefix(&label, colour.then_some(number));
            followers.push(Follower::new(File::open(path)?, prefix));
        }
        let ended = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let ended = Arc::clone(&ended);
            move || {
                loop {
                    // Read before the files, so that the last round sees everything.
                    let last = ended.load(Ordering::Acquire);
                    for follower in &mut followers {
                        // A terminal that is gone is no reason to stop serving.
                        let _ = follower.copy(&mut io::stdout().lock(), last);
                    }
                    if last {
                        return;
                    }
                    thread::sleep(POLL);
                }
            }
        });
        Ok(Self { ended, thread })
    }

    /// Prints the rest and ends.
    pub(crate) fn finish(self) {
        self.ended.store(true, Ordering::Release);
        // It does not panic; and if it did, only output would be lost.
        let _ = self.thread.join();
    }
}

/// `ingest    | `, coloured by a number.
fn prefix(label: &str, colour: Option<usize>) -> String {
    const COLOURS: [&str; 5] = ["36", "33", "35", "32", "34"];
    match colour {
        None => format!("{label:<9} | "),
        Some(number) => format!("\x1b[{}m{label:<9} |\x1b[0m ", COLOURS[number % COLOURS.len()]),
    }
}

/// One growing log.
struct Follower<R> {
    log: R,
    prefix: String,
    /// What was read and not printed: the beginning of a line.
    pending: Vec<u8>,
}

impl<R: Read> Follower<R> {
    fn new(log: R, prefix: String) -> Self {
        Self { log, prefix, pending: Vec::new() }
    }

    /// Copies the lines that were completed since the last time, and with `all` an incomplete one too.
    fn copy(&mut self, out: &mut impl Write, all: bool) -> io::Result<()> {
        self.log.read_to_end(&mut self.pending)?;
        if all && !self.pending.is_empty() && !self.pending.ends_with(b"\n") {
            self.pending.push(b'\n');
        }
        let complete = self.pending.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        for line in self.pending.drain(..complete).as_slice().split_inclusive(|&byte| byte == b'\n') {
            out.write_all(self.prefix.as_bytes())?;
            out.write_all(line)?;
        }
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn only_whole_lines_are_printed_each_with_its_prefix() -> io::Result<()> {
        let mut follower = Follower::new(VecDeque::new(), prefix("ingest", None));
        let mut out = Vec::new();
        follower.log.extend(b"one\ntwo\nthr");
        follower.copy(&mut out, false)?;
        assert_eq!(out, b"ingest    | one\ningest    | two\n");

        out.clear();
        follower.copy(&mut out, false)?;
        assert!(out.is_empty(), "nothing new");

        follower.log.extend(b"ee\nfour");
        follower.copy(&mut out, true)?;
        assert_eq!(out, b"ingest    | three\ningest    | four\n");
        Ok(())
    }

    #[test]
    fn colour_surrounds_the_prefix_only() {
        assert_eq!(prefix("flusher", Some(0)), "\x1b[36mflusher   |\x1b[0m ");
        assert_eq!(prefix("dashboard", Some(6)), "\x1b[33mdashboard |\x1b[0m ");
    }
}
