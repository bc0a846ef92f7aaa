//! The steps of `cargo xtask test`, in order: what each needs, the command that it is, and what of it is quick.

use std::env;
use std::fmt;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::setup::Tools;
use crate::{aarch64, assembly, cmd, headers, litmus, loom, mutants, vm};

/// What a machine must have for a step; without it the step is skipped, loudly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The tools of a BPF build.
    Tools,
    /// A kernel and the privilege to load programs.
    Bpf,
    /// The oldest Rust that is promised to work.
    OldestRust,
    /// A nightly Rust with these components.
    Nightly(&'static [&'static str]),
    /// QEMU, and the kernels that this command boots.
    Machines(&'static str),
    /// What compiles for aarch64 and runs that.
    Aarch64,
    /// A tracer that makes system calls fail.
    Strace,
    /// A part of the repository.
    Path(&'static str),
}

/// The error of what can't run here after all: why.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// How a step is done.
pub(crate) enum Work {
    /// Commands, one after the other.
    Lines(&'static [&'static str]),
    /// More than that; the tools are there if the step needs them.
    Code { shown: &'static str, run: fn(Option<&Tools>) -> Result<()> },
}

/// What a step does, or the quick part of one.
pub(crate) struct Part {
    pub(crate) needs: &'static [Need],
    pub(crate) work: Work,
}

/// One named part of the tests.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) whole: Part,
    quick: Quick,
}

/// What of a step is run without `--all`.
enum Quick {
    Whole,
    Less(Part),
    Nothing,
}

impl Step {
    /// What is run without `--all`, if anything.
    pub(crate) fn quick(&self) -> Option<&Part> {
        match &self.quick {
            Quick::Whole => Some(&self.whole),
            Quick::Less(part) => Some(part),
            Quick::Nothing => None,
        }
    }

    const fn or(self, needs: &'static [Need], work: Work) -> Self {
        Self { quick: Quick::Less(Part { needs, work }), ..self }
    }

    const fn only_in_all(self) -> Self {
        Self { quick: Quick::Nothing, ..self }
    }
}

use Need::{Bpf, OldestRust};
use Work::{Code, Lines};

const fn step(name: &'static str, needs: &'static [Need], work: Work) -> Step {
    Step { name, whole: Part { needs, work }, quick: Quick::Whole }
}

