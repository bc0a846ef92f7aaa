//! Commands on the models: run them, check their sources, build them under loom.

use std::process::Command;

use anyhow::Result;

use crate::cmd;

/// Runs models on the sources as they are.
pub(crate) fn run(choose: impl FnOnce(&mut Command) -> &mut Command) -> Result<()> {
    cmd::run(choose(&mut cargo("test")))
}

/// Checks the models' sources themselves, which no other build sees.
pub(crate) fn clippy() -> Result<()> {
    cmd::run(cargo("clippy").args(["--all-targets", "--", "-D", "warnings"]))
}

/// `cargo SUBCOMMAND` on the models, in loom's own target folder: its flag rebuilds everything.
/// `LOOM_MAX_PREEMPTIONS` and loom's other variables are inherited.
pub(crate) fn cargo(subcommand: &str) -> Command {
    cargo_of("mapring-loom-tests", subcommand)
}

/// The same on another package.
pub(crate) fn cargo_of(package: &str, subcommand: &str) -> Command {
    let mut command = cmd::line(&format!("cargo {subcommand} --release -p {package} --target-dir"));
    command.arg(cmd::target_dir().join("loom")).env("RUSTFLAGS", "--cfg loom");
    command
}
