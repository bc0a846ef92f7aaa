//! What the whole recorder costs, the groups that are recorded by default, `profile` and `waits`: threads that do nothing
//! but switch, and a build of a project in C.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use mapring_benches::{Plan, Report, Row};
use serde_json::Value;

use super::recorders::{Flight, Scratch, output};
use super::switches::pipes;
use super::{added, median};
use crate::threads;

const WHOLE: Flight = Flight(&["sched,irq,syscalls,exec,block,net,faults,profile,waits"]);

pub(super) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    report.add([row("a byte's way through a pipe to another thread", added(plan, pipes, &[&WHOLE])?)?]);
    let (sources, scratch) = (sources()?, Scratch::new()?);
    let objects = scratch.file("objects");
    // On all CPUs: this thread has only one.
    let cpus: Vec<_> = threads::all().iter().map(usize::to_string).collect();
    let build = || {
        fs::create_dir(&objects)?;
        let mut make = Command::new("taskset");
        make.args(["--cpu-list", &cpus.join(","), "make", "--directory", &sources]);
        make.args([&format!("--jobs={}", cpus.len()), &format!("OBJDIR={objects}"), "BUILD_STATIC_ONLY=1"]);
        let start = Instant::now();
        output(&mut make)?;
        let time = start.elapsed();
        fs::remove_dir_all(&objects)?;
        Ok((time.as_nanos() as f64, 100)) // it has many more switches
    };
    let plan = Plan { least: plan.least.div_ceil(3), warm_up: plan.warm_up.min(1), ..plan };
    report.add([row("a build of libbpf by `make` on all CPUs", added(plan, build, &[&WHOLE])?)?]);
    Ok(())
}

/// With and without the recorder.
fn row(what: &str, (none, more): (Vec<f64>, Vec<Vec<f64>>)) -> Result<Row> {
    let [more] = &more[..] else { bail!("one recorder") };
    let with: Vec<_> = none.iter().zip(more).map(|(none, more)| none + more).collect();
    let slower: Vec<_> = with.iter().zip(&none).map(|(with, none)| 100.0 * (with / none - 1.0)).collect();
    let what = format!(
        "slowdown of {what}, default groups, `profile` and `waits` recorded: by {:.1} %",
        median(&slower)
    );
    Ok(Row::new(&what, &with, "without a recorder", &none))
}

/// The folder of libbpf's sources, which these benchmarks are built with.
fn sources() -> Result<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version=1", "--offline", "--manifest-path"]);
    let output = cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let libbpf = packages.iter().find(|package| package["name"] == "libbpf-sys").context("no libbpf-sys")?;
    let manifest = libbpf["manifest_path"].as_str().context("libbpf-sys is nowhere")?;
    Ok(manifest.replace("Cargo.toml", "libbpf/src"))
}
