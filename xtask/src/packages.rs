//! Package managers: the package of each tool, and the command that installs them. Pure functions, except `here`.

use std::fmt;

use crate::cmd;

/// A tool that a BPF build, a virtual machine or a test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    Clang,
    Libelf,
    Zlib,
    PkgConfig,
    Make,
    Cc,
    KernelHeaders,
    QemuX86,
    QemuArm,
    QemuUser,
    DebianKeys,
    ArmCompiler,
    Strace,
}

impl Tool {
    /// The tools that BPF builds need.
    pub(crate) const BUILD: [Self; 7] =
        [Self::Clang, Self::Libelf, Self::Zlib, Self::PkgConfig, Self::Make, Self::Cc, Self::KernelHeaders];

    /// The package of a virtual machine tool. Kernels come through apt, so only Debian's names are needed.
    fn debian(self) -> &'static str {
        match self {
            Self::QemuArm => "qemu-system-arm",
            Self::QemuUser => "qemu-user",
            Self::DebianKeys => "debian-archive-keyring",
            Self::ArmCompiler => "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
            Self::Strace => "strace",
            _ => "qemu-system-x86",
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clang => "clang 14 or later",
            Self::Libelf => "libelf.h",
            Self::Zlib => "zlib.h",
            Self::PkgConfig => "pkg-config",
            Self::Make => "make",
            Self::Cc => "a C compiler (cc)",
            Self::KernelHeaders => "linux/types.h",
            Self::QemuX86 => "qemu-system-x86_64",
            Self::QemuArm => "qemu-system-aarch64",
            Self::QemuUser => "qemu-aarch64",
            Self::DebianKeys => "the keys of Debian's archive",
            Self::ArmCompiler => "aarch64-linux-gnu-gcc",
            Self::Strace => "strace",
        })
    }
}

/// A package manager: the program, how it installs, and its packages in the order of [`Tool::BUILD`].
#[derive(Debug)]
pub(crate) struct Manager {
    pub(crate) program: &'static str,
    install: &'static str,
    packages: [&'static str; 7],
}

/// In the order of preference, if a machine has several.
const MANAGERS: [Manager; 5] = [
    Manager {
        program: "apt-get",
        install: "apt-get install -y --no-install-recommends",
        packages: [
            "clang",
            "libelf-dev",
            "zlib1g-dev",
            "pkg-config",
            "make",
            "gcc libc6-dev",
            "linux-libc-dev",
        ],
    },
    Manager {
        program: "zypper",
        install: "zypper --non-interactive install",
        packages: ["clang", "libelf-devel", "zlib-devel", "pkg-config", "make", "gcc", "linux-glibc-devel"],
    },
    Manager {
        program: "dnf",
        install: "dnf install -y",
        packages: [
            "clang",
            "elfutils-libelf-devel",
            "zlib-devel",
            "pkgconf-pkg-config",
            "make",
            "gcc",
            "kernel-headers",
        ],
    },
    Manager {
        program: "pacman",
        install: "pacman -S --needed --noconfirm",
        packages: ["clang", "libelf", "zlib", "pkgconf", "make", "gcc", "linux-api-headers"],
    },
    Manager {
        program: "apk",
        install: "apk add",
        packages: ["clang", "elfutils-dev", "zlib-dev", "pkgconf", "make", "gcc musl-dev", "linux-headers"],
    },
];

impl Manager {
    /// The manager of this machine.
    pub(crate) fn here() -> Option<&'static Self> {
        MANAGERS.iter().find(|manager| cmd::exists(manager.program))
    }

    /// The command that installs these tools, without `sudo`.
    pub(crate) fn command(&self, tools: &[Tool]) -> String {
        let build = Tool::BUILD.into_iter().zip(self.packages).filter(|(tool, _)| tools.contains(tool));
        let others = tools.iter().filter(|tool| !Tool::BUILD.contains(tool)).map(|tool| tool.debian());
        let packages = build.map(|(_, package)| package).chain(others);
        packages.fold(self.install.to_string(), |line, package| line + " " + package)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(program: &str, tools: &[Tool]) -> String {
        MANAGERS.iter().find(|manager| manager.program == program).unwrap().command(tools)
    }

    #[test]
    fn only_what_is_missing_is_installed() {
        assert_eq!(
            command("apt-get", &[Tool::Zlib, Tool::Clang]),
            "apt-get install -y --no-install-recommends clang zlib1g-dev"
        );
        assert_eq!(
            command("apt-get", &[Tool::QemuArm, Tool::DebianKeys, Tool::Make]),
            "apt-get install -y --no-install-recommends make qemu-system-arm debian-archive-keyring"
        );
    }

    #[test]
    fn every_distribution_has_its_own_names() {
        let usual = &Tool::BUILD[..5];
        assert_eq!(
            command("apt-get", usual),
            "apt-get install -y --no-install-recommends clang libelf-dev zlib1g-dev pkg-config make"
        );
        assert_eq!(
            command("dnf", usual),
            "dnf install -y clang elfutils-libelf-devel zlib-devel pkgconf-pkg-config make"
        );
        assert_eq!(command("pacman", usual), "pacman -S --needed --noconfirm clang libelf zlib pkgconf make");
        assert_eq!(
            command("zypper", usual),
            "zypper --non-interactive install clang libelf-devel zlib-devel pkg-config make"
        );
        assert_eq!(command("apk", &Tool::BUILD[5..]), "apk add gcc musl-dev linux-headers");
    }
}
