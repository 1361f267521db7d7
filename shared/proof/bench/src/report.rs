//! Numbers of all rounds -> tables with medians, and the JSON that holds everything.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

/// What is measured of a row in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Figure {
    /// Requests or views per second, as the table says.
    PerSecond,
    /// Rows that MariaDB writes per second, of all tables.
    RowsPerSecond,
    /// That or, if there are no rows, what is done per second, as a part of the same round's limit.
    OfLimit,
    /// Median latency.
    P50Ms,
    /// 99th percentile of the latency.
    P99Ms,
    /// CPU seconds per million views: of the HTTP server.
    CpuServer,
    /// Likewise, of Redis.
    CpuRedis,
    /// Likewise, of the flusher.
    CpuFlusher,
    /// Likewise, of MariaDB.
    CpuMariaDb,
    /// Their sum.
    CpuAll,
    /// That sum, or what one store has in it, as a multiple of the limits of the same round.
    CpuOfLimits,
    /// CPU seconds per million requests of the load itself: not in the sum.
    CpuLoad,
    /// Views in a batch, on average.
    BatchViews,
    /// Views in a flush transaction, on average.
    TransactionViews,
    /// Memory in Redis per view that waits there.
    RedisBytes,
    /// The most memory that the flusher ever had.
    MemoryMib,
    /// Flush transactions per second.
    TransactionsPerSecond,
    /// Rows that MariaDB writes, of all tables.
    RowsPerView,
    /// Times that MariaDB brings a file to the disk, per million views.
    FsyncsPerMillion,
    /// What waits in Redis at the end, in seconds of the load.
    PendingSeconds,
    /// The longest time that a script held Redis.
    HeldMs,
    /// How often what moves views was killed.
    Kills,
    /// Views that were acknowledged.
    Acknowledged,
    /// Of these, views that MariaDB does not have in the end.
    Lost,
    /// Views that MariaDB has beyond these.
    Doubled,
    /// How long MariaDB was away.
    OutageSeconds,
    /// How long it took from its return until no more views waited than before.
    CatchUpSeconds,
    /// That, per second that MariaDB was away.
    CatchUpOfOutage,
}

impl Figure {
    fn head(self) -> &'static str {
        match self {
            Self::PerSecond => "per second",
            Self::RowsPerSecond => "rows/s",
            Self::OfLimit => "of the limit",
            Self::P50Ms => "p50 ms",
            Self::P99Ms => "p99 ms",
            Self::CpuServer => "CPU server",
            Self::CpuRedis => "Redis",
            Self::CpuFlusher => "flusher",
            Self::CpuMariaDb => "MariaDB",
            Self::CpuAll => "all",
            Self::CpuOfLimits => "of the limits",
            Self::CpuLoad => "load",
            Self::BatchViews => "views/batch",
            Self::TransactionViews => "views/transaction",
            Self::RedisBytes => "bytes in Redis",
            Self::MemoryMib => "flusher MiB",
            Self::TransactionsPerSecond => "transactions/s",
            Self::RowsPerView => "rows written",
            Self::FsyncsPerMillion => "fsyncs/million",
            Self::PendingSeconds => "pending s",
            Self::HeldMs => "longest script ms",
            Self::Kills => "kills",
            Self::Acknowledged => "acknowledged",
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::OutageSeconds => "away s",
            Self::CatchUpSeconds => "caught up after s",
            Self::CatchUpOfOutage => "per second away",
        }
    }
}

/// One peer under one load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// The table that it is in.
    pub(crate) table: &'static str,
    /// The peer.
    pub(crate) peer: &'static str,
    /// The load.
    pub(crate) load: String,
    /// By figure, one value per round.
    pub(crate) figures: BTreeMap<Figure, Vec<f64>>,
}

impl Row {
    /// What the last round has found.
    pub(crate) fn last(&self, figure: Figure) -> Option<f64> {
        self.figures.get(&figure)?.last().copied()
    }

    /// Adds one more figure of this round.
    pub(crate) fn push(&mut self, figure: Figure, value: f64) {
        self.figures.entry(figure).or_default().push(value);
    }

    /// The median of a figure.
    pub(crate) fn median(&self, figure: Figure) -> Option<f64> {
        self.figures.get(&figure).map(|values| median(values))
    }
}

/// One number that was aimed at.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Target {
    /// What is measured.
    pub(crate) what: String,
    /// `at least` or `at most`.
    pub(crate) wanted: Wanted,
    /// What came out.
    pub(crate) measured: f64,
}

/// What a number has to be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wanted {
    /// Greater is better.
    AtLeast(f64),
    /// Smaller is better.
    AtMost(f64),
}

impl Target {
    fn is_met(&self) -> bool {
        match self.wanted {
            Wanted::AtLeast(wanted) => self.measured >= wanted,
            Wanted::AtMost(wanted) => self.measured <= wanted,
        }
    }
}

