//! What the commands share when they talk with a person.

use std::io::{self, IsTerminal, Write};

use crate::Result;
use crate::failure::Failure;

/// The longest that somebody may want to wait, a year: what is beyond would end no clock, but a sum of times.
pub(crate) const WAIT_SECONDS_MAX: u64 = 365 * 24 * 60 * 60;

/// Asks a question that must be answered with `yes`; with `is_sure` (--yes) it is answered already.
/// `otherwise` says what has not happened, such as `nothing was deleted`.
pub(crate) fn confirm(question: &str, otherwise: &str, is_sure: bool) -> Result<()> {
    if is_sure {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("there is no terminal to ask for confirmation: {otherwise}; give --yes")));
    }
    print!("{question} Type yes: ");
    let mut answer = String::new();
    io::stdout().flush().map_err(|error| Failure::file("write to the terminal", &error))?;
    io::stdin().read_line(&mut answer).map_err(|error| Failure::file("read from the terminal", &error))?;
    if answer.trim() == "yes" { Ok(()) } else { Err(Failure::Usage(otherwise.to_owned())) }
}

/// Prints lines. Not `println!`, which panics when nobody reads any more, as with `footfall quarantine list | head`.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::file("write to the terminal", &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// `1 row`, `2 rows`.
pub(crate) fn count(number: u64, one: &str) -> String {
    let noun = match (number, one.strip_suffix('y')) {
        (1, _) => one.to_owned(),
        (_, Some(stem)) => format!("{stem}ies"),
        (_, None) if one.ends_with("ch") => format!("{one}es"),
        (_, None) => format!("{one}s"),
    };
    format!("{} {noun}", indicatif::HumanCount(number))
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
