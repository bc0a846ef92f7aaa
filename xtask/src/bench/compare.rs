//! Compares two reports of `cargo xtask bench`: lists changes beyond noise.
//!
//! A row has changed if three things hold: the medians differ by a tenth or more, their 95 % confidence intervals do
//! not overlap, and each median lies outside the range of nine tenths of the other run's blocks. Ratios are compared
//! instead of times if present, since both sides of a ratio were measured in the same run. If the time to move a cache
//! line grew by half or fell by a third, rows that depend on it are not compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::{fmt, fs};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// Smaller differences between medians are noise: code moved in memory, or effects of the host.
const LEAST: f64 = 0.10;

/// The part of a report that is compared.
#[derive(Deserialize)]
struct Report {
    targets: Vec<Row>,
    others: Vec<Row>,
}

#[derive(Clone, Deserialize)]
struct Row {
    key: Option<String>,
    what: String,
    peer: String,
    ratio: Option<f64>,
    ns: Option<f64>,
    low: f64,
    high: f64,
    sure: [f64; 2],
    met: Option<bool>,
    #[serde(default)]
    beside: BTreeMap<String, Beside>,
}

/// The context of a row.
#[derive(Clone, Deserialize)]
struct Beside {
    median: f64,
}

impl Row {
    fn median(&self) -> f64 {
        self.ratio.or(self.ns).unwrap_or(f64::NAN)
    }

    /// The name that identifies the row in another report: its key, or its text without the share of lost records.
    fn name(&self) -> String {
        let Self { key, what, peer, .. } = self;
        let plain = |text: &str| {
            let parts = text.split(", ").filter(|part| !part.contains(" % "));
            parts.collect::<Vec<_>>().join(", ")
        };
        let against = if peer.is_empty() { "" } else { " / " };
        key.clone().unwrap_or_else(|| format!("{}{against}{}", plain(what), plain(peer)))
    }

    /// Whether its CPUs were about as far apart as the CPUs of `other`.
    fn is_placed_like(&self, other: &Self) -> bool {
        self.beside.iter().all(|(name, here)| {
            other.beside.get(name).is_none_or(|there| {
                let ratio = here.median / there.median;
                (0.67..1.5).contains(&ratio)
            })
        })
    }
}

/// How a row differs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Worse,
    Better,
    /// A target that the new report no longer contains.
    Gone,
    /// It changed, but its CPUs changed as well: no conclusion.
    Elsewhere,
    /// A target met before and missed now, by no more than noise.
    Missed,
}

use Kind::{Better, Elsewhere, Gone, Missed, Worse};

/// The change of a row from one median to another.
#[derive(Debug, PartialEq)]
struct Change(Kind, f64, f64);

impl Change {
    fn is_bad(&self) -> bool {
        matches!(self.0, Worse | Gone)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(kind, old, new) = *self;
        let word = match kind {
            Worse => "WORSE",
            Better => "better",
            Elsewhere => "elsewhere (its CPUs are not as far apart)",
            Missed => "missed, within noise",
            Gone => return f.write_str("GONE"),
        };
        write!(f, "{word}: {} -> {} ({:+.0} %)", digits(old), digits(new), (new / old - 1.0) * 100.0)
    }
}

/// Three significant digits.
fn digits(value: f64) -> String {
    let after = match value {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 4,
    };
    format!("{value:.after$}")
}

