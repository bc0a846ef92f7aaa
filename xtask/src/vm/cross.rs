//! Builds for a processor with Debian's C libraries for it. aarch64 on another machine: compiles everything, runs the tests that
//! need no other kernel under QEMU's user-mode emulation, and builds the tests that guests run.

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

/// Compiles the library without C.
const LINT: &str = "cargo clippy --target-dir target/check -p mapring --no-default-features --features bpf,derive,hdrhistogram,tokio";
/// Compiles all crates with all tests and examples. The peers in the benchmarks, and Parquet, are most of the packages.
const LINT_ALL: &str = "cargo clippy --target-dir target/check --workspace --exclude mapring-benches --all-targets \
                    --features mapring-cli/bpf,mapring-hostile-tests/bpf,mapring/hdrhistogram";
/// Runs the library's tests of plain memory, memfds and threads.
const TEST: &str = "cargo test -p mapring --all-features --all-targets";

const EMULATOR: &str = "qemu-aarch64 -L /usr/aarch64-linux-gnu";
const COMPILER: &str = "aarch64-linux-gnu-gcc";

/// The folder of the C library in the cross compiler's packages, and its files that programs load.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu/lib";
const LOADED: [&str; 4] = ["ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6", "libgcc_s.so.1"];

/// The libraries needed in addition to the compiler.
pub(crate) struct Cross {
    arch: Arch,
    /// libelf and zlib, to link into the programs.
    sysroot: PathBuf,
}

impl Cross {
    /// Installs Rust's and C's libraries for this processor.
    pub(crate) fn new(arch: Arch) -> Result<Self> {
        ensure!(
            arch == Arch::HOST || arch == Arch::Arm,
            "on this machine nothing can be built for {}",
            arch.name()
        );
        toolchains::target(&target(arch))?;
        Ok(Self { arch, sysroot: apt::development(&["libelf-dev", "zlib1g-dev"], arch)? })
    }

    /// Makes a cargo command build for the processor. Programs for another one run in the emulator.
    pub(crate) fn export(&self, cargo: &mut Command) {
        let target = target(self.arch);
        let lib = format!("lib/{}-linux-gnu", self.arch.name());
        let [include, lib] = ["include", &lib].map(|folder| self.sysroot.join(folder));
        let of_target = target.replace('-', "_");
        cargo.args(["--target", &target]);
        cargo.env(format!("CFLAGS_{of_target}"), format!("-I{}", include.display()));
        cargo.env(format!("LIBBPF_SYS_LIBRARY_PATH_{of_target}"), lib);
        if self.arch != Arch::HOST {
            cargo.env(format!("CC_{of_target}"), COMPILER);
            let of_target = of_target.to_uppercase();
            cargo.env(format!("CARGO_TARGET_{of_target}_LINKER"), COMPILER);
            cargo.env(format!("CARGO_TARGET_{of_target}_RUNNER"), EMULATOR);
        }
    }

    /// The libraries that the programs load: their path there, and their path here.
    pub(super) fn libraries(&self) -> BTreeMap<PathBuf, PathBuf> {
        LOADED.map(|name| (Path::new("/lib").join(name), Path::new(LIBRARIES).join(name))).into()
    }
}

/// Rust's name for a processor with Linux and glibc.
pub(crate) fn target(arch: Arch) -> String {
    format!("{}-unknown-linux-gnu", arch.name())
}

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
