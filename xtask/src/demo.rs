//! `cargo xtask demo`: runs the demo with BPF if possible, with a memfd otherwise, and prints the reason.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::setup::{self, Tools};
use crate::{cmd, privilege};

/// The demo's exit code if the kernel refuses its BPF program; the demo printed the reason on stderr.
const REFUSED: u8 = 77;
const WITH_BPF: &str = "-p mapring-cli --no-default-features --features bpf";

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
    #[arg(long, hide = true, default_value = "release")]
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
    let mut demo = args.cargo("run -p mapring-cli --no-default-features -- demo --memfd");
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
    let tools = match args.setup()? {
        Ok(tools) => tools,
        Err(cannot) => return Ok(Err(vec![cannot.to_string()])),
    };
    let mut demo = args.cargo(&format!("run {WITH_BPF} -- demo"));
    args.hand_on(tools.export(&mut demo));
    let code = cmd::exit_code(cmd::run_with_signals(&mut demo)?);
    Ok(if code == REFUSED {
        Err(vec!["the kernel refused the program, as the demo says above".into()])
    } else {
        Ok(ExitCode::from(code))
    })
}

impl Args {
    /// Installs the tools that are missing. Meanwhile cargo compiles what needs none of them, which is most of the demo.
    fn setup(&self) -> Result<Result<Tools>> {
        if setup::find().is_ok() {
            return Ok(setup::ensure());
        }
        let interrupted = cmd::interrupted()?;
        let mut build = self.cargo(&format!("build {WITH_BPF} --keep-going"));
        // A group of its own, to end it with its compilers: the build that follows compiles again what these began.
        build.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut build = build.spawn().context("cannot start cargo")?;
        let tools = setup::ensure();
        let _ = kill_process_group(Pid::from_child(&build), Signal::TERM);
        build.wait()?;
        ensure!(!interrupted.load(Ordering::Relaxed), "interrupted");
        Ok(tools)
    }

    /// Cargo's command `what`, with the profile of the demo.
    fn cargo(&self, what: &str) -> Command {
        let (verb, rest) = what.split_once(' ').expect("a command of cargo and its options");
        cmd::line(&format!("cargo {verb} --profile {} {rest}", self.profile))
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
