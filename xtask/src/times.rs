//! How long each build and each test program of a step took: `target/test/times.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::param::clock_ticks_per_second;
use serde::{Deserialize, Serialize};

use crate::cmd;

/// The number of lines that `cargo xtask test --times` prints.
const SLOWEST: usize = 20;

/// A command, a build or a test program.
#[derive(Serialize, Deserialize)]
pub(crate) struct Time {
    name: String,
    build: bool,
    seconds: f32,
}

static TIMES: Mutex<Vec<Time>> = Mutex::new(Vec::new());

/// Notes the time of a run.
pub(crate) fn of<R>(name: &str, f: impl FnOnce() -> R) -> R {
    note(name, false, f)
}

pub(crate) fn of_build<R>(name: &str, f: impl FnOnce() -> R) -> R {
    note(name, true, f)
}

fn note<R>(name: &str, build: bool, f: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = f();
    let time = Time { name: name.to_owned(), build, seconds: start.elapsed().as_secs_f32() };
    TIMES.lock().expect("holders do not panic").push(time);
    result
}

/// The seconds that this process and its children that ended had a CPU; 0 if the kernel does not say.
pub(crate) fn cpu() -> f32 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the name of the program, in brackets.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f32 / clock_ticks_per_second() as f32
}

/// What this process noted since the last call.
pub(crate) fn take() -> Vec<Time> {
    std::mem::take(&mut TIMES.lock().expect("holders do not panic"))
}

/// The times of each step when it last ran.
type Steps = BTreeMap<String, Vec<Time>>;

fn file() -> PathBuf {
    cmd::target_dir().join("test/times.json")
}

fn load() -> Result<Steps> {
    let path = file();
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{}: run `cargo xtask test` first", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not of this version", path.display()))
}

/// Replaces the times of the steps that ran.
pub(crate) fn save(ran: Steps) -> Result<()> {
    let mut steps = load().unwrap_or_default();
    steps.extend(ran);
    fs::write(file(), serde_json::to_string_pretty(&steps)?).with_context(|| file().display().to_string())
}

/// A table of the slowest of the last runs.
pub(crate) fn slowest() -> Result<String> {
    Ok(table(&load()?))
}

fn table(steps: &Steps) -> String {
    let mut all: Vec<_> =
        steps.iter().flat_map(|(step, times)| times.iter().map(move |time| (step, time))).collect();
    all.sort_by(|(_, a), (_, b)| b.seconds.total_cmp(&a.seconds));
    let row = |(step, Time { name, build, seconds }): &(&String, &Time)| {
        format!("{seconds:7.1}  {step:15}  {:5}  {name}\n", if *build { "build" } else { "run" })
    };
    let rows: String = all.iter().take(SLOWEST).map(row).collect();
    format!("seconds  {:15}  {:5}  name\n{rows}", "step", "what")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_come_first() {
        let time = |name: &str, seconds| Time { name: name.into(), build: false, seconds };
        let steps = Steps::from([
            ("unit".into(), vec![time("a", 1.0), time("b", 30.5)]),
            ("loom".into(), (0..20).map(|_| time("c", 2.0)).collect()),
        ]);
        let output = table(&steps);
        assert_eq!(output.lines().count(), 1 + SLOWEST);
        assert_eq!(output.lines().nth(1), Some("   30.5  unit             run    b"), "{output}");
        assert!(!output.ends_with("a\n"), "{output}");
    }
}
