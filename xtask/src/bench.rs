//! `cargo xtask bench`: runs the benchmarks beside their peers, and lists changes since another report.

mod compare;
pub(crate) mod languages;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::{cmd, setup};

/// What to measure, or which reports to compare.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Measure fewer blocks: four minutes instead of twenty
    #[arg(long)]
    quick: bool,
    /// Only these groups of the side-by-side benchmarks (an unknown one lists them)
    #[arg(long, value_name = "GROUP", num_args = 1..)]
    only: Vec<String>,
    /// Only the library's own hot paths, by criterion
    #[arg(long, conflicts_with = "only")]
    criterion: bool,
    /// Only what a record costs readers in C, Go and Python, each beside what its users have today
    #[arg(long, conflicts_with_all = ["only", "criterion", "docs", "quick"])]
    languages: bool,
    /// Also write docs/benchmarks.md and its charts
    #[arg(long, conflicts_with_all = ["only", "criterion", "quick"])]
    docs: bool,
    /// Measure nothing, and list what changed from one report to another by more than noise. The second one is by
    /// default that of the last run. Fails if something got worse
    #[arg(long, value_names = ["OLD", "NEW"], num_args = 1..=2, conflicts_with_all = ["only", "criterion", "docs", "quick"])]
    compare: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let folder = cmd::target_dir().join("bench");
    if let Some(old) = args.compare.first() {
        let last = folder.join("report.json");
        return compare::run(old, args.compare.get(1).unwrap_or(&last));
    }
    let tools = setup::ensure()?;
    if args.languages {
        languages::run(&tools)?;
        return Ok(ExitCode::SUCCESS);
    }
    let start = Instant::now();
    let criterion = cmd::target_dir().join("criterion");
    if args.only.is_empty() {
        // Remove the results of earlier runs.
        if criterion.exists() {
            fs::remove_dir_all(&criterion)?;
        }
        let mut bench = cmd::line("cargo bench -p mapring-benches --bench hot_paths -- --noplot");
        let times: [&str; 3] = if args.quick { ["0.2", "0.5", "20"] } else { ["0.5", "2", "50"] };
        for (option, value) in ["--warm-up-time", "--measurement-time", "--sample-size"].iter().zip(times) {
            bench.args([option, value]);
        }
        cmd::run(tools.export(&mut bench))?;
    }
    if args.criterion {
        return Ok(ExitCode::SUCCESS);
    }
    // The group `flight` measures ftrace, too.
    let no_tracefs = !Path::new("/sys/kernel/tracing/instances").exists();
    if no_tracefs && let Err(error) = cmd::run(&mut cmd::line("mount -t tracefs tracefs /sys/kernel/tracing"))
    {
        eprintln!("note: no ftrace, a peer of the flight recorder: {error:#}");
    }
    // … and runs the command.
    cmd::run(tools.export(&mut cmd::line("cargo build --release -p mapring-cli --features bpf")))?;
    let mut bench = cmd::line("cargo bench -p mapring-benches --bench side_by_side --");
    if args.quick {
        bench.arg("--quick");
    }
    if args.only.is_empty() {
        bench.arg("--hot-paths").arg(&criterion);
    }
    cmd::run(tools.export(bench.args(&args.only)))?;
    if args.docs {
        publish(&folder, &cmd::root().join("docs"))?;
    }
    eprintln!(
        "measured for {:.0} s; see {}",
        start.elapsed().as_secs_f64(),
        folder.join("report.md").display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Copies the report and its charts to their place in the repository.
fn publish(from: &Path, docs: &Path) -> Result<()> {
    let charts = docs.join("benchmarks");
    let _ = fs::remove_dir_all(&charts);
    fs::create_dir_all(&charts).with_context(|| format!("making {}", charts.display()))?;
    fs::copy(from.join("benchmarks.md"), docs.join("benchmarks.md")).context("copying the report")?;
    let mut count = 0;
    for entry in fs::read_dir(from)?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "svg") {
            fs::copy(entry.path(), charts.join(entry.file_name()))?;
            count += 1;
        }
    }
    ensure!(count > 0, "{} has no charts", from.display());
    eprintln!("docs/benchmarks.md and {count} charts in docs/benchmarks are new");
    Ok(())
}
