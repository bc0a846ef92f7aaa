//! mapring beside its peers: `cargo bench -p mapring-benches --bench side_by_side -- [--quick] [GROUP…]`.
//!
//! Prints a Markdown table and writes `target/bench/report.json`. Every block of every side checks
//! what it read or produced.
#![allow(missing_docs)]

mod all;
mod consume;
mod fallback;
mod large;
mod latency;
mod memory;
mod peers;
mod produce;
mod programs;
mod read;
mod sleeping;
mod stream;
mod threads;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use mapring_benches::{Machine, Plan, Report, bpf_is_missing, pin};

/// mapring beside its peers, in one run.
#[derive(Parser)]
struct Args {
    /// Fewer blocks: some seconds
    #[arg(long)]
    quick: bool,
    /// Only the groups with one of these in their name: read, counters, produce, all, consume,
    /// large, fallback, stream, latency, sleeping, memory
    only: Vec<String>,
    /// Given by `cargo bench`; without it each block runs once, and nothing is reported
    #[arg(long, hide = true)]
    bench: bool,
}

/// A group of comparisons, which adds what it found to the report.
type Group = fn(Plan, &mut Report) -> Result<()>;

const GROUPS: &[(&str, Group)] = &[
    ("read", read::cells),
    ("counters", read::counters),
    ("produce", produce::run),
    ("consume", consume::run),
    ("all", all::run),
    ("large", large::run),
    ("fallback", fallback::run),
    ("stream", stream::run),
    ("latency", latency::run),
    ("sleeping", sleeping::run),
    ("memory", memory::run),
];

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let plan = match args {
        Args { bench: false, .. } => Plan::TRY,
        Args { quick: true, .. } => Plan::QUICK,
        _ => Plan::FULL,
    };
    threads::remember()?;
    let mut report = Report::new(Machine::here(pin()?), plan);
    for (name, group) in GROUPS {
        if !args.only.is_empty() && !args.only.iter().any(|only| name.contains(only.as_str())) {
            continue;
        }
        eprintln!("side by side: {name} …");
        match group(plan, &mut report) {
            Err(error) if bpf_is_missing(&error) => return skip(&error),
            result => result.with_context(|| (*name).to_owned())?,
        }
    }
    if args.bench {
        println!("\n{}", report.markdown());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
        report.write(&folder)?;
        eprintln!("written to {}", folder.join("report.json").display());
    }
    let missing = report.missing();
    if args.only.is_empty() && !missing.is_empty() {
        eprintln!("\nFAILED: no row, and no word on why, for {}", missing.join(", "));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Without the privilege to load programs there is nothing to compare with.
fn skip(error: &anyhow::Error) -> Result<ExitCode> {
    eprintln!("\nSKIPPED: the side-by-side benchmarks did NOT run: {error:#}");
    eprintln!("They load BPF programs, which needs CAP_BPF and CAP_PERFMON, or root:");
    eprintln!("    sudo env \"PATH=$PATH\" cargo bench -p mapring-benches\n");
    let required = std::env::var_os("MAPRING_REQUIRE_BPF").is_some_and(|value| value == "1");
    Ok(if required { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
