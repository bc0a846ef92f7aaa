//! The report as Markdown.

use std::fmt::Write as _;

use crate::Plan;
use crate::report::Report;
use crate::row::{Measure, Row};

const HEADER: &str = "| what | ours ns | peer | peer ns | ratio (5–95 %) | target | met |\n\
                      |---|--:|---|--:|--:|--:|---|\n";

impl Report {
    /// As Markdown: targets met and missed, all other results, and the method. Charts are in the folder `charts`, which
    /// ends with a slash or is empty.
    pub fn markdown(&self, charts: &str) -> String {
        let mut text = String::from("# Benchmarks\n\n");
        let _ = write!(
            text,
            "Written by `cargo xtask bench{}`. Measured on {}. Ratio: ours / peer, smaller is better. Ratios \
             below 0.05 are shown as factors: 300× faster. Each is the median of interleaved blocks, with the range of \
             nine tenths of them; see [Method](#method).\n\n## Targets\n\n",
            if self.plan.blocks < Plan::FULL.blocks { " --quick" } else { "" },
            self.machine.describe()
        );
        if let Some(busy) = self.machine.busy() {
            let _ = write!(text, "{busy}\n\n");
        }
        if self.has_overview() {
            let _ = write!(text, "![Every target and what was reached]({charts}overview.svg)\n\n");
        }
        let (targets, others): (Vec<_>, Vec<_>) = self.rows.iter().partition(|row| row.key.is_some());
        self.table(&mut text, &targets);
        self.not_met(&mut text);
        if !self.skipped.is_empty() {
            text += "\n## Not measured in this run\n\n";
            for (what, why) in &self.skipped {
                let _ = writeln!(text, "- **{what}**: {why}");
            }
        }
        if !self.charts.is_empty() {
            text += "\n## Charts\n";
            for chart in &self.charts {
                let _ = write!(text, "\n![{}]({charts}{}.svg)\n", chart.title, chart.id);
            }
        }
        text += "\n## All else that was compared\n\n";
        self.table(&mut text, &others);
        for [title, markdown] in &self.sections {
            let _ = write!(text, "\n## {title}\n\n{markdown}");
        }
        if !self.peers.is_empty() {
            text += "\n## Peers\n\n| peer | version | how it is run |\n|---|---|---|\n";
            for [name, version, settings] in &self.peers {
                let _ = writeln!(text, "| {name} | {version} | {settings} |");
            }
        }
        text += "\n## The machine\n\n";
        for (what, value) in self.machine.details() {
            let _ = writeln!(text, "- {what}: {value}");
        }
        let _ = write!(text, "\n{}", include_str!("method.md"));
        text
    }

    /// Only the targets and the skipped measurements, for the terminal.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        self.table(&mut text, &self.rows.iter().collect::<Vec<_>>());
        self.not_met(&mut text);
        if let Some(busy) = self.machine.busy() {
            let _ = write!(text, "\n{busy}\n");
        }
        for (what, why) in &self.skipped {
            let _ = write!(text, "\n**Skipped**: {what}: {why}\n");
        }
        text
    }

    fn table(&self, text: &mut String, rows: &[&Row]) {
        *text += HEADER;
        for row in rows {
            let _ = writeln!(text, "{}", line(row));
        }
    }

    fn not_met(&self, text: &mut String) {
        for row in self.rows.iter().filter(|row| row.met() == Some(false)) {
            let tried = row.tried.as_deref().unwrap_or("Nothing was tried yet.");
            let _ =
                write!(text, "\n`{}` ({}) is **not met**. {tried}\n", row.key.unwrap_or_default(), row.what);
        }
    }
}

/// A row of the table.
fn line(row: &Row) -> String {
    let value = row.value();
    let [median, low, high] = [value.median, value.low, value.high];
    // Ratios far below one are easier to read as factors.
    let factor = |ratio: f64| format!("{:.0}", 1.0 / ratio);
    let (shown, target) = match row.measure {
        Measure::Ratio { .. } if median < 0.05 => (
            format!("{}× faster ({}–{})", factor(median), factor(high), factor(low)),
            row.target.map(|target| format!("≥ {}×", factor(target))),
        ),
        Measure::Ratio { .. } => {
            (format!("{median:.2} ({low:.2}–{high:.2})"), row.target.map(|target| format!("≤ {target:.2}")))
        }
        Measure::Ns => (
            format!("{median:.2} ns ({low:.2} ns–{high:.2} ns)"),
            row.target.map(|target| format!("≤ {target:.2} ns")),
        ),
    };
    let target = target.unwrap_or_default();
    let met = row.met().map_or("", |met| if met { "yes" } else { "**no**" });
    let theirs = match row.measure {
        Measure::Ratio { theirs, .. } => number(theirs.median),
        Measure::Ns => String::new(),
    };
    let key = row.key.map_or_else(String::new, |key| format!("`{key}`: "));
    let mut beside = String::new();
    for (name, spread) in &row.beside {
        let _ = write!(beside, "; {name} {:.0} ns", spread.median);
    }
    format!(
        "| {key}{}{beside} | {} | {} | {theirs} | {shown} | {target} | {met} |",
        row.what,
        number(row.ours.median),
        row.peer,
    )
}

/// Only the significant digits.
fn number(ns: f64) -> String {
    let digits = if ns < 10.0 { 2 } else { usize::from(ns < 100.0) };
    format!("{ns:.digits$}")
}

#[cfg(test)]
mod tests {
    use crate::{Chart, Machine, Plan, Report, Row, Scale};

    #[test]
    fn the_table_names_what_is_not_met_and_what_was_tried() {
        let mut report = Report::new(Machine::here(0), Plan::TRY);
        report.add([
            Row::new("read", &[3.0], "lookup", &[500.0])
                .target("cell_read_lookup", 1.0 / 200.0)
                .tried("Reading faster."),
            Row::new("other", &[1.0], "peer", &[40.0]).beside("ping-pong", &[40.0]),
            Row::absolute("idle", &[1.5]).target("idle_shard", 2.0),
        ]);
        report.skip("BPF_F_RB_OVERWRITE", "Linux 6.18 doesn't have it");
        report.peer("ringbuf", "Linux 6.18", "NO_WAKEUP");
        report.chart(Chart::new("sizes", "Sizes", ("bytes", Scale::Log2), ("ns", Scale::Log)));
        report.section("More CPUs", "A model.\n");
        let table = report.markdown("benchmarks/");
        for line in [
            "| `cell_read_lookup`: read | 3.00 | lookup | 500 | 167× faster (167–167) | ≥ 200× | **no** |",
            "| other; ping-pong 40 ns | 1.00 | peer | 40.0 | 40× faster (40–40) |  |  |",
            "| `idle_shard`: idle | 1.50 |  |  | 1.50 ns (1.50 ns–1.50 ns) | ≤ 2.00 ns | yes |",
            "`cell_read_lookup` (read) is **not met**. Reading faster.",
            "- **BPF_F_RB_OVERWRITE**: Linux 6.18 doesn't have it",
            "![Sizes](benchmarks/sizes.svg)",
            "| ringbuf | Linux 6.18 | NO_WAKEUP |",
            "## More CPUs",
            "## Method",
        ] {
            assert!(table.lines().any(|found| found == line), "no {line:?} in\n{table}");
        }
        assert!(report.summary().contains("**Skipped**: BPF_F_RB_OVERWRITE"));
    }
}
