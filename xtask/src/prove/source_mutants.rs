//! `cargo xtask prove source-mutants`: cargo-mutants changes each function of the library, and a test must fail.
//!
//! This takes days of CPU time, so it stops after a while and goes on from there at the next run. Each source file is a
//! unit: a file whose text has been tested is passed over. What one set of tests misses is given to the next.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Counts;
use crate::cmd;
use crate::setup::Tools;

const VERSION: &str = "27.1.0";
/// Survivors that change nothing, each with the reason.
const REASONS: &str = ".cargo/mutants.toml";

/// The tests that a mutant must survive, the quick ones first: arguments of cargo-mutants, and `RUSTFLAGS`.
const TESTS: [(&[&str], &str); 4] = [
    (&["--features", "mapring/bpf", "--test-package", "mapring"], ""),
    (&["--features", "mapring-hostile-tests/bpf", "--test-package", "mapring-hostile-tests"], ""),
    (&["--test-package", "mapring-loom-tests", "--profile", "release"], "--cfg loom"),
    (&["--test-package", "mapring-kernel-tests", "--profile", "release"], ""),
];

/// The lists of what was noticed: a mutant that never ends was, too.
const KILLED: [&str; 3] = ["caught.txt", "previously_caught.txt", "timeout.txt"];

/// Goes on until `time` is over; prints the survivors that were found.
pub(super) fn run(tools: &Tools, time: Duration) -> Result<Counts> {
    let end = Instant::now() + time;
    let tool = tool()?;
    let tree = tree()?;
    let (mut counts, mut left) = (Counts::default(), 0);
    for file in sources(&tree)? {
        let results = tree.with_file_name(file.replace('/', "-"));
        let done = results.join("done");
        let text = fs::read(tree.join(&file))?;
        if fs::read(&done).is_ok_and(|was| was == text) {
            counts += read(&results, &file)?;
        } else if Instant::now() > end {
            left += 1;
        } else {
            // Its results are of another text.
            if results.exists() && fs::read(results.join("text")).ok().as_deref() != Some(&text[..]) {
                fs::remove_dir_all(&results)?;
            }
            fs::create_dir_all(&results)?;
            fs::write(results.join("text"), &text)?;
            for (tests, flags) in TESTS {
                mutate(&tool, &tree, &file, &results, tests, flags, tools)?;
            }
            fs::write(done, text)?;
            counts += read(&results, &file)?;
        }
    }
    println!("{left} files are left for the next run");
    Ok(counts)
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

/// A clone of the commit, in which the sources are changed: its builds are incremental.
fn tree() -> Result<PathBuf> {
    let tree = cmd::target_dir().join("source-mutants/tree");
    let git = |folder: &Path, line: &str| cmd::run(cmd::line(line).current_dir(folder));
    if !tree.exists() {
        fs::create_dir_all(&tree)?;
        git(&tree, "git init --quiet")?;
    }
    cmd::run(
        cmd::line("git fetch --quiet --depth 1 --force").arg(cmd::root()).arg("HEAD").current_dir(&tree),
    )?;
    git(&tree, "git reset --quiet --hard FETCH_HEAD")?;
    Ok(tree)
}

/// The library's source files.
fn sources(tree: &Path) -> Result<Vec<String>> {
    let files = cmd::output(cmd::line("git ls-files ring/src/*.rs").current_dir(tree))?;
    let files: Vec<_> = files.lines().map(str::to_owned).collect();
    ensure!(!files.is_empty(), "no sources in {}", tree.display());
    Ok(files)
}

/// Gives the mutants of a file that no tests have caught yet to these tests.
fn mutate(
    tool: &Path,
    tree: &Path,
    file: &str,
    results: &Path,
    tests: &[&str],
    flags: &str,
    tools: &Tools,
) -> Result<()> {
    let mut mutants = Command::new(tool);
    mutants.args(["mutants", "--in-place", "--baseline=skip", "--iterate", "--timeout=600", "--no-shuffle"]);
    mutants.args(["--package", "mapring", "--file", file, "--output"]).arg(results).args(tests);
    mutants.current_dir(tree).env("RUSTFLAGS", flags).env("MAPRING_REQUIRE_BPF", "1");
    // Enough to notice a change, in a fraction of the time.
    mutants.env("MAPRING_STRESS_SECONDS", "2").env("MAPRING_HOSTILE_SECONDS", "1");
    mutants.env("MAPRING_HOSTILE_IMAGES", "100").env("CARGO_TARGET_DIR", tree.with_file_name("target"));
    cmd::announce(&mutants);
    // 0: all were caught; 2: some were missed; 3: some ran out of time.
    match tools.export(&mut mutants).status()?.code() {
        Some(0 | 2 | 3) => Ok(()),
        code => bail!("cargo-mutants ended with {code:?} for {file}: see {}", results.display()),
    }
}

/// What came of a file's mutants.
fn read(results: &Path, file: &str) -> Result<Counts> {
    let lines = |name: &str| -> Result<Vec<String>> {
        let path = results.join("mutants.out").join(name);
        let text = if path.exists() { fs::read_to_string(&path)? } else { String::new() };
        Ok(text.lines().map(str::to_owned).collect())
    };
    let mut killed = 0;
    for name in KILLED {
        killed += lines(name)?.len() as u64;
    }
    let survivors = lines("missed.txt")?;
    survivors.iter().for_each(|mutant| println!("SURVIVED {mutant}"));
    let missed = survivors.len() as u64;
    println!("{file}: {killed} of {} killed ({REASONS} lists those that change nothing)", killed + missed);
    Ok(Counts { cases: 1, mutants: killed + missed, killed, failures: missed, ..Counts::default() })
}
