//! The tools that builds, guests and tests need: how each is found, its packages, and the command that installs them.

use std::env;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Error, Result, anyhow};
use rustix::process::geteuid;

use crate::archives::DEBIAN;
use crate::{cmd, toolchains};

/// A tool, with its name in messages.
#[derive(Clone, Copy)]
pub(crate) struct Tool {
    name: &'static str,
    /// What happens without it.
    without: &'static str,
    is_here: fn(&Tool) -> bool,
    /// Its packages, in the order of [`MANAGERS`].
    packages: [&'static str; 5],
}

/// Package managers and how each installs, in the order of preference.
const MANAGERS: [(&str, &str); 5] = [
    ("apt-get", "apt-get install -y --no-install-recommends"),
    ("zypper", "zypper --non-interactive install"),
    ("dnf", "dnf install -y"),
    ("pacman", "pacman -S --needed --noconfirm"),
    ("apk", "apk add"),
];

/// What BPF builds need; a clang first.
pub(crate) const BUILD: [Tool; 7] = [
    build("clang 14 or later", |_| !toolchains::clangs().is_empty(), ["clang"; 5]),
    build(
        "libelf.h",
        |_| compiles("#include <libelf.h>\n#include <gelf.h>\n"),
        ["libelf-dev", "libelf-devel", "elfutils-libelf-devel", "libelf", "elfutils-dev"],
    ),
    build(
        "zlib.h",
        |_| compiles("#include <zlib.h>\n"),
        ["zlib1g-dev", "zlib-devel", "zlib-devel", "zlib", "zlib-dev"],
    ),
    build(
        "pkg-config",
        |tool| cmd::exists(&env::var("PKG_CONFIG").unwrap_or_else(|_| tool.name.into())),
        ["pkg-config", "pkg-config", "pkgconf-pkg-config", "pkgconf", "pkgconf"],
    ),
    build("make", is_program, ["make"; 5]),
    build(
        "a C compiler (cc)",
        |_| compiles("#include <stdio.h>\n"),
        ["gcc libc6-dev", "gcc", "gcc", "gcc", "gcc musl-dev"],
    ),
    build(
        "linux/types.h",
        |_| compiles("#include <linux/types.h>\n"),
        ["linux-libc-dev", "linux-glibc-devel", "kernel-headers", "linux-api-headers", "linux-headers"],
    ),
];

const NO_KERNELS: &str = "kernels can't be booted";
pub(crate) const QEMU_X86: Tool = program("qemu-system-x86_64", "qemu-system-x86", NO_KERNELS);
pub(crate) const QEMU_ARM: Tool = program("qemu-system-aarch64", "qemu-system-arm", NO_KERNELS);
pub(crate) const DEBIAN_KEYS: Tool = Tool {
    is_here: |_| Path::new(DEBIAN.keyring).exists(),
    ..program("the keys of Debian's archive", "debian-archive-keyring", NO_KERNELS)
};
pub(crate) const ARM_COMPILER: Tool =
    program("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross", NO_KERNELS);
pub(crate) const DPKG: Tool = program("dpkg-deb", "dpkg", "no Debian package can be made");
pub(crate) const QEMU_USER: Tool = program("qemu-aarch64", "qemu-user", "programs for aarch64 can't be run");
/// What compiles the headers of `bindings/c` in each way, and makes the example's skeleton.
pub(crate) const C_BINDING: [Tool; 3] =
    [program("g++", "g++", NO_C_BINDING), ARM_COMPILER, program("bpftool", "bpftool", NO_C_BINDING)];
const NO_C_BINDING: &str = "the C headers can't be checked";
pub(crate) const DEBOOTSTRAP: Tool =
    program("debootstrap", "debootstrap", "BPF programs in Rust can't be built");
/// For one of the peers of the benchmark of languages.
pub(crate) const BCC: Tool = Tool {
    is_here: |_| Path::new("/usr/lib/python3/dist-packages/bcc").exists(),
    ..program("bcc for Python", "python3-bpfcc", "bcc can't be measured")
};
pub(crate) const BROWSER: Tool = Tool {
    is_here: |_| ["chromium-headless-shell", "chromium", "google-chrome"].into_iter().any(cmd::exists),
    ..program("Chromium", "chromium-headless-shell", "the page of a report can't be opened")
};
pub(crate) const STRACE: Tool = program("strace", "strace", "system calls can't be made to fail");

/// tmux is a terminal that has a size without a window, and answers queries of the cursor position. asciinema records in
/// it, and svg-term, which npx fetches, draws the recording.
pub(crate) const RECORDING: [Tool; 3] = [
    program("tmux", "tmux", "terminals can't be recorded"),
    program("asciinema", "asciinema", "terminals can't be recorded"),
    program("npx", "npm", "terminals can't be recorded"),
];

const fn build(name: &'static str, is_here: fn(&Tool) -> bool, packages: [&'static str; 5]) -> Tool {
    Tool { name, without: "BPF programs can't be built", is_here, packages }
}

