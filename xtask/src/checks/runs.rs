//! The work of checks that need more than one command line: first the steps of the tests, then the methods of proof.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, ensure};

use super::BPF_LOOM;
use super::kinds::Given;
use crate::counts::{self, Counts};
use crate::litmus::{self, Dialect};
use crate::loom::models;
use crate::{aarch64, cmd, times, vm};

/// Runs a demo for a second: stdout must contain one JSON object and nothing else.
pub(super) fn one_json_object(demo: &mut Command) -> Result<()> {
    let text = cmd::output(demo.args(["--json", "--seconds", "1"]).stderr(Stdio::inherit()))?;
    let object: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("not JSON: {text:?}"))?;
    ensure!(object.is_object(), "not a JSON object: {text:?}");
    println!("{}", text.trim_end());
    Ok(())
}

/// What works without BPF, in a target folder of its own: other steps use the command with BPF. All other tests of the
/// library run with its features, and without them in `prove features`.
pub(super) fn without_bpf() -> Result<()> {
    let target = folder("memfd")?;
    for line in [
        "cargo test -p mapring --no-default-features --test memfd --test images",
        "cargo test -p mapring-cli --test flight_without_bpf --test command",
    ] {
        times::of(line, || cmd::run(cmd::line(line).env("CARGO_TARGET_DIR", &target)))?;
    }
    let mut demo = Command::new(env::current_exe()?);
    one_json_object(demo.env("CARGO_TARGET_DIR", &target).args(["demo", "--memfd", "--profile", "dev"]))
}

/// A target folder of its own for builds with other features, or for checks. It begins with a copy of what the step
/// `build` made, if it was run: most dependencies and build scripts are the same.
pub(super) fn folder(name: &str) -> Result<PathBuf> {
    let target = cmd::target_dir().join(name);
    let (from, to) = (cmd::target_dir().join("debug"), target.join("debug"));
    if from.join(".fingerprint").exists() && !to.exists() {
        fs::create_dir_all(&to)?;
        // First what says that a crate is compiled. Compilers replace their outputs, build scripts write over theirs.
        for (options, part) in [("-a", ".fingerprint"), ("-a", "build"), ("-al", "deps")] {
            cmd::run(Command::new("cp").arg(options).arg(from.join(part)).arg(&to))?;
        }
    }
    Ok(target)
}

/// All litmus tests except those under the kernel's model, which is a large download.
pub(super) fn small_litmus() -> Result<()> {
    let counts = litmus::run(&Dialect::ALL[1..])?;
    ensure!(counts.failures == 0, "see above");
    Ok(())
}

/// The compiled code against the reference, one thread at a time, and in all models. The method of this name also runs its
/// mutants, and the tests that take longest.
pub(super) fn bpf_loom(given: &Given<'_>) -> Result<()> {
    let tools = given.tools()?;
    BPF_LOOM.run(tools)?;
    let mut models = models::cargo_of("mapring-bpf-loom", "test");
    cmd::run(tools.export(models.args(["--test", "models"])))
}

/// The lints of all crates, the library's tests under user-mode emulation, and those of the kernel in guests.
pub(super) fn count_aarch64(given: &Given<'_>) -> Result<Counts> {
    aarch64::lint(given.tools()?, true)?;
    let mut counts = aarch64::test(given.tools()?)?;
    counts += vm::step(&[vm::PROOF_ARM], given.tools()?)?;
    Ok(counts)
}

/// Runs twice: without loom, and under loom, including mutants.
pub(super) fn count_bpf_loom(given: &Given<'_>) -> Result<Counts> {
    let tools = given.tools()?;
    let clangs: Vec<_> = tools.clangs.iter().map(|clang| clang.version.as_str()).collect();
    let clangs = clangs.join(",");
    let mut plain = cmd::line("cargo test --release -p mapring-bpf-loom --no-fail-fast -- --nocapture");
    let mut counts = counts::of(tools.export(plain.env("CLANGS", &clangs).env("MAPRING_EVERY_CLANG", "1")))?;
    let mut cargo = models::cargo_of("mapring-bpf-loom", "test");
    cargo.env("CLANGS", &clangs).env("MAPRING_EVERY_CLANG", "1");
    cargo.args(["--no-fail-fast", "--", "--nocapture", "--test-threads=1"]);
    counts += counts::of(tools.export(&mut cargo))?;
    Ok(counts)
}

/// As `cargo xtask loom --mutants`; its last line contains the numbers.
pub(super) fn count_mutants() -> Result<Counts> {
    let mut all = Command::new(env::current_exe()?);
    let mut counts = counts::of(all.args(["loom", "--mutants"]))?;
    // The method `loom` counts the models that this command runs first.
    counts.cases = counts.mutants;
    Ok(counts)
}

/// Includes BPF maps if BPF programs can be built; without the program of the method `faults`.
pub(super) fn count_hostile(given: &Given<'_>) -> Result<Counts> {
    let mut cargo =
        cmd::line("cargo test --release -p mapring-hostile-tests --no-fail-fast --test death --test hostile");
    if let Ok(tools) = given.tools() {
        tools.export(cargo.args(["--features", "bpf"]));
    }
    cargo.env("MAPRING_HOSTILE_SECONDS", given.seconds.to_string());
    // Ten kinds of images exist; a thousand images of one kind take a second or two.
    cargo.env("MAPRING_HOSTILE_IMAGES", given.seconds.saturating_mul(100).max(1000).to_string());
    let (text, status) = cmd::tee(cargo.args(["--", "--nocapture", "--test-threads=1"]))?;
    let mut counts = Counts::of_tests(&text, status.success());
    let numbers = text.lines().flat_map(Counts::numbers);
    let looked_at = |word: &str| ["images", "rounds", "shapes"].contains(&word.trim_end_matches(':'));
    counts.explored += numbers.filter(|(_, word)| looked_at(word)).map(|(number, _)| number).sum::<u64>();
    Ok(counts)
}

/// The kernel tests that run for as long as they are given.
pub(super) fn count_stress(given: &Given<'_>) -> Result<Counts> {
    let line = "cargo test --release -p mapring-kernel-tests --no-fail-fast --test stress --test nested \
                --test wakeable --test options --test keep_tails -- --nocapture --test-threads=1";
    let mut cargo = cmd::line(line);
    cargo.env("MAPRING_STRESS_SECONDS", given.seconds.to_string());
    counts::of(given.tools()?.export(&mut cargo))
}
