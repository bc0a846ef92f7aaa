//! Builds and runs the project of `mapring new`, which docs/guide.md and README.md show, as a newcomer would: in its own
//! folder, outside this workspace.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::setup::Tools;
use crate::{cmd, programs};

/// How long the program runs.
const TIME: Duration = Duration::from_secs(2);

/// Checks that the documents show the files of `mapring new`; then creates such a project, builds it and runs it.
pub(crate) fn run(tools: &Tools) -> Result<()> {
    let read = |path: &str| fs::read_to_string(cmd::root().join(path)).with_context(|| path.to_owned());
    let (guide, readme) = (read("docs/guide.md")?, read("README.md")?);
    for (document, file) in [
        (&guide, "cli/new/manifest.toml"),
        (&guide, "cli/new/build.rs"),
        (&guide, "cli/new/main.rs"),
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
    let mut build = Command::new("cargo");
    build.arg("build").current_dir(&project);
    build.env("CARGO_TARGET_DIR", target.join("target")).env("CARGO_PROFILE_DEV_DEBUG", "false");
    cmd::run(tools.export(&mut build))?;

    let mut program = Command::new(target.join("target/debug/switches"));
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