/// Everything that a run has found.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    /// The tables.
    pub(crate) rows: Vec<Row>,
    /// The targets.
    pub(crate) targets: Vec<Target>,
    /// What one number says, in the order of measuring.
    pub(crate) notes: Vec<String>,
}

impl Report {
    /// Adds a round's figures to the row of that name.
    pub(crate) fn add(
        &mut self,
        table: &'static str,
        peer: &'static str,
        load: &str,
        figures: &[(Figure, f64)],
    ) -> &mut Row {
        let is_it = |row: &Row| row.table == table && row.peer == peer && row.load == load;
        let at = self.rows.iter().position(is_it).unwrap_or_else(|| {
            self.rows.push(Row { table, peer, load: load.to_owned(), figures: BTreeMap::new() });
            self.rows.len() - 1
        });
        for (figure, value) in figures {
            self.rows[at].push(*figure, *value);
        }
        &mut self.rows[at]
    }

    /// The row of that name.
    pub(crate) fn row(&self, table: &str, peer: &str, load: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.table == table && row.peer == peer && row.load == load)
    }

    /// Notes how a number compares with what was aimed at; does nothing if it was not measured.
    pub(crate) fn target(&mut self, what: impl Into<String>, wanted: Wanted, measured: Option<f64>) {
        if let Some(measured) = measured {
            self.targets.push(Target { what: what.into(), wanted, measured });
        }
    }

    /// All of it for people, and for docs/performance.md.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        let mut tables: Vec<&str> = self.rows.iter().map(|row| row.table).collect();
        tables.dedup();
        for table in tables {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.table == table).collect();
            let mut figures: Vec<Figure> = rows.iter().flat_map(|row| row.figures.keys().copied()).collect();
            figures.sort_unstable();
            figures.dedup();
            let heads: Vec<&str> = figures.iter().map(|figure| figure.head()).collect();
            let _ = writeln!(out, "{table}\n\n| | load | {} |", heads.join(" | "));
            let _ = writeln!(out, "| --- | --- |{}", " ---: |".repeat(heads.len()));
            for row in rows {
                let cells = figures.iter().map(|figure| cell(*figure, row.figures.get(figure)));
                let cells: Vec<String> = cells.collect();
                let _ = writeln!(out, "| {} | {} | {} |", row.peer, row.load, cells.join(" | "));
            }
            out.push('\n');
        }
        if !self.targets.is_empty() {
            let _ = writeln!(out, "| target | wanted | measured | |\n| --- | ---: | ---: | --- |");
            for target in &self.targets {
                let (word, wanted) = match target.wanted {
                    Wanted::AtLeast(wanted) => ("at least", wanted),
                    Wanted::AtMost(wanted) => ("at most", wanted),
                };
                let met = if target.is_met() { "met" } else { "**missed**" };
                let (wanted, measured) = (number(wanted), number(target.measured));
                let _ = writeln!(out, "| {} | {word} {wanted} | {measured} | {met} |", target.what);
            }
            out.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(out, "- {note}");
        }
        out
    }
}

fn cell(figure: Figure, values: Option<&Vec<f64>>) -> String {
    let Some(values) = values else { return String::new() };
    let middle = number(median(values));
    let (least, most) =
        values.iter().fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(*value), most.max(*value)));
    match figure {
        Figure::PerSecond | Figure::RowsPerSecond | Figure::OfLimit | Figure::CpuAll | Figure::CpuOfLimits
            if values.len() > 1 =>
        {
            format!("{middle} ({} to {})", number(least), number(most))
        }
        _ => middle,
    }
}

/// Three digits that mean something, and thousands apart.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 10_000.0 => thousands((value / 100.0).round() * 100.0),
        size if size >= 100.0 => thousands(value),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A whole number with commas.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The middle value; the mean of both if there are two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_show_medians_with_their_range() {
        let mut report = Report::default();
        for (rate, part) in [(90_000.0, 0.9), (123_456.0, 0.8), (99_949.0, 1.0)] {
            report.add("Views", "ours", "64", &[(Figure::PerSecond, rate), (Figure::OfLimit, part)]);
        }
        report.target(
            "a",
            Wanted::AtLeast(0.85),
            report.row("Views", "ours", "64").and_then(|row| row.median(Figure::OfLimit)),
        );
        report.target("b", Wanted::AtMost(5.0), Some(17.25));
        report.target("c", Wanted::AtMost(5.0), None);
        let text = report.markdown();
        assert!(text.contains("| ours | 64 | 99,900 (90,000 to 123,500) | 0.90 (0.80 to 1.00) |"), "{text}");
        assert!(text.contains("| a | at least 0.85 | 0.90 | met |"), "{text}");
        assert!(text.contains("| b | at most 5.00 | 17.2 | **missed** |"), "{text}");
        let numbers = [5_000_000.0, 10_049.0, 9_999.4, 999.6, -4_321.0, -432.0, 12.34].map(number);
        assert_eq!(numbers, ["5,000,000", "10,000", "9,999", "1,000", "-4,321", "-432", "12.3"]);
    }
}
