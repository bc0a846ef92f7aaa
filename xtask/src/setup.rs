//! `cargo xtask setup`: finds the tools of a BPF build, installs missing ones if allowed, mounts bpffs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fmt};

use anyhow::Result;
use rustix::fs::statfs;
use rustix::process::geteuid;

use crate::cmd;
use crate::packages::{Manager, Tool};

/// The oldest clang whose BPF backend compiles the headers.
const OLDEST_CLANG: u32 = 14;

/// A clang that can compile for BPF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clang {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
    pub(crate) major: u32,
}

/// The tools of a BPF build on this machine, all of them found.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// Every usable clang, the newest first; never empty.
    pub(crate) clangs: Vec<Clang>,
}

impl Tools {
    /// The clang that sub-builds use.
    pub(crate) fn clang(&self) -> &Clang {
        &self.clangs[0]
    }

    /// Passes the choice of clang to a sub-build, unless the sub-build would choose the same. Builds by hand and by
    /// this program then share their results.
    pub(crate) fn export<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let clang = &self.clang().path;
        if env::var_os("CLANG").is_none() && cmd::on_path(|name| name == "clang").first() == Some(clang) {
            return command;
        }
        command.env("CLANG", clang)
    }
}

/// Why the tools are not available, and the command that would install them.
#[derive(Clone, Debug)]
pub(crate) enum Cannot {
    /// Packages are missing, and this user may not install them, or this program does not.
    NotAllowed { missing: Vec<Tool>, command: String },
    /// This program supports none of the installed package managers.
    NoPackageManager { missing: Vec<Tool> },
    /// The package manager ran, and the tools are still missing.
    InstallFailed { missing: Vec<Tool>, command: String, said: String },
}

/// The first line contains the problem, the others the solution.
impl fmt::Display for Cannot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NotAllowed { missing, .. }
        | Self::NoPackageManager { missing }
        | Self::InstallFailed { missing, .. }) = self;
        let names: Vec<_> = missing.iter().map(Tool::to_string).collect();
        let build = missing.iter().any(|tool| Tool::BUILD.contains(tool));
        let what = if build {
            "BPF programs can't be built"
        } else if missing.contains(&Tool::QemuUser) {
            "programs for aarch64 can't be run"
        } else if missing.contains(&Tool::Strace) {
            "system calls can't be made to fail"
        } else {
            "kernels can't be booted"
        };
        writeln!(f, "{what} here: missing {}", names.join(", "))?;
        match self {
            Self::NotAllowed { command, .. } => write!(f, "install:   {command}"),
            Self::NoPackageManager { .. } => {
                write!(f, "(and none of apt-get, zypper, dnf, pacman, apk is here to install them with)")
            }
            Self::InstallFailed { command, said, .. } => write!(f, "`{command}` did not help:\n{said}"),
        }
    }
}

impl std::error::Error for Cannot {}

/// Why strace is neither installed nor installable.
pub(crate) fn no_strace() -> Option<String> {
    if cmd::exists(&Tool::Strace.to_string()) {
        return None;
    }
    install(vec![Tool::Strace]).err().map(|error| error.to_string())
}

/// Finds the tools; installs missing ones if allowed; mounts bpffs if possible.
pub(crate) fn ensure() -> Result<Tools, Cannot> {
    let missing = match find() {
        Ok(tools) => {
            mount_bpffs();
            return Ok(tools);
        }
        Err(missing) => missing,
    };
    install(missing)?;
    mount_bpffs();
    find().map_err(|missing| Cannot::InstallFailed {
        missing,
        command: "apt-get install".into(),
        said: "it succeeded, yet they are not found (does it bring a clang older than 14?)".into(),
    })
}

