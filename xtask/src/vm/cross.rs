//! Builds for a processor with Debian's C libraries for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::apt;
use super::kernels::Arch;
use crate::toolchains;

const EMULATOR: &str = "qemu-aarch64";
const COMPILER: &str = "aarch64-linux-gnu-gcc";

/// The folder of the cross compiler's packages, and the files of its C library that programs load.
const ROOT: &str = "/usr/aarch64-linux-gnu";
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
            // Also for the programs that a program starts.
            cargo.env("QEMU_LD_PREFIX", ROOT);
        }
    }

    /// The libraries that the programs load: their path there, and their path here.
    pub(super) fn libraries(&self) -> BTreeMap<PathBuf, PathBuf> {
        LOADED.map(|name| (Path::new("/lib").join(name), Path::new(ROOT).join("lib").join(name))).into()
    }
}

/// Rust's name for a processor with Linux and glibc.
pub(crate) fn target(arch: Arch) -> String {
    format!("{}-unknown-linux-gnu", arch.name())
}
