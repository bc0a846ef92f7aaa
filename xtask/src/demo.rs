//! `cargo xtask demo`: runs the demo with BPF if possible, with a memfd otherwise, and prints the reason.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::{cmd, privilege, setup};

/// The demo's exit code if the kernel refuses its BPF program; the demo printed the reason on stderr.
const REFUSED: u8 = 77;

/// Options of the demo, handed on as they are.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long to run
    #[arg(long, value_name = "N")]
    seconds: Option<u32>,
    /// Print only one JSON object on stdout
    #[arg(long)]
    json: bool,
    /// Share a memfd between processes, even if BPF is available
    #[arg(long)]
    memfd: bool,
    /// How cargo builds the demo
    #[arg(long, hide = true, default_value = "demo")]
    profile: String,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if !args.memfd {
        match try_bpf(args)? {
            Ok(code) => return Ok(code),
            Err(reasons) => {
                eprintln!("BPF can't be used here:");
                for reason in reasons {
                    eprintln!("  - {}", reason.trim_end().replace('\n', "\n      "));
                }
                eprintln!("So this shows the same ring in memory shared by ordinary processes (a memfd).\n");
            }
        }
    }
    let mut demo = args.cargo("-p mapring-cli --no-default-features -- demo --memfd");
    args.hand_on(&mut demo);
    cmd::announce(&demo);
    // Replaces this process: signals and the exit code are the demo's own.
    Err(demo.exec()).context("cannot start cargo")
}

/// Runs the BPF demo: its exit code, or the reasons why it can't run.
fn try_bpf(args: &Args) -> Result<Result<ExitCode, Vec<String>>> {
    let mut obstacles = privilege::obstacles();
    if !obstacles.is_empty() {
        // Nothing is installed for a program that may not run; the message still lists all steps.
        obstacles.extend(setup::find().err().map(|missing| missing.to_string()));
        return Ok(Err(obstacles));
    }
    let tools = match setup::ensure() {
        Ok(tools) => tools,
        Err(cannot) => return Ok(Err(vec![cannot.to_string()])),
    };
    let mut demo = args.cargo("-p mapring-cli --no-default-features --features bpf -- demo");
    args.hand_on(tools.export(&mut demo));
    let code = cmd::exit_code(cmd::run_with_signals(&mut demo)?);
    Ok(if code == REFUSED {
        Err(vec!["the kernel refused the program, as the demo says above".into()])
    } else {
        Ok(ExitCode::from(code))
    })
}

impl Args {
    fn cargo(&self, run: &str) -> Command {
        cmd::line(&format!("cargo run --profile {} {run}", self.profile))
    }

    fn hand_on(&self, demo: &mut Command) {
        if let Some(seconds) = self.seconds {
            demo.arg("--seconds").arg(seconds.to_string());
        }
        if self.json {
            demo.arg("--json");
        }
    }
}