/// The command `setup`: `ensure`, with a report.
pub(crate) fn report() -> Result<()> {
    let tools = ensure()?;
    println!("found: libelf, zlib, pkg-config, make, a C compiler, kernel headers");
    for (clang, note) in tools.clangs.iter().zip(["  (used)"].into_iter().chain(std::iter::repeat(""))) {
        println!("found: clang {} at {}{note}", clang.version, clang.path.display());
    }
    if bpffs_mounted() {
        println!("found: the bpf file system at /sys/fs/bpf");
    }
    Ok(())
}

/// All tools, or the missing ones.
pub(crate) fn find() -> Result<Tools, Vec<Tool>> {
    let clangs = clangs();
    let missing: Vec<_> = Tool::BUILD
        .into_iter()
        .filter(|tool| match tool {
            Tool::Clang => clangs.is_empty(),
            Tool::Libelf => !compiles("#include <libelf.h>\n#include <gelf.h>\n"),
            Tool::Zlib => !compiles("#include <zlib.h>\n"),
            Tool::PkgConfig => !cmd::exists(&env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into())),
            Tool::Make => !cmd::exists("make"),
            Tool::Cc => !compiles("#include <stdio.h>\n"),
            Tool::KernelHeaders => !compiles("#include <linux/types.h>\n"),
            Tool::QemuX86
            | Tool::QemuArm
            | Tool::QemuUser
            | Tool::DebianKeys
            | Tool::ArmCompiler
            | Tool::Strace => false,
        })
        .collect();
    if missing.is_empty() { Ok(Tools { clangs }) } else { Err(missing) }
}

/// Whether the C compiler finds the headers that this program includes.
fn compiles(source: &str) -> bool {
    let cc = env::var("CC").unwrap_or_else(|_| "cc".into());
    cmd::succeeds(&mut cmd::line(&format!("{cc} -E -x c -")), source)
}

/// The clangs that can compile for BPF: the one in `CLANG` first, then the newest.
fn clangs() -> Vec<Clang> {
    let named = |name: &str| {
        let rest = name.strip_prefix("clang");
        rest.is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix('-').is_some_and(|n| n.parse::<u32>().is_ok())
        })
    };
    let on_path = cmd::on_path(named).into_iter().filter_map(|path| usable_clang(&path));
    let mut found: Vec<Clang> = Vec::new();
    for clang in on_path {
        if !found.iter().any(|known| known.version == clang.version) {
            found.push(clang);
        }
    }
    found.sort_by_key(|clang| std::cmp::Reverse(clang.major));
    let wanted = env::var_os("CLANG").and_then(|path| usable_clang(Path::new(&path)));
    if let Some(wanted) = wanted {
        found.retain(|clang| clang.version != wanted.version);
        found.insert(0, wanted);
    }
    found
}

fn usable_clang(path: &Path) -> Option<Clang> {
    let (version, major) = clang_version(&cmd::output(Command::new(path).arg("--version")).ok()?)?;
    let mut compile = Command::new(path);
    compile.args(["-target", "bpf", "-O2", "-c", "-x", "c", "-o", "/dev/null", "-"]);
    (major >= OLDEST_CLANG && cmd::succeeds(&mut compile, "int x;")).then(|| Clang {
        path: path.to_owned(),
        version,
        major,
    })
}

/// The version in the output of `clang --version`.
fn clang_version(said: &str) -> Option<(String, u32)> {
    let version = said.split_once("clang version ")?.1.split_whitespace().next()?;
    let number = version.split(['-', '+', '~']).next()?;
    Some((number.to_owned(), number.split('.').next()?.parse().ok()?))
}

/// The command to type to get these tools.
pub(crate) fn by_hand(missing: Vec<Tool>) -> Cannot {
    let Some(manager) = Manager::here() else {
        return Cannot::NoPackageManager { missing };
    };
    let sudo = if geteuid().is_root() { "" } else { "sudo " };
    Cannot::NotAllowed { command: format!("{sudo}{}", manager.command(&missing)), missing }
}