/// All steps. Cheap ones first; steps of one build profile next to each other.
pub(crate) static STEPS: &[Step] = &[
    step("setup", &[Need::Tools], Code { shown: "cargo xtask setup", run: |_| Ok(()) }),
    step("fmt", &[], Lines(&["cargo fmt --all --check"])),
    step(
        "clippy",
        &[Need::Tools],
        Lines(&["cargo clippy --workspace --all-targets --all-features -- -D warnings"]),
    )
    .or(
        // Without the peers that are measured beside mapring: they are most of the packages. Build scripts and macros are
        // those that the steps below use.
        &[Need::Tools],
        Lines(&[
            "cargo clippy --release --workspace --exclude mapring-benches --all-targets --all-features -- -D warnings",
        ]),
    ),
    step(
        "clippy-memfd",
        &[],
        Lines(&[
            "cargo clippy -p mapring -p mapring-demo -p mapring-hostile-tests -p xtask --no-default-features --all-targets -- -D warnings",
        ]),
    ),
    step("docs", &[Need::Tools], Lines(&["RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps -p mapring"])),
    step("unit", &[Need::Tools], Lines(&["cargo test -p mapring --all-targets"])),
    step("unit-memfd", &[], Lines(&["cargo test -p mapring -p xtask --no-default-features --all-targets"])),
    step("doctest", &[Need::Tools], Lines(&["cargo test -p mapring --doc"])),
    step("doctest-memfd", &[], Lines(&["cargo test -p mapring --doc --no-default-features"])),
    step(
        "headers",
        &[Need::Tools],
        Code {
            shown: "clang -target bpf -Wall -Wextra -Werror … on every *.bpf.c, with every clang here",
            run: |tools| headers::run(tools.context("no tools")?),
        },
    ),
    step(
        "examples",
        &[Need::Tools, Bpf],
        Lines(&["cargo test --release -p mapring-examples -p mapring-demo --all-features"]),
    ),
    step(
        "examples-memfd",
        &[],
        Lines(&["cargo test --release -p mapring-examples -p mapring-demo --no-default-features"]),
    )
    .only_in_all(),
    step(
        "demo",
        &[Need::Tools, Bpf],
        Code { shown: "cargo xtask demo --json --seconds 1", run: |_| one_json_object(&[]) },
    ),
    step(
        "demo-memfd",
        &[],
        Code { shown: "cargo xtask demo --json --seconds 1 --memfd", run: |_| one_json_object(&["--memfd"]) },
    ),
    step(
        "kernel",
        &[Need::Tools, Bpf],
        Lines(&["cargo test --release -p mapring-kernel-tests -- --test-threads=1"]),
    )
    .or(
        &[Need::Tools, Bpf],
        Lines(&["MAPRING_STRESS_SECONDS=2 cargo test --release -p mapring-kernel-tests -- --test-threads=1"]),
    ),
    step("hostile-memfd", &[], Lines(&["cargo test -p mapring-hostile-tests"])),
    step(
        "hostile",
        &[Need::Tools, Bpf],
        Lines(&["cargo test -p mapring-hostile-tests --features bpf --test hostile maps::"]),
    )
    .or(
        // Built as the tests of the kernel are.
        &[Need::Tools, Bpf],
        Lines(&["cargo test --release -p mapring-hostile-tests --features bpf --test hostile maps::"]),
    ),
    step(
        "faults",
        &[Need::Tools, Bpf, Need::Strace],
        Lines(&["cargo test -p mapring-hostile-tests --features bpf --test faults"]),
    )
    .or(
        &[Need::Tools, Bpf, Need::Strace],
        Lines(&["MAPRING_FAULTS_ERRNOS=ENOMEM cargo test --release -p mapring-hostile-tests --features bpf --test faults"]),
    ),
    step(
        "vm",
        &[Need::Tools, Need::Machines(vm::STEP)],
        Code { shown: vm::STEP, run: |tools| vm::step(vm::STEP, tools.context("no tools")?) },
    )
    .or(
        &[Need::Tools, Need::Machines(vm::STEP_QUICK)],
        Code { shown: vm::STEP_QUICK, run: |tools| vm::step(vm::STEP_QUICK, tools.context("no tools")?) },
    ),
    step(
        "assembly",
        &[Need::Tools],
        Code {
            shown: "cargo xtask assembly",
            run: |tools| assembly::step(&assembly::Args::default(), tools),
        },
    ),
    step(
        "clippy-aarch64",
        &[Need::Tools, Need::Aarch64],
        Code {
            shown: "cargo clippy --workspace --all-targets --all-features --target aarch64-unknown-linux-gnu …",
            run: |tools| aarch64::lint(tools.context("no tools")?),
        },
    )
    .only_in_all(),
    step(
        "aarch64",
        &[Need::Tools, Need::Aarch64],
        Code {
            shown: "cargo test -p mapring --all-features --all-targets --target aarch64-unknown-linux-gnu, under qemu-user",
            run: |tools| aarch64::test(tools.context("no tools")?),
        },
    )
    .only_in_all(),
    step(
        "vm-aarch64",
        &[Need::Tools, Need::Aarch64, Need::Machines(vm::STEP_ARM)],
        Code { shown: vm::STEP_ARM, run: |tools| vm::step(vm::STEP_ARM, tools.context("no tools")?) },
    )
    .only_in_all(),
    step("benches", &[Need::Tools], Lines(&["cargo bench -p mapring-benches --no-run"])).only_in_all(),
    step(
        "clippy-loom",
        &[],
        Code {
            shown: "RUSTFLAGS='--cfg loom' cargo clippy --release -p mapring-loom-tests --target-dir target/loom …",
            run: |_| loom::clippy(),
        },
    )
    .only_in_all(),
    step(
        "litmus",
        &[],
        Code {
            shown: "litmus/run.sh aarch64/* bpf/* x86/* (those of lkmm/ fetch the kernel's source, too)",
            run: |_| small_litmus(),
        },
    ),
    step(
        "bpf-loom",
        &[Need::Tools],
        Code {
            shown: "cargo test --release -p mapring-bpf-loom; the same with RUSTFLAGS='--cfg loom', --test models",
            run: |tools| bpf_loom(tools.context("no tools")?),
        },
    )
    .or(
        // Compiled code against the reference, one thread at a time; models of several threads are in `loom`.
        &[Need::Tools],
        Lines(&["cargo test --release -p mapring-bpf-loom"]),
    ),
    step("loom", &[], Code { shown: "cargo xtask loom", run: |_| loom::models(|command| command) }).or(
        &[],
        Code {
            shown: "cargo xtask loom, without its models `bpf_xchg::…`",
            run: |_| loom::models(|command| command.args(["--", "--skip", "bpf_xchg"])),
        },
    ),
    step(
        "mutants",
        &[],
        Code { shown: "cargo xtask loom --mutants", run: |_| mutants::run(&mutants::selected("")?) },
    )
    .or(&[], Code { shown: "some of cargo xtask loom --mutants", run: |_| mutants::run(&mutants::sample()?) }),
    step("msrv", &[Need::Tools, OldestRust], Lines(&["rustup run 1.88.0 cargo check -p mapring"]))
        .only_in_all(),
    step(
        "msrv-memfd",
        &[OldestRust],
        Lines(&["rustup run 1.88.0 cargo check -p mapring -p mapring-demo -p xtask --no-default-features"]),
    )
    .only_in_all(),
];

