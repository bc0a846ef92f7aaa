//! `cargo xtask setup`: finds the tools of a BPF build, installs missing ones if allowed, mounts bpffs.

use std::env;
use std::process::Command;

use anyhow::Result;
use rustix::fs::statfs;
use rustix::process::geteuid;

use crate::cmd;
use crate::packages::{self, BUILD};
use crate::toolchains::{self, Clang};

/// The tools of a BPF build on this machine, all of them found.
pub(crate) struct Tools {
    /// Every usable clang, the one that sub-builds use first; never empty.
    pub(crate) clangs: Vec<Clang>,
}

impl Tools {
    /// Passes the choice of clang to a sub-build, unless the sub-build would choose the same. Builds by hand and by
    /// this program then share their results.
    pub(crate) fn export<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let clang = &self.clangs[0].path;
        if env::var_os("CLANG").is_none() && cmd::on_path(|name| name == "clang").first() == Some(clang) {
            return command;
        }
        command.env("CLANG", clang)
    }
}

pub(crate) fn find() -> Result<Tools> {
    let clangs = toolchains::clangs();
    let mut missing = packages::missing(&BUILD[1..]);
    if clangs.is_empty() {
        missing.insert(0, BUILD[0]);
    }
    if missing.is_empty() { Ok(Tools { clangs }) } else { Err(packages::by_hand(&missing)) }
}

/// Finds the tools; installs missing ones if allowed; mounts bpffs if possible.
pub(crate) fn ensure() -> Result<Tools> {
    let tools = find().or_else(|_| {
        packages::ensure(&BUILD)?;
        find()
    })?;
    mount_bpffs();
    Ok(tools)
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

/// Installs the newest packaged clang beside the default `clang`, if allowed: compiled code is then checked with two
/// compilers. Prints a message if that is not possible.
pub(crate) fn add_newest_clang() {
    let Ok(known) = cmd::output(&mut cmd::line("apt-cache search --names-only ^clang-[0-9]+$")) else {
        return eprintln!("note: no apt here to get a second clang with; those on PATH are used");
    };
    let majors =
        known.lines().filter_map(|line| line.split(' ').next()?.strip_prefix("clang-")?.parse().ok());
    let newest: u32 = majors.max().unwrap_or(0);
    if toolchains::clangs().iter().any(|clang| clang.major >= newest) {
        return;
    }
    let install = format!("apt-get install -y --no-install-recommends clang-{newest}");
    if !geteuid().is_root() {
        return eprintln!("note: the newest clang here is not installed: sudo {install}");
    }
    let mut command = cmd::line(&format!("DEBIAN_FRONTEND=noninteractive {install}"));
    if let Err(error) = cmd::run(command.stdout(std::io::stderr())) {
        eprintln!("note: the newest clang is left out: {error:#}");
    }
}

/// Mounts the BPF file system if allowed; otherwise prints how to.
fn mount_bpffs() {
    if bpffs_mounted() {
        return;
    }
    const MOUNT: &str = "mount -t bpf -o mode=0755 bpf /sys/fs/bpf";
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
