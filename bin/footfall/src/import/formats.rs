//! What other counters write, line by line: article, user, time and views.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use footfall_shared::protocol::{Article, Shard, User, parse_views};
use footfall_shared::service::clock;
use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime};

use super::input::{self, Limited, Source};
use super::sort::Record;
use crate::Result;
use crate::failure::Failure;

/// Before this, 1990-01-01, nobody counted reads of pages: seconds since 1970 UTC.
const FIRST_SECOND: i64 = 631_152_000;
/// How far a time may lie ahead: clocks and time zones are wrong by less.
const AHEAD_MAX_SECONDS: i64 = 24 * 60 * 60;
const MINUTES_PER_DAY: i64 = 24 * 60;

/// A counter's export: the names of its columns, as they are in small letters.
struct Layout {
    name: &'static str,
    article: &'static str,
    /// None: each line is one view.
    views: Option<&'static str>,
    user: Option<&'static str>,
    /// Holds the address of the page, where the column of the article holds a title or a part of it.
    url: Option<&'static str>,
    /// Must be there, and be filled.
    needs_date: bool,
}

/// Looked at in this order.
const LAYOUTS: [Layout; 5] = [
    Layout {
        name: "GoatCounter's export",
        article: "path",
        views: None,
        user: Some("session"),
        url: None,
        needs_date: true,
    },
    Layout {
        name: "Matomo's page report",
        article: "label",
        views: Some("nb_hits"),
        user: None,
        url: Some("metadata_url"),
        needs_date: false,
    },
    Layout {
        name: "Matomo's page report",
        article: "label",
        views: Some("pageviews"),
        user: None,
        url: Some("metadata: url"),
        needs_date: false,
    },
    Layout {
        name: "Plausible's export of pages",
        article: "page",
        views: Some("pageviews"),
        user: None,
        url: None,
        needs_date: false,
    },
    Layout {
        name: "a table of views",
        article: "article",
        views: Some("views"),
        user: Some("user"),
        url: None,
        needs_date: false,
    },
];

/// What is said of a first line that names none of these.
const NO_LAYOUT: &str = "its first line must name columns: `article`, `views` and, where there are any, `user` and `date`; \
    or those of GoatCounter's export (`2Path`, `Bot`, `Session`, `Date`, ...), of Matomo's page report (`label`, `nb_hits`) or \
    of Plausible's (`page`, `pageviews`)";

/// Lines that are understood and meant not to be counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) bots: u64,
    pub(super) events: u64,
    pub(super) without_views: u64,
}

/// A line that cannot be counted: a sentence with its number, or why all is over.
#[derive(Debug)]
pub(super) enum Bad {
    Line(String),
    Rest(Failure),
}

/// Reads records.
pub(super) struct Reader {
    records: csv::Reader<Limited>,
    record: csv::ByteRecord,
    limit: Arc<AtomicU64>,
    is_crlf: bool,
    source: String,
    columns: Columns,
    shards: u16,
    nobody: Option<User>,
    now_seconds: i64,
    pub(super) left_out: LeftOut,
}

/// Where everything is.
struct Columns {
    layout: &'static Layout,
    article: Column,
    views: Option<Column>,
    user: Option<Column>,
    date: Option<Column>,
    url: Option<Column>,
    bot: Option<Column>,
    event: Option<Column>,
    folder: Option<Column>,
}

#[derive(Clone, Copy)]
struct Column {
    at: usize,
    /// An apostrophe stands before what a spreadsheet would take for a formula, and before an apostrophe.
    is_guarded: bool,
}

impl Reader {
    /// Reads the first line. `nobody` is the user of what has none.
    pub(super) fn open(source: Source, taken: Arc<AtomicU64>, nobody: Option<User>, shards: u16) -> Result<Self> {
        let name = source.name.clone();
        let refuse = |why: &str| Failure::Usage(format!("{name}: {why}; nothing was counted"));
        let text = source.text(taken)?;
        let often = |delimiter: u8| text.first_line.iter().filter(|byte| **byte == delimiter).count();
        let delimiter = [b',', b';', b'\t'].into_iter().rev().max_by_key(|delimiter| often(*delimiter));
        let mut records = csv::ReaderBuilder::new()
            .delimiter(delimiter.unwrap_or(b','))
            .buffer_capacity(64 * 1024)
            .from_reader(text.reader);
        let headers = records.byte_headers().map_err(|error| refuse(&error.to_string()))?.clone();
        if headers.is_empty() {
            return Err(refuse(&format!("it is empty: {NO_LAYOUT}")));
        }
        let columns = Columns::find(&headers).map_err(|why| refuse(&why))?;
        let now_seconds = i64::try_from(clock::unix_ms() / 1_000).unwrap_or(i64::MAX);
        let (record, limit, is_crlf) = (csv::ByteRecord::new(), text.limit, text.first_line.ends_with(b"\r"));
        let left_out = LeftOut::default();
        Ok(Self { records, record, limit, is_crlf, source: name, columns, shards, nobody, now_seconds, left_out })
    }

