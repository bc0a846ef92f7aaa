//! What a check needs of a machine, and whether this machine has it.

use std::cell::OnceCell;
use std::fmt;

use crate::setup::{self, Cannot, Tools};
use crate::{aarch64, cmd, privilege, toolchains, vm};

/// What a machine must have for a check; without it the check is skipped, loudly.
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

/// As the list of checks names it.
impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tools => "tools",
            Self::Bpf => "BPF",
            Self::OldestRust => "Rust 1.88",
            Self::Nightly(_) => "nightly",
            Self::Machines(_) => "QEMU, kernels",
            Self::Aarch64 => "aarch64",
            Self::Strace => "strace",
            Self::Path(path) => path,
        })
    }
}

/// What this machine has: found out when a check first needs it.
#[derive(Default)]
pub(crate) struct Machine {
    tools: OnceCell<Result<Tools, Cannot>>,
    oldest_rust: OnceCell<Result<(), String>>,
}

impl Machine {
    /// The tools of a BPF build, if they can be had.
    pub(crate) fn tools(&self) -> Option<&Tools> {
        self.look_for_tools().as_ref().ok()
    }

    fn look_for_tools(&self) -> &Result<Tools, Cannot> {
        self.tools.get_or_init(setup::ensure)
    }

    /// Those of the needs that are not met, and why.
    pub(crate) fn lacks(&self, needs: &[Need]) -> Vec<(Need, String)> {
        needs.iter().filter_map(|&need| Some((need, self.why_not(need)?))).collect()
    }

    /// Why a need is not met.
    fn why_not(&self, need: Need) -> Option<String> {
        let said = |result: anyhow::Result<()>| result.map_err(|error| format!("{error:#}"));
        match need {
            Need::Tools => self.look_for_tools().as_ref().err().map(Cannot::to_string),
            Need::Bpf => Some(privilege::obstacles().join("\n")).filter(|obstacles| !obstacles.is_empty()),
            Need::OldestRust => self.oldest_rust.get_or_init(|| said(toolchains::oldest())).clone().err(),
            Need::Nightly(components) => said(toolchains::nightly(components)).err(),
            Need::Machines(line) => vm::obstacle(line),
            Need::Aarch64 => aarch64::obstacle(),
            Need::Strace => setup::no_strace(),
            Need::Path(path) => (!cmd::root().join(path).exists()).then(|| format!("there is no {path}")),
        }
    }
}

/// The reasons, one below the other.
pub(crate) fn reasons(lacking: &[(Need, String)]) -> String {
    lacking.iter().map(|(_, why)| why.as_str()).collect::<Vec<_>>().join("\n")
}
