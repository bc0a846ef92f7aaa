//! One step in a process of its own: its output goes to a file, and its result and times to another.

use std::fmt;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::checks::{self, Given, Part};
use crate::need::Machine;
use crate::skip::{Skip, banner};
use crate::times::{self, Time};
use crate::{cmd, privilege, programs};

/// Seconds for one test program; the longest takes ten minutes on a slow machine.
const LIMIT: u32 = 1500;

/// Which step, and which part of it.
#[derive(clap::Args)]
pub(crate) struct Args {
    step: String,
    #[arg(long)]
    quick: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    Ok,
    Failed(String),
    Skipped(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Failed(_) => "FAILED",
            Self::Skipped(_) => "SKIPPED",
        })
    }
}

/// What a step's process leaves.
#[derive(Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    /// The seconds that its processes had a CPU.
    pub(super) cpu: f32,
    pub(super) times: Vec<Time>,
}

fn file(step: &str, extension: &str) -> PathBuf {
    cmd::target_dir().join("test").join(step).with_extension(extension)
}

/// The file with the step's output.
pub(super) fn log(step: &str) -> PathBuf {
    file(step, "log")
}

/// Starts a step that may use this many CPUs. `built`: this run has built the tests of all packages.
pub(super) fn start(step: &str, quick: bool, built: bool, cpus: usize) -> Result<Child> {
    let result = file(step, "json");
    fs::create_dir_all(result.parent().context("it lies in a folder")?)?;
    if result.exists() {
        fs::remove_file(&result)?;
    }
    let log = File::create(log(step))?;
    // Not by its path: a build may have put another file there.
    let mut child = Command::new("/proc/self/exe");
    child.args(["test-step", step]).args(quick.then_some("--quick"));
    child.env(programs::CPUS, cpus.to_string()).env("CARGO_BUILD_JOBS", cpus.to_string());
    child.envs(quick.then_some((programs::QUICK, "1"))).envs(built.then_some((programs::BUILT, "1")));
    child.env(programs::LIMIT, LIMIT.to_string());
    child.stdin(Stdio::null()).stderr(log.try_clone()?).stdout(log);
    child.spawn().with_context(|| format!("cannot start the step {step}"))
}

/// What an ended step left.
pub(super) fn result(step: &str, child: &mut Child) -> Ended {
    let status = child.wait();
    let read = || -> Result<Ended> { Ok(serde_json::from_slice(&fs::read(file(step, "json"))?)?) };
    read().unwrap_or_else(|_| {
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let outcome = Outcome::Failed(format!("it ended without a result ({how})"));
        Ended { outcome, cpu: 0.0, times: Vec::new() }
    })
}

/// The step's process.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    // Nobody would read the result.
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let (check, whole) =
        checks::tests().find(|(check, _)| check.name == args.step).context("no step of this name")?;
    let part = if args.quick { check.quick_part().context("it has no quick part")? } else { whole };
    let outcome = run_part(part, &Machine::default());
    say(&args.step, &outcome);
    let ended = Ended { outcome, cpu: times::cpu(), times: times::take() };
    fs::write(file(&args.step, "json"), serde_json::to_vec(&ended)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints why a step failed or was skipped.
pub(super) fn say(name: &str, outcome: &Outcome) {
    match outcome {
        Outcome::Ok => {}
        Outcome::Failed(why) => println!("FAILED {name}: {why}"),
        Outcome::Skipped(why) => banner(name, why),
    }
}

/// The outcome of a part whose needs are not met here.
pub(super) fn lacking(part: &Part, machine: &Machine) -> Option<Outcome> {
    let (why, _) = machine.lacks(part.needs)?;
    let strict = privilege::required();
    Some(if strict { Outcome::Failed(format!("required here, but: {why}")) } else { Outcome::Skipped(why) })
}

/// Runs a part whose needs are met.
pub(super) fn run_part(part: &Part, machine: &Machine) -> Outcome {
    match part.run(&Given { machine, seconds: 0, fuzz_seconds: 0 }) {
        Ok(()) => Outcome::Ok,
        Err(error) if error.is::<Skip>() => Outcome::Skipped(error.to_string()),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    }
}
