//! `cargo xtask loom`: every interleaving of the production algorithms, and the proof that the models would notice.

use std::process::Command;

use anyhow::Result;

use crate::cmd;
use crate::mutants;

/// Which models or mutants to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the models (with --mutants: the mutants) whose name contains this
    filter: Option<String>,
    /// Weaken the algorithms one fence at a time (loom-tests/mutants.toml): each time, a model must fail
    #[arg(long)]
    mutants: bool,
}

/// Runs the models; with `--mutants`, the models concerned and then the mutants.
pub(crate) fn run(args: &Args) -> Result<()> {
    let filter = args.filter.as_deref();
    if args.mutants {
        let mutants = mutants::selected(filter.unwrap_or_default())?;
        // A model that fails on the real sources would "kill" everything.
        models(|command| {
            for model in mutants::models(&mutants) {
                command.args(["--test", model]);
            }
            let Some(tests) = mutants::tests(&mutants) else { return command };
            command.args(["--", "--exact"]).args(tests)
        })?;
        mutants::run(&mutants)
    } else {
        models(|command| command.arg("--").args(filter))
    }
}

/// Runs models on the sources as they are.
pub(crate) fn models(choose: impl FnOnce(&mut Command) -> &mut Command) -> Result<()> {
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
