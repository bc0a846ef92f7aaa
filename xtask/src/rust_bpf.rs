//! BPF programs in Rust: makes the tool chain, builds `proofs/rust-bpf` and the project of docs/rust-bpf.md, checks their
//! instructions and numbers, and runs the tests of programs that clang compiles with them.
//!
//! The programs need the sources of Rust's `core`, and a linker with an LLVM as new as rustc's. Debian's trixie-backports has both,
//! of one version. So the tool chain is a root of its own, in `target/rust-bpf/root`; no package of this machine changes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::geteuid;

use crate::archives::DEBIAN;
use crate::checks::Given;
use crate::counts::{self, Counts};
use crate::loom::models;
use crate::packages::{self, DEBIAN_KEYS, DEBOOTSTRAP};
use crate::programs::{self, Built};
use crate::setup::Tools;
use crate::skip::Skip;
use crate::vm::{self, Only};
use crate::{assembly, cmd, guide};

/// The ways to publish: for any machine, and by plain stores. The folders of their objects, and rustc's flags.
const WAYS: [(&str, &str); 2] =
    [("any", ""), ("x86", r#"--config 'build.rustflags=["--cfg=bpf_target_arch=\"x86_64\""]'"#)];

/// What the tool chain needs of Debian, and of its backports.
const BASE: &str = "ca-certificates,gcc,g++,libc6-dev,pkg-config,zlib1g-dev,libzstd-dev,libxml2-dev";
const BACKPORTS: &str = "rustc cargo rust-src rust-clippy llvm-22-dev libpolly-22-dev";
/// The linker of this crate, with the LLVM of that rustc.
const LINKER: &str = "bpf-linker@0.13.0 --locked --no-default-features --features llvm-22";

fn folder() -> PathBuf {
    cmd::target_dir().join("rust-bpf")
}

fn root() -> PathBuf {
    folder().join("root")
}

/// Written last.
fn is_ready() -> bool {
    root().join("ready").exists()
}

/// Makes the tool chain, unless it is there.
fn make() -> Result<()> {
    if is_ready() {
        return Ok(());
    }
    if !geteuid().is_root() {
        bail!(Skip("the tool chain for BPF programs in Rust is made by debootstrap, as root".into()));
    }
    packages::ensure(&[DEBOOTSTRAP, DEBIAN_KEYS])?;
    let mirror = DEBIAN.mirror()?.with_context(|| DEBIAN.remedy())?;
    let root = root();
    if root.exists() {
        fs::remove_dir_all(&root)?; // left by a run that did not end
    }
    fs::create_dir_all(&root)?;
    let mut debootstrap =
        cmd::line(&format!("debootstrap --variant=minbase --include={BASE} --keyring={}", DEBIAN.keyring));
    cmd::run(debootstrap.arg("trixie").arg(&root).arg(mirror.uri()))?;
    // What this machine needs to reach its mirrors and crates.io.
    let certificates = "etc/ssl/certs/ca-certificates.crt";
    fs::copy(Path::new("/").join(certificates), root.join(certificates)).context("ca-certificates")?;
    cmd::run(Command::new("cp").args(["-aL", "/etc/apt/apt.conf.d/."]).arg(root.join("etc/apt/apt.conf.d")))?;
    let backports = format!("deb {} trixie-backports main\n", mirror.uri());
    fs::write(root.join("etc/apt/sources.list.d/backports.list"), backports)?;
    for folder in ["mapring", "target"] {
        fs::create_dir_all(root.join(folder))?;
    }
    in_root("apt-get update")?;
    in_root(&format!(
        "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -t trixie-backports {BACKPORTS}"
    ))?;
    in_root(&format!("LLVM_PREFIX=/usr/lib/llvm-22 cargo install {LINKER}"))?;
    Ok(fs::write(root.join("ready"), "")?)
}

/// Runs a shell's line in the tool chain's root, where this repository is `/mapring`. The mounts end with the line.
fn in_root(line: &str) -> Result<()> {
    const ENTER: &str = "mount --bind /proc \"$2/proc\"; mount --bind \"$1\" \"$2/mapring\"; exec chroot \"$2\" sh -ec \"$3\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", ENTER, "sh"]).arg(cmd::root()).arg(root()).arg(line);
    command
        .env_clear()
        .env("HOME", "/root")
        .env("PATH", "/usr/lib/llvm-22/bin:/root/.cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    // What a nightly allows.
    cmd::run(command.env("RUSTC_BOOTSTRAP", "1"))
}

/// Lints the crate and the programs. `cargo xtask test clippy` has no compiler for them.
fn lint() -> Result<()> {
    in_root(
        "cd /mapring/proofs/rust-bpf; cargo clippy --release --locked --target-dir /target/any -p mapring-ebpf \
         -p mapring-ebpf-macros -p mapring-rust-bpf -- -Dwarnings",
    )
}

/// Builds the programs in both ways, and checks the instructions that LLVM made of them.
fn build() -> Result<()> {
    for (way, flags) in WAYS {
        let cargo = |command: &str, rest: &str| {
            in_root(&format!(
                "cd /mapring/proofs/rust-bpf; cargo {command} --release --locked --target-dir /target/{way} {flags} {rest}"
            ))
        };
        let built = root().join("target").join(way).join("bpfel-unknown-none/release");
        let to = folder().join(way);
        fs::create_dir_all(&to)?;
        cargo("rustc", "--bin models -- -Clink-arg=--emit=asm")?;
        assembly::by_rustc(&fs::read_to_string(built.join("models"))?, way == "x86")?;
        cargo("build", "")?;
        for name in ["models", "options"] {
            fs::copy(built.join(name), to.join(name))?;
        }
    }
    Ok(())
}

/// The objects with a ring of each set of options that this machine can load.
fn objects() -> Vec<PathBuf> {
    let ways = WAYS.into_iter().filter(|(way, _)| *way == "any" || cfg!(target_arch = "x86_64"));
    ways.map(|(way, _)| folder().join(way).join("options")).collect()
}

/// Where the tests of the kernel find the objects, and the command.
fn variables(tools: &Tools) -> Result<[(&'static str, OsString); 3]> {
    let options = env::join_paths(objects())?;
    let command = programs::command(tools)?.get_program().to_owned();
    Ok([("MAPRING_RUST_BPF", folder().into()), ("MAPRING_OPTIONS", options), ("MAPRING_COMMAND", command)])
}

/// The same programs on the usual kernels: the oldest refuses some. Without the readers in other languages, which `vm-…` run there.
pub(crate) const GUESTS: &str =
    "cargo xtask vm --rust-bpf --timeout 7200 -- --include-ignored --skip languages::";

/// What the machines of [`GUESTS`] need.
pub(crate) fn in_guests(tools: &Tools) -> Result<Only> {
    let text = |(name, value): (&str, OsString)| Some((name.to_owned(), value.into_string().ok()?));
    let env =
        variables(tools)?.map(text).into_iter().collect::<Option<_>>().context("a path is not UTF-8")?;
    let files = objects();
    ensure!(
        files.iter().all(|file| file.exists()),
        "`cargo xtask prove rust-bpf` has not built the programs"
    );
    Ok(Only { tests: &["options", "rust_bpf"], files, env })
}

/// The tests of `built` with these names, of one package, and the tests to run or to leave out.
fn of<'b>(built: &'b Built, package: &'b str, name: &str, args: &[&str]) -> Result<(String, Command)> {
    let package = cmd::root().join(package);
    let program = built.tests.iter().find(|test| test.name == name && test.package == package);
    let mut command = program.with_context(|| format!("the build has no test {name}"))?.command();
    command.args(args).args(["--nocapture", "--test-threads=1"]);
    Ok((name.to_owned(), command))
}

/// The tests that need no model: on this kernel, and word for word.
fn tests(tools: &Tools) -> Result<Counts> {
    let built = programs::build_together(tools)?;
    let mut jobs = Vec::new();
    let (kernel, loom) = ("proofs/kernel", "proofs/bpf-loom");
    jobs.push(of(&built, kernel, "options", &[])?);
    jobs.push(of(&built, kernel, "rust_bpf", &["--ignored"])?);
    jobs.push(of(&built, loom, "agrees", &["rings_", "cells_", "counters_", "histograms_", "a_stale"])?);
    jobs.push(of(&built, loom, "tails", &[])?);
    let variables = variables(tools)?;
    for (_, job) in &mut jobs {
        job.envs(variables.clone());
    }
    programs::run(jobs, 1)
}

/// The compiled programs under loom.
fn loom(tools: &Tools) -> Command {
    let mut cargo = models::cargo_of("mapring-bpf-loom", "test");
    tools.export(&mut cargo);
    cargo.args(["--test", "models", "every_model", "--", "--nocapture"]).env("MAPRING_RUST_BPF", folder());
    cargo
}

/// Builds the project of docs/rust-bpf.md, and runs it with the guide's loader by aya.
fn project(tools: &Tools) -> Result<()> {
    let read = |path: &str| fs::read_to_string(cmd::root().join(path)).with_context(|| path.to_owned());
    let (document, guide) = (read("docs/rust-bpf.md")?, read(guide::LOADING)?);
    let project = root().join("project");
    let write = |path: &str, text: &str| {
        let file = project.join(path);
        fs::create_dir_all(file.parent().context("it lies in a folder")?)?;
        fs::write(file, text).with_context(|| path.to_owned())
    };
    let manifest =
        guide::block(&document, "# Cargo.toml")?.replace("git = \"…\"", "path = \"/mapring/ring/ebpf\"");
    write("program/Cargo.toml", &format!("{manifest}\n[workspace]\n"))?;
    write("program/.cargo/config.toml", guide::block(&document, "# .cargo/config.toml")?)?;
    write("program/src/main.rs", guide::block(&document, "// src/main.rs")?)?;
    in_root("cd /project/program; cargo build --release --target-dir /target/project")?;
    let object = root().join("target/project/bpfel-unknown-none/release/switches-bpf");
    fs::create_dir_all(project.join("aya"))?;
    fs::copy(object, project.join("aya/switches-bpf"))?;

    let line = guide::block(&document, "static OBJECT")?;
    let loader = guide::block(&guide, "// src/main.rs, with aya")?;
    let ours = |text: &str| if text.starts_with("static OBJECT") { line.to_owned() } else { text.to_owned() };
    let loader: Vec<_> = loader.lines().map(ours).collect();
    write("aya/src/main.rs", &loader.join("\n").replace("\"switches\"", "\"SWITCHES\""))?;
    let manifest = guide::block(&guide, "# Cargo.toml, with aya")?;
    write("aya/Cargo.toml", &guide::local(manifest))?;
    if cfg!(target_arch = "x86_64") { guide::build_with_aya(tools, &project.join("aya")) } else { Ok(()) }
}

/// The method of proof.
pub(crate) fn count(given: &Given<'_>) -> Result<Counts> {
    let tools = given.tools()?;
    prepare(tools)?;
    let mut counts = tests(tools)?;
    counts += counts::of(&mut loom(tools))?;
    counts += vm::step(&[GUESTS], tools)?;
    Ok(counts)
}

fn prepare(tools: &Tools) -> Result<()> {
    make()?;
    lint()?;
    build()?;
    project(tools)
}
