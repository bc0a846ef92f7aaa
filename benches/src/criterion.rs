//! Adds criterion's measurements to the report.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{Report, Row};

impl Report {
    /// Adds a row for each of criterion's benchmarks in `folder`.
    ///
    /// # Errors
    /// Fails if the folder has none, or one can't be read.
    pub fn add_criterion(&mut self, folder: &Path) -> Result<()> {
        let mut rows = Vec::new();
        walk(folder, &mut rows).with_context(|| format!("reading {}", folder.display()))?;
        ensure!(!rows.is_empty(), "{} has no benchmark of criterion's", folder.display());
        rows.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.add(rows.into_iter().map(|(_, row)| row));
        Ok(())
    }
}

fn walk(folder: &Path, rows: &mut Vec<(String, Row)>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.ends_with("new") {
            rows.push(row(&path)?);
        } else if path.is_dir() {
            walk(&path, rows)?;
        }
    }
    Ok(())
}

/// A benchmark: each sample is a number of iterations, and their nanoseconds.
fn row(new: &Path) -> Result<(String, Row)> {
    let read = |name: &str| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(new.join(name))?)?) };
    let (benchmark, sample) = (read("benchmark.json")?, read("sample.json")?);
    let numbers = |name: &str| -> Result<Vec<f64>> {
        let numbers = sample[name].as_array().with_context(|| format!("no {name}"))?;
        Ok(numbers.iter().filter_map(Value::as_f64).collect())
    };
    let (times, iterations) = (numbers("times")?, numbers("iters")?);
    ensure!(!times.is_empty() && times.len() == iterations.len(), "a sample of nothing");
    // Records per batch.
    let each = benchmark["throughput"]["Elements"].as_f64().unwrap_or(1.0);
    let ns: Vec<_> = times.iter().zip(iterations).map(|(time, count)| time / count / each).collect();
    let name = benchmark["full_id"].as_str().context("no full_id")?.to_owned();
    let row = Row::absolute(&format!("over a memfd: {}", name.replace('/', ", ")), &ns);
    Ok((name, row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Machine, Plan};

    #[test]
    fn criterions_samples_become_rows() {
        let folder = std::env::temp_dir().join(format!("mapring-criterion-{}", std::process::id()));
        let new = folder.join("ring/poll/new");
        fs::create_dir_all(&new).unwrap();
        let benchmark = r#"{ "full_id": "ring/poll", "throughput": { "Elements": 4 } }"#;
        fs::write(new.join("benchmark.json"), benchmark).unwrap();
        fs::write(new.join("sample.json"), r#"{ "iters": [1.0, 2.0, 3.0], "times": [8.0, 16.0, 24.0] }"#)
            .unwrap();
        let mut report = Report::new(Machine::here(0), Plan::TRY);
        let added = report.add_criterion(&folder);
        fs::remove_dir_all(&folder).unwrap();
        added.unwrap();
        let json = report.json();
        assert_eq!(json["others"][0]["what"], "over a memfd: ring, poll");
        assert_eq!(json["others"][0]["ns"], 2.0);
        assert!(report.add_criterion(&folder).is_err());
    }
}
