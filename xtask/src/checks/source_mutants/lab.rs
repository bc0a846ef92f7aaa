//! Runs cargo-mutants in a clone of the repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::known::Known;
use super::sets::Tests;
use crate::cmd;
use crate::setup::Tools;

const VERSION: &str = "27.1.0";

/// The clone and the tools for testing mutants.
pub(super) struct Lab<'a> {
    tool: PathBuf,
    pub(super) tree: PathBuf,
    pub(super) folder: PathBuf,
    tools: &'a Tools,
}

impl<'a> Lab<'a> {
    /// A lab with the sources of the commit.
    pub(super) fn new(tools: &'a Tools) -> Result<Self> {
        let folder = cmd::target_dir().join("source-mutants");
        Ok(Self { tool: tool()?, tree: tree(&folder)?, folder, tools })
    }

    /// All mutants, except those listed as harmless.
    pub(super) fn mutants(&self) -> Result<Vec<String>> {
        let mut list = Command::new(&self.tool);
        list.args(["mutants", "--package=mapring", "--list", "--colors=never"]);
        Ok(cmd::output(list.current_dir(&self.tree))?.lines().map(str::to_owned).collect())
    }

    /// A command that builds and runs these tests in the clone.
    pub(super) fn command(&self, line: &str, tests: &Tests) -> Command {
        let mut command = cmd::line(line);
        command.current_dir(&self.tree).env("RUSTFLAGS", tests.flags).env("MAPRING_REQUIRE_BPF", "1");
        let target = if tests.flags.is_empty() { "target" } else { "target-loom" };
        command.env("CARGO_TARGET_DIR", self.folder.join(target));
        command.env("CARGO_INCREMENTAL", "1").env("CARGO_PROFILE_DEV_DEBUG", "0");
        command.env("CARGO_PROFILE_RELEASE_DEBUG", "0");
        // Enough to detect a change, in a fraction of the time.
        command.env("MAPRING_STRESS_SECONDS", "2").env("MAPRING_HOSTILE_SECONDS", "1");
        command.env("MAPRING_HOSTILE_IMAGES", "100").env("MAPRING_FAULTS_ERRNOS", "ENOMEM");
        self.tools.export(&mut command);
        command
    }

    /// Runs these tests on the mutants of these files, except finished ones. Stops after the first mutant that ends
    /// after `time`.
    pub(super) fn mutate(&self, files: &[&str], tests: &Tests, known: &Known, time: Duration) -> Result<()> {
        known.hand_on(tests)?;
        let mut command = self.command(&self.tool.to_string_lossy(), tests);
        command.args(["mutants", "--in-place", "--baseline=skip", "--iterate", "--colors=never", "--caught"]);
        command.args(["--package=mapring", "--output"]).arg(known.out(tests));
        command.arg(format!("--timeout={}", tests.timeout)).arg("--build-timeout=900");
        // Its pipe would be an extra descriptor in all tests, and some count descriptors.
        command.arg("--jobserver=false");
        let (packages, args): (Vec<_>, Vec<_>) =
            tests.args.split(' ').partition(|arg| arg.starts_with("--package"));
        command.args(packages.iter().map(|arg| arg.replace("--package", "--test-package")));
        command.args(args.iter().map(|arg| format!("--cargo-arg={arg}")));
        command.args(files.iter().map(|file| format!("--file={file}")));
        command.args(["--", "--"]).args(tests.less);
        // A backtrace would be printed for each interruption.
        cmd::announce(command.env("RUST_BACKTRACE", "0"));

        let interrupted = cmd::interrupted()?;
        let (start, mut done) = (Instant::now(), None);
        let mut child = command.spawn().context("cannot start cargo-mutants")?;
        loop {
            match cmd::wait(&mut child, Duration::from_millis(100))?.map(|status| status.code()) {
                None => {}
                // 0: all were caught; 2: some were missed; 3: some timed out.
                Some(Some(0 | 2 | 3)) => return Ok(()),
                Some(code) => bail!("cargo-mutants ended with {code:?}: see {}", known.out(tests).display()),
            }
            let interrupted = interrupted.load(Ordering::Relaxed);
            let over =
                start.elapsed() > time && *done.get_or_insert_with(|| known.done(tests)) < known.done(tests);
            if interrupted || over {
                // On SIGINT, cargo-mutants first restores the source.
                kill_process(Pid::from_child(&child), Signal::INT)?;
                child.wait()?;
                ensure!(!interrupted, "interrupted");
                return Ok(());
            }
        }
    }
}

/// cargo-mutants of this version, installed in the target folder.
fn tool() -> Result<PathBuf> {
    let folder = cmd::target_dir().join("tools");
    let tool = folder.join("bin/cargo-mutants");
    let is_there = || cmd::output(Command::new(&tool).args(["mutants", "--version"]));
    if !is_there().is_ok_and(|said| said.contains(VERSION)) {
        let mut install = cmd::line("cargo install --locked cargo-mutants --version");
        cmd::run(install.arg(VERSION).arg("--root").arg(folder))?;
    }
    is_there().context("cargo-mutants was installed, but does not run")?;
    Ok(tool)
}

/// A clone of the commit, whose sources are mutated. Undoes the changes of a run that was killed.
fn tree(folder: &Path) -> Result<PathBuf> {
    let tree = folder.join("tree");
    let git = |line: &str| cmd::run(cmd::line(line).current_dir(&tree));
    if !tree.join(".git").exists() {
        fs::create_dir_all(&tree)?;
        git("git init --quiet")?;
    }
    cmd::run(
        cmd::line("git fetch --quiet --depth 1 --force").arg(cmd::root()).arg("HEAD").current_dir(&tree),
    )?;
    git("git reset --quiet --hard FETCH_HEAD")?;
    Ok(tree)
}