/// The version that the lines above name.
const OLDEST_RUST: &str = "1.88.0";

/// Makes sure of the oldest Rust; if it can't be had, why.
pub(crate) fn oldest_rust() -> Result<()> {
    let there = || cmd::succeeds(&mut cmd::line(&format!("rustup run {OLDEST_RUST} cargo --version")), "");
    if there() {
        return Ok(());
    }
    if !cmd::exists("rustup") {
        bail!("no rustup to get Rust {OLDEST_RUST} with (https://rustup.rs)");
    }
    cmd::run(&mut cmd::line(&format!("rustup toolchain install {OLDEST_RUST} --profile minimal")))?;
    ensure!(there(), "Rust {OLDEST_RUST} does not run");
    Ok(())
}

/// All but the tests under the kernel's model, which is a large download.
fn small_litmus() -> Result<()> {
    let (_, status) = litmus::run(&["aarch64", "bpf", "x86"])?;
    ensure!(status.success(), "see above");
    Ok(())
}

/// The compiled code in all models; `cargo xtask prove bpf-loom` has its mutants as well.
fn bpf_loom(tools: &Tools) -> Result<()> {
    cmd::run(tools.export(&mut cmd::line("cargo test --release -p mapring-bpf-loom")))?;
    let mut models = loom::cargo_of("mapring-bpf-loom", "test");
    cmd::run(tools.export(models.args(["--test", "models"])))
}

/// The demo, started as a user would: stdout must hold one JSON object and nothing else.
fn one_json_object(options: &[&str]) -> Result<()> {
    let mut demo = Command::new(env::current_exe()?);
    demo.args(["demo", "--json", "--seconds", "1"]).args(options).stderr(std::process::Stdio::inherit());
    let said = cmd::output(&mut demo)?;
    let object: serde_json::Value =
        serde_json::from_str(&said).with_context(|| format!("not JSON: {said:?}"))?;
    ensure!(object.is_object(), "not a JSON object: {said:?}");
    println!("{}", said.trim_end());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_unique() {
        let mut names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        assert!(
            names
                .iter()
                .all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'))
        );
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn the_oldest_rust_is_the_one_promised() {
        assert_eq!(OLDEST_RUST, format!("{}.0", env!("CARGO_PKG_RUST_VERSION")));
        let lines = STEPS.iter().filter(|step| step.whole.needs.contains(&OldestRust));
        for step in lines {
            assert!(
                matches!(step.whole.work, Lines(lines) if lines.iter().all(|line| line.contains(OLDEST_RUST)))
            );
        }
    }
}
