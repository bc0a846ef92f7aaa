//! The flight recorder: the kernel records events into rings, with no process running, and a dump reads them after an
//! incident.

mod clocks;
mod control;
#[cfg(feature = "bpf")]
mod cost;
mod dump;
mod event;
mod holes;
#[cfg(feature = "bpf")]
mod limits;
#[cfg(feature = "bpf")]
mod load;
mod machine;
mod names;
pub(crate) mod pins;
#[cfg(feature = "bpf")]
mod plan;
mod procfs;
mod programs;
mod record;
mod recorded;
mod recording;
mod report;
mod rings;
mod sampling;
mod save;
mod stack;
mod start;
mod status;
mod stop;
mod stopped;
mod symbols;
mod trace;
mod triggers;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// Options of `mapring flight`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: pins::Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start recording in the kernel, and exit. Recording goes on until `stop` or the next boot
    Start(start::Args),
    /// Show the recorded groups, their cost, and how far back they go. Exit code 1: nothing is recorded
    Status(status::Args),
    /// Write the recorded events to a file, or follow new ones. This disturbs nothing
    Dump(dump::Args),
    /// Write the recording to a file, for `status`, `dump` and `report` on any machine. This disturbs nothing
    Save(save::Args),
    /// Print what happened, in figures: CPU time, waits, slow system calls, disks, what ended and how
    Report(report::Args),
    /// Stop recording, and keep what is recorded
    Hold,
    /// Go on recording, after a trigger or `hold` has stopped it
    Resume,
    /// Write a mark into the recording: "deploy 1234 begins"
    Mark(control::Mark),
    /// End the recording and free its memory
    Stop,
}

/// Runs one of the commands.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let dir = &std::path::absolute(&args.common.pins)?;
    match &args.command {
        Command::Start(args) => start::run(dir, args)?,
        Command::Status(args) => return status::run(dir, args),
        Command::Dump(args) => dump::run(dir, args)?,
        Command::Save(args) => save::run(dir, args)?,
        Command::Report(args) => report::run(dir, args)?,
        Command::Hold => control::hold(dir)?,
        Command::Resume => control::resume(dir)?,
        Command::Mark(args) => control::mark(dir, args)?,
        Command::Stop => stop::run(dir)?,
    }
    Ok(ExitCode::SUCCESS)
}
