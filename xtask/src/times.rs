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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Time {
    pub(crate) name: String,
    /// `build` or `run`.
    what: What,
    pub(crate) seconds: f32,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Build,
    Run,
}

/// The times of this process.
static TIMES: Mutex<Vec<Time>> = Mutex::new(Vec::new());

fn note<R>(name: &str, what: What, f: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = f();
    let time = Time { name: name.to_owned(), what, seconds: start.elapsed().as_secs_f32() };
    TIMES.lock().expect("holders do not panic").push(time);
    result
}

/// Notes the time of a run.
pub(crate) fn of<R>(name: &str, f: impl FnOnce() -> R) -> R {
    note(name, What::Run, f)
}

/// Notes the time of a build.
pub(crate) fn of_build<R>(name: &str, f: impl FnOnce() -> R) -> R {
    note(name, What::Build, f)
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

/// Prints the slowest of the last runs.
pub(crate) fn print_slowest() -> Result<()> {
    print!("{}", slowest(&load()?));
    Ok(())
}

fn slowest(steps: &Steps) -> String {
    let mut all: Vec<_> =
        steps.iter().flat_map(|(step, times)| times.iter().map(move |t| (step, t))).collect();
    all.sort_by(|(_, a), (_, b)| b.seconds.total_cmp(&a.seconds));
    all.truncate(SLOWEST);
    let row = |(step, time): (&String, &Time)| {
        let what = match time.what {
            What::Build => "build",
            What::Run => "run",
        };
        format!("{:7.1}  {step:15}  {what:5}  {}\n", time.seconds, time.name)
    };
    format!("seconds  {:15}  {:5}  name\n", "step", "what") + &all.into_iter().map(row).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_come_first() {
        let time = |name: &str, seconds| Time { name: name.into(), what: What::Run, seconds };
        let steps = Steps::from([
            ("unit".into(), vec![time("a", 1.0), time("b", 30.5)]),
            ("loom".into(), (0..20).map(|_| time("c", 2.0)).collect()),
        ]);
        let said = slowest(&steps);
        assert_eq!(said.lines().count(), 1 + SLOWEST);
        assert_eq!(said.lines().nth(1), Some("   30.5  unit             run    b"), "{said}");
        assert!(!said.ends_with("a\n"), "{said}");
    }
}
