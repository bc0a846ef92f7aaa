//! Every command but the demo: what each can do is in its module.

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Subcommand};

use crate::{doctor, export, flight, new, pins, recording, regions, shell};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Record the kernel's events with no process running, to be read after an incident
    Flight(flight::Args),
    Ls(regions::ls::Args),
    Show(regions::show::Args),
    Top(regions::top::Args),
    Tail(regions::tail::Args),
    Stat(regions::stat::Args),
    Record(recording::record::Args),
    Replay(recording::replay::Args),
    Inspect(recording::inspect::Args),
    Export(export::Args),
    /// Report what this kernel, user and machine can do, and how to get what is missing
    Doctor(doctor::Args),
    Pin(pins::Pin),
    Freeze(pins::Freeze),
    Clean(pins::Clean),
    /// Create a small project: a BPF program and its reader, ready to build
    New(new::Args),
    /// Print the script that completes this command's options in a shell
    Completions(shell::Completions),
    /// Write the manual pages into a directory
    Man(shell::Man),
}

impl Command {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        match self {
            Self::Flight(args) => flight::run(args),
            Self::Ls(args) => regions::run(&regions::Command::Ls(args)),
            Self::Show(args) => regions::run(&regions::Command::Show(args)),
            Self::Top(args) => regions::run(&regions::Command::Top(args)),
            Self::Tail(args) => regions::run(&regions::Command::Tail(args)),
            Self::Stat(args) => regions::run(&regions::Command::Stat(args)),
            Self::Record(args) => regions::outcome(recording::record::run(args)),
            Self::Replay(args) => regions::outcome(recording::replay::run(args)),
            Self::Inspect(args) => regions::outcome(recording::inspect::run(args)),
            Self::Export(args) => export::run(args),
            Self::Doctor(args) => doctor::run(args),
            Self::Pin(args) => pins::pin(args),
            Self::Freeze(args) => pins::freeze(args),
            Self::Clean(args) => pins::clean(args),
            Self::New(args) => new::run(args),
            Self::Completions(args) => shell::completions(args, &mut crate::Args::command()),
            Self::Man(args) => shell::man(args, crate::Args::command()),
        }
    }
}
