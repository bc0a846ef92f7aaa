//! The aarch64 steps on another machine: compile everything, and run the tests that need no other kernel, under QEMU's
//! user-mode emulation. `cargo xtask vm --arch aarch64` boots kernels.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::archives::DEBIAN;
use crate::cmd;
use crate::counts::{self, Counts};
use crate::packages::Tool;
use crate::setup::{self, Tools};
use crate::skip::Skip;
use crate::vm::{Arch, Cross};

/// Compiles all crates with all tests and examples. The peers in the benchmarks, and Parquet, are most of the packages.
const LINT: &str = "cargo clippy --target-dir target/check --workspace --exclude mapring-benches --all-targets \
                    --features mapring-cli/bpf,mapring-hostile-tests/bpf,mapring/hdrhistogram";
/// Runs the library's tests of plain memory, memfds and threads.
const TEST: &str = "cargo test -p mapring --all-features --all-targets";

const EMULATOR: &str = "qemu-aarch64 -L /usr/aarch64-linux-gnu";

/// Why the steps can't run here: the compiler, the emulator or the libraries are not available.
pub(crate) fn obstacle() -> Option<String> {
    if Arch::HOST == Arch::Arm {
        return None;
    }
    cross().err().map(|error| format!("{error:#}"))
}

/// Installs missing tools.
fn cross() -> Result<Cross> {
    let missing = || {
        let mut missing: Vec<_> = [Tool::ArmCompiler, Tool::QemuUser]
            .into_iter()
            .filter(|tool| !cmd::exists(&tool.to_string()))
            .collect();
        if !Path::new(DEBIAN.keyring).exists() {
            missing.push(Tool::DebianKeys);
        }
        missing
    };
    if !missing().is_empty() {
        setup::install(missing())?;
    }
    ensure!(missing().is_empty(), "apt-get succeeded, yet {} is not found", missing()[0]);
    Cross::new(Arch::Arm)
}

/// The step `clippy-aarch64`.
pub(crate) fn lint(tools: &Tools) -> Result<()> {
    cmd::run(cargo(tools, LINT)?.args(["--", "-D", "warnings"]))
}

/// The library's tests.
pub(crate) fn test(tools: &Tools) -> Result<Counts> {
    counts::of(&mut cargo(tools, TEST)?)
}

fn cargo(tools: &Tools, line: &str) -> Result<Command> {
    if Arch::HOST == Arch::Arm {
        bail!(Skip("this machine is one: the other steps have done it".into()));
    }
    let mut cargo = cmd::line(line);
    cross()?.export(&mut cargo);
    cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", EMULATOR);
    tools.export(&mut cargo);
    Ok(cargo)
}
