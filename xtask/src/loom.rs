//! `cargo xtask loom`: every interleaving of the production algorithms, and mutants that the models must detect.

pub(crate) mod models;
pub(crate) mod mutants;
mod orderings;

use anyhow::Result;

/// Which models or mutants to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only the models (with --mutants: the mutants) whose name contains this
    filter: Option<String>,
    /// Weaken the algorithms one place at a time (loom-tests/mutants.toml): each time, a model must fail
    #[arg(long)]
    mutants: bool,
}

/// Runs the models; with `--mutants`, the models of these mutants and then the mutants.
pub(crate) fn run(args: &Args) -> Result<()> {
    let filter = args.filter.as_deref().unwrap_or_default();
    if args.mutants {
        let mutants = mutants::selected(filter)?;
        // A model that fails on the unchanged sources would "kill" every mutant.
        models::run(|model| mutants.iter().any(|mutant| mutant.needs(model)))?;
        mutants::run(&mutants)
    } else {
        models::run(|model| format!("{} {}", model.program(), model.test).contains(filter)).map(drop)
    }
}
