//! A report in parts, which a page shows too, and its text.

use std::fmt;
use std::ops::Range;

use comfy_table::{CellAlignment, Table, presets};
use textwrap::core::display_width;
use textwrap::{Options, WordSplitter, fill};

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

/// A text that is as wide as this, where its words allow that.
pub(super) struct Wide<'d>(pub(super) &'d Document, pub(super) usize);

/// The text, as wide as it gets.
impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Wide(self, usize::MAX).fmt(f)
    }
}

impl fmt::Display for Wide<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Self(Document { head, first, sections }, width) = self;
        head.iter().try_for_each(|line| writeln!(f, "{}", wrapped(line, width, 0)))?;
        writeln!(f, "\nWhat stands out")?;
        for (of, line) in first {
            writeln!(f, "{}", wrapped(&format!("  {of:11}  {line}"), width, 15))?;
        }
        for Section { title, groups, parts } in sections {
            let of = if groups.is_empty() { String::new() } else { format!(" ({})", groups.join(", ")) };
            write!(f, "\n{}", wrapped(&format!("{title}{of}"), width, 2))?;
            parts.iter().try_for_each(|part| part.write(f, width))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The line, and more lines that begin with so many blanks if it is longer than this.
fn wrapped(line: &str, width: usize, indent: usize) -> String {
    if display_width(line) <= width {
        return line.to_owned();
    }
    let blanks = " ".repeat(indent);
    fill(line, Options::new(width).subsequent_indent(&blanks).word_splitter(WordSplitter::NoHyphenation))
}

/// Shortens the longest texts of a table until its lines are as wide as this: what is left out is in the middle.
fn fit(header: &[&str], rows: &mut [Vec<String>], width: usize) {
    const LEAST: usize = 12;
    loop {
        let wide = |at: usize| {
            let cells = rows.iter().map(|row| display_width(&row[at]));
            cells.fold(0, usize::max)
        };
        let widths: Vec<_> = (0..header.len()).map(|at| wide(at).max(display_width(header[at]))).collect();
        let all = widths.iter().sum::<usize>() + 2 * header.len();
        let Some(at) = (0..header.len()).max_by_key(|at| wide(*at)).filter(|at| wide(*at) > LEAST) else {
            return;
        };
        let Some(more) = all.checked_sub(width).filter(|more| *more > 0) else { return };
        let most = wide(at).saturating_sub(more).max(LEAST).max(wide(at) / 2);
        for row in &mut *rows {
            let chars: Vec<_> = row[at].chars().collect();
            if chars.len() > most {
                let (start, end) = (most / 2, chars.len() - (most - most / 2 - 1));
                row[at] = chars[..start].iter().chain(['…'].iter()).chain(&chars[end..]).collect();
            }
        }
    }
}

impl Part {
    fn write(&self, f: &mut fmt::Formatter<'_>, width: usize) -> fmt::Result {
        writeln!(f)?;
        match self {
            Self::Line(line) => write!(f, "{}", wrapped(&format!("  {line}"), width, 2)),
            Self::Table { rows, .. } if rows.is_empty() => write!(f, "  nothing"),
            Self::Table { header, rows, all } => {
                let shown = &rows[..rows.len().min(LINES)];
                let mut cells: Vec<_> = shown.iter().map(|row| row.cells.clone()).collect();
                fit(header, &mut cells, width);
                let mut table = Table::new();
                table.load_preset(presets::NOTHING).set_header(*header);
                table.add_rows(cells);
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
                    lines.extend(under.iter().map(|line| wrapped(&format!("      {line}"), width, 14)));
                }
                write!(f, "{}", lines.join("\n"))?;
                let more = all.map_or(0, |all| all.saturating_sub(shown.len() as u64));
                if more > 0 { write!(f, "\n  and {more} more") } else { Ok(()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_wide_as_the_terminal() {
        let cells =
            |task: &str| vec![task.to_owned(), "1.5 ms".to_owned(), "/usr/lib/a/very/long/path".to_owned()];
        let row = Row {
            under: vec!["kernel  one ← two ← three ← four ← five".to_owned()],
            ..cells("short").into()
        };
        let rows = vec![row, cells("a thread with a long name (4711)").into()];
        let table = Part::Table { header: &["task", "time", "file"], rows, all: None };
        let parts = vec![table, Part::Line("a line of some words that are long".to_owned())];
        let sections = vec![Section { title: "Title", groups: &["sched"], parts }];
        let document = Document { head: vec![], first: vec![("CPU", "word ".repeat(9))], sections };
        let text = Wide(&document, 40).to_string();
        assert!(text.lines().all(|line| display_width(line) <= 40), "{text}");
        assert!(text.contains("five") && text.contains("…") && text.contains("path"), "{text}");
        let wide = document.to_string();
        assert!(wide.contains("a thread with a long name (4711)") && !wide.contains('…'), "{wide}");
    }
}
