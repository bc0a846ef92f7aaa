//! The kernels that can be booted: where each comes from, and which packages contain its image.

use anyhow::Result;

use crate::archives::{Archive, DEBIAN, UBUNTU};
use crate::cmd;

/// A processor that QEMU emulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arch {
    #[value(name = "x86_64")]
    X86,
    #[value(name = "aarch64")]
    Arm,
}

impl Arch {
    /// This machine's.
    pub(crate) const HOST: Self = if cfg!(target_arch = "aarch64") { Self::Arm } else { Self::X86 };

    /// Debian's name for it.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::X86 => "amd64",
            Self::Arm => "arm64",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "aarch64",
        }
    }
}

/// A kernel of the matrix.
pub(super) struct Kernel {
    pub(super) name: &'static str,
    pub(super) archive: &'static Archive,
    pub(super) suite: &'static str,
    /// The image's package or one that depends on it; `{}` stands for Debian's name of the processor.
    package: &'static str,
    /// The processors on which it is booted by default.
    usual: &'static [Arch],
    /// On aarch64 only: this processor instead of the most capable one.
    pub(super) cpu: Option<&'static str>,
    /// The value of `preempt=` on the kernel's command line; the guest fails if the kernel does not apply it.
    pub(super) preempt: Option<&'static str>,
}

const fn kernel(
    name: &'static str,
    archive: &'static Archive,
    suite: &'static str,
    package: &'static str,
    usual: &'static [Arch],
) -> Kernel {
    Kernel { name, archive, suite, package, usual, cpu: None, preempt: None }
}

const NEVER: &[Arch] = &[];
const ON_X86: &[Arch] = &[Arch::X86];
const USUAL: &[Arch] = &[Arch::X86, Arch::Arm];
/// Debian's packages: a kernel for virtual machines, and with PREEMPT_RT.
const CLOUD: &str = "linux-image-cloud-{}";
const RT: &str = "linux-image-rt-{}";
/// The kernel preempts programs wherever it can, as with PREEMPT_RT; by default it does not.
const FULL: Option<&str> = Some("full");

/// The oldest first. Ubuntu no longer replaces its kernels up to 6.5, so their package names are stable.
pub(super) const KERNELS: [Kernel; 22] = [
    kernel("5.10", &DEBIAN, "bullseye", CLOUD, USUAL),
    kernel("5.10-rt", &DEBIAN, "bullseye", RT, NEVER),
    kernel("5.11", &UBUNTU, "focal-updates", "linux-image-unsigned-5.11.0-46-generic", NEVER),
    kernel("5.13", &UBUNTU, "focal-updates", "linux-image-unsigned-5.13.0-52-generic", NEVER),
    kernel("5.14", &UBUNTU, "focal-updates", "linux-image-unsigned-5.14.0-1059-oem", NEVER),
    kernel("5.15", &UBUNTU, "jammy-updates", "linux-image-generic", USUAL),
    kernel("5.17", &UBUNTU, "jammy-updates", "linux-image-unsigned-5.17.0-1035-oem", NEVER),
    kernel("5.19", &UBUNTU, "jammy-updates", "linux-image-unsigned-5.19.0-50-generic", NEVER),
    kernel("6.0", &UBUNTU, "jammy-updates", "linux-image-unsigned-6.0.0-1021-oem", NEVER),
    kernel("6.1", &DEBIAN, "bookworm", CLOUD, USUAL),
    Kernel { preempt: FULL, ..kernel("6.1-preempt", &DEBIAN, "bookworm", CLOUD, NEVER) },
    kernel("6.1-rt", &DEBIAN, "bookworm", RT, NEVER),
    kernel("6.2", &UBUNTU, "jammy-updates", "linux-image-unsigned-6.2.0-39-generic", NEVER),
    kernel("6.5", &UBUNTU, "jammy-updates", "linux-image-unsigned-6.5.0-45-generic", NEVER),
    kernel("6.8", &UBUNTU, "jammy-updates", "linux-image-generic-hwe-22.04", NEVER),
    kernel("6.12", &DEBIAN, "trixie", CLOUD, USUAL),
    // Without LSE: atomics are loops of exclusive loads and stores.
    Kernel { cpu: Some("cortex-a53"), ..kernel("6.12-a53", &DEBIAN, "trixie", CLOUD, USUAL) },
    Kernel { preempt: FULL, ..kernel("6.12-preempt", &DEBIAN, "trixie", CLOUD, ON_X86) },
    kernel("6.12-rt", &DEBIAN, "trixie", RT, ON_X86),
    kernel("sid", &DEBIAN, "sid", CLOUD, USUAL),
    Kernel { preempt: FULL, ..kernel("sid-preempt", &DEBIAN, "sid", CLOUD, NEVER) },
    kernel("sid-rt", &DEBIAN, "sid", RT, NEVER),
];

impl Kernel {
    /// The package to start from.
    pub(super) fn package(&self, arch: Arch) -> String {
        self.package.replace("{}", arch.debian())
    }

    /// Whether the archive has it for this processor.
    fn exists_for(&self, arch: Arch) -> bool {
        match arch {
            Arch::X86 => self.cpu.is_none(),
            Arch::Arm => *self.archive == DEBIAN,
        }
    }
}

/// The kernels with these names, or the usual ones if no name is given.
pub(super) fn chosen(names: &[String], arch: Arch) -> Result<Vec<&'static Kernel>> {
    let there = || KERNELS.iter().filter(|kernel| kernel.exists_for(arch));
    cmd::known(&format!("kernel for {}", arch.name()), names, there().map(|kernel| kernel.name))?;
    let wanted = |kernel: &&Kernel| {
        if names.is_empty() {
            kernel.usual.contains(&arch)
        } else {
            names.iter().any(|name| name == kernel.name)
        }
    };
    Ok(there().filter(wanted).collect())
}

pub(super) fn list(arch: Arch) -> String {
    let mut text = String::new();
    for kernel in KERNELS.iter().filter(|kernel| kernel.exists_for(arch)) {
        let mark = if kernel.usual.contains(&arch) { "*" } else { " " };
        let from = kernel.archive.name;
        text += &format!("{mark} {:12} {from} {:15} {}\n", kernel.name, kernel.suite, kernel.package(arch));
    }
    text + "* booted when none is named\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_or_refused() {
        let names = |names: &[&str], arch| {
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            chosen(&names, arch).map(|kernels| kernels.iter().map(|kernel| kernel.name).collect::<Vec<_>>())
        };
        let refused = |name, arch| names(&[name], arch).unwrap_err().to_string();
        assert_eq!(
            names(&[], Arch::X86).unwrap(),
            ["5.10", "5.15", "6.1", "6.12", "6.12-preempt", "6.12-rt", "sid"]
        );
        assert_eq!(names(&[], Arch::Arm).unwrap(), ["5.10", "6.1", "6.12", "6.12-a53", "sid"]);
        assert_eq!(names(&["sid", "5.11"], Arch::X86).unwrap(), ["5.11", "sid"]);
        assert!(refused("5.11", Arch::Arm).contains("no kernel for aarch64 \"5.11\""));
        assert!(refused("4.4", Arch::X86).contains("there are: 5.10 5.10-rt"));
    }

    #[test]
    fn packages_are_for_the_processor() {
        assert_eq!(KERNELS[0].package(Arch::Arm), "linux-image-cloud-arm64");
        assert_eq!(KERNELS[2].package(Arch::X86), "linux-image-unsigned-5.11.0-46-generic");
    }
}
