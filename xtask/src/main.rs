//! `cargo xtask …`: every task of this repository, one command each, on a machine with only git, gcc and cargo.

mod aarch64;
mod api;
mod archives;
mod assembly;
mod bench;
mod c;
mod cargo_tools;
mod checks;
mod cmd;
mod counts;
mod demo;
mod deny;
mod dist;
mod go;
mod guide;
mod headers;
mod install;
mod litmus;
mod loom;
mod need;
mod packages;
#[cfg(test)]
mod pages;
mod privilege;
mod programs;
mod prove;
mod python;
mod record;
mod rust_bpf;
mod servers;
mod setup;
mod skip;
mod test;
mod times;
mod toolchains;
mod vm;
mod wheels;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, shows, tests and measures mapring.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find the tools that BPF builds need (clang, libelf, zlib, …), install what is missing, mount bpffs
    Setup,
    /// Install the headers for BPF programs, C and C++, and a pkg-config file
    Install(install::Args),
    /// Run the demo: a BPF program and a reader, or two processes and a memfd if BPF is not available
    Demo(demo::Args),
    /// Record the animations of README.md and docs/command.md
    Record,
    /// Run all checks, or the named steps
    Test(test::Args),
    /// Run the loom models, or prove that they notice a weakened algorithm
    Loom(loom::Args),
    /// Run all methods of proof, or the named ones, and print a table of what each covered
    Prove(prove::Args),
    /// Check the machine code of the hot paths
    Assembly,
    /// Run the benchmarks of mapring and its peers, or compare two reports
    Bench(bench::Args),
    /// Boot other kernels under QEMU and run the tests of real kernels in each
    Vm(vm::Args),
    /// Build the wheel of the Python package, and run its tests in a fresh virtual environment
    Wheel,
    /// Make the command as one static executable for each processor, Debian packages, checksums and licences
    Dist(dist::Args),
    /// Probe the running kernel for each feature that mapring uses, and print what replaces a missing one
    Features,
    #[command(hide = true)]
    VmGuest,
    #[command(hide = true)]
    TestStep(test::StepArgs),
}

fn main() -> ExitCode {
    run(Cli::parse().command).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup => setup::report()?,
        Command::Install(args) => install::run(&args)?,
        Command::Demo(args) => return demo::run(&args),
        Command::Record => record::run()?,
        Command::Test(args) => {
            cmd::children_get_signals()?;
            return test::run(&args);
        }
        Command::Loom(args) => loom::run(&args)?,
        Command::Prove(args) => {
            cmd::children_get_signals()?;
            return prove::run(&args);
        }
        Command::Assembly => assembly::step(setup::ensure().ok().as_ref())?,
        Command::Bench(args) => return bench::run(&args),
        Command::Vm(args) => return vm::run(&args),
        Command::Wheel => python::wheel(&setup::ensure()?)?,
        Command::Dist(args) => dist::run(&args)?,
        Command::Features => vm::features(),
        Command::VmGuest => vm::guest()?,
        Command::TestStep(args) => return test::run_step(&args),
    }
    Ok(ExitCode::SUCCESS)
}
