//! The `mapring` command: what it can do is in its modules, a module for each command.
#![deny(unsafe_code)]
#![cfg_attr(not(feature = "commands"), allow(dead_code, unused_imports))] // the demo shares files with other commands
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))] // they panic if nobody reads them

#[macro_use] // its `eprintln!` never panics
extern crate mapring_kit;

#[cfg(feature = "commands")]
mod commands;
mod demo;
#[cfg(feature = "commands")]
mod doctor;
#[cfg(all(feature = "commands", feature = "bpf"))]
mod load;
#[cfg(feature = "commands")]
mod new;
#[cfg(feature = "commands")]
mod pins;
#[cfg(feature = "commands")]
mod shell;

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};

use mapring_kit::exit::{self, WrongUsage};
use mapring_kit::output;
use mapring_kit::text::{one_line, printable};

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
    let done = run(&Args::try_parse().unwrap_or_else(|error| wrong_arguments(error)));
    done.unwrap_or_else(|error| {
        if exit::is_closed_pipe(&error) {
            return ExitCode::SUCCESS; // as `mapring … | head` expects
        }
        if let Some(WrongUsage(why)) = error.downcast_ref() {
            wrong_usage(why);
        }
        eprintln!("mapring: {}", one_line(&error));
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

/// Ends the process as clap does. Its text quotes arguments and variables, which can come from names of files; and a
/// variable can hold a password.
fn wrong_arguments(mut error: clap::Error) -> ! {
    let ours = env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"MAPRING_"));
    let ours: Vec<_> = ours.collect();
    if let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue)
        && env::args_os().all(|argument| !argument.to_string_lossy().contains(value))
        && let Some((name, _)) = ours.iter().find(|(_, of)| of.to_string_lossy() == **value)
    {
        let name = ContextValue::String(format!("${}", name.to_string_lossy()));
        error.insert(ContextKind::InvalidValue, name);
    }
    let is_harmless = |text: &OsString| {
        let text = text.to_string_lossy();
        printable(&text) == *text
    };
    if env::args_os().all(|argument| is_harmless(&argument))
        && ours.iter().all(|(_, value)| is_harmless(value))
    {
        error.exit();
    }
    let text = error.render().to_string().lines().map(|line| printable(line) + "\n").collect::<String>();
    if error.use_stderr() {
        output::print(&text);
    } else {
        let _ = io::stdout().write_all(text.as_bytes());
    }
    std::process::exit(error.exit_code())
}
