//! The lints and the library's tests for aarch64, on another machine: QEMU's user-mode emulation runs what needs no other
//! kernel.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, mount};

use crate::cmd;
use crate::counts::{self, Counts};
use crate::packages::{self, ARM_COMPILER, DEBIAN_KEYS, QEMU_USER};
use crate::setup::Tools;
use crate::skip::Skip;
use crate::vm::{Arch, cross::Cross};

/// Compiles the library without C.
const LINT: &str =
    "cargo clippy --target-dir target/check -p mapring-core -p mapring-sys -p mapring --all-features";
/// Compiles all crates with all tests and examples. The peers in the benchmarks, and Parquet, are most of the packages.
const LINT_ALL: &str = "cargo clippy --target-dir target/check --workspace --exclude mapring-benches --all-targets \
                    --features mapring-cli/bpf,mapring-hostile-tests/bpf,mapring/hdrhistogram";
/// Runs the library's tests of plain memory, memfds and threads.
const TEST: &str =
    "cargo test -p mapring -p mapring-core -p mapring-sys -p mapring-loader --all-features --all-targets";
/// The one that is left out: the emulator tells a process that it started at 0 (`open_self_stat` in QEMU's
/// linux-user/syscall.c), and others when it did, so each takes the other one for dead.
const WITHOUT: &str = "processes_wake_each_other";

/// Installs the compiler, the emulator and the libraries.
pub(crate) fn ready() -> Result<()> {
    if Arch::HOST == Arch::Arm { Ok(()) } else { emulated().map(drop) }
}

fn emulated() -> Result<Cross> {
    packages::ensure(&[ARM_COMPILER, QEMU_USER, DEBIAN_KEYS])?;
    Cross::new(Arch::Arm)
}

/// The lints of the library, for the step, or of all crates.
pub(crate) fn lint(tools: &Tools, all: bool) -> Result<()> {
    cmd::run(cargo(tools, if all { LINT_ALL } else { LINT })?.args(["--", "-D", "warnings"]))
}

/// The library's tests.
pub(crate) fn test(tools: &Tools) -> Result<Counts> {
    let mut cargo = cargo(tools, TEST)?;
    let _children = Children::run()?;
    counts::of(cargo.args(["--", "--skip", WITHOUT]))
}

fn cargo(tools: &Tools, line: &str) -> Result<Command> {
    if Arch::HOST == Arch::Arm {
        bail!(Skip("this machine is one: the other steps have done it".into()));
    }
    let mut cargo = cmd::line(line);
    emulated()?.export(&mut cargo);
    tools.export(&mut cargo);
    Ok(cargo)
}

/// While it exists, the kernel runs also those programs for aarch64 that a test starts.
struct Children;

impl Children {
    const FOLDER: &str = "/proc/sys/fs/binfmt_misc";
    const NAME: &str = "mapring-aarch64";

    fn run() -> Result<Self> {
        let (folder, kind) = (Path::new(Self::FOLDER), "binfmt_misc");
        if !folder.join("register").exists() {
            mount(kind, folder, kind, MountFlags::empty(), None)
                .context("binfmt_misc can't be mounted: run this as root")?;
        }
        // What a run left that was killed.
        drop(Self);
        // The begin of an ELF file of 64 bits, little-endian, of a program or shared object, for aarch64.
        let magic = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00";
        let mask = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";
        let line = format!(":{}:M::{magic}:{mask}:/usr/bin/qemu-aarch64:", Self::NAME);
        fs::write(folder.join("register"), line)
            .context("can't register programs for aarch64: run this as root")?;
        Ok(Self)
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        let _ = fs::write(Path::new(Self::FOLDER).join(Self::NAME), "-1");
    }
}
