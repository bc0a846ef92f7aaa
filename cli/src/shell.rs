//! `mapring completions` and `mapring man`: what shells and man(1) know of this command.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap_complete::Shell;

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
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man(args: &Man, command: clap::Command) -> Result<ExitCode> {
    clap_mangen::generate_to(command, &args.directory)
        .with_context(|| format!("can't write {}", args.directory.display()))?;
    Ok(ExitCode::SUCCESS)
}
