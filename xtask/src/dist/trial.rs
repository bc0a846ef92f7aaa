//! Tries what `cargo xtask dist` made as its users would: alone in an empty root, from its package, and on another processor.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{COMPLETIONS, LICENCES, VERSION, all, executable, folder, make};
use crate::checks::Given;
use crate::cmd;
use crate::counts::Counts;
use crate::packages::{self, QEMU_USER};
use crate::vm::Arch;

/// Runs a command in an empty root, with the file systems of the kernel. Its mounts end with it.
const IN_ROOT: &str = "mount -t proc proc $0/proc; mount --rbind /sys $0/sys; exec chroot $0 /mapring \"$@\"";

/// The pins of the recorder of this trial.
const PINS: &str = "/sys/fs/bpf/mapring-dist-trial";

/// The method of proof `dist`.
pub(crate) fn count(given: &Given<'_>) -> Result<Counts> {
    let made = make(&[], given.tools()?)?;
    cmd::output(Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(&made))?;
    alone(&made)?;
    names(&made)?;
    let mut cases = 3;
    for arch in all() {
        package(&made, arch)?;
        cases += 1;
        if arch != Arch::HOST {
            packages::ensure(&[QEMU_USER])?;
            emulated(&made, arch)?;
            cases += 1;
        }
    }
    Ok(Counts { cases, ..Counts::default() })
}

/// Copies the executable alone into an empty root, and records there.
fn alone(made: &Path) -> Result<()> {
    let root = folder().join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for name in ["proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy(made.join(executable(Arch::HOST)), root.join("mapring"))?;
    let mapring = |args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-euc", IN_ROOT]).arg(&root).args(args);
        cmd::output(&mut command)
    };
    let flight = |args: &[&str]| mapring(&[&["flight", "--pins", PINS][..], args].concat());
    flight(&["start", "--size", "16M"])?;
    let recorded = flight(&["status"]).and_then(|status| {
        ensure!(status.contains("sched"), "no events in the status:\n{status}");
        flight(&["dump", "--last", "10s", "--out", "/tmp/all.ndjson"])
    });
    let stopped = flight(&["stop"]);
    recorded?;
    stopped?;
    let events = fs::read_to_string(root.join("tmp/all.ndjson"))?;
    ensure!(events.lines().any(|line| line.contains("\"sched_switch\"")), "no switches in the dump");
    eprintln!("alone in an empty root: {} events", events.lines().count());
    Ok(())
}

/// Looks for a group that nobody has on this machine, whose name service may have modules for another libc.
fn names(made: &Path) -> Result<()> {
    let mut start = Command::new(made.join(executable(Arch::HOST)));
    start.args(["flight", "--pins", PINS, "start", "--group", "nosuchgroup"]);
    let refused = cmd::output(&mut start).err();
    ensure!(
        refused.is_some_and(|e| e.to_string().contains("there is no group nosuchgroup")),
        "it finds a group"
    );
    Ok(())
}

/// Unpacks the package, and looks whether all is in it.
fn package(made: &Path, arch: Arch) -> Result<()> {
    let package = made.join(format!("mapring_{VERSION}_{}.deb", arch.debian()));
    let listed = cmd::output(Command::new("dpkg-deb").arg("--contents").arg(&package))?;
    let files = [
        "./usr/bin/mapring",
        "./usr/share/man/man1/mapring-flight.1.gz",
        "./usr/share/doc/mapring/copyright",
    ];
    let scripts = COMPLETIONS.map(|(_, path)| format!("./usr/share/{path}"));
    for file in files.into_iter().chain(scripts.iter().map(String::as_str)) {
        let line = listed.lines().find(|line| line.ends_with(file));
        let line = line.with_context(|| format!("{file} is not in {}", package.display()))?;
        ensure!(line.contains("root/root"), "{line}");
    }
    let licences = fs::read_to_string(made.join(LICENCES))?;
    for linked in ["libbpf-sys", "libelf1", "clap", "uPlot", "GNU LESSER GENERAL PUBLIC LICENSE"] {
        ensure!(licences.contains(linked), "{linked} is not in {LICENCES}");
    }
    Ok(())
}

/// Runs the executable for another processor, as far as an emulator of processes goes: it has no BPF.
fn emulated(made: &Path, arch: Arch) -> Result<()> {
    let run = |args: &[&str]| {
        let mut command = Command::new(format!("qemu-{}", arch.name()));
        cmd::output(command.arg(made.join(executable(arch))).args(args))
    };
    ensure!(run(&["--version"])?.contains(VERSION), "it has another version");
    let completions = ["completions", "bash"]; // has all commands and options
    let here = cmd::output(Command::new(made.join(executable(Arch::HOST))).args(completions))?;
    ensure!(run(&completions)? == here, "its commands differ from those for {}", Arch::HOST.name());
    // It says why it can't, and ends.
    let refused = run(&["flight", "--pins", PINS, "start"]).err();
    ensure!(refused.is_some_and(|e| e.to_string().contains("mapring: ")), "it records without BPF");
    Ok(())
}
