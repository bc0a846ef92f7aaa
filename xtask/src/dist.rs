//! `cargo xtask dist`: the command as one static executable for each processor, the same as a Debian package, their checksums, and
//! the licences of what is linked in.

mod licences;
mod trial;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cmd;
use crate::packages::{self, ARM_COMPILER, DEBIAN_KEYS, DPKG};
use crate::setup::{self, Tools};
use crate::vm::Arch;
use crate::vm::cross::{self, Cross};

pub(crate) use self::trial::count;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The processors. Default: all that this machine can build for
    #[arg(value_enum)]
    processors: Vec<Arch>,
}

/// The name of the file with all licences.
const LICENCES: &str = "LICENCES.txt";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The shells with completions, and where a package has them.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "bash-completion/completions/mapring"),
    ("zsh", "zsh/vendor-completions/_mapring"),
    ("fish", "fish/vendor_completions.d/mapring.fish"),
];

fn folder() -> PathBuf {
    cmd::target_dir().join("dist")
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let tools = setup::ensure()?;
    let made = make(&args.processors, &tools)?;
    for file in cmd::files(&made)? {
        println!("{:>9} {}", fs::metadata(&file)?.len(), file.display());
    }
    Ok(())
}

/// The processors that this machine can build for, this machine's first.
fn all() -> Vec<Arch> {
    if Arch::HOST == Arch::Arm { vec![Arch::Arm] } else { vec![Arch::X86, Arch::Arm] }
}

/// The executable's name in the folder of results.
fn executable(arch: Arch) -> String {
    format!("mapring-{VERSION}-linux-{}", arch.name())
}

/// Makes everything anew, and returns the folder.
fn make(processors: &[Arch], tools: &Tools) -> Result<PathBuf> {
    packages::ensure(&[DPKG, DEBIAN_KEYS])?;
    let processors = if processors.is_empty() { all() } else { processors.to_vec() };
    let (made, parts) = (folder().join(VERSION), folder().join("package"));
    for folder in [&made, &parts] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
    }
    for arch in processors {
        let built = build(arch, tools)?;
        let to = made.join(executable(arch));
        fs::copy(&built, &to).with_context(|| to.display().to_string())?;
        let licences = licences::of(arch)?;
        package(arch, &built, &licences, &parts, &made)?;
        // Both processors link the same packages.
        fs::write(made.join(LICENCES), licences)?;
    }
    sums(&made)?;
    Ok(made)
}

/// The command, linked with nothing that it would have to find.
fn build(arch: Arch, tools: &Tools) -> Result<PathBuf> {
    if arch != Arch::HOST {
        packages::ensure(&[ARM_COMPILER])?;
    }
    let line = "cargo build --locked --profile dist -p mapring-cli --all-features";
    let mut cargo = cmd::line(line);
    Cross::new(arch)?.export(&mut cargo);
    tools.export(&mut cargo).env("CARGO_TARGET_DIR", folder().join("build"));
    // With `--target`, these flags are not those of build scripts.
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    cmd::run(&mut cargo)?;
    let built = folder().join("build").join(cross::target(arch)).join("dist/mapring");
    let needs = cmd::output(Command::new("readelf").arg("--dynamic").arg(&built))?;
    ensure!(!needs.contains("(NEEDED)"), "{} is not static:\n{needs}", built.display());
    Ok(built)
}

/// Makes the Debian package: it depends on no other.
fn package(arch: Arch, executable: &Path, licences: &str, parts: &Path, made: &Path) -> Result<()> {
    let root = parts.join(arch.debian());
    let share = root.join("usr/share");
    let file = |path: PathBuf, content: &[u8]| {
        fs::create_dir_all(path.parent().expect("it has a folder"))?;
        fs::write(&path, content).with_context(|| path.display().to_string())
    };
    file(root.join("usr/bin/mapring"), &fs::read(executable)?)?;
    cmd::output(Command::new("chmod").arg("755").arg(root.join("usr/bin/mapring")))?;
    file(share.join("doc/mapring/copyright"), licences.as_bytes())?;
    // The pages and scripts of all processors are the same.
    let here = folder().join("build").join(cross::target(Arch::HOST)).join("dist/mapring");
    let here = if here.exists() { here } else { build(Arch::HOST, &setup::ensure()?)? };
    let pages = share.join("man/man1");
    fs::create_dir_all(&pages)?;
    cmd::output(Command::new(&here).arg("man").arg(&pages))?;
    cmd::output(Command::new("gzip").args(["-9n"]).args(cmd::files(&pages)?))?;
    for (shell, path) in COMPLETIONS {
        let script = cmd::output(Command::new(&here).args(["completions", shell]))?;
        file(share.join(path), script.as_bytes())?;
    }
    let kilobytes = fs::metadata(executable)?.len() / 1024;
    let control = format!(
        "Package: mapring\nVersion: {VERSION}\nArchitecture: {}\nMaintainer: the mapring developers\nSection: admin\n\
         Priority: optional\nInstalled-Size: {kilobytes}\nDescription: Flight recorder for the kernel, and views of BPF maps\n \
         mapring flight makes the kernel record its events without a running process, and\n writes them as a trace after \
         an incident. The command also shows, follows, records\n and exports every mapring region of a machine.\n",
        arch.debian()
    );
    file(root.join("DEBIAN/control"), control.as_bytes())?;
    // The package of a commit is the same whenever it is made.
    let time = cmd::output(&mut cmd::line("git log -1 --format=%ct"))?;
    let to = made.join(format!("mapring_{VERSION}_{}.deb", arch.debian()));
    let mut build = Command::new("dpkg-deb");
    build.args(["--build", "--root-owner-group"]).arg(&root).arg(to);
    cmd::output(build.env("SOURCE_DATE_EPOCH", time.trim())).map(drop)
}

/// Writes the checksums of all files, for `sha256sum --check`.
fn sums(made: &Path) -> Result<()> {
    let mut names: Vec<_> = fs::read_dir(made)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    names.sort();
    let sums = cmd::output(Command::new("sha256sum").args(names).current_dir(made))?;
    Ok(fs::write(made.join("SHA256SUMS"), sums)?)
}
