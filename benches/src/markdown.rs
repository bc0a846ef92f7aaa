//! The report for people.

use std::fmt::Write as _;

use crate::report::Report;
use crate::row::{Measure, Row};

impl Report {
    /// As Markdown: the machine, the comparisons, and what could not be measured.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "{}.\nBlocks of all sides in turn, {} of each if time allows; ratio: ours / peer, median of the \
             blocks (5 % to 95 %).\n\n",
            self.machine.describe(),
            self.plan.blocks
        );
        text += "| what | ours ns | peer | peer ns | ratio (5–95 %) | target | met |\n";
        text += "|---|--:|---|--:|--:|--:|---|\n";
        for row in &self.rows {
            let _ = writeln!(text, "{}", line(row));
        }
        let tried = self.rows.iter().filter(|row| row.met() == Some(false));
        for row in tried {
            let (key, tried) = (row.key.unwrap_or_default(), row.tried.as_deref());
            let _ = write!(
                text,
                "\n`{key}` ({}) is not met. {}\n",
                row.what,
                tried.unwrap_or("Nothing was tried yet.")
            );
        }
        for (what, why) in &self.skipped {
            let _ = write!(text, "\n**Skipped**: {what}: {why}\n");
        }
        text
    }
}

/// A row of the table.
fn line(row: &Row) -> String {
    let value = row.value();
    // Ratios far below one are easier to read as fractions.
    let show = |value_: f64| match row.measure {
        Measure::Ratio { .. } if value.median < 0.05 => format!("1/{:.0}", 1.0 / value_),
        Measure::Ratio { .. } => format!("{value_:.2}"),
        Measure::Ns => format!("{value_:.2} ns"),
    };
    let target = row.target.map_or_else(String::new, |target| format!("≤ {}", show(target)));
    let met = row.met().map_or("", |met| if met { "yes" } else { "**no**" });
    let theirs = match row.measure {
        Measure::Ratio { theirs, .. } => format!("{:.2}", theirs.median),
        Measure::Ns => String::new(),
    };
    let mut beside = String::new();
    for (name, spread) in &row.beside {
        let _ = write!(beside, "; {name} {:.0} ns", spread.median);
    }
    format!(
        "| {}{beside} | {:.2} | {} | {theirs} | {} ({}–{}) | {target} | {met} |",
        row.what,
        row.ours.median,
        row.peer,
        show(value.median),
        show(value.low),
        show(value.high),
    )
}

#[cfg(test)]
mod tests {
    use crate::{Machine, Plan, Report, Row};

    #[test]
    fn the_table_names_what_is_not_met_and_what_was_tried() {
        let mut report = Report::new(Machine::here(0), Plan::TRY);
        report.add([
            Row::new("read", &[3.0], "lookup", &[500.0])
                .target("cell_read_lookup", 1.0 / 200.0)
                .tried("Reading faster."),
            Row::new("other", &[1.0], "peer", &[4.0]).beside("ping-pong", &[40.0]),
            Row::absolute("idle", &[1.5]).target("idle_shard", 2.0),
        ]);
        report.skip("BPF_F_RB_OVERWRITE", "needs Linux 6.19");
        let table = report.markdown();
        for line in [
            "| read | 3.00 | lookup | 500.00 | 1/167 (1/167–1/167) | ≤ 1/200 | **no** |",
            "| other; ping-pong 40 ns | 1.00 | peer | 4.00 | 0.25 (0.25–0.25) |  |  |",
            "| idle | 1.50 |  |  | 1.50 ns (1.50 ns–1.50 ns) | ≤ 2.00 ns | yes |",
            "`cell_read_lookup` (read) is not met. Reading faster.",
            "**Skipped**: BPF_F_RB_OVERWRITE: needs Linux 6.19",
        ] {
            assert!(table.lines().any(|found| found == line), "no {line:?} in\n{table}");
        }
    }
}
