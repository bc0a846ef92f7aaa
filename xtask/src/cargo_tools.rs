//! Commands of cargo that come from crates.io: installed in the target folder, in the version that is named.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cmd;

/// `cargo-NAME` of this version; installs it unless it is there.
pub(crate) fn install(name: &str, version: &str) -> Result<PathBuf> {
    let folder = cmd::target_dir().join("tools");
    let tool = folder.join(format!("bin/cargo-{name}"));
    let is_there = || cmd::output(Command::new(&tool).args([name, "--version"]));
    if !is_there().is_ok_and(|text| text.contains(version)) {
        let mut install = cmd::line("cargo install --locked --version");
        cmd::run(install.arg(version).arg(format!("cargo-{name}")).arg("--root").arg(folder))?;
    }
    is_there().with_context(|| format!("cargo-{name} was installed, but does not run"))?;
    Ok(tool)
}
