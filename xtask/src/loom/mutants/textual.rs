//! Mutants that change a source. They are built in a copy of the sources.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Mutant;
use crate::loom::models;
use crate::{cmd, programs};

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
    cargo.current_dir(copy).env("CARGO_INCREMENTAL", "1");
    let programs = programs::build(cargo.args(["--test", model, "--no-run"]))?.tests;
    let program = programs.into_iter().rfind(|program| program.name == model);
    Ok(program.context("cargo built no test program")?.path)
}

/// The library and its models. Its macros lie in its folder, which makes them a member too.
const PARTS: [&str; 2] = ["ring", "loom-tests"];

/// Copies them as their own workspace, so that nothing else is built or changed.
fn copy_sources(copy: &Path) -> Result<()> {
    if copy.exists() {
        fs::remove_dir_all(copy)?;
    }
    fs::create_dir_all(copy)?;
    let root = cmd::root();
    for folder in PARTS {
        copy_folder(&root.join(folder), &copy.join(folder))?;
    }
    if root.join("Cargo.lock").exists() {
        fs::copy(root.join("Cargo.lock"), copy.join("Cargo.lock"))?;
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    fs::write(copy.join("Cargo.toml"), reduced(&manifest)?)?;
    Ok(())
}

fn reduced(manifest: &str) -> Result<String> {
    let mut manifest: toml::Table = toml::from_str(manifest)?;
    let Some(workspace) = manifest.get_mut("workspace").and_then(toml::Value::as_table_mut) else {
        bail!("Cargo.toml has no [workspace]");
    };
    workspace.insert("members".into(), PARTS.to_vec().into());
    workspace.remove("default-members");
    // It is for packages that the copy does not have.
    manifest.get_mut("profile").and_then(|profiles| profiles.as_table_mut()?.remove("dev"));
    // These packages are compiled once per mutant and run briefly, so they are optimized less. All others stay as
    // built. With the usual profile, cargo would mistake a mutant for the unchanged sources.
    let quick = ["mapring", "mapring-derive", "mapring-loom-tests"]
        .map(|name| format!("[profile.release.package.{name}]\nopt-level = 1\ndebug = false\n"));
    Ok(toml::to_string(&manifest)? + &quick.concat())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_a_workspace_of_its_own() {
        let reduced =
            reduced("[workspace]\nmembers = ['ring', 'xtask']\ndefault-members = ['xtask']\n").unwrap();
        let reduced: toml::Table = toml::from_str(&reduced).unwrap();
        let workspace = toml::from_str::<toml::Table>("members = ['ring', 'loom-tests']").unwrap();
        assert_eq!(reduced["workspace"], workspace.into());
        assert_eq!(reduced["profile"]["release"]["package"].as_table().unwrap().len(), 3);
    }
}