/// Lists the changes from `old` to `new`; fails if a row got worse.
pub(super) fn run(old: &Path, new: &Path) -> Result<ExitCode> {
    let (old, new) = (read(old)?, read(new)?);
    let changes = changes(&old, &new);
    for (name, change) in &changes {
        println!("{change}  {name}");
    }
    let bad = changes.values().filter(|change| change.is_bad()).count();
    println!(
        "{} of {} rows moved beyond noise, {bad} of them for the worse",
        changes.len(),
        rows(&new).len()
    );
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(path: &Path) -> Result<Report> {
    let missing = || format!("no report {}: `cargo xtask bench` writes one", path.display());
    let text = fs::read_to_string(path).with_context(missing)?;
    let report: Report =
        serde_json::from_str(&text).with_context(|| format!("{} is no report", path.display()))?;
    ensure!(!report.targets.is_empty() || !report.others.is_empty(), "{} has no rows", path.display());
    Ok(report)
}

/// A report's rows by name. If a name occurs twice (two placements), the rows are numbered.
fn rows(report: &Report) -> BTreeMap<String, &Row> {
    let mut rows = BTreeMap::new();
    for row in report.targets.iter().chain(&report.others) {
        let name = row.name();
        let same = (1..).map(|n| if n == 1 { name.clone() } else { format!("{name} ({n})") });
        let free = same.into_iter().find(|name| !rows.contains_key(name)).unwrap_or(name);
        rows.insert(free, row);
    }
    rows
}

fn changes(old: &Report, new: &Report) -> BTreeMap<String, Change> {
    let after = rows(new);
    let changes = rows(old).into_iter().filter_map(|(name, old)| {
        let change = match after.get(&name) {
            Some(new) => change(old, new)?,
            None if old.key.is_some() => Change(Gone, old.median(), 0.0),
            None => return None,
        };
        Some((name, change))
    });
    changes.collect()
}

fn change(was: &Row, is: &Row) -> Option<Change> {
    let (old, new) = (was.median(), is.median());
    let apart = |a: [f64; 2], b: [f64; 2]| a[1] < b[0] || b[1] < a[0];
    let outside = |median: f64, of: &Row| median < of.low || median > of.high;
    let moved = (new / old - 1.0).abs().max((old / new - 1.0).abs()) >= LEAST
        && apart(was.sure, is.sure)
        && outside(new, was)
        && outside(old, is);
    let kind = match moved {
        true if !is.is_placed_like(was) => Elsewhere,
        true if new > old => Worse,
        true => Better,
        false if was.met == Some(true) && is.met == Some(false) => Missed,
        false => return None,
    };
    Some(Change(kind, old, new))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn row(key: Option<&str>, what: &str, median: f64, noise: f64, met: Option<bool>) -> Value {
        json!({
            "key": key, "what": what, "peer": "ringbuf", "ratio": median, "met": met,
            "low": median * (1.0 - noise), "high": median * (1.0 + noise),
            "sure": [median * (1.0 - noise / 5.0), median * (1.0 + noise / 5.0)],
        })
    }

    fn report(targets: Vec<Value>, others: Vec<Value>) -> Report {
        serde_json::from_value(json!({ "targets": targets, "others": others, "machine": {} })).unwrap()
    }

    /// The change of a target at 0.20 ± 5 % that is then at `median`.
    fn moved(median: f64, noise: f64) -> Option<Change> {
        let met = |median: f64| Some(median <= 0.30);
        let old = report(vec![row(Some("stream"), "a", 0.20, 0.05, met(0.20))], vec![]);
        let new = report(vec![row(Some("stream"), "a", median, noise, met(median))], vec![]);
        changes(&old, &new).into_values().next()
    }

    #[test]
    fn what_is_worse_is_named() {
        assert_eq!(moved(0.25, 0.05), Some(Change(Worse, 0.20, 0.25)));
        assert_eq!(moved(0.15, 0.05), Some(Change(Better, 0.20, 0.15)));
        assert_eq!(Change(Worse, 0.20, 0.25).to_string(), "WORSE: 0.2000 -> 0.2500 (+25 %)");
    }

    #[test]
    fn noise_is_no_change() {
        assert_eq!(moved(0.20, 0.05), None);
        assert_eq!(moved(0.21, 0.001), None, "too little");
        assert_eq!(moved(0.25, 0.50), None, "within the spread of the second run");
        assert_eq!(moved(0.31, 0.60), Some(Change(Missed, 0.20, 0.31)));
        assert!(!Change(Missed, 0.20, 0.31).is_bad());
    }

    #[test]
    fn a_target_that_is_gone_is_bad_and_another_row_is_not() {
        let old =
            report(vec![row(Some("stream"), "a", 1.0, 0.1, None)], vec![row(None, "b", 1.0, 0.1, None)]);
        let changes = changes(&old, &report(vec![], vec![]));
        assert_eq!(changes.len(), 1);
        assert!(changes["stream"].is_bad());
    }

    #[test]
    fn nanoseconds_are_compared_where_there_is_no_ratio() {
        let ns = |ns: f64| {
            let row = json!({ "key": "idle_shard", "what": "idle", "peer": "", "ns": ns, "met": true,
                              "low": ns * 0.9, "high": ns * 1.1, "sure": [ns * 0.98, ns * 1.02] });
            report(vec![row], vec![])
        };
        let changes = changes(&ns(1.0), &ns(1.8));
        assert_eq!(changes["idle_shard"], Change(Worse, 1.0, 1.8));
    }

    #[test]
    fn what_ran_elsewhere_is_neither_worse_nor_better() {
        let at = |median: f64, ping_pong: f64| {
            let mut row = row(None, "latency", median, 0.01, None);
            row["beside"] = json!({ "ping-pong": { "median": ping_pong } });
            report(vec![], vec![row])
        };
        let moved = |there| changes(&at(1.0, 25.0), &at(2.0, there)).into_values().next().unwrap();
        assert_eq!(moved(28.0), Change(Worse, 1.0, 2.0));
        assert_eq!(moved(210.0), Change(Elsewhere, 1.0, 2.0));
        assert!(!moved(210.0).is_bad());
    }

    #[test]
    fn what_was_lost_is_not_part_of_a_name() {
        let lost =
            |share: &str| report(vec![], vec![row(None, &format!("stream, {share} % lost"), 1.0, 0.1, None)]);
        assert_eq!(rows(&lost("0.0")).into_keys().collect::<Vec<_>>(), ["stream / ringbuf"]);
        assert!(rows(&lost("0.7")).contains_key("stream / ringbuf"));
    }

    #[test]
    fn rows_of_the_same_name_are_told_apart() {
        let both = |second| {
            let row = |median| row(Some("latency_p50"), "near or far", median, 0.01, None);
            report(vec![row(1.0), row(second)], vec![])
        };
        let changes = changes(&both(2.0), &both(3.0));
        assert_eq!(changes.into_keys().collect::<Vec<_>>(), ["latency_p50 (2)"]);
    }
}
