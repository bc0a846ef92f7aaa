//! Builds and runs the project of `mapring new`, which docs/guide/start.md and README.md show, and the project with aya of
//! docs/guide/loading.md, as a newcomer would: in folders of their own, outside this workspace.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::setup::Tools;
use crate::{cmd, headers, programs};

/// Within this time a program prints what it should, however busy the machine is.
const LONGEST: Duration = Duration::from_secs(120);
/// The page with the project for aya.
pub(crate) const LOADING: &str = "docs/guide/loading.md";

/// An ordinary map of a program.
const HASH: &str = r#"
#include <linux/bpf.h>
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");
"#;

/// Checks that the documents show the files of `mapring new`, and an example; then creates such a project, builds it and runs it.
pub(crate) fn run(tools: &Tools) -> Result<()> {
    let read = |path: &str| fs::read_to_string(cmd::root().join(path)).with_context(|| path.to_owned());
    let (start, loading, readme) = (read("docs/guide/start.md")?, read(LOADING)?, read("README.md")?);
    for (document, file) in [
        (&start, "cli/new/manifest.toml"),
        (&start, "cli/new/build.rs"),
        (&start, "cli/new/main.rs"),
        (&loading, "examples/restart.rs"),
        (&readme, "cli/new/switches.bpf.c"),
    ] {
        let text = read(file)?;
        let first = text.lines().next().unwrap_or_default();
        ensure!(block(document, first)? == text.trim_end(), "the document's block {first:?} is not {file}");
    }
    let target = cmd::target_dir().join("guide");
    let project = target.join("switches");
    if project.exists() {
        fs::remove_dir_all(&project)?;
    }
    fs::create_dir_all(&target)?;
    cmd::run(programs::command(tools)?.arg("new").arg(&project))?;
    // What most programs have beside a ring.
    let source = project.join("src/switches.bpf.c");
    fs::write(&source, fs::read_to_string(&source)? + HASH)?;
    let mut build = Command::new("cargo");
    build.arg("build").current_dir(&project);
    build.env("CARGO_TARGET_DIR", target.join("target")).env("CARGO_PROFILE_DEV_DEBUG", "false");
    cmd::run(tools.export(&mut build))?;

    prints_switches(&target.join("target/debug/switches"))?;
    with_aya(tools, &loading, &read("cli/new/switches.bpf.c")?, &target)
}

/// Creates the project with aya from the page's blocks, builds it and runs it.
fn with_aya(tools: &Tools, page: &str, program: &str, target: &Path) -> Result<()> {
    let project = target.join("aya");
    fs::create_dir_all(project.join("src"))?;
    fs::write(project.join("Cargo.toml"), local(block(page, "# Cargo.toml, with aya")?))?;
    fs::write(project.join("build.rs"), block(page, "// build.rs, with aya")?)?;
    fs::write(project.join("src/main.rs"), block(page, "// src/main.rs, with aya")?)?;
    fs::write(project.join("src/switches.bpf.c"), program)?;
    build_with_aya(tools, &project)
}

/// A manifest of the guide, for the library in this repository.
pub(crate) fn local(manifest: &str) -> String {
    let here = format!("path = {:?}", cmd::root().join("ring").display().to_string());
    format!("{}\n[workspace]\n", manifest.replace("git = \"…\"", &here))
}

/// Builds the project `switches-aya` in a folder, and runs it.
pub(crate) fn build_with_aya(tools: &Tools, project: &Path) -> Result<()> {
    let target = cmd::target_dir().join("guide/target");
    let mut build = Command::new("cargo");
    build.arg("build").current_dir(project);
    build.env("CARGO_TARGET_DIR", &target).env("CARGO_PROFILE_DEV_DEBUG", "false");
    // In place of the package libbpf-dev.
    build.env("CPATH", std::env::join_paths(headers::libbpf_include()?)?);
    cmd::run(tools.export(&mut build))?;
    prints_switches(&target.join("debug/switches-aya"))
}

/// Runs a program until it has printed the threads that ran, and what it read.
fn prints_switches(program: &Path) -> Result<()> {
    let mut program = Command::new(program);
    cmd::announce(&program);
    let mut program = program.stdout(Stdio::piped()).spawn()?;
    let output = BufReader::new(program.stdout.take().context("piped")?).lines().map_while(Result::ok);
    let (sender, lines) = mpsc::channel();
    // What prints each switch causes switches: it can be a lot.
    std::thread::spawn(move || output.map(|line| sender.send(line)).all(|sent| sent.is_ok()));
    let (end, mut output, mut names, mut counts) = (Instant::now() + LONGEST, Vec::new(), false, false);
    while !(names && counts) {
        let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) else { break };
        // Names of threads, not the numbers of their bytes.
        let name = line.strip_prefix("cpu ").and_then(|line| Some(line.split_once(": ")?.1));
        names |= name.is_some_and(|name| name.starts_with(char::is_alphabetic));
        counts |= line.contains(" delivered, ") && line.contains(" lost");
        output.push(line);
    }
    let ended = program.try_wait()?;
    program.kill()?;
    program.wait()?;
    output.truncate(100);
    let output = output.join("\n");
    ensure!(ended.is_none(), "the guide's program ended: {ended:?}\n{output}");
    ensure!(names && counts, "the guide's program says:\n{output}");
    Ok(())
}

/// The block of code that starts with this line.
pub(crate) fn block<'t>(text: &'t str, first: &str) -> Result<&'t str> {
    let mut blocks =
        text.split("\n```").skip(1).step_by(2).filter_map(|block| Some(block.split_once('\n')?.1));
    blocks.find(|block| block.starts_with(first)).with_context(|| format!("no block starts with {first:?}"))
}
