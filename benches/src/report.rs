//! The results of a run: printed, and written to `report.json`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};

use crate::placement::by_distance;
use crate::{Chart, KEYS, Machine, Plan, Row, svg};

/// The results of a run.
#[derive(Debug)]
pub struct Report {
    pub(crate) machine: Machine,
    pub(crate) plan: Plan,
    pub(crate) rows: Vec<Row>,
    pub(crate) charts: Vec<Chart>,
    pub(crate) skipped: Vec<(String, String)>,
    pub(crate) peers: Vec<[String; 3]>,
    pub(crate) sections: Vec<[String; 2]>,
    notes: Vec<(String, Value)>,
}

impl Report {
    /// An empty report.
    pub fn new(machine: Machine, plan: Plan) -> Self {
        let (rows, charts, skipped, peers, sections, notes) = Default::default();
        Self { machine, plan, rows, charts, skipped, peers, sections, notes }
    }

    /// Adds comparisons. Targets stay in the order of [`KEYS`], before the others.
    pub fn add(&mut self, rows: impl IntoIterator<Item = Row>) {
        self.rows.extend(rows);
        let place = |row: &Row| row.key.and_then(|key| KEYS.iter().position(|known| *known == key));
        self.rows.sort_by_key(|row| place(row).unwrap_or(KEYS.len()));
    }

    /// Adds rows of the blocks in which the CPUs were close together, and of those in which they were far apart, by the
    /// [`ping_pong`](crate::ping_pong) beside each block. `rows` gets the place, and selects the samples of its blocks.
    pub fn add_by_distance<const N: usize>(
        &mut self,
        what: &str,
        ping: &[f64],
        rows: impl Fn(&str, &dyn Fn(&[f64]) -> Vec<f64>) -> [Row; N],
    ) {
        for (place, blocks) in by_distance(ping) {
            let of = |samples: &[f64]| blocks.iter().map(|&block| samples[block]).collect::<Vec<_>>();
            if blocks.len() < 10 {
                let why = format!("{} blocks of {} had the CPUs {place}", blocks.len(), ping.len());
                self.skip(&format!("{what} by placement, {place}"), why);
            } else {
                self.add(rows(place, &of).map(|row| row.beside("ping-pong", &of(ping))));
            }
        }
    }

    /// Adds data to plot.
    pub fn chart(&mut self, chart: Chart) {
        self.charts.push(chart);
    }

    /// Records that a peer, or a key of [`KEYS`], could not be measured here, and why. Prints this at once, and
    /// includes it in every form of the report.
    pub fn skip(&mut self, what: &str, why: impl ToString) {
        let why = why.to_string();
        eprintln!("SKIPPED: {what}: {why}");
        self.skipped.push((what.to_owned(), why));
    }

    /// Adds a peer: its version, and its settings in this run.
    pub fn peer(&mut self, name: &str, version: impl ToString, settings: &str) {
        let peer = [name.to_owned(), version.to_string(), settings.to_owned()];
        if !self.peers.contains(&peer) {
            self.peers.push(peer);
        }
    }

    /// Adds a section to the Markdown report.
    pub fn section(&mut self, title: &str, markdown: &str) {
        self.sections.push([title.to_owned(), markdown.to_owned()]);
    }

    /// Adds a value that is not a comparison, under its own name.
    pub fn note(&mut self, name: &str, value: Value) {
        self.notes.push((name.to_owned(), value));
    }

    /// The keys of [`KEYS`] that have neither a row nor a reason.
    pub fn missing(&self) -> Vec<&'static str> {
        let has_row = |key: &str| self.rows.iter().any(|row| row.key == Some(key));
        let has_word = |key: &str| self.skipped.iter().any(|(what, _)| what == key);
        KEYS.iter().copied().filter(|key| !has_row(key) && !has_word(key)).collect()
    }

    /// Whether the chart of all targets has any content.
    pub(crate) fn has_overview(&self) -> bool {
        self.rows.iter().any(|row| row.key.is_some())
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let (targets, rows): (Vec<_>, Vec<_>) = self.rows.iter().partition(|row| row.key.is_some());
        let json = |rows: Vec<&Row>| rows.into_iter().map(Row::json).collect::<Vec<_>>();
        let skipped = self.skipped.iter().map(|(what, why)| json!({ "what": what, "why": why }));
        let peers = self.peers.iter().map(
            |[name, version, settings]| json!({ "name": name, "version": version, "settings": settings }),
        );
        let mut report = json!({
            "machine": self.machine.json(),
            "blocks": self.plan.blocks,
            "targets": json(targets),
            "others": json(rows),
            "charts": self.charts.iter().map(Chart::json).collect::<Vec<_>>(),
            "skipped": skipped.collect::<Vec<_>>(),
            "peers": peers.collect::<Vec<_>>(),
        });
        for (name, value) in &self.notes {
            report[name] = value.clone();
        }
        report
    }

    /// Writes `report.json`, `report.md` (and `benchmarks.md`, which has its charts in a folder of that name) and the
    /// charts into `folder`, which is created if needed.
    ///
    /// # Errors
    /// Fails if a file can't be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let mut files = vec![
            ("report.json".to_owned(), format!("{:#}\n", self.json())),
            ("report.md".to_owned(), self.markdown("")),
            ("benchmarks.md".to_owned(), self.markdown("benchmarks/")),
        ];
        if self.has_overview() {
            let svg = svg::overview(&self.rows).map_err(|error| anyhow!("drawing the overview: {error}"))?;
            files.push(("overview.svg".to_owned(), svg));
        }
        for chart in &self.charts {
            let svg = svg::draw(chart).map_err(|error| anyhow!("drawing {}: {error}", chart.id))?;
            files.push((format!("{}.svg", chart.id), svg));
        }
        // Remove the charts of an earlier run.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "svg") {
                fs::remove_file(entry.path())?;
            }
        }
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        for (name, text) in files {
            let file = folder.join(&name);
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_the_rest_are_apart() {
        let mut report = Report::new(Machine::here(0), Plan::TRY);
        report.add([
            Row::new("read", &[2.0], "lookup", &[500.0]).target("cell_read_lookup", 1.0 / 200.0),
            Row::new("other", &[1.0], "peer", &[4.0]),
        ]);
        let json = report.json();
        assert_eq!(json["targets"][0]["key"], "cell_read_lookup");
        assert_eq!(json["targets"][0]["met"], true);
        assert_eq!(json["targets"].as_array().unwrap().len(), 1);
        assert_eq!(json["others"][0]["ratio"], 0.25);
    }

    #[test]
    fn a_key_without_a_row_or_a_word_is_missing() {
        let mut report = Report::new(Machine::here(0), Plan::TRY);
        assert_eq!(report.missing(), KEYS);
        report.add([Row::absolute("idle", &[1.0]).target(KEYS[0], 2.0)]);
        report.skip(KEYS[1], "no such machine");
        assert_eq!(report.missing(), KEYS[2..]);
        assert_eq!(report.json()["skipped"][0]["why"], "no such machine");
    }
}
