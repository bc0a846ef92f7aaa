//! `cargo xtask install`: the headers for BPF programs, for C and for C++, and a pkg-config file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args as ClapArgs;

use crate::cmd;

/// Where the headers are, and what is below them.
const HEADERS: [(&str, &str); 2] = [("ring/include", "mapring"), ("bindings/c/include", "")];

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// The folder that gets `include` and `lib/pkgconfig`
    #[arg(long, value_name = "DIR", default_value = "/usr/local")]
    prefix: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let prefix = std::path::absolute(&args.prefix)?;
    into(&prefix)?;
    println!("installed:   {}", prefix.join("include/mapring.h").display());
    println!(
        "compile:     cc read.c $(PKG_CONFIG_PATH={}/lib/pkgconfig pkg-config --cflags mapring)",
        prefix.display()
    );
    Ok(())
}

/// Installs the headers below this absolute path.
pub(crate) fn into(prefix: &Path) -> Result<()> {
    for (from, below) in HEADERS {
        let from = cmd::root().join(from);
        for header in cmd::files(&from.join(below))? {
            copy(&header, &prefix.join("include").join(header.strip_prefix(&from)?))?;
        }
    }
    let file = prefix.join("lib/pkgconfig/mapring.pc");
    fs::create_dir_all(file.parent().expect("it has a folder"))?;
    let text = format!(
        "prefix={}\n\nName: mapring\nDescription: Shared-memory channel between BPF programs and userspace: headers\n\
         Version: {}\nCflags: -I${{prefix}}/include\n",
        prefix.display(),
        env!("CARGO_PKG_VERSION"),
    );
    fs::write(&file, text).with_context(|| file.display().to_string())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().expect("it has a folder"))?;
    fs::copy(from, to).with_context(|| to.display().to_string())?;
    Ok(())
}
