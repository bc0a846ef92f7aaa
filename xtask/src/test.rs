//! `cargo xtask test`: runs the steps, goes on after a failure, and ends with a table of all of them.

use std::cell::OnceCell;
use std::fmt;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::cmd;
use crate::setup::{self, Cannot, Tools};
use crate::steps::{self, Need, STEPS, Step, Work};
use crate::{aarch64, privilege, prove, vm};

/// Which steps to run, and how.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The steps to run; all, if none is named
    steps: Vec<String>,
    /// Show the steps, what they need, and the command that each one is
    #[arg(long)]
    list: bool,
    /// Stop at the first failure
    #[arg(long)]
    fail_fast: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Ok,
    Failed(String),
    Skipped(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Failed(_) => "FAILED",
            Self::Skipped(_) => "SKIPPED",
        })
    }
}

/// What this machine has: found out when a step first needs it.
#[derive(Default)]
pub(crate) struct Machine {
    tools: OnceCell<Result<Tools, Cannot>>,
    oldest_rust: OnceCell<Result<(), String>>,
}

impl Machine {
    pub(crate) fn tools(&self) -> &Result<Tools, Cannot> {
        self.tools.get_or_init(setup::ensure)
    }

    /// Why a need is not met.
    pub(crate) fn lacks(&self, need: Need) -> Option<String> {
        match need {
            Need::Tools => self.tools().as_ref().err().map(Cannot::to_string),
            Need::Bpf => Some(privilege::obstacles().join("\n")).filter(|obstacles| !obstacles.is_empty()),
            Need::OldestRust => self
                .oldest_rust
                .get_or_init(|| steps::oldest_rust().map_err(|error| format!("{error:#}")))
                .clone()
                .err(),
            Need::Nightly(components) => {
                prove::ensure_components(components).err().map(|error| format!("{error:#}"))
            }
            Need::Machines(line) => vm::obstacle(line),
            Need::Aarch64 => aarch64::obstacle(),
            Need::Path(path) => (!cmd::root().join(path).exists()).then(|| format!("there is no {path}")),
        }
    }
}

/// Runs the steps named, or all.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.list {
        list();
        return Ok(ExitCode::SUCCESS);
    }
    let strict = privilege::required();
    let machine = Machine::default();
    let mut results = Vec::new();
    for step in chosen(&args.steps)? {
        println!("\n=== {} ===", step.name);
        let start = Instant::now();
        let outcome = run_step(step, &machine, strict);
        match &outcome {
            Outcome::Ok => {}
            Outcome::Failed(why) => println!("FAILED {}: {why}", step.name),
            Outcome::Skipped(why) => banner(step.name, why),
        }
        let failed = matches!(outcome, Outcome::Failed(_));
        results.push((step.name, outcome, start.elapsed().as_secs_f32()));
        if failed && args.fail_fast {
            break;
        }
    }
    println!("\n{}", table(&results));
    let failed = results.iter().any(|(_, outcome, _)| matches!(outcome, Outcome::Failed(_)));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn chosen(names: &[String]) -> Result<Vec<&'static Step>> {
    if let Some(unknown) = names.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        bail!(
            "no step {unknown:?}; there are: {}",
            STEPS.iter().map(|step| step.name).collect::<Vec<_>>().join(" ")
        );
    }
    Ok(STEPS.iter().filter(|step| names.is_empty() || names.iter().any(|name| name == step.name)).collect())
}

fn run_step(step: &Step, machine: &Machine, strict: bool) -> Outcome {
    let lacking: Vec<_> = step.needs.iter().filter_map(|need| machine.lacks(*need)).collect();
    if !lacking.is_empty() {
        let why = lacking.join("\n");
        return if strict {
            Outcome::Failed(format!("required here, but: {why}"))
        } else {
            Outcome::Skipped(why)
        };
    }
    let tools = if step.needs.contains(&Need::Tools) { machine.tools().as_ref().ok() } else { None };
    let done = match &step.work {
        Work::Code { run, .. } => run(tools),
        Work::Lines(lines) => lines.iter().try_for_each(|line| {
            let mut command = cmd::line(line);
            if let Some(tools) = tools {
                tools.export(&mut command);
            }
            cmd::run(&mut command)
        }),
    };
    match done {
        Ok(()) => Outcome::Ok,
        Err(error) if error.is::<steps::Skip>() => Outcome::Skipped(error.to_string()),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    }
}

/// Says, so that nobody overlooks it, what did not run.
pub(crate) fn banner(name: &str, why: &str) {
    let rule = "!".repeat(78);
    eprintln!("{rule}\n!! SKIPPED {name}\n!! {}\n{rule}", why.replace('\n', "\n!! "));
}

fn table(results: &[(&str, Outcome, f32)]) -> String {
    let width = results.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    let mut table = format!("{:width$}  {:7}  {:>7}\n", "step", "result", "seconds");
    for (name, outcome, seconds) in results {
        let why = match outcome {
            Outcome::Ok => "",
            Outcome::Failed(why) | Outcome::Skipped(why) => why.lines().next().unwrap_or_default(),
        };
        let row = format!("{name:width$}  {:7}  {seconds:7.1}  {why}", outcome.to_string());
        table += row.trim_end();
        table.push('\n');
    }
    let count = |wanted: &str| results.iter().filter(|(_, outcome, _)| outcome.to_string() == wanted).count();
    let seconds: f32 = results.iter().map(|(.., seconds)| seconds).sum();
    table
        + &format!(
            "{} ok, {} FAILED, {} SKIPPED in {seconds:.0} s",
            count("ok"),
            count("FAILED"),
            count("SKIPPED")
        )
}

fn list() {
    for step in STEPS {
        let needs: Vec<_> = step
            .needs
            .iter()
            .map(|need| match need {
                Need::Tools => "tools",
                Need::Bpf => "BPF",
                Need::OldestRust => "Rust 1.88",
                Need::Nightly(_) => "nightly",
                Need::Machines(_) => "QEMU, kernels",
                Need::Aarch64 => "aarch64",
                Need::Path(path) => path,
            })
            .collect();
        let lines = match &step.work {
            Work::Lines(lines) => lines,
            Work::Code { shown, .. } => std::slice::from_ref(shown),
        };
        println!("{:15} {:16} {}", step.name, needs.join(", "), lines.join("; "));
    }
    println!("\nRun some: cargo xtask test fmt clippy. Without its needs (second column) a step is skipped;");
    println!("with MAPRING_REQUIRE_BPF=1 it fails instead.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_steps_are_named() {
        let error = chosen(&["fmt".into(), "clipy".into()]).err().unwrap().to_string();
        assert!(error.contains("clipy") && error.contains("clippy-memfd"), "{error}");
        assert_eq!(chosen(&["fmt".into()]).unwrap().len(), 1);
        assert_eq!(chosen(&[]).unwrap().len(), STEPS.len());
    }

    #[test]
    fn the_table_repeats_why() {
        let results = [
            ("fmt", Outcome::Ok, 0.5),
            ("kernel", Outcome::Skipped("missing CAP_BPF\nmore".into()), 0.0),
            ("unit", Outcome::Failed("`cargo test` failed".into()), 61.0),
        ];
        assert_eq!(
            table(&results),
            "step    result   seconds\n\
             fmt     ok           0.5\n\
             kernel  SKIPPED      0.0  missing CAP_BPF\n\
             unit    FAILED      61.0  `cargo test` failed\n\
             1 ok, 1 FAILED, 1 SKIPPED in 62 s"
        );
    }
}
