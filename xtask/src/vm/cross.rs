//! aarch64 on another machine: compiles everything, runs the tests that need no other kernel under QEMU's user-mode
//! emulation, and builds the tests that guests run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail, ensure};

use super::apt;
use super::kernels::Arch;
use crate::counts::{self, Counts};
use crate::packages::{self, ARM_COMPILER, DEBIAN_KEYS, QEMU_USER};
use crate::setup::Tools;
use crate::skip::Skip;
use crate::{cmd, toolchains};

/// Compiles all crates with all tests and examples. The peers in the benchmarks, and Parquet, are most of the packages.
const LINT: &str = "cargo clippy --target-dir target/check --workspace --exclude mapring-benches --all-targets \
                    --features mapring-cli/bpf,mapring-hostile-tests/bpf,mapring/hdrhistogram";
/// Runs the library's tests of plain memory, memfds and threads.
const TEST: &str = "cargo test -p mapring --all-features --all-targets";

const EMULATOR: &str = "qemu-aarch64 -L /usr/aarch64-linux-gnu";
const TARGET: &str = "aarch64-unknown-linux-gnu";
const COMPILER: &str = "aarch64-linux-gnu-gcc";

/// The folder of the C library in the cross compiler's packages, and its files that programs load.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu/lib";
const LOADED: [&str; 4] = ["ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6", "libgcc_s.so.1"];

/// The libraries needed in addition to the compiler.
pub(crate) struct Cross {
    /// libelf and zlib, to link into the programs.
    sysroot: PathBuf,
}

impl Cross {
    /// Installs Rust's and C's libraries for this processor.
    pub(super) fn new(arch: Arch) -> Result<Self> {
        ensure!(arch == Arch::Arm, "on this machine tests can't be built for {}", arch.name());
        toolchains::target(TARGET)?;
        Ok(Self { sysroot: apt::development(&["libelf-dev", "zlib1g-dev"], arch)? })
    }

    /// Makes a cargo command build for the other processor, and run programs in the emulator.
    pub(super) fn export(&self, cargo: &mut Command) {
        let [include, lib] = ["include", "lib/aarch64-linux-gnu"].map(|folder| self.sysroot.join(folder));
        cargo.args(["--target", TARGET]);
        cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", COMPILER);
        cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", EMULATOR);
        cargo.env("CC_aarch64_unknown_linux_gnu", COMPILER);
        cargo.env("CFLAGS_aarch64_unknown_linux_gnu", format!("-I{}", include.display()));
        cargo.env("LIBBPF_SYS_LIBRARY_PATH_aarch64_unknown_linux_gnu", lib);
    }

    /// The libraries that the programs load: their path there, and their path here.
    pub(super) fn libraries(&self) -> BTreeMap<PathBuf, PathBuf> {
        LOADED.map(|name| (Path::new("/lib").join(name), Path::new(LIBRARIES).join(name))).into()
    }
}

/// Installs the compiler, the emulator and the libraries.
pub(crate) fn ready() -> Result<()> {
    if Arch::HOST == Arch::Arm { Ok(()) } else { emulated().map(drop) }
}

fn emulated() -> Result<Cross> {
    packages::ensure(&[ARM_COMPILER, QEMU_USER, DEBIAN_KEYS])?;
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
    emulated()?.export(&mut cargo);
    tools.export(&mut cargo);
    Ok(cargo)
}
