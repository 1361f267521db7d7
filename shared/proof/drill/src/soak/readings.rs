//! What was taken up from round to round, and whether it grows.

use comfy_table::{CellAlignment, ContentArrangement, Table};
use indicatif::HumanCount;

use crate::report::STYLE;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// How much more there may be in the last round than in the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// 20 % and 8 MiB.
    Memory,
    /// 20 % and 32 MiB: two segments of 8 MiB for each ingest, which it begins when a flush happens to be late.
    Journal,
    /// 10.
    Files,
    /// Any: it is only shown.
    None,
}

impl Bound {
    fn max(self, before: u64) -> Option<u64> {
        match self {
            Self::Memory => Some(before + before / 5 + 8 * MIB),
            Self::Journal => Some(before + before / 5 + 32 * MIB),
            Self::Files => Some(before + 10),
            Self::None => None,
        }
    }
}

/// What something takes up at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// Of a process, or what is on the disk.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) value: u64,
    pub(super) bound: Bound,
}

/// What is taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Resident, in bytes.
    Memory,
    /// File descriptors.
    Files,
    /// In bytes.
    Disk,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory MiB",
            Self::Files => "file descriptors",
            Self::Disk => "disk MiB",
        }
    }

    fn show(self, value: u64) -> String {
        match self {
            Self::Files => HumanCount(value).to_string(),
            Self::Memory | Self::Disk => format!("{:.1}", value as f64 / MIB as f64),
        }
    }
}

/// One look, in a line.
pub(super) fn in_a_line(look: &[Reading]) -> String {
    let of = |kind: Kind| {
        let of_kind = look.iter().filter(|reading| reading.kind == kind);
        let shown: Vec<String> =
            of_kind.map(|Reading { name, value, .. }| format!("{name} {}", kind.show(*value))).collect();
        format!("{}: {}", kind.name(), shown.join(", "))
    };
    [Kind::Memory, Kind::Files, Kind::Disk].map(of).join("; ")
}

/// The most that was seen of each, round by round.
#[derive(Debug, Default)]
pub(super) struct Readings(Vec<Vec<Reading>>);

impl Readings {
    /// One more look, in this round.
    pub(super) fn add(&mut self, round: u32, look: Vec<Reading>) {
        match self.0.get_mut(round as usize) {
            None => self.0.push(look),
            Some(most) => most.iter_mut().zip(look).for_each(|(most, now)| most.value = most.value.max(now.value)),
        }
    }

    /// Whether there is a round to be held against the second one.
    pub(super) fn are_enough(&self) -> bool {
        self.0.len() > 2
    }

    /// The same thing in the first round, in the second, and in the last.
    fn rows(&self) -> impl Iterator<Item = [&Reading; 3]> {
        let rounds = match self.0.as_slice() {
            [first, second, .., last] => Some((first, second, last)),
            _ => None,
        };
        rounds.into_iter().flat_map(|(first, second, last)| {
            first.iter().zip(second).zip(last).map(|((first, second), last)| [first, second, last])
        })
    }

    /// What has grown beyond its bound.
    pub(super) fn grown(&self) -> Vec<String> {
        let grown = |[_, second, last]: [&Reading; 3]| {
            let max = second.bound.max(second.value).filter(|max| last.value > *max)?;
            let Reading { name, kind, value, .. } = last;
            Some(format!(
                "{name} has grown: {} {} in the last round, {} in the second, and at most {} were expected",
                kind.show(*value),
                kind.name(),
                kind.show(second.value),
                kind.show(max)
            ))
        };
        self.rows().filter_map(grown).collect()
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled).set_header([
            "of",
            "",
            "first round",
            "second round",
            "last round",
            "at most",
        ]);
        for [first, second, last] in self.rows() {
            let Reading { name, kind, .. } = second;
            let max = second.bound.max(second.value).map_or_else(|| "-".to_owned(), |max| kind.show(max));
            let [first, second, last] = [first, second, last].map(|reading| kind.show(reading.value));
            table.add_row([name.clone(), kind.name().to_owned(), first, second, last, max]);
        }
        for column in 2..=5 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.trim_fmt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(bound: Bound, values: [u64; 3]) -> Readings {
        let kind = if bound == Bound::Files { Kind::Files } else { Kind::Memory };
        let mut readings = Readings::default();
        for (round, value) in (0..).zip(values) {
            // In any order: the most counts.
            for value in [value / 2, value, value / 3] {
                readings.add(round, vec![Reading { name: "redis".to_owned(), kind, value, bound }]);
            }
        }
        readings
    }

    #[test]
    fn what_grows_is_named() {
        let grown = |bound, values| readings(bound, values).grown();
        assert!(grown(Bound::Memory, [9 * MIB, 10 * MIB, 20 * MIB]).is_empty());
        assert_eq!(
            grown(Bound::Memory, [30 * MIB, 10 * MIB, 21 * MIB]),
            ["redis has grown: 21.0 memory MiB in the last round, 10.0 in the second, and at most 20.0 were expected"]
        );
        assert!(grown(Bound::Journal, [MIB, 10 * MIB, 44 * MIB]).is_empty());
        assert_eq!(grown(Bound::Journal, [MIB, 10 * MIB, 45 * MIB]).len(), 1);
        assert!(grown(Bound::Files, [1, 40, 50]).is_empty());
        assert_eq!(grown(Bound::Files, [100, 40, 51]).len(), 1);
        assert!(grown(Bound::None, [1, 1, 1000 * MIB]).is_empty());
    }

    #[test]
    fn a_table_and_a_line_show_all() {
        let readings = readings(Bound::Memory, [MIB, 2 * MIB, 3 * MIB]);
        let table = readings.table();
        let words = table.lines().last().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        assert_eq!(words.as_deref(), Some("redis memory MiB 1.0 2.0 3.0 10.4"), "{table}");
        assert_eq!(in_a_line(&readings.0[2]), "memory MiB: redis 3.0; file descriptors: ; disk MiB: ");
    }
}
