//! What is printed, and written to `report.json`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{Machine, Plan, Spread};

/// One comparison.
#[derive(Clone, Debug)]
pub struct Row {
    /// What is done, for people.
    pub what: String,
    /// The name under which a target is tracked; without one, the row is for information.
    pub key: Option<&'static str>,
    /// Who does it, beside us.
    pub peer: String,
    /// Our nanoseconds.
    pub ours: Spread,
    /// The peer's nanoseconds.
    pub theirs: Spread,
    /// Ours over theirs, within a block: smaller is better.
    pub ratio: Spread,
    /// The ratio to reach.
    pub target: Option<f64>,
}

impl Row {
    /// A comparison of what [`interleave`](crate::interleave) measured.
    pub fn new(what: &str, ours: &[f64], peer: &str, theirs: &[f64]) -> Self {
        Self {
            what: what.to_owned(),
            key: None,
            peer: peer.to_owned(),
            ours: Spread::of(ours.iter().copied()),
            theirs: Spread::of(theirs.iter().copied()),
            ratio: Spread::of_ratios(ours, theirs),
            target: None,
        }
    }

    /// With a ratio to reach.
    #[must_use]
    pub fn target(self, key: &'static str, target: f64) -> Self {
        Self { key: Some(key), target: Some(target), ..self }
    }

    fn met(&self) -> Option<bool> {
        self.target.map(|target| self.ratio.median <= target)
    }

    fn json(&self) -> Value {
        let spread = |s: Spread| json!({ "low": s.low, "median": s.median, "high": s.high });
        json!({
            "key": self.key,
            "what": self.what,
            "peer": self.peer,
            "ratio": self.ratio.median,
            "low": self.ratio.low,
            "high": self.ratio.high,
            "target": self.target,
            "met": self.met(),
            "ours_ns": spread(self.ours),
            "peer_ns": spread(self.theirs),
        })
    }
}

/// All of a run.
#[derive(Debug)]
pub struct Report {
    machine: Machine,
    plan: Plan,
    rows: Vec<Row>,
    notes: Vec<(String, Value)>,
}

impl Report {
    /// Nothing yet.
    pub fn new(machine: Machine, plan: Plan) -> Self {
        Self { machine, plan, rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds comparisons.
    pub fn add(&mut self, rows: impl IntoIterator<Item = Row>) {
        self.rows.extend(rows);
    }

    /// Adds something that is no comparison, under its own name.
    pub fn note(&mut self, name: &str, value: Value) {
        self.notes.push((name.to_owned(), value));
    }

    /// As a Markdown table.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "{}.\n{} interleaved blocks; ratio: ours / peer, median of the blocks (5 % to 95 %).\n\n",
            self.machine.describe(),
            self.plan.blocks
        );
        text += "| what | ours ns | peer | peer ns | ratio (low–high) | target | met |\n";
        text += "|---|--:|---|--:|--:|--:|---|\n";
        for row in &self.rows {
            let Row { what, peer, ours, theirs, ratio, target, .. } = row;
            // Ratios far below one are easier to read as fractions.
            let show = |value: f64| match ratio.median {
                median if median < 0.05 => format!("1/{:.0}", 1.0 / value),
                _ => format!("{value:.2}"),
            };
            let _ = writeln!(
                text,
                "| {what} | {:.2} | {peer} | {:.2} | {} ({}–{}) | {} | {} |",
                ours.median,
                theirs.median,
                show(ratio.median),
                show(ratio.low),
                show(ratio.high),
                target.map_or_else(String::new, |target| format!("≤ {}", show(target))),
                row.met().map_or("", |met| if met { "yes" } else { "**no**" }),
            );
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let (targets, rows): (Vec<_>, Vec<_>) = self.rows.iter().partition(|row| row.key.is_some());
        let json = |rows: Vec<&Row>| rows.into_iter().map(Row::json).collect::<Vec<_>>();
        let mut report = json!({
            "machine": self.machine.json(),
            "blocks": self.plan.blocks,
            "targets": json(targets),
            "others": json(rows),
        });
        for (name, value) in &self.notes {
            report[name] = value.clone();
        }
        report
    }

    /// Writes `report.json` into `folder`, which is made if it isn't there.
    ///
    /// # Errors
    /// If that fails.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let file = folder.join("report.json");
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&file, format!("{:#}\n", self.json())))
            .with_context(|| format!("writing {}", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ours: f64) -> Report {
        let mut report = Report::new(Machine::here(0), Plan::TRY);
        report.add([
            Row::new("read", &[ours], "lookup", &[500.0]).target("cell_read", 1.0 / 200.0),
            Row::new("other", &[1.0], "peer", &[4.0]),
        ]);
        report
    }

    #[test]
    fn a_target_is_met_or_not() {
        let json = report(2.0).json();
        assert_eq!(json["targets"][0]["key"], "cell_read");
        assert_eq!(json["targets"][0]["met"], true);
        assert_eq!(json["targets"].as_array().unwrap().len(), 1);
        assert_eq!(json["others"][0]["ratio"], 0.25);
        assert_eq!(report(3.0).json()["targets"][0]["met"], false);
    }

    #[test]
    fn the_table_names_what_is_not_met() {
        let table = report(3.0).markdown();
        assert!(
            table.contains("| read | 3.00 | lookup | 500.00 | 1/167 (1/167–1/167) | ≤ 1/200 | **no** |"),
            "{table}"
        );
        assert!(table.contains("| other | 1.00 | peer | 4.00 | 0.25 (0.25–0.25) |  |  |"), "{table}");
    }
}
