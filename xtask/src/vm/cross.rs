//! Builds the tests for a processor other than this machine's: aarch64 on x86-64.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::apt;
use super::kernels::Arch;
use crate::cmd;

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
    pub(crate) fn new(arch: Arch) -> Result<Self> {
        ensure!(arch == Arch::Arm, "on this machine tests can't be built for {}", arch.name());
        let line = format!("rustc --print target-libdir --target {TARGET}");
        if !Path::new(cmd::output(&mut cmd::line(&line))?.trim()).exists() {
            cmd::run(&mut cmd::line(&format!("rustup target add {TARGET}")))?;
        }
        Ok(Self { sysroot: apt::development(&["libelf-dev", "zlib1g-dev"], arch)? })
    }

    /// Makes a cargo command build for the other processor.
    pub(crate) fn export(&self, cargo: &mut Command) {
        cargo.args(["--target", TARGET]);
        cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", COMPILER);
        cargo.env("CC_aarch64_unknown_linux_gnu", COMPILER);
        cargo
            .env("CFLAGS_aarch64_unknown_linux_gnu", format!("-I{}", self.sysroot.join("include").display()));
        cargo.env(
            "LIBBPF_SYS_LIBRARY_PATH_aarch64_unknown_linux_gnu",
            self.sysroot.join("lib/aarch64-linux-gnu"),
        );
    }

    /// The libraries that the programs load: their path there, and their path here.
    pub(crate) fn libraries(&self) -> BTreeMap<PathBuf, PathBuf> {
        LOADED.map(|name| (Path::new("/lib").join(name), Path::new(LIBRARIES).join(name))).into()
    }
}
