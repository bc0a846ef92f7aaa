//! What some checks do that one command line does not say: first for the steps of the tests, then for methods of proof.

use std::env;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::kinds::Given;
use crate::counts::{self, Counts};
use crate::loom::models;
use crate::setup::Tools;
use crate::{cmd, litmus};

/// The demo, started as a user would: stdout must hold one JSON object and nothing else.
pub(super) fn one_json_object(options: &[&str]) -> Result<()> {
    let mut demo = Command::new(env::current_exe()?);
    demo.args(["demo", "--json", "--seconds", "1"]).args(options).stderr(Stdio::inherit());
    let said = cmd::output(&mut demo)?;
    let object: serde_json::Value =
        serde_json::from_str(&said).with_context(|| format!("not JSON: {said:?}"))?;
    ensure!(object.is_object(), "not a JSON object: {said:?}");
    println!("{}", said.trim_end());
    Ok(())
}

/// All but the tests under the kernel's model, which is a large download.
pub(super) fn small_litmus() -> Result<()> {
    let (_, status) = litmus::run(&["aarch64", "bpf", "x86"])?;
    ensure!(status.success(), "see above");
    Ok(())
}

/// The compiled code in all models; the method of this name has its mutants as well.
pub(super) fn bpf_loom(tools: &Tools) -> Result<()> {
    cmd::run(tools.export(&mut cmd::line("cargo test --release -p mapring-bpf-loom")))?;
    let mut models = models::cargo_of("mapring-bpf-loom", "test");
    cmd::run(tools.export(models.args(["--test", "models"])))
}

/// Twice: what needs no loom, and under loom, mutants included.
pub(super) fn count_bpf_loom(given: &Given<'_>) -> Result<Counts> {
    let tools = given.needed_tools()?;
    let clangs: Vec<_> = tools.clangs.iter().map(|clang| clang.version.as_str()).collect();
    let clangs = clangs.join(",");
    let mut plain = cmd::line("cargo test --release -p mapring-bpf-loom --no-fail-fast -- --nocapture");
    let mut counts = counts::of(tools.export(plain.env("CLANGS", &clangs)))?;
    let mut cargo = models::cargo_of("mapring-bpf-loom", "test");
    cargo.env("CLANGS", &clangs);
    cargo.args(["--no-fail-fast", "--", "--nocapture", "--test-threads=1"]);
    counts += counts::of(tools.export(&mut cargo))?;
    Ok(counts)
}

/// `proofs/litmus/run.sh`, whose last line has the numbers.
pub(super) fn count_litmus() -> Result<Counts> {
    let (said, status) = litmus::run(&[])?;
    Ok(Counts::of_tests(said.lines().next_back().unwrap_or_default(), status.success()))
}

pub(super) fn count_loom() -> Result<Counts> {
    counts::of(models::cargo("test").args(["--no-fail-fast", "--", "--nocapture"]))
}

/// As `cargo xtask loom --mutants`, whose last line has the numbers.
pub(super) fn count_mutants() -> Result<Counts> {
    let mut all = Command::new(env::current_exe()?);
    let mut counts = counts::of(all.args(["loom", "--mutants"]))?;
    // The models that it runs first are the method `loom`.
    counts.cases = counts.mutants;
    Ok(counts)
}

/// With maps among the memory where programs can be built.
pub(super) fn count_hostile(given: &Given<'_>) -> Result<Counts> {
    let mut cargo = cmd::line("cargo test --release -p mapring-hostile-tests --no-fail-fast");
    if let Some(tools) = given.tools() {
        tools.export(cargo.args(["--features", "bpf"]));
    }
    cargo.env("MAPRING_HOSTILE_SECONDS", given.seconds.to_string());
    // There are ten sorts; a thousand of one take a second or two.
    cargo.env("MAPRING_HOSTILE_IMAGES", given.seconds.saturating_mul(100).max(1000).to_string());
    let (said, status) = cmd::tee(cargo.args(["--", "--nocapture", "--test-threads=1"]))?;
    let mut counts = Counts::of_tests(&said, status.success());
    let numbers = said.lines().flat_map(Counts::numbers);
    let looked_at = |word: &str| ["images", "rounds", "shapes"].contains(&word.trim_end_matches(':'));
    counts.explored += numbers.filter(|(_, word)| looked_at(word)).map(|(number, _)| number).sum::<u64>();
    Ok(counts)
}

/// The tests of the kernel that are longer the more time they get.
pub(super) fn count_stress(given: &Given<'_>) -> Result<Counts> {
    let line = "cargo test --release -p mapring-kernel-tests --no-fail-fast --test stress --test nested \
                -- --nocapture --test-threads=1";
    let mut cargo = cmd::line(line);
    cargo.env("MAPRING_STRESS_SECONDS", given.seconds.to_string());
    counts::of(given.needed_tools()?.export(&mut cargo))
}
