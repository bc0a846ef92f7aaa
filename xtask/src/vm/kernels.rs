//! The kernels that can be booted: where each comes from, and which packages contain its image.

use anyhow::{Result, bail};

use crate::archives::{Archive, DEBIAN, UBUNTU};

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

    /// The usual name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "aarch64",
        }
    }
}

/// A kernel of the matrix.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    pub(crate) archive: &'static Archive,
    pub(crate) suite: &'static str,
    /// The image's package or one that depends on it; `{}` stands for Debian's name of the processor.
    package: &'static str,
    /// The processors on which it is booted by default.
    usual: &'static [Arch],
    /// On aarch64 only: this processor instead of the most capable one.
    pub(crate) cpu: Option<&'static str>,
    /// The value of `preempt=` on the kernel's command line; the guest fails if the kernel does not apply it.
    pub(crate) preempt: Option<&'static str>,
}

const fn kernel(
    name: &'static str,
    archive: &'static Archive,
    suite: &'static str,
    package: &'static str,
) -> Kernel {
    Kernel { name, archive, suite, package, usual: &[], cpu: None, preempt: None }
}

const fn usual(kernel: Kernel) -> Kernel {
    Kernel { usual: &[Arch::X86, Arch::Arm], ..kernel }
}

const fn usual_on_x86(kernel: Kernel) -> Kernel {
    Kernel { usual: &[Arch::X86], ..kernel }
}

const fn on(cpu: &'static str, kernel: Kernel) -> Kernel {
    Kernel { cpu: Some(cpu), ..kernel }
}

/// The kernel preempts programs wherever it can, as with PREEMPT_RT; by default it does not.
const fn preemptible(kernel: Kernel) -> Kernel {
    Kernel { preempt: Some("full"), ..kernel }
}

/// The oldest first. Ubuntu no longer replaces its kernels up to 6.5, so their package names are stable.
pub(crate) const KERNELS: [Kernel; 22] = [
    usual(kernel("5.10", &DEBIAN, "bullseye", "linux-image-cloud-{}")),
    kernel("5.10-rt", &DEBIAN, "bullseye", "linux-image-rt-{}"),
    kernel("5.11", &UBUNTU, "focal-updates", "linux-image-unsigned-5.11.0-46-generic"),
    kernel("5.13", &UBUNTU, "focal-updates", "linux-image-unsigned-5.13.0-52-generic"),
    kernel("5.14", &UBUNTU, "focal-updates", "linux-image-unsigned-5.14.0-1059-oem"),
    usual(kernel("5.15", &UBUNTU, "jammy-updates", "linux-image-generic")),
    kernel("5.17", &UBUNTU, "jammy-updates", "linux-image-unsigned-5.17.0-1035-oem"),
    kernel("5.19", &UBUNTU, "jammy-updates", "linux-image-unsigned-5.19.0-50-generic"),
    kernel("6.0", &UBUNTU, "jammy-updates", "linux-image-unsigned-6.0.0-1021-oem"),
    usual(kernel("6.1", &DEBIAN, "bookworm", "linux-image-cloud-{}")),
    preemptible(kernel("6.1-preempt", &DEBIAN, "bookworm", "linux-image-cloud-{}")),
    kernel("6.1-rt", &DEBIAN, "bookworm", "linux-image-rt-{}"),
    kernel("6.2", &UBUNTU, "jammy-updates", "linux-image-unsigned-6.2.0-39-generic"),
    kernel("6.5", &UBUNTU, "jammy-updates", "linux-image-unsigned-6.5.0-45-generic"),
    kernel("6.8", &UBUNTU, "jammy-updates", "linux-image-generic-hwe-22.04"),
    usual(kernel("6.12", &DEBIAN, "trixie", "linux-image-cloud-{}")),
    // Without LSE: atomics are loops of exclusive loads and stores.
    on("cortex-a53", usual(kernel("6.12-a53", &DEBIAN, "trixie", "linux-image-cloud-{}"))),
    preemptible(usual_on_x86(kernel("6.12-preempt", &DEBIAN, "trixie", "linux-image-cloud-{}"))),
    usual_on_x86(kernel("6.12-rt", &DEBIAN, "trixie", "linux-image-rt-{}")),
    usual(kernel("sid", &DEBIAN, "sid", "linux-image-cloud-{}")),
    preemptible(kernel("sid-preempt", &DEBIAN, "sid", "linux-image-cloud-{}")),
    kernel("sid-rt", &DEBIAN, "sid", "linux-image-rt-{}"),
];

impl Kernel {
    /// The package to start from.
    pub(crate) fn package(&self, arch: Arch) -> String {
        self.package.replace("{}", arch.debian())
    }

    /// Whether the archive has it for this processor.
    pub(crate) fn exists_for(&self, arch: Arch) -> bool {
        match arch {
            Arch::X86 => self.cpu.is_none(),
            Arch::Arm => *self.archive == DEBIAN,
        }
    }
}

/// The kernels with these names, or the usual ones if no name is given.
pub(crate) fn chosen(names: &[String], arch: Arch) -> Result<Vec<&'static Kernel>> {
    let there = || KERNELS.iter().filter(|kernel| kernel.exists_for(arch));
    if let Some(unknown) = names.iter().find(|name| !there().any(|kernel| kernel.name == **name)) {
        let known: Vec<_> = there().map(|kernel| kernel.name).collect();
        bail!("no kernel {unknown:?} for {}; there are: {}", arch.name(), known.join(" "));
    }
    let wanted = |kernel: &&Kernel| {
        if names.is_empty() {
            kernel.usual.contains(&arch)
        } else {
            names.iter().any(|name| name == kernel.name)
        }
    };
    Ok(there().filter(wanted).collect())
}

/// The output of `--list`.
pub(crate) fn list(arch: Arch) -> String {
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
        assert_eq!(
            names(&[], Arch::X86).unwrap(),
            ["5.10", "5.15", "6.1", "6.12", "6.12-preempt", "6.12-rt", "sid"]
        );
        assert_eq!(names(&[], Arch::Arm).unwrap(), ["5.10", "6.1", "6.12", "6.12-a53", "sid"]);
        assert_eq!(names(&["sid", "5.11"], Arch::X86).unwrap(), ["5.11", "sid"]);
        assert!(
            names(&["5.11"], Arch::Arm).unwrap_err().to_string().contains("no kernel \"5.11\" for aarch64")
        );
        assert!(names(&["4.4"], Arch::X86).unwrap_err().to_string().contains("there are: 5.10 5.10-rt"));
    }

    #[test]
    fn packages_are_for_the_processor() {
        assert_eq!(KERNELS[0].package(Arch::Arm), "linux-image-cloud-arm64");
        assert_eq!(KERNELS[2].package(Arch::X86), "linux-image-unsigned-5.11.0-46-generic");
    }
}
