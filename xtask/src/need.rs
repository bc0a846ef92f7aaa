//! The requirements of a check, and whether this machine meets them.

use std::cell::OnceCell;
use std::fmt;

use crate::setup::{self, Cannot, Tools};
use crate::{aarch64, cmd, privilege, servers, toolchains, vm};

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
    /// A tracer that makes system calls fail.
    Strace,
    /// A part of the repository.
    Path(&'static str),
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
            Self::Strace => "strace",
            Self::Path(path) => path,
        })
    }
}

/// The capabilities of this machine, determined when a check first needs them.
#[derive(Default)]
pub(crate) struct Machine {
    tools: OnceCell<Result<Tools, Cannot>>,
    oldest_rust: OnceCell<Result<(), String>>,
}

impl Machine {
    /// The tools of a BPF build, if available.
    pub(crate) fn tools(&self) -> Option<&Tools> {
        self.look_for_tools().as_ref().ok()
    }

    fn look_for_tools(&self) -> &Result<Tools, Cannot> {
        self.tools.get_or_init(setup::ensure)
    }

    /// The requirements that are not met, and why.
    pub(crate) fn lacks(&self, needs: &[Need]) -> Vec<(Need, String)> {
        needs.iter().filter_map(|&need| Some((need, self.why_not(need)?))).collect()
    }

    /// Why a requirement is not met.
    fn why_not(&self, need: Need) -> Option<String> {
        let said = |result: anyhow::Result<()>| result.map_err(|error| format!("{error:#}"));
        match need {
            Need::Tools => self.look_for_tools().as_ref().err().map(Cannot::to_string),
            Need::Bpf => Some(privilege::obstacles().join("\n")).filter(|obstacles| !obstacles.is_empty()),
            Need::OldestRust => self.oldest_rust.get_or_init(|| said(toolchains::oldest())).clone().err(),
            Need::Nightly(components) => said(toolchains::nightly(components)).err(),
            Need::Machines(lines) => lines.iter().find_map(|line| vm::obstacle(line)),
            Need::Aarch64 => aarch64::obstacle(),
            Need::Servers => servers::obstacle(),
            Need::Strace => setup::no_strace(),
            Need::Path(path) => (!cmd::root().join(path).exists()).then(|| format!("there is no {path}")),
        }
    }
}

/// The reasons, one per line.
pub(crate) fn reasons(lacking: &[(Need, String)]) -> String {
    lacking.iter().map(|(_, why)| why.as_str()).collect::<Vec<_>>().join("\n")
}
