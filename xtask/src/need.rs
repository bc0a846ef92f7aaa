//! The requirements of a check, and whether this machine meets them.

use std::cell::OnceCell;
use std::fmt;

use anyhow::{Result, anyhow, ensure};

use crate::packages::{self, BROWSER, STRACE};
use crate::setup::{self, Tools};
use crate::{aarch64, deny, go, privilege, servers, toolchains, vm};

/// A requirement of a check; without it the check is skipped, with a visible message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The tools of a BPF build.
    Tools,
    /// A kernel that allows BPF, and the privilege to load programs.
    Bpf,
    /// The oldest supported Rust.
    OldestRust,
    /// A nightly Rust with these components.
    Nightly(&'static [&'static str]),
    /// QEMU, and the kernels that these commands boot.
    Machines(&'static [&'static str]),
    /// A compiler and an emulator for aarch64.
    Aarch64,
    /// Prometheus and others, fetched for the tests of the export.
    Servers,
    /// The compilers for the C headers.
    Compilers,
    /// A headless browser.
    Browser,
    /// A tracer that makes system calls fail.
    Strace,
    /// Go, and the libraries of the Go binding.
    Go,
    /// cargo-deny.
    Deny,
}

/// The text in the list of checks.
impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tools => "tools",
            Self::Bpf => "BPF",
            Self::OldestRust => "Rust 1.88",
            Self::Nightly(_) => "nightly",
            Self::Machines(_) => "QEMU, kernels",
            Self::Aarch64 => "aarch64",
            Self::Servers => "servers",
            Self::Compilers => "compilers",
            Self::Browser => "Chromium",
            Self::Strace => "strace",
            Self::Go => "Go",
            Self::Deny => "cargo-deny",
        })
    }
}

/// The capabilities of this machine, determined when a check first needs them.
#[derive(Default)]
pub(crate) struct Machine {
    tools: OnceCell<Result<Tools>>,
}

impl Machine {
    /// The tools of a BPF build; the error says how to get them.
    pub(crate) fn tools(&self) -> Result<&Tools> {
        let found = self.tools.get_or_init(setup::ensure);
        found.as_ref().map_err(|error| anyhow!("{error:#}"))
    }

    /// Why some of these requirements are not met, one per line, and whether BPF is one of them.
    pub(crate) fn lacks(&self, needs: &[Need]) -> Option<(String, bool)> {
        let why = |need| Some((need, format!("{:#}", self.has(need).err()?)));
        let (needs, why): (Vec<_>, Vec<_>) = needs.iter().copied().filter_map(why).unzip();
        let of_bpf = needs.contains(&Need::Tools) || needs.contains(&Need::Bpf);
        (!why.is_empty()).then(|| (why.join("\n"), of_bpf))
    }

    /// The error says why a requirement is not met.
    fn has(&self, need: Need) -> Result<()> {
        match need {
            Need::Tools => self.tools().map(|_| ()),
            Need::Bpf => {
                let obstacles = privilege::obstacles();
                ensure!(obstacles.is_empty(), obstacles.join("\n"));
                Ok(())
            }
            Need::OldestRust => toolchains::oldest(),
            Need::Nightly(components) => toolchains::nightly(components),
            Need::Machines(lines) => vm::ready(lines),
            Need::Aarch64 => aarch64::ready(),
            Need::Servers => servers::fetch(),
            Need::Compilers => packages::ensure(&packages::C_BINDING),
            Need::Browser => packages::ensure(&[BROWSER]),
            Need::Strace => packages::ensure(&[STRACE]),
            Need::Go => go::fetch(),
            Need::Deny => deny::fetch(),
        }
    }
}
