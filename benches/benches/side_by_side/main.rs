//! Compares mapring with its peers: `cargo bench -p mapring-benches --bench side_by_side -- [--quick] [GROUP…]`.
//!
//! Prints a Markdown table and writes `target/bench/report.json`. Every block of every side checks the records that it
//! read or produced.
#![allow(missing_docs)]

mod all;
#[cfg(has_arena)]
mod arena;
mod axes;
mod c;
mod commands;
mod consume;
mod export;
mod fallback;
mod flight;
mod histogram;
mod idle;
mod large;
mod latency;
mod loss;
mod memory;
mod merge;
mod others;
mod peers;
mod process;
mod produce;
mod programs;
mod read;
mod scaling;
mod sizes;
mod sleeping;
mod stream;
mod tagged;
mod tails;
mod threads;
mod top;
mod waking;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Parser;
use mapring_benches::{Machine, Plan, Report, bpf_is_missing, hurry, pin, pin_to};

/// mapring beside its peers, in one run.
#[derive(Parser)]
struct Args {
    /// Fewer blocks: some seconds
    #[arg(long)]
    quick: bool,
    /// Only these groups
    only: Vec<String>,
    /// Where criterion has left what it measured of the library's own hot paths: a part of the report
    #[arg(long, hide = true, value_name = "FOLDER")]
    hot_paths: Option<PathBuf>,
    /// Be the process that sends: the way, the name, the CPU
    #[arg(long, hide = true, num_args = 3)]
    send: Vec<String>,
    /// Given by `cargo bench`; without it each block runs once, and nothing is reported
    #[arg(long, hide = true)]
    bench: bool,
}

/// A group of comparisons, which adds its results to the report.
type Group = fn(Plan, &mut Report) -> Result<()>;

const GROUPS: &[(&str, Group)] = &[
    ("read", read::cells),
    ("counters", read::counters),
    ("histogram", histogram::run),
    ("top", top::run),
    ("produce", produce::run),
    ("consume", consume::run),
    ("c", c::run),
    ("merge", merge::run),
    ("all", all::run),
    ("large", large::run),
    ("fallback", fallback::run),
    ("stream", stream::run),
    ("loss", loss::run),
    ("latency", latency::run),
    ("sleeping", sleeping::run),
    ("waking", waking::run),
    ("idle", idle::run),
    ("tails", tails::run),
    ("tagged", tagged::run),
    ("sizes", sizes::run),
    ("axes", axes::run),
    ("others", others::run),
    ("commands", commands::run),
    ("arena", arena),
    ("memory", memory::run),
    ("latest", process::latest),
    ("threads", process::records),
    ("scaling", scaling::run),
    ("flight", flight::run),
    ("profile", flight::profile),
    ("whole", flight::whole),
    ("export", export::run),
];

/// A BPF arena, which needs a newer compiler and kernel than the rest.
fn arena(plan: Plan, report: &mut Report) -> Result<()> {
    #[cfg(has_arena)]
    if libbpf_rs::MapType::Arena.is_supported()? {
        arena::run(plan, report)?;
    } else {
        report.skip("BPF arena", "the kernel has none (6.9 and later have)");
    }
    #[cfg(not(has_arena))]
    {
        let _ = plan;
        report.skip("BPF arena", "the build found no clang 19 or later on PATH, or is not for x86-64");
    }
    Ok(())
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if !args.send.is_empty() {
        return process::send(&args.send).map(|()| ExitCode::SUCCESS);
    }
    let plan = match args {
        Args { bench: false, .. } => Plan::TRY,
        Args { quick: true, .. } => Plan::QUICK,
        _ => Plan::FULL,
    };
    let names = || GROUPS.iter().map(|(name, _)| *name);
    if let Some(unknown) = args.only.iter().find(|only| !names().any(|name| name == only.as_str())) {
        bail!("no group {unknown}: there are {}", names().collect::<Vec<_>>().join(", "));
    }
    threads::remember()?;
    hurry();
    let cpu = pin()?;
    let mut report = Report::new(Machine::here(cpu), plan);
    let (mut without_bpf, mut failed) = (false, Vec::new());
    for (name, group) in GROUPS {
        if !args.only.is_empty() && !args.only.iter().any(|only| only == name) {
            continue;
        }
        eprintln!("side by side: {name} …");
        // The group before may have gone to another CPU.
        pin_to(cpu)?;
        let start = Instant::now();
        match group(plan, &mut report) {
            Err(error) if bpf_is_missing(&error) => {
                report.skip(name, format!("{error:#}"));
                without_bpf = true;
            }
            // Keep the results of the other groups.
            Err(error) => {
                eprintln!("FAILED: {name}: {error:#}");
                failed.push(*name);
            }
            Ok(()) => {}
        }
        eprintln!("side by side: {name} took {:.1} s", start.elapsed().as_secs_f64());
    }
    if let Some(folder) = &args.hot_paths {
        report.add_criterion(folder)?;
    }
    if args.bench {
        println!("\n{}", report.summary());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
        report.write(&folder)?;
        eprintln!("written to {}", folder.display());
    }
    if !failed.is_empty() {
        eprintln!("\nFAILED: {}", failed.join(", "));
        return Ok(ExitCode::FAILURE);
    }
    let required = std::env::var_os("MAPRING_REQUIRE_BPF").is_some_and(|value| value == "1");
    if without_bpf {
        eprintln!(
            "\nSKIPPED: benchmarks that load BPF programs did NOT run; they need CAP_BPF and CAP_PERFMON, or root:"
        );
        eprintln!("    sudo env \"PATH=$PATH\" cargo xtask bench\n");
        return Ok(if required { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    let missing = report.missing();
    if args.only.is_empty() && !missing.is_empty() {
        eprintln!("\nFAILED: no row, and no word on why, for {}", missing.join(", "));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