    /// What it is.
    pub(super) fn layout(&self) -> &'static str {
        self.columns.layout.name
    }

    /// Whether it tells when views were.
    pub(super) fn has_dates(&self) -> bool {
        self.columns.date.is_some()
    }

    /// The next record that counts; none at the end.
    pub(super) fn next(&mut self) -> std::result::Result<Option<Record>, Bad> {
        loop {
            input::allow_record(&self.limit, self.records.position().byte());
            match self.records.read_byte_record(&mut self.record) {
                Ok(false) => return Ok(None),
                Ok(true) => {}
                Err(error) => return Err(self.bad(&error)),
            }
            let line = self.line(self.record.position());
            match self.parse() {
                Ok(Some(record)) => return Ok(Some(record)),
                Ok(None) => {}
                Err(why) => return Err(Bad::Line(format!("line {line}: {why}"))),
            }
        }
    }

    /// A record is taken to begin behind the CR of the one before: with CRLF, one line too early.
    fn line(&self, position: Option<&csv::Position>) -> u64 {
        position.map_or(0, |position| position.line() + u64::from(self.is_crlf))
    }

    fn bad(&self, error: &csv::Error) -> Bad {
        let line = self.line(Some(error.position().unwrap_or_else(|| self.records.position())));
        let source = &self.source;
        match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                Bad::Line(format!("line {line}: it has {len} fields, the first line {expected_len}"))
            }
            csv::ErrorKind::Io(error) if input::is_too_long(error) => Bad::Rest(Failure::Usage(format!(
                "{source}: the record at line {line} does not end within 1 MiB: is a quotation mark missing? Nothing was counted"
            ))),
            csv::ErrorKind::Io(error) => Bad::Rest(Failure::Dependency(format!(
                "{source} cannot be read to its end ({error}, behind line {line}): nothing was counted"
            ))),
            _ => Bad::Line(format!("line {line}: {error}")),
        }
    }

    /// None: it is meant not to be counted.
    fn parse(&mut self) -> std::result::Result<Option<Record>, String> {
        let columns = &self.columns;
        let cell = |column: Option<Column>| column.map(|column| column.of(&self.record)).unwrap_or_default();
        if !matches!(cell(columns.bot), b"" | b"0") {
            self.left_out.bots += 1;
            return Ok(None);
        }
        if cell(columns.event).eq_ignore_ascii_case(b"true") {
            self.left_out.events += 1;
            return Ok(None);
        }
        if !cell(columns.folder).is_empty() {
            return Err("it is a folder of pages, not a page: export the report with flat=1".into());
        }
        let views = match columns.views {
            None => 1,
            Some(column) => match column.of(&self.record) {
                // A report has lines for what was looked at in other ways.
                b"0" | b"" if columns.layout.user.is_none() => {
                    self.left_out.without_views += 1;
                    return Ok(None);
                }
                cell => parse_views(&String::from_utf8_lossy(cell)).map_err(|error| error.to_string())?,
            },
        };
        let url = path_of(cell(columns.url));
        let mut article = if url.is_empty() { cell(Some(columns.article)) } else { url };
        // Matomo guards labels as `footfall export --spreadsheet` does, and does not say so.
        if columns.layout.url.is_some() && matches!(article, [b'\'', b'=' | b'+' | b'-' | b'@', ..]) {
            article = &article[1..];
        }
        let article = Article::parse(article);
        let article = article.map_err(|error| error.to_string())?;
        let user = match cell(columns.user) {
            b"" => self.nobody.clone().ok_or("it has no user: give --user")?,
            user => User::parse(user).map_err(|error| error.to_string())?,
        };
        let minute = match cell(columns.date) {
            b"" if columns.layout.needs_date => return Err("it has no date".into()),
            b"" => 0,
            date => parse_minute(date, self.now_seconds)?,
        };
        let shard = Shard::of(&article, self.shards);
        Ok(Some(Record { shard, article, user, minute, views }))
    }
}

