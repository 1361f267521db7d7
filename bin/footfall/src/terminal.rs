//! What the commands share when they talk with a person.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use crate::Result;
use crate::failure::Failure;

/// Pause between two lines of progress where there is no terminal.
const LINE: Duration = Duration::from_secs(5);

/// Asks a question that must be answered with `yes`; with `is_sure` (--yes) it is answered already.
/// `otherwise` says what has not happened, such as `nothing was deleted`.
pub(crate) async fn confirm(question: &str, otherwise: &str, is_sure: bool) -> Result<()> {
    if is_sure {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("there is no terminal to ask for confirmation: {otherwise}; give --yes")));
    }
    print(&format!("{question} Type yes: "))?;
    // Read by a thread that nobody waits for, so that Ctrl-C is heard.
    let (reply, answer) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer).map(|_| answer);
        drop(reply.send(read));
    });
    let answer = answer.await.unwrap_or_else(|_| Ok(String::new()));
    let answer = answer.map_err(|error| Failure::file("read from the terminal", &error))?;
    if answer.trim() == "yes" { Ok(()) } else { Err(Failure::Usage(otherwise.to_owned())) }
}

/// Whether the standard output is a terminal on which one may write anywhere: `TERM=dumb` says that it is none, and
/// `NO_COLOR` that plain text is wanted.
pub(crate) fn is_screen() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    io::stdout().is_terminal() && !is_dumb && !is_set("NO_COLOR")
}

/// How far a command is: a bar on a terminal; anywhere else, a line from time to time.
pub(crate) enum Progress {
    Bar(ProgressBar),
    Lines { total: Option<u64>, one: &'static str, next: Instant },
}

impl Progress {
    /// Of `total`, if that is known; `one` is the noun of what is counted.
    pub(crate) fn new(total: Option<u64>, one: &'static str) -> Self {
        if !io::stderr().is_terminal() {
            return Self::Lines { total, one, next: Instant::now() + LINE };
        }
        let template = match total {
            Some(_) => format!("{{bar:30}} {{human_pos}} of {{human_len}} {one}s, {{per_sec}}, {{eta}} left {{msg}}"),
            None => format!("{{spinner}} {{human_pos}} {one}s {{msg}}"),
        };
        let style = ProgressStyle::with_template(&template).expect("the template is valid");
        Self::Bar(ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr()).with_style(style))
    }

    /// Shows how far it is, with a note.
    pub(crate) fn show(&mut self, position: u64, note: &str) {
        match self {
            Self::Bar(bar) => {
                bar.set_position(position);
                bar.set_message(note.to_owned());
            }
            Self::Lines { total, one, next } if Instant::now() >= *next => {
                *next += LINE;
                let of = total.map_or(String::new(), |total| format!(" of {}", HumanCount(total)));
                let note = if note.is_empty() { String::new() } else { format!(", {note}") };
                self::note(format_args!("{}{of} {one}s{note}", HumanCount(position)));
            }
            Self::Lines { .. } => {}
        }
    }

    pub(crate) fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// Prints to the standard output. Not by `println!`, which panics when nobody reads any more: that is no failure, as with
/// `footfall quarantine list | head`. What cannot be written for another reason, such as a full disk, is one.
pub(crate) fn print(text: &str) -> Result<()> {
    match print_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::file("write to the standard output", &error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// As [`print()`], for those who need to know when nobody reads any more.
pub(crate) fn print_all(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Says a line beside the output, on stderr, if that can be written to.
pub(crate) fn note(line: impl std::fmt::Display) {
    footfall_shared::service::logs::say(&line.to_string());
}

/// The end of a time that a person has given in seconds. Nobody waits for longer than a year.
pub(crate) fn seconds() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(..=365 * 24 * 60 * 60)
}

/// `1 row`, `2 rows`.
pub(crate) fn count(number: u64, one: &str) -> String {
    let noun = match (number, one.strip_suffix('y')) {
        (1, _) => one.to_owned(),
        (_, Some(stem)) => format!("{stem}ies"),
        (_, None) if one.ends_with("ch") => format!("{one}es"),
        (_, None) => format!("{one}s"),
    };
    format!("{} {noun}", HumanCount(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_with_their_nouns() {
        assert_eq!(count(1, "view"), "1 view");
        assert_eq!(count(0, "batch"), "0 batches");
        assert_eq!(count(2, "entry"), "2 entries");
        assert_eq!(count(1234, "row"), "1,234 rows");
    }
}
