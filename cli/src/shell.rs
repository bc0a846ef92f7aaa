//! `mapring completions` and `mapring man`: what shells and man(1) know of this command.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap_complete::Shell;

use mapring_kit::outfile::OutFile;
use mapring_kit::text::printable_path;

/// Options of `mapring completions`.
#[derive(clap::Args)]
pub(crate) struct Completions {
    /// The shell. For bash: mapring completions bash > /etc/bash_completion.d/mapring
    shell: Shell,
}

/// Options of `mapring man`.
#[derive(clap::Args)]
pub(crate) struct Man {
    /// The directory, such as /usr/local/share/man/man1. It must exist
    directory: PathBuf,
}

pub(crate) fn completions(args: &Completions, command: &mut clap::Command) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "mapring", &mut script);
    let mut out = io::stdout().lock();
    out.write_all(&script)?;
    out.flush()?; // the end of the process would hide an error
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man(args: &Man, command: clap::Command) -> Result<ExitCode> {
    write_pages(command, &args.directory)
        .with_context(|| format!("can't write {}", printable_path(&args.directory)))?;
    Ok(ExitCode::SUCCESS)
}

fn write_pages(command: clap::Command, directory: &Path) -> Result<()> {
    let made = tempfile::tempdir()?;
    clap_mangen::generate_to(command, made.path())?;
    for page in fs::read_dir(made.path())? {
        let page = page?;
        // A newer command replaces its older pages.
        let to = OutFile::public(&directory.join(page.file_name()), true)?;
        io::copy(&mut File::open(page.path())?, &mut to.writer()?)?;
        to.finish()?;
    }
    Ok(())
}
