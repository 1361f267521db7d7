//! The ledger of `footfall load`: one line per view that was attempted, with what the client was told.
//!
//! A TSV file: `article <TAB> user <TAB> outcome`. Ids hold no control characters, so nothing needs escaping.
//! The first line is a comment; the last one, too, once every answer that was waited for is in the file.

use std::fmt;
use std::io::BufRead;
use std::str::FromStr;

/// How the first line begins.
const HEAD: &str = "# footfall ledger v1";
/// The last line of a ledger that is complete.
pub const END: &str = "# end";

/// The first line. `run` is random, so that a copy of a ledger can be told from the ledger of another run with the same arguments.
#[must_use]
pub fn head(seed: u64, views: u64, run: u64) -> String {
    format!("{HEAD} seed={seed} views={views} run={run:016x}")
}

/// What a ledger is, beside its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// Names its run; none in a ledger of an earlier version.
    pub run: Option<String>,
    /// Whether every answer that was waited for is in it.
    pub is_complete: bool,
}

/// What the sender of a view knows about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx: it must be counted, once.
    Acknowledged,
    /// 4xx: it must not be counted.
    Refused,
    /// It was sent, and then the answer was 5xx or did not come: it may be counted, at most once.
    Unknown,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Acknowledged => "acknowledged",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        })
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "acknowledged" => Ok(Self::Acknowledged),
            "refused" => Ok(Self::Refused),
            "unknown" => Ok(Self::Unknown),
            other => Err(format!("{other:?} is not an outcome (acknowledged, refused, unknown)")),
        }
    }
}

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its id.
    pub article: &'a str,
    /// Its id.
    pub user: &'a str,
    /// What became of the view, as far as its sender knows.
    pub outcome: Outcome,
}

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}\t{}", self.article, self.user, self.outcome)
    }
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Result<Self, String> {
        let mut fields = line.split('\t');
        match (fields.next(), fields.next(), fields.next(), fields.next()) {
            (Some(article), Some(user), Some(outcome), None) => Ok(Self { article, user, outcome: outcome.parse()? }),
            _ => Err("it is not `article <TAB> user <TAB> outcome`".into()),
        }
    }
}

/// Hands every entry to `each`. What is wrong comes with its line number.
pub fn read(mut file: impl BufRead, mut each: impl FnMut(Entry<'_>)) -> Result<Kind, String> {
    let mut line = String::new();
    let mut run = None;
    let mut is_complete = false;
    for number in 1u64.. {
        line.clear();
        let length = file.read_line(&mut line).map_err(|error| format!("line {number} cannot be read: {error}"))?;
        if number == 1 && !line.starts_with(HEAD) {
            return Err(format!("it does not begin with `{HEAD}`, so it was not written by `footfall load`"));
        }
        if number == 1 {
            run = line.split_whitespace().find_map(|word| word.strip_prefix("run=")).map(str::to_owned);
        }
        let Some(whole) = line.strip_suffix('\n') else {
            // The end, or a line that was being written when `load` was killed.
            is_complete &= length == 0;
            break;
        };
        is_complete = whole == END;
        // An entry has tabs; a comment has none.
        if whole.starts_with('#') && !whole.contains('\t') {
            continue;
        }
        each(Entry::parse(whole).map_err(|why| format!("line {number} is damaged: {why}"))?);
    }
    Ok(Kind { run, is_complete })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Entries = Vec<(String, String, Outcome)>;

    fn entries(text: &str) -> Result<(Entries, bool), String> {
        let mut entries = vec![];
        let mut keep = |entry: Entry<'_>| {
            entries.push((entry.article.into(), entry.user.into(), entry.outcome));
        };
        let kind = read(text.as_bytes(), &mut keep)?;
        assert_eq!(kind.run.as_deref(), Some("000000000000002a"));
        Ok((entries, kind.is_complete))
    }

    #[test]
    fn what_was_written_is_read() {
        let written = [
            ("a", "u", Outcome::Acknowledged),
            ("# a {}'\"<script>", " u ", Outcome::Refused),
            ("\u{1f600}", "\u{e9}", Outcome::Unknown),
        ];
        let mut text = head(7, 3, 42) + "\n";
        for (article, user, outcome) in written {
            text += &format!("{}\n", Entry { article, user, outcome });
        }
        let expected = written.map(|(article, user, outcome)| (article.to_owned(), user.to_owned(), outcome)).to_vec();
        assert_eq!(entries(&text), Ok((expected.clone(), false)));
        assert_eq!(entries(&format!("{text}{END}\n")), Ok((expected.clone(), true)));
        // Cut off within its last line.
        assert_eq!(entries(&format!("{text}a\tu\tackn")), Ok((expected, false)));
    }

    #[test]
    fn damage_is_named_with_its_line() {
        for line in ["a\tu", "a\tu\tperhaps", "a\tu\tunknown\tmore", ""] {
            let error = entries(&format!("{}\n{line}\n", head(7, 1, 42))).expect_err(line);
            assert!(error.contains("line 2"), "{error}");
        }
        assert!(entries("a\tu\tunknown\n").expect_err("no head").contains("does not begin"));
        assert!(entries("").is_err());
        let old = read("# footfall ledger v1 seed=1 views=0\n# end\n".as_bytes(), |_| {});
        assert_eq!(old, Ok(Kind { run: None, is_complete: true }));
    }
}
