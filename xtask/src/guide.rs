//! Builds and runs the project of docs/guide.md and the program of README.md as a newcomer would: in their own folder,
//! outside this workspace.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cmd;
use crate::setup::Tools;

/// How long the program runs.
const TIME: Duration = Duration::from_secs(2);

/// Builds and runs the project of the guide.
pub(crate) fn run(tools: &Tools) -> Result<()> {
    let project = cmd::target_dir().join("guide");
    let read = |path: &str| fs::read_to_string(cmd::root().join(path)).with_context(|| path.to_owned());
    let (guide, readme) = (read("docs/guide.md")?, read("README.md")?);
    let mapring = format!("path = {:?}", cmd::root().join("ring"));
    let manifest = block(&guide, "# Cargo.toml")?.replace("git = \"…\"", &mapring);
    let head = "[workspace]\n[package]\nname = \"switches\"\nedition = \"2024\"\n";
    fs::create_dir_all(project.join("src"))?;
    for (path, text) in [
        ("Cargo.toml", format!("{head}{manifest}")),
        ("build.rs", block(&guide, "// build.rs")?.to_owned()),
        ("src/main.rs", block(&guide, "// src/main.rs")?.to_owned()),
        ("src/switches.bpf.c", block(&readme, "#include <mapring/ring.bpf.h>")?.to_owned()),
    ] {
        fs::write(project.join(path), text)?;
    }
    let mut build = Command::new("cargo");
    build.arg("build").current_dir(&project).env("CARGO_TARGET_DIR", project.join("target"));
    cmd::run(tools.export(&mut build))?;

    let mut program = Command::new(project.join("target/debug/switches"));
    cmd::announce(&program);
    let mut program = program.stdout(Stdio::piped()).spawn()?;
    let mut said = program.stdout.take().context("piped")?;
    let reading = std::thread::spawn(move || std::io::read_to_string(&mut said));
    sleep(TIME);
    let ended = program.try_wait()?;
    program.kill()?;
    program.wait()?;
    let said = reading.join().expect("reads only")?;
    ensure!(ended.is_none(), "the guide's program ended: {ended:?}\n{said}");
    ensure!(
        said.contains("switch_event {") && said.contains(", 0 lost"),
        "the guide's program says:\n{said}"
    );
    Ok(())
}

/// The block of code that starts with this line.
fn block<'t>(text: &'t str, first: &str) -> Result<&'t str> {
    let mut blocks =
        text.split("\n```").skip(1).step_by(2).filter_map(|block| Some(block.split_once('\n')?.1));
    blocks.find(|block| block.starts_with(first)).with_context(|| format!("no block starts with {first:?}"))
}