/// Installs packages with apt, as root or by a `sudo` without password. With other package managers, the user installs.
pub(crate) fn install(missing: Vec<Tool>) -> Result<(), Cannot> {
    let Some(apt) = Manager::here().filter(|manager| manager.program == "apt-get") else {
        return Err(by_hand(missing));
    };
    let prefix = if geteuid().is_root() {
        "DEBIAN_FRONTEND=noninteractive"
    } else if cmd::succeeds(&mut cmd::line("sudo -n true"), "") {
        "sudo -n env DEBIAN_FRONTEND=noninteractive"
    } else {
        return Err(by_hand(missing));
    };
    eprintln!("Installing what this machine lacks; it takes a minute or two.");
    for line in ["apt-get update", &apt.command(&missing)] {
        let mut command = cmd::line(&format!("{prefix} {line}"));
        cmd::announce(&command);
        if let Err(error) = cmd::output(command.stdin(Stdio::null())) {
            let said = last_lines(&error.to_string(), 6);
            return Err(Cannot::InstallFailed { missing, command: line.to_owned(), said });
        }
    }
    Ok(())
}

/// Installs the newest packaged clang beside the default `clang`, if allowed: compiled code is then checked with two
/// compilers. Prints a message if that is not possible.
pub(crate) fn add_newest_clang() {
    let Ok(known) = cmd::output(&mut cmd::line("apt-cache search --names-only ^clang-[0-9]+$")) else {
        return eprintln!("note: no apt here to get a second clang with; those on PATH are used");
    };
    let newest =
        known.lines().filter_map(|line| line.split(' ').next()?.strip_prefix("clang-")?.parse().ok()).max();
    let newest: u32 = newest.unwrap_or(0);
    if clangs().iter().any(|clang| clang.major >= newest) {
        return;
    }
    let install = format!("apt-get install -y --no-install-recommends clang-{newest}");
    if !geteuid().is_root() {
        return eprintln!("note: the newest clang here is not installed: sudo {install}");
    }
    if let Err(error) =
        cmd::run(cmd::line(&format!("DEBIAN_FRONTEND=noninteractive {install}")).stdout(std::io::stderr()))
    {
        eprintln!("note: the newest clang is left out: {error:#}");
    }
}

/// Mounts the BPF file system if allowed; otherwise prints how to.
fn mount_bpffs() {
    if bpffs_mounted() {
        return;
    }
    const MOUNT: &str = "mount -t bpf bpf /sys/fs/bpf";
    if !geteuid().is_root() {
        eprintln!("note: no bpf file system at /sys/fs/bpf; pinning maps needs it: sudo {MOUNT}");
    } else if let Err(error) = cmd::run(&mut cmd::line(MOUNT)) {
        eprintln!("note: no bpf file system at /sys/fs/bpf, so maps can't be pinned: {error:#}");
    }
}

fn bpffs_mounted() -> bool {
    // BPF_FS_MAGIC of <linux/magic.h>; libc's type for it differs between C libraries.
    statfs("/sys/fs/bpf").is_ok_and(|about| about.f_type == 0xcafe_4a11)
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_distributions_are_read() {
        let version = |said| clang_version(said).map(|(_, major)| major);
        assert_eq!(version("Debian clang version 14.0.6\nTarget: x86_64-pc-linux-gnu"), Some(14));
        assert_eq!(version("Ubuntu clang version 18.1.3 (1ubuntu1)\n"), Some(18));
        assert_eq!(version("clang version 21.1.0-rc2 (https://github.com/llvm)\n"), Some(21));
        assert_eq!(version("gcc (Debian 12.2.0-14) 12.2.0"), None);
    }

    #[test]
    fn a_refusal_names_what_is_missing_and_what_to_type() {
        let missing = vec![Tool::Clang, Tool::Libelf];
        let refusal = Cannot::NotAllowed { missing, command: "sudo dnf install -y clang".into() };
        assert_eq!(
            refusal.to_string(),
            "BPF programs can't be built here: missing clang 14 or later, libelf.h\n\
             install:   sudo dnf install -y clang"
        );
    }
}