impl Columns {
    fn find(headers: &csv::ByteRecord) -> std::result::Result<Self, String> {
        let mut names: Vec<String> =
            headers.iter().map(|name| String::from_utf8_lossy(name).trim().to_lowercase()).collect();
        // GoatCounter writes the version of its format before the first name.
        let digits = names[0].len() - names[0].trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits > 0 && names[0][digits..] == *"path" {
            if !matches!(&names[0][..digits], "1" | "2") {
                let version = &names[0][..digits];
                return Err(format!("version {version} of GoatCounter's export is not known here, 1 and 2 are"));
            }
            names[0].drain(..digits);
        }
        let find = |wanted: &str| {
            let at = |name: &str| names.iter().position(|header| header == name);
            let guarded = format!("'{wanted}");
            at(wanted)
                .map(|at| Column { at, is_guarded: false })
                .or_else(|| at(&guarded).map(|at| Column { at, is_guarded: true }))
        };
        for layout in &LAYOUTS {
            let (Some(article), views) = (find(layout.article), layout.views.and_then(find)) else { continue };
            let (user, date) = (layout.user.and_then(find), find("date"));
            if views.is_none() != layout.views.is_none() || (layout.needs_date && (date.is_none() || user.is_none())) {
                continue;
            }
            let hits_only = |name| find(name).filter(|_| layout.views.is_none());
            let url = layout.url.and_then(find);
            let folder = find("idsubdatatable").filter(|_| layout.url.is_some());
            let (bot, event) = (hits_only("bot"), hits_only("event"));
            for name in names.iter().filter(|name| {
                [layout.article, "user", "date"].contains(&name.as_str()) || layout.views == Some(name.as_str())
            }) {
                if names.iter().filter(|other| *other == name).count() > 1 {
                    return Err(format!("its first line names the column `{name}` twice"));
                }
            }
            return Ok(Self { layout, article, views, user, date, url, bot, event, folder });
        }
        Err(NO_LAYOUT.into())
    }
}

impl Column {
    fn of(self, record: &csv::ByteRecord) -> &[u8] {
        let cell = record.get(self.at).unwrap_or_default();
        if self.is_guarded { cell.strip_prefix(b"'").unwrap_or(cell) } else { cell }
    }
}

/// What follows the host in the address of a page, without its fragment; empty if it is no such address.
fn path_of(url: &[u8]) -> &[u8] {
    let Some(scheme) = url.windows(3).position(|part| part == b"://") else { return &[] };
    let rest = &url[scheme + 3..];
    let rest = rest.split(|byte| *byte == b'#').next().unwrap_or_default();
    match rest.iter().position(|byte| *byte == b'/') {
        Some(path) => &rest[path..],
        None => b"/",
    }
}

/// Minutes since 1970 UTC of `2026-07-09`, of `2026-07-09T01:00:00Z`, and of `2026-07-09 01:00:00`, which is UTC.
fn parse_minute(cell: &[u8], now_seconds: i64) -> std::result::Result<u32, String> {
    let text = String::from_utf8_lossy(cell);
    let text = text.trim();
    let seconds = seconds_of(text).ok_or_else(|| {
        format!("`{text}` is no date: it must be such as 2026-07-09, 2026-07-09 01:00:00 or 2026-07-09T01:00:00Z")
    })?;
    if seconds < FIRST_SECOND {
        return Err(format!("the date `{text}` is before 1990"));
    }
    if seconds > now_seconds.saturating_add(AHEAD_MAX_SECONDS) {
        return Err(format!("the date `{text}` is in the future"));
    }
    u32::try_from(seconds / 60).map_err(|_| format!("the date `{text}` is too far in the future"))
}

fn seconds_of(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() == 10 {
        let number = |from, to| text.get(from..to).filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
        let date = Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?;
        let is_dashed = bytes[4] == b'-' && bytes[7] == b'-';
        return is_dashed.then(|| i64::from(date.to_julian_day() - EPOCH_JULIAN_DAY) * MINUTES_PER_DAY * 60);
    }
    let parse = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp);
    parse(text).or_else(|| {
        // As databases write it.
        let (date, time) = text.split_once(' ')?;
        parse(&format!("{date}T{time}")).or_else(|| parse(&format!("{date}T{time}Z")))
    })
}

/// 1970-01-01.
const EPOCH_JULIAN_DAY: i32 = 2_440_588;

#[cfg(test)]
mod tests;
