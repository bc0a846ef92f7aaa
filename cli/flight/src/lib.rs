//! The flight recorder: the kernel records events into rings, with no process running, and a dump reads them after an
//! incident.
//!
//! - What is recorded: [`event`] in words of the kernel, [`stack`]; `record` has their layout, as the programs in `bpf` write it.
//!   [`events`] reads all that are present.
//! - [`pins`]: where a recording is. `recording` opens it, `rings` reads it, `holes` counts what is missing, `stopped` says
//!   why it ended. `input` is what commands read: the running recorder, or a file of `save`.
//! - `start`: `plan` splits the memory, `limits` checks it, `load` loads the programs, `sampling` starts the clocks of
//!   samples, `triggers` are what ends a recording, `cost` measures an event. Then `control` and `stop`.
//! - Who did it: `names` of processes, from events and from `procfs`; `symbols` of stacks; `text` escapes them; `machine` and its `clocks`.
//! - What is made of it: `status` with the `programs`; `replay` reads the events for `dump`, in the formats of `trace`,
//!   and for `report`; `save`, and [`saved`] for others who read its files.
#![deny(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))] // they panic if nobody reads them

#[macro_use] // its `eprintln!` never panics
extern crate mapring_kit;

pub mod event;
mod record;
pub mod stack;

mod holes;
mod input;
pub mod pins;
mod recording;
mod rings;
mod stopped;

mod control;
#[cfg(feature = "bpf")]
mod cost;
#[cfg(feature = "bpf")]
mod limits;
#[cfg(feature = "bpf")]
mod load;
#[cfg(feature = "bpf")]
mod plan;
mod sampling;
mod start;
mod stop;
mod triggers;

mod clocks;
mod machine;
mod made_by;
mod memory;
mod names;
mod present;
mod procfs;
mod symbols;
mod text;

mod dump;
mod messages;
mod programs;
mod replay;
mod report;
mod save;
pub mod saved;
#[cfg(test)]
mod schema;
mod status;
mod trace;
mod wait;

use std::iter;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use self::event::{Event, Gap};
use self::recording::Recording;

/// Options of `mapring flight`.
#[derive(clap::Args)]
pub struct Args {
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
    /// Wait until a trigger or `hold` has stopped the recording, and print the cause
    Wait(wait::Args),
    /// Go on recording, after a trigger or `hold` has stopped it
    Resume,
    /// Write a mark into the recording: "deploy 1234 begins"
    Mark(control::Mark),
    /// End the recording and free its memory
    Stop,
}

/// All events that the recorder with this directory holds now, in the order of time, and what is missing between them.
///
/// # Errors
/// If nothing is recorded there, or if this user may not read it.
pub fn events(dir: &Path) -> Result<(Vec<Event>, Vec<Gap>)> {
    let rings = rings::open(&Recording::open(dir)?)?;
    let now = rings::present();
    let mut in_order = rings::InOrder::since(&rings, 0);
    let events = iter::from_fn(|| in_order.next(now)).collect();
    Ok((events, in_order.take_last_gaps()))
}

/// Runs one of the commands.
///
/// # Errors
/// What the command says on stderr.
pub fn run(args: &Args) -> Result<ExitCode> {
    let dir = &std::path::absolute(&args.common.pins)?;
    match &args.command {
        Command::Start(args) => start::run(dir, args)?,
        Command::Status(args) => return status::run(dir, args),
        Command::Dump(args) => dump::run(dir, args)?,
        Command::Save(args) => save::run(dir, args)?,
        Command::Report(args) => report::run(dir, args)?,
        Command::Hold => control::hold(dir)?,
        Command::Wait(args) => wait::run(dir, args)?,
        Command::Resume => control::resume(dir)?,
        Command::Mark(args) => control::mark(dir, args)?,
        Command::Stop => stop::run(dir)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A sum of counts that a file may have made up: at most the largest number.
pub(crate) fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}
