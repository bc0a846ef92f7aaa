//! Commands on the models: build them under loom, run each in its own process, lint their sources.

use std::process::Command;

use anyhow::Result;

use crate::cmd;
use crate::counts::Counts;
use crate::programs::{self, Program};

/// A model: a test of a test program.
pub(crate) struct Model {
    program: Program,
    pub(crate) test: String,
}

/// The models that take longest: only `cargo xtask prove` runs them.
pub(crate) const LONGEST: &[&str] = &[
    "rust::a_record_is_never_torn",
    "rust::a_nested_writer",
    "rust::a_stuck_writer_is_stepped_over",
    "a_program_while_its_ring_is_replaced",
    "a_slow_writer_locks_nobody_out",
    "a_word_that_grows_survives_a_torn_copy",
    "short_tails_share_a_claim",
];

impl Model {
    /// Whether `cargo xtask test --all` runs it, or only `cargo xtask prove`. `bpf-loom` runs the code itself of which
    /// the models `bpf_…::…` have a copy, and `litmus` has its orderings.
    pub(crate) fn is_step(&self) -> bool {
        !self.test.starts_with("bpf_") && !LONGEST.contains(&self.test.as_str())
    }

    pub(crate) fn program(&self) -> &str {
        &self.program.name
    }

    // Not several in one process: each execution maps the stacks of its threads and unmaps them again, and all threads of
    // a process wait for each other to do that.
    fn job(&self) -> (String, Command) {
        let mut command = self.program.command();
        command.args(["--exact", "--nocapture", &self.test]);
        (format!("{} {}", self.program.name, self.test), command)
    }
}

/// Runs the models that `chosen` accepts on the unchanged sources, and counts. Fails if one fails, or if there is none.
pub(crate) fn run(chosen: impl Fn(&Model) -> bool) -> Result<Counts> {
    let mut models = Vec::new();
    for program in programs::build(cargo("test").arg("--no-run"))?.tests {
        let tests = programs::tests(&mut program.command())?;
        models.extend(tests.into_iter().map(|test| Model { program: program.clone(), test }));
    }
    cmd::known("model", LONGEST, models.iter().map(|model| &*model.test))?;
    models.retain(chosen);
    let counts = programs::run(models.iter().map(Model::job).collect(), programs::cpus())?;
    println!("models {}, executions {}", counts.cases, counts.explored);
    Ok(counts)
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
