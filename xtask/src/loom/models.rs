//! Commands on the models: build them under loom, run each in its own process, lint their sources.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::cmd;
use crate::counts::Counts;

/// A model: a test of a test program.
pub(crate) struct Model {
    program: Program,
    pub(crate) test: String,
}

/// A test program of a package.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

impl Model {
    /// The test program's name.
    pub(crate) fn program(&self) -> &str {
        &self.program.name
    }
}

/// Runs the models that `chosen` accepts on the unchanged sources, and counts. Fails if one fails, or if there is none.
pub(crate) fn run(chosen: impl Fn(&Model) -> bool) -> Result<Counts> {
    let mut models = Vec::new();
    for program in build(&mut cargo("test"))? {
        let list = cmd::output(Command::new(&program.path).args(["--list", "--format=terse"]))?;
        let tests = list.lines().filter_map(|line| line.strip_suffix(": test"));
        models.extend(tests.map(|test| Model { program: program.clone(), test: test.to_owned() }));
    }
    models.retain(chosen);
    ensure!(!models.is_empty(), "no such model");
    // Not several in one process: each execution maps the stacks of its threads and unmaps them again, and all threads of
    // a process wait for each other to do that.
    let (queue, counts) = (Mutex::new(models.iter()), Mutex::new(Counts::default()));
    let next = || queue.lock().expect("workers do not panic").next();
    let worker = || -> Result<()> {
        while let Some(model) = next() {
            let counted = run_one(model)?;
            *counts.lock().expect("workers do not panic") += counted;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..cpus).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("it does not panic"))
    })?;
    let counts = counts.into_inner()?;
    println!("models {}, explored {}", counts.cases, counts.explored);
    ensure!(counts.failures == 0, "{} models failed", counts.failures);
    Ok(counts)
}

fn run_one(Model { program, test }: &Model) -> Result<Counts> {
    let start = Instant::now();
    let mut command = Command::new(&program.path);
    // As cargo does it: some tests read files of their package.
    command.args(["--exact", "--nocapture", test]).current_dir(cmd::root().join("loom-tests"));
    let out = command.stdin(Stdio::null()).output().with_context(|| program.path.display().to_string())?;
    let said = String::from_utf8_lossy(&out.stdout);
    let result = if out.status.success() { "ok" } else { "FAILED" };
    // One write, since other threads print as well.
    let mut line = format!("{result:6} {:6.1} s  {} {test}\n", start.elapsed().as_secs_f32(), program.name);
    if !out.status.success() {
        line += &format!("{said}{}\n", String::from_utf8_lossy(&out.stderr));
    }
    print!("{line}");
    Ok(Counts::of_tests(&said, out.status.success()))
}

/// Builds the test programs of a `cargo test`.
pub(crate) fn build(cargo: &mut Command) -> Result<Vec<Program>> {
    cargo.args(["--no-run", "--message-format=json-render-diagnostics"]).stderr(Stdio::inherit());
    let messages = cmd::output(cargo)?;
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let programs = messages.filter_map(|message| {
        let path = Path::new(message["executable"].as_str()?).to_owned();
        Some(Program { name: message["target"]["name"].as_str()?.to_owned(), path })
    });
    Ok(programs.collect())
}

/// Lints the models' sources, which no other build compiles.
pub(crate) fn clippy() -> Result<()> {
    cmd::run(cargo("clippy").args(["--all-targets", "--", "-D", "warnings"]))
}

/// `cargo SUBCOMMAND` on the models, in loom's own target folder, since loom's flag rebuilds everything. Inherits
/// `LOOM_MAX_PREEMPTIONS` and loom's other variables.
pub(crate) fn cargo(subcommand: &str) -> Command {
    cargo_of("mapring-loom-tests", subcommand)
}

/// The same for another package.
pub(crate) fn cargo_of(package: &str, subcommand: &str) -> Command {
    let mut command = cmd::line(&format!("cargo {subcommand} --release -p {package} --target-dir"));
    command.arg(cmd::target_dir().join("loom")).env("RUSTFLAGS", "--cfg loom");
    command
}