/// A program for which Debian's name of the package is enough.
const fn program(name: &'static str, package: &'static str, without: &'static str) -> Tool {
    Tool { name, without, is_here: is_program, packages: [package; 5] }
}

fn is_program(tool: &Tool) -> bool {
    cmd::exists(tool.name)
}

/// Whether the C compiler finds the headers that this program includes.
fn compiles(source: &str) -> bool {
    let cc = env::var("CC").unwrap_or_else(|_| "cc".into());
    cmd::succeeds(&mut cmd::line(&format!("{cc} -E -x c -")), source)
}

/// Those of these tools that are not here.
pub(crate) fn missing(tools: &[Tool]) -> Vec<Tool> {
    tools.iter().copied().filter(|tool| !(tool.is_here)(tool)).collect()
}

/// The error about tools that are not here; it ends with the command to type.
pub(crate) fn by_hand(missing: &[Tool]) -> Error {
    let remedy = match manager() {
        Some(manager) => {
            let sudo = if geteuid().is_root() { "" } else { "sudo " };
            format!("install:   {sudo}{}", command(manager, missing))
        }
        None => "(and none of apt-get, zypper, dnf, pacman, apk is here to install them with)".into(),
    };
    refusal(missing, &remedy)
}

/// The first line contains the problem, the others the solution.
fn refusal(missing: &[Tool], remedy: &str) -> Error {
    let names: Vec<_> = missing.iter().map(|tool| tool.name).collect();
    anyhow!("{} here: missing {}\n{remedy}", missing[0].without, names.join(", "))
}

/// Installs those of these tools that are missing with apt, as root or by a `sudo` without password. With other package
/// managers, the user installs.
pub(crate) fn ensure(tools: &[Tool]) -> Result<()> {
    let missing = missing(tools);
    if missing.is_empty() {
        return Ok(());
    }
    let prefix = if manager() != Some(0) {
        return Err(by_hand(&missing));
    } else if geteuid().is_root() {
        "DEBIAN_FRONTEND=noninteractive"
    } else if cmd::succeeds(&mut cmd::line("sudo -n true"), "") {
        "sudo -n env DEBIAN_FRONTEND=noninteractive"
    } else {
        return Err(by_hand(&missing));
    };
    eprintln!("Installing what this machine lacks; it takes a minute or two.");
    for line in ["apt-get update", &command(0, &missing)] {
        let mut install = cmd::line(&format!("{prefix} {line}"));
        cmd::announce(&install);
        if let Err(error) = cmd::output(install.stdin(Stdio::null())) {
            let text = cmd::last_lines(&error.to_string(), 6);
            return Err(refusal(&missing, &format!("`{line}` did not help:\n{text}")));
        }
    }
    let missing = self::missing(tools);
    if missing.is_empty() {
        return Ok(());
    }
    let old = "apt-get succeeded, yet they are not found (does it bring a clang older than 14?)";
    Err(refusal(&missing, old))
}

fn manager() -> Option<usize> {
    MANAGERS.iter().position(|(program, _)| cmd::exists(program))
}

/// The command that installs these tools, without `sudo`.
fn command(manager: usize, tools: &[Tool]) -> String {
    let packages = tools.iter().map(|tool| tool.packages[manager]);
    packages.fold(MANAGERS[manager].1.to_owned(), |line, package| line + " " + package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manager_installs_by_its_own_names() {
        assert_eq!(
            command(0, &[BUILD[4], QEMU_ARM, DEBIAN_KEYS]),
            "apt-get install -y --no-install-recommends make qemu-system-arm debian-archive-keyring"
        );
        let usual = [
            "zypper --non-interactive install clang libelf-devel zlib-devel pkg-config make",
            "dnf install -y clang elfutils-libelf-devel zlib-devel pkgconf-pkg-config make",
            "pacman -S --needed --noconfirm clang libelf zlib pkgconf make",
            "apk add clang elfutils-dev zlib-dev pkgconf make",
        ];
        assert!((1..5).map(|manager| command(manager, &BUILD[..5])).eq(usual));
    }

    #[test]
    fn a_refusal_names_what_is_missing_and_what_to_type() {
        assert_eq!(
            refusal(&BUILD[..2], "install:   sudo dnf install -y clang").to_string(),
            "BPF programs can't be built here: missing clang 14 or later, libelf.h\n\
             install:   sudo dnf install -y clang"
        );
    }

    #[test]
    fn maps_need_no_c_compiler() {
        let line = "cargo tree -p mapring --all-features -e no-dev --prefix none";
        let tree = cmd::output(&mut cmd::line(line)).unwrap();
        let packages: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(packages.contains(&"mapring") && packages.contains(&"libc"), "{tree}");
        assert!(!packages.iter().any(|name| *name == "cc" || name.starts_with("libbpf")), "{tree}");
    }
}
