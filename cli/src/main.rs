//! The `mapring` command: what it can do is in its modules, a module for each command.
#![deny(unsafe_code)]

mod demo;
mod exit;
mod output;
mod regions;

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Shared-memory channels between BPF programs and userspace.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong command line, 77 this kernel or user can't."
)]
struct Args {
    /// When to use colours
    #[arg(long, value_enum, default_value_t, global = true)]
    color: output::Color,
    /// Print errors, losses and what was asked for, and nothing else
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows this machine's system calls and context switches as they happen, read without a system call
    Demo(demo::Args),
    Ls(regions::ls::Args),
    Show(regions::show::Args),
    Stat(regions::stat::Args),
    Tail(regions::tail::Args),
    Top(regions::top::Args),
}

fn main() -> ExitCode {
    let done = run(&Args::parse());
    done.unwrap_or_else(|error| {
        if is_closed_pipe(&error) {
            return ExitCode::SUCCESS; // as `mapring … | head` expects
        }
        eprintln!("mapring: {error:#}");
        ExitCode::from(exit::code(&error))
    })
}

fn run(args: &Args) -> Result<ExitCode> {
    output::set(args.color, args.quiet);
    match &args.command {
        Command::Demo(args) => demo::run(args),
        Command::Ls(args) => regions::run(&regions::Command::Ls(args)),
        Command::Show(args) => regions::run(&regions::Command::Show(args)),
        Command::Stat(args) => regions::run(&regions::Command::Stat(args)),
        Command::Tail(args) => regions::run(&regions::Command::Tail(args)),
        Command::Top(args) => regions::run(&regions::Command::Top(args)),
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|e| e.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
