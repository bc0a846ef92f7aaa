//! The `mapring` command: what it can do is in its modules, a module for each command.
#![deny(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))] // they panic if nobody reads them

#[macro_use]
mod output;

mod demo;
mod doctor;
mod exit;
mod export;
mod flight;
mod messages;
mod new;
mod outfile;
mod pins;
#[cfg(feature = "bpf")]
mod privilege;
mod recording;
mod regions;
mod shell;
mod signals;
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
    /// Show this machine's system calls and context switches as they happen, read without a system call
    Demo(demo::Args),
    /// Print the script that completes this command's options in a shell
    Completions(shell::Completions),
    /// Write the manual pages into a directory
    Man(shell::Man),
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
        Command::Flight(args) => flight::run(args),
        Command::Ls(args) => regions::run(&regions::Command::Ls(args)),
        Command::Show(args) => regions::run(&regions::Command::Show(args)),
        Command::Top(args) => regions::run(&regions::Command::Top(args)),
        Command::Tail(args) => regions::run(&regions::Command::Tail(args)),
        Command::Stat(args) => regions::run(&regions::Command::Stat(args)),
        Command::Record(args) => regions::outcome(recording::record::run(args)),
        Command::Replay(args) => regions::outcome(recording::replay::run(args)),
        Command::Inspect(args) => regions::outcome(recording::inspect::run(args)),
        Command::Export(args) => export::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Pin(args) => pins::pin(args),
        Command::Freeze(args) => pins::freeze(args),
        Command::Clean(args) => pins::clean(args),
        Command::New(args) => new::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Completions(args) => shell::completions(args, &mut Args::command()),
        Command::Man(args) => shell::man(args, Args::command()),
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
