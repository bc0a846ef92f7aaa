//! Commands on the models: run them, lint their sources, build them under loom.

use std::process::Command;

use anyhow::Result;

use crate::cmd;

/// Runs models on the unchanged sources.
pub(crate) fn run(choose: impl FnOnce(&mut Command) -> &mut Command) -> Result<()> {
    cmd::run(choose(&mut cargo("test")))
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
