//! Mutants that change a source. They are built in a copy of the sources.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Mutant;
use crate::loom::models;
use crate::{cmd, programs};

/// These packages are compiled once per mutant and run briefly, so they are optimized less. All others stay as built.
/// With the usual profile, cargo would mistake a mutant for the unchanged sources.
const QUICK: [&str; 2] = ["mapring-core", "mapring-loom-tests"];

/// Builds the models of mutants in the folder `work`, and passes each on, until `pass_on` returns `false`.
///
/// They are built one after the other in one folder, since cargo treats two copies of a workspace as the same.
pub(super) fn build<'m>(
    mutants: &[&'m Mutant],
    work: &Path,
    mut pass_on: impl FnMut(&'m Mutant, Result<PathBuf>) -> bool,
) -> Result<()> {
    if mutants.is_empty() {
        return Ok(());
    }
    let copy = work.join("work");
    copy_sources(&copy)?;
    for mutant in mutants {
        if !pass_on(mutant, build_one(mutant, &copy, &work.join(format!("{}.model", mutant.name)))) {
            break;
        }
    }
    Ok(())
}

/// Builds the model of a mutant, and copies it so that the next build does not overwrite it.
fn build_one(mutant: &Mutant, copy: &Path, program: &Path) -> Result<PathBuf> {
    let file = copy.join(&mutant.file);
    let original = fs::read_to_string(&file)?;
    fs::write(&file, mutant.apply(&original)?)?;
    let built = build_model(&mutant.model, copy);
    fs::write(&file, original)?;
    fs::copy(built?, program)?;
    Ok(program.to_owned())
}

/// Builds one model of the copy, and returns its test program.
fn build_model(model: &str, copy: &Path) -> Result<PathBuf> {
    // In the same target folder as the unchanged sources, to reuse all other packages. The mutants' files have their
    // own names there, since the profile differs.
    let mut cargo = models::cargo("test");
    cargo.current_dir(copy).env("CARGO_INCREMENTAL", "1").args(["--test", model, "--no-run"]);
    for package in QUICK {
        for set in ["opt-level=1", "debug=false"] {
            cargo.arg(format!("--config=profile.release.package.{package}.{set}"));
        }
    }
    let program = programs::build(&mut cargo)?.tests.into_iter().rfind(|program| program.name == model);
    Ok(program.context("cargo built no test program")?.path)
}

fn copy_sources(copy: &Path) -> Result<()> {
    if copy.exists() {
        fs::remove_dir_all(copy)?;
    }
    let files = cmd::output(&mut cmd::line("git ls-files -z --cached --others --exclude-standard"))?;
    for file in files.split_terminator('\0') {
        let (from, to) = (cmd::root().join(file), copy.join(file));
        // A file may be removed and still be in the index.
        if from.exists() {
            fs::create_dir_all(to.parent().context("it lies in a folder")?)?;
            fs::copy(from, to)?;
        }
    }
    Ok(())
}
