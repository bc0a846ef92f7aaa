//! A report in parts, which a page shows too, and its text.

use std::fmt;
use std::ops::Range;

use comfy_table::{CellAlignment, Table, presets};

/// Rows of a table in a text.
const LINES: usize = 10;

#[derive(Default)]
pub(super) struct Document {
    /// What stopped the recording, and the time of the report.
    pub(super) head: Vec<String>,
    /// What to look at first, by a word.
    pub(super) first: Vec<(&'static str, String)>,
    pub(super) sections: Vec<Section>,
}

pub(super) struct Section {
    pub(super) title: &'static str,
    /// The groups that it needs.
    pub(super) groups: &'static [&'static str],
    pub(super) parts: Vec<Part>,
}

pub(super) enum Part {
    Line(String),
    Table {
        header: &'static [&'static str],
        rows: Vec<Row>,
        /// How many there were, if that is known.
        all: Option<u64>,
    },
}

/// A row of a table.
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    /// When it happened, in nanoseconds of CLOCK_MONOTONIC.
    pub(super) time: Option<Range<u64>>,
    /// Lines that belong to it.
    pub(super) under: Vec<String>,
}

impl From<Vec<String>> for Row {
    fn from(cells: Vec<String>) -> Self {
        Self { cells, time: None, under: Vec::new() }
    }
}

impl Row {
    /// A row of what began at this time and took so long.
    pub(super) fn at(from: u64, ns: u64, cells: Vec<String>) -> Self {
        Self { time: Some(from..from.saturating_add(ns)), ..cells.into() }
    }
}

/// The columns that have numbers.
pub(super) fn are_numbers(rows: &[Row]) -> Vec<bool> {
    let is_number = |text: &str| text.starts_with(|c: char| "+-".contains(c) || c.is_ascii_digit());
    let columns = rows.first().map_or(0, |row| row.cells.len());
    let column = |at: usize| {
        let mut filled =
            rows.iter().map(move |row| &*row.cells[at]).filter(|text| !text.is_empty()).peekable();
        filled.peek().is_some() && filled.all(is_number)
    };
    (0..columns).map(column).collect()
}

/// The text.
impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        writeln!(f, "\nWhat stands out")?;
        self.first.iter().try_for_each(|(of, line)| writeln!(f, "  {of:11}  {line}"))?;
        for Section { title, groups, parts } in &self.sections {
            let of = if groups.is_empty() { String::new() } else { format!(" ({})", groups.join(", ")) };
            write!(f, "\n{title}{of}")?;
            parts.iter().try_for_each(|part| write!(f, "\n{part}"))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "  {line}"),
            Self::Table { rows, .. } if rows.is_empty() => write!(f, "  nothing"),
            Self::Table { header, rows, all } => {
                let shown = &rows[..rows.len().min(LINES)];
                let mut table = Table::new();
                table.load_preset(presets::NOTHING).set_header(*header);
                table.add_rows(shown.iter().map(|row| &row.cells));
                for (column, is_number) in table.column_iter_mut().zip(are_numbers(shown)) {
                    if is_number {
                        column.set_cell_alignment(CellAlignment::Right);
                    }
                }
                // The first line is the header.
                let under = std::iter::once(&[][..]).chain(shown.iter().map(|row| &*row.under));
                let mut lines = Vec::new();
                for (line, under) in table.trim_fmt().lines().zip(under) {
                    lines.push(format!(" {line}"));
                    lines.extend(under.iter().map(|line| format!("      {line}")));
                }
                write!(f, "{}", lines.join("\n"))?;
                let more = all.map_or(0, |all| all.saturating_sub(shown.len() as u64));
                if more > 0 { write!(f, "\n  and {more} more") } else { Ok(()) }
            }
        }
    }
}
