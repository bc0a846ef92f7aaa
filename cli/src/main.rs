//! The `mapring` command: what it can do is in its modules, a module for each command.
#![deny(unsafe_code)]
#![cfg_attr(not(feature = "commands"), allow(dead_code, unused_imports))] // the demo shares files with other commands
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))] // they panic if nobody reads them

#[macro_use]
mod output;

#[cfg(feature = "commands")]
mod commands;
mod demo;
#[cfg(feature = "commands")]
mod doctor;
mod exit;
#[cfg(feature = "commands")]
mod export;
#[cfg(feature = "commands")]
mod flight;
#[cfg(feature = "commands")]
mod messages;
#[cfg(feature = "commands")]
mod new;
#[cfg(feature = "commands")]
mod outfile;
#[cfg(feature = "commands")]
mod pins;
#[cfg(feature = "bpf")]
mod privilege;
#[cfg(feature = "commands")]
mod recording;
mod regions;
#[cfg(feature = "commands")]
mod shell;
mod signals;
#[cfg(feature = "commands")]
mod table;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use self::regions::text::{escaped, said};

/// Shared-memory channels between BPF programs and userspace.
#[derive(Parser)]
#[command(
    name = "mapring",
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong command line, 77 this kernel or user can't."
)]
struct Args {
    /// When to use colours
    #[arg(long, value_enum, default_value_t, global = true)]
    color: output::Color,
    /// Print only results, losses and errors
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[cfg(feature = "commands")]
    #[command(flatten)]
    Other(commands::Command),
    /// Show this machine's system calls and context switches as they happen, read without a system call
    Demo(demo::Args),
}

fn main() -> ExitCode {
    let done = run(&Args::try_parse().unwrap_or_else(|error| wrong_arguments(&error)));
    done.unwrap_or_else(|error| {
        if is_closed_pipe(&error) {
            return ExitCode::SUCCESS; // as `mapring … | head` expects
        }
        eprintln!("mapring: {}", said(&error));
        ExitCode::from(exit::code(&error))
    })
}

fn run(args: &Args) -> Result<ExitCode> {
    output::set(args.color, args.quiet);
    match &args.command {
        #[cfg(feature = "commands")]
        Command::Other(command) => command.run(),
        Command::Demo(args) => demo::run(args),
    }
}

/// Ends the process with exit code 2: the command line makes no sense, for this reason.
fn wrong_usage(why: &str) -> ! {
    let mut command = Args::command();
    command.build();
    let mut matches = &command.clone().get_matches();
    // For the usage of the subcommand.
    while let Some((name, inner)) = matches.subcommand() {
        command = command.find_subcommand(name).cloned().unwrap_or(command);
        matches = inner;
    }
    command.error(ErrorKind::ArgumentConflict, why).exit()
}

/// Ends the process as clap does. Its message quotes the arguments, which can come from names of files.
fn wrong_arguments(error: &clap::Error) -> ! {
    let is_harmless = |argument: OsString| {
        let text = argument.to_string_lossy().into_owned();
        escaped(&text) == text
    };
    if std::env::args_os().all(is_harmless) {
        error.exit();
    }
    error.render().to_string().lines().for_each(|line| eprintln!("{}", escaped(line)));
    std::process::exit(error.exit_code())
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|e| e.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
