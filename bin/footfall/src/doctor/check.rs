//! One line of what `footfall doctor` says. Pure.

use footfall_shared::protocol::errors::Severity;
use footfall_shared::service::finding::Finding;
use serde_json::json;

use crate::terminal::count;

/// How something does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// As it should.
    Ok,
    /// It works, and somebody should know of it.
    Warning,
    /// Somebody must act.
    Problem,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }

    /// Green, yellow, red; the word says the same.
    fn colour(self) -> u8 {
        match self {
            Self::Ok => 32,
            Self::Warning => 33,
            Self::Problem => 31,
        }
    }
}

/// What was looked at, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    /// What was looked at, in a word or two.
    pub(super) name: &'static str,
    pub(super) level: Level,
    /// What was seen.
    pub(super) what: String,
    /// What to do; empty if all is ok.
    pub(super) next: String,
}

impl Check {
    pub(super) fn ok(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, what: what.into(), next: String::new() }
    }

    pub(super) fn warning(name: &'static str, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, level: Level::Warning, what: what.into(), next: next.into() }
    }

    pub(super) fn problem(name: &'static str, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, level: Level::Problem, what: what.into(), next: next.into() }
    }

    pub(super) fn found(name: &'static str, Finding { severity, what, next }: Finding) -> Self {
        match severity {
            Severity::Critical => Self::problem(name, what, next),
            Severity::Degraded => Self::warning(name, what, next),
            Severity::Info => Self::ok(name, what),
        }
    }

    /// All of them, or that all is well.
    pub(super) fn all(name: &'static str, findings: Vec<Finding>, ok: &str) -> Vec<Self> {
        let mut checks: Vec<Self> = findings.into_iter().map(|finding| Self::found(name, finding)).collect();
        if worst(&checks) == Level::Ok {
            checks.push(Self::ok(name, ok));
        }
        checks
    }
}

/// The worst of them.
pub(super) fn worst(checks: &[Check]) -> Level {
    checks.iter().map(|check| check.level).max().unwrap_or(Level::Ok)
}

/// For people: a line each, its next step below it, and how many there are of each kind.
pub(super) fn report(checks: &[Check], is_coloured: bool) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Check { name, level, what, next } in checks {
        let word = format!("{:<7}", level.name());
        let word = if is_coloured { format!("\x1b[{}m{word}\x1b[0m", level.colour()) } else { word };
        text += &format!("{word}  {name:<width$}  {}\n", one_line(what));
        if !next.is_empty() {
            text += &format!("{:7}  {:width$}  -> {}\n", "", "", one_line(next));
        }
    }
    let of = |level| checks.iter().filter(|check| check.level == level).count() as u64;
    let (problems, warnings) = (of(Level::Problem), of(Level::Warning));
    text + &match worst(checks) {
        Level::Ok => "all is ok\n".to_owned(),
        _ => format!("{}, {}, {} ok\n", count(problems, "problem"), count(warnings, "warning"), of(Level::Ok)),
    }
}

/// For programs: an object per line.
pub(super) fn json(checks: &[Check]) -> String {
    let line = |Check { name, level, what, next }: &Check| {
        let next = (!next.is_empty()).then_some(next);
        format!("{}\n", json!({ "check": name, "level": level.name(), "what": what, "next": next }))
    };
    checks.iter().map(line).collect()
}

/// What others have said may have several lines, and hold anything.
fn one_line(text: &str) -> String {
    text.split(char::is_control).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> Vec<Check> {
        vec![
            Check::ok("redis", "answers"),
            Check::warning("quarantine", "2 rows", "look at them"),
            Check::problem("books", "3 views\n\x1b[31mare missing", "wake somebody"),
        ]
    }

    #[test]
    fn a_report_is_aligned_and_has_a_next_step_below_what_is_not_ok() {
        let report = report(&checks(), false);
        assert_eq!(
            report,
            "ok       redis       answers\n\
             warning  quarantine  2 rows\n                     -> look at them\n\
             problem  books       3 views [31mare missing\n                     -> wake somebody\n\
             1 problem, 1 warning, 1 ok\n"
        );
        assert!(super::report(&checks(), true).contains("\x1b[31mproblem\x1b[0m  books"));
        assert!(super::report(&checks()[..1], false).ends_with("all is ok\n"));
    }

    #[test]
    fn the_worst_is_a_problem_before_a_warning() {
        assert_eq!(worst(&checks()), Level::Problem);
        assert_eq!(worst(&checks()[..2]), Level::Warning);
        assert_eq!(worst(&checks()[..1]), Level::Ok);
        assert_eq!(worst(&[]), Level::Ok);
    }

    #[test]
    fn every_line_of_json_is_an_object() {
        let json = json(&checks());
        let lines: Vec<serde_json::Value> =
            json.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!((&lines[1]["check"], &lines[1]["level"]), (&"quarantine".into(), &"warning".into()));
        assert!(lines[0]["next"].is_null() && lines[2]["next"] == "wake somebody");
    }
}
