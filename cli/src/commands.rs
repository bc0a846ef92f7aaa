//! Every command but the demo: what each can do is in its module.

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Subcommand};

#[cfg(feature = "bpf")]
use crate::load;
use crate::{doctor, new, pins, shell};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Record the kernel's events with no process running, to be read after an incident
    Flight(mapring_flight::Args),
    #[command(flatten)]
    View(mapring_view::Command),
    Export(mapring_export::Args),
    /// Report what this kernel, user and machine can do, and how to get what is missing
    Doctor(doctor::Args),
    #[cfg(feature = "bpf")]
    Load(load::Load),
    #[cfg(feature = "bpf")]
    Unload(load::Unload),
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
            Self::Flight(args) => mapring_flight::run(args),
            Self::View(command) => command.run(),
            Self::Export(args) => mapring_export::run(args),
            Self::Doctor(args) => doctor::run(args),
            #[cfg(feature = "bpf")]
            Self::Load(args) => load::load(args),
            #[cfg(feature = "bpf")]
            Self::Unload(args) => load::unload(args),
            Self::Pin(args) => pins::pin(args),
            Self::Freeze(args) => pins::freeze(args),
            Self::Clean(args) => pins::clean(args),
            Self::New(args) => new::run(args),
            Self::Completions(args) => shell::completions(args, &mut crate::Args::command()),
            Self::Man(args) => shell::man(args, crate::Args::command()),
        }
    }
}
