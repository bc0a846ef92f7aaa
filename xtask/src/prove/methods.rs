//! The methods, in the order in which they run: what each needs, and how its numbers are had.

use std::env;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Counts, nightly, source_mutants};
use crate::setup::Tools;
use crate::steps::Need::{self, Bpf, Nightly, Path};
use crate::{assembly, cmd, litmus, loom};

/// One way to look for mistakes.
pub(super) struct Method {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) needs: &'static [Need],
    pub(super) run: fn(&Given<'_>) -> Result<Counts>,
}

/// What a method may use.
pub(super) struct Given<'a> {
    pub(super) tools: &'a dyn Fn() -> Option<&'a Tools>,
    pub(super) seconds: u32,
}

const fn method(
    name: &'static str,
    what: &'static str,
    needs: &'static [Need],
    run: fn(&Given<'_>) -> Result<Counts>,
) -> Method {
    Method { name, what, needs, run }
}

/// All of them. Cheap ones first.
pub(super) const METHODS: &[Method] = &[
    method("assembly", "machine code of the hot paths: barriers there, locks and calls not", &[], |given| {
        assembly::run(&assembly::Args::default(), (given.tools)())
    }),
    method(
        "litmus",
        "the protocols under the kernel's, Arm's and x86's memory models",
        &[Path("litmus")],
        |_| litmus(),
    ),
    method("loom", "every interleaving of the production sources, bounded where it says so", &[], |_| {
        tests(loom::cargo("test").args(["--no-fail-fast", "--", "--nocapture"]))
    }),
    method(
        "mutants",
        "the same with one fence, ordering or check less: a model must fail",
        &[Path("loom-tests/mutants.toml")],
        |_| mutants(),
    ),
    method(
        "bpf-loom",
        "the compiled BPF code under loom, against the production readers",
        &[Path("bpf-loom"), Need::Tools],
        bpf_loom,
    ),
    method(
        "source-mutants",
        "each function of the library changed by cargo-mutants: a test must fail; goes on where it stopped",
        FAULTS,
        |given| {
            let time = Duration::from_secs(given.seconds.into());
            source_mutants::run((given.tools)().context("no tools")?, time)
        },
    ),
    method("miri", "undefined behaviour and stale loads, under many schedules", MIRI, |_| nightly::miri()),
    method("asan", "accesses out of bounds, over memory files", BUILD_STD, |_| {
        nightly::sanitizer("address", "a_load_out_of_bounds", "AddressSanitizer")
    }),
    method("tsan", "data races around the shared words, over memory files", BUILD_STD, |_| {
        nightly::sanitizer("thread", "a_data_race", "ThreadSanitizer: data race")
    }),
    method("hostile", "memory that anyone scribbles on, writers that die", &[Path("hostile-tests")], hostile),
    method("faults", "each system call of the library fails once, at each place", FAULTS, |given| {
        let mut cargo =
            cmd::line("cargo test -p mapring-hostile-tests --features bpf --test faults -- --nocapture");
        cargo.env("MAPRING_FAULTS_ERRNOS", "EPERM,ENOMEM,EINTR,EAGAIN,EINVAL");
        tests((given.tools)().context("no tools")?.export(&mut cargo))
    }),
    method("zero-syscalls", "readers that no system call survives, on read-only pages", BPF, |given| {
        kernel_tests(given, &["--test", "zero_syscalls"])
    }),
    method("kernel", "all tests of the real kernel", BPF, |given| kernel_tests(given, &[])),
    method("stress", "writers nested in writers on all CPUs, each word and ticket checked", BPF, |given| {
        kernel_tests(given, &["--test", "stress", "--test", "nested"])
    }),
];

const BPF: &[Need] = &[Need::Tools, Bpf];
const FAULTS: &[Need] = &[Need::Tools, Bpf, Need::Strace];
const MIRI: &[Need] = &[Nightly(&["miri", "rust-src"])];
const BUILD_STD: &[Need] = &[Nightly(&["rust-src"])];

/// Runs test programs, and counts what they print.
pub(super) fn tests(command: &mut Command) -> Result<Counts> {
    let (said, status) = cmd::tee(command)?;
    Ok(Counts::of_tests(&said, status.success()))
}

fn kernel_tests(given: &Given<'_>, which: &[&str]) -> Result<Counts> {
    let mut cargo = cmd::line("cargo test --release -p mapring-kernel-tests --no-fail-fast");
    cargo.args(which).args(["--", "--nocapture", "--test-threads=1"]);
    if which.contains(&"stress") {
        cargo.env("MAPRING_STRESS_SECONDS", given.seconds.to_string());
    }
    tests((given.tools)().context("no tools")?.export(&mut cargo))
}

/// As `cargo xtask loom --mutants`, whose last line has the numbers.
fn mutants() -> Result<Counts> {
    let mut all = Command::new(env::current_exe()?);
    let (said, status) = cmd::tee(all.args(["loom", "--mutants"]))?;
    let mut counts = Counts::of_tests(&said, status.success());
    // The models that it runs first are the method above.
    counts.cases = counts.mutants;
    Ok(counts)
}

/// Twice: what needs no loom, and under loom, mutants included.
fn bpf_loom(given: &Given<'_>) -> Result<Counts> {
    let tools = (given.tools)().context("no tools")?;
    let clangs: Vec<_> = tools.clangs.iter().map(|clang| clang.version.as_str()).collect();
    let clangs = clangs.join(",");
    let mut plain = cmd::line("cargo test --release -p mapring-bpf-loom --no-fail-fast -- --nocapture");
    let mut counts = tests(tools.export(plain.env("CLANGS", &clangs)))?;
    let mut cargo = loom::cargo_of("mapring-bpf-loom", "test");
    cargo.env("CLANGS", &clangs);
    cargo.args(["--no-fail-fast", "--", "--nocapture", "--test-threads=1"]);
    let (said, status) = cmd::tee(tools.export(&mut cargo))?;
    counts += Counts::of_tests(&said, status.success());
    Ok(counts)
}

/// With maps among the memory where programs can be built.
fn hostile(given: &Given<'_>) -> Result<Counts> {
    let mut cargo = cmd::line("cargo test --release -p mapring-hostile-tests --no-fail-fast");
    if let Some(tools) = (given.tools)() {
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

/// `litmus/run.sh`, whose last line has the numbers.
fn litmus() -> Result<Counts> {
    let (said, status) = litmus::run(&[])?;
    Ok(Counts::of_tests(said.lines().next_back().unwrap_or_default(), status.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_unique() {
        let mut names: Vec<_> = METHODS.iter().map(|method| method.name).collect();
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METHODS.len());
    }
}
