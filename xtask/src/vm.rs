//! `cargo xtask vm`: boots other kernels under QEMU and runs the kernel tests in each.

mod apt;
mod boot;
mod cpio;
pub(crate) mod cross;
mod docs;
mod features;
mod guest;
mod initramfs;
mod kernels;
mod net;
mod probe;
mod protocol;
mod report;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use self::apt::Image;
use self::cross::Cross;
use self::kernels::Kernel;
use self::report::Row;
use crate::counts::Counts;
use crate::packages::{self, ARM_COMPILER, DEBIAN_KEYS, QEMU_ARM, QEMU_X86};
use crate::setup::{self, Tools};
use crate::skip::Skip;
use crate::{cmd, programs, rust_bpf};

pub(crate) use self::apt::{program, unpack};
pub(crate) use self::features::show as features;
pub(crate) use self::guest::run as guest;
pub(crate) use self::initramfs::Only;
pub(crate) use self::kernels::Arch;

/// Which kernels to boot, and what to run in them.
#[derive(Parser)]
pub(crate) struct Args {
    /// The kernels (see --list). Default: the usual ones
    kernels: Vec<String>,
    /// Show the kernels that can be booted
    #[arg(long)]
    list: bool,
    /// The processor that QEMU emulates
    #[arg(long, value_enum, default_value_t = Arch::HOST)]
    arch: Arch,
    /// Switch a machine off after this many seconds
    #[arg(long, default_value_t = 1200)]
    timeout: u64,
    /// Fetch the newest build of a kernel, even if an older one was fetched before
    #[arg(long)]
    refresh: bool,
    /// Run only the tests of BPF programs in Rust, with those that `cargo xtask prove rust-bpf` built. They are ignored
    /// otherwise: `-- --include-ignored`
    #[arg(long)]
    rust_bpf: bool,
    /// Print all results as JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Write the results of the usual kernels to docs/kernels.md, if nothing failed. If you name kernels, the results of
    /// the others are those of their last complete run
    #[arg(long, conflicts_with_all = ["test_args", "rust_bpf"])]
    write_docs: bool,
    /// Arguments for the tests, after `--`: a part of their names, …
    #[arg(last = true)]
    test_args: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.list {
        print!("{}", kernels::list(args.arch));
        return Ok(ExitCode::SUCCESS);
    }
    // Before anything is installed or built.
    kernels::chosen(&args.kernels, args.arch)?;
    ensure_tools(args.arch)?;
    let good = boot_all(&[args], &setup::ensure()?)?.iter().all(Row::is_good);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `cargo xtask test --all`: what preemption could break, on a kernel that preempts programs wherever it can. Not what tests
/// userspace, or what one program does alone, and would take minutes under emulation; nor what `options::load` does with all
/// rings at once. `prove` has all tests.
const STEP_PREEMPT: &str = "cargo xtask vm --timeout 2400 6.12-preempt -- \
                            claim preempt hotplug:: stress:: options:: resizable:: wakeable:: tails:: commands:: \
                            latches:: top:: writers:: histogram:: gauge:: clocks:: \
                             --skip flight:: --skip conformance:: --skip killed_readers:: --skip died:: --skip languages:: \
                             --skip merged --skip a_packet_is_a_tail --skip sealed --skip than_places --skip every_command_is_carried_out \
                             --skip by_one_at_a_time --skip found_again_by_its_pin --skip programs_back_by_tails \
                             --skip keep_tails::forged --skip tails_of_every_length --skip never_commits \
                             --skip tails::programs_that_interrupt --skip a_required_reader_gets_every_tail";
/// The oldest and the newest kernel: programs load, attach and are read, and the recorder records.
const STEP_ENDS: &str = "cargo xtask vm --timeout 2400 5.10 sid -- basic:: verifier:: flight::records::";
/// The oldest kernel here on which programs write rings. Debian had none of this release.
const STEP_OLDEST: &str = "cargo xtask vm --timeout 2400 5.15 -- basic:: verifier:: flight::records:: \
                           a_process_that_dies_of_a_signal";
pub(crate) const STEPS: &[&str] = if cfg!(target_arch = "aarch64") {
    &[STEP_PREEMPT, STEP_ENDS]
} else {
    &[STEP_PREEMPT, STEP_ENDS, STEP_OLDEST]
};

/// `cargo xtask prove`: all tests of the library on these kernels, apart from those for which any kernel will do: of memory
/// files, and of the reader in C those that take longest.
macro_rules! whole {
    ($kernels:literal) => {
        concat!(
            "cargo xtask vm --timeout 7200 ",
            $kernels,
            " -- --skip flight:: --skip memfd:: --skip as_the_library_reads"
        )
    };
}
/// The same of the flight recorder, without damaged and large recordings.
macro_rules! flight {
    ($kernels:literal) => {
        concat!(
            "cargo xtask vm --timeout 7200 ",
            $kernels,
            " -- flight:: --skip damage_is_refused --skip forged_files_do_no_harm --skip a_dump_needs_little_memory"
        )
    };
}
/// The usual kernels, at most two in each method: a machine with two CPUs emulates both at once.
pub(crate) const PROOF_OLDEST: &[&str] =
    &[if cfg!(target_arch = "aarch64") { whole!("5.10") } else { whole!("5.10 5.15") }];
pub(crate) const PROOF_STABLE: &[&str] = &[whole!("6.1 6.12")];
pub(crate) const PROOF_PREEMPT: &[&str] =
    &[if cfg!(target_arch = "aarch64") { whole!("6.12-a53") } else { whole!("6.12-preempt 6.12-rt") }];
pub(crate) const PROOF_NEWEST: &[&str] = &[whole!("sid")];
pub(crate) const PROOF_FLIGHT: &[&str] = &[if cfg!(target_arch = "aarch64") {
    flight!("5.10 6.1 6.12 6.12-a53 sid")
} else {
    flight!("5.10 5.15 6.1 6.12 6.12-preempt 6.12-rt sid")
}];
/// On aarch64, with and without LSE atomics: the tests that differ there, and a working ring.
pub(crate) const PROOF_ARM: &str = "cargo xtask vm --arch aarch64 6.1 6.12-a53 -- \
                                    code_for_ missing_barriers _for_x86 x86_are_refused every_way_in_gives";

/// The arguments in one of these lines.
fn args_of(line: &str) -> Args {
    Args::parse_from(line.split(' ').skip(2))
}

/// Installs QEMU and fetches the kernels of these commands. The error says why that is not possible; other problems are
/// those of the step.
pub(crate) fn ready(lines: &[&str]) -> Result<()> {
    for args in lines.iter().map(|line| args_of(line)) {
        ensure_tools(args.arch)?;
        for kernel in kernels::chosen(&args.kernels, args.arch)? {
            apt::image(kernel, args.arch, false)
                .map(drop)
                .or_else(|error| if error.is::<Skip>() { Err(error) } else { Ok(()) })?;
        }
    }
    Ok(())
}

/// A step of `cargo xtask test`, or a method of `cargo xtask prove`: the machines of all these commands.
pub(crate) fn step(lines: &[&str], tools: &Tools) -> Result<Counts> {
    let steps: Vec<_> = lines.iter().map(|line| args_of(line)).collect();
    let rows = boot_all(&steps.iter().collect::<Vec<_>>(), tools)?;
    ensure!(rows.iter().all(Row::is_good), "see above");
    let cases = rows.iter().map(|row| row.tests.len() as u64).sum();
    Ok(Counts { cases, ..Counts::default() })
}

/// Boots the machines of all these arguments, in their order.
fn boot_all(all: &[&Args], tools: &Tools) -> Result<Vec<Row>> {
    let [first, ..] = all else { return Ok(Vec::new()) };
    let cross = if first.arch == Arch::HOST { None } else { Some(Cross::new(first.arch)?) };
    let mut contents = initramfs::build(tools, cross.as_ref())?;
    if first.rust_bpf {
        contents.add(rust_bpf::in_guests(tools)?);
    }
    fs::create_dir_all(apt::folder())?;
    let (mut machines, mut archives) = (Vec::new(), Vec::new());
    for (number, args) in all.iter().enumerate() {
        archives.push(nameless(&initramfs::archive(&contents, &args.test_args)?)?);
        // One after the other, since kernels share images, and apt its folders.
        for kernel in kernels::chosen(&args.kernels, args.arch)? {
            let image = apt::image(kernel, args.arch, args.refresh)?;
            machines.push((kernel, image, args, number));
        }
    }
    // One machine per CPU, since QEMU emulates each by one thread.
    let rows = programs::in_parallel(machines, programs::cpus(), |(kernel, image, args, number)| {
        let row = boot(kernel, &image, args, &path_of(&archives[number]))?;
        eprint!("{row}");
        Ok(row)
    })?;
    let good = rows.iter().all(Row::is_good);
    if first.write_docs && good {
        docs::write(&usual_rows(first.arch)?, first.arch)?;
    }
    if first.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print!("\n{}", report::table(&rows));
    }
    Ok(rows)
}

/// A file without a name, since another process may boot machines meanwhile; it is gone when this one ends. On disk, not
/// in memory, which the machines need: an archive has 300 MB.
fn nameless(content: &[u8]) -> Result<File> {
    let name = apt::folder().join(format!("initramfs-{}", std::process::id()));
    fs::write(&name, content).with_context(|| name.display().to_string())?;
    let file = File::open(&name)?;
    fs::remove_file(&name)?;
    Ok(file)
}

/// Where others can open it while it is open here.
fn path_of(file: &File) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into()
}

fn ensure_tools(arch: Arch) -> Result<()> {
    if !["apt-get", "dpkg-deb"].into_iter().all(cmd::exists) {
        bail!(
            "the kernels are Debian's and come through apt-get, which is not here\n\
             run this on Debian or Ubuntu; a container will do, it needs no privilege"
        );
    }
    let qemu = match arch {
        Arch::X86 => QEMU_X86,
        Arch::Arm => QEMU_ARM,
    };
    let mut tools = vec![qemu, DEBIAN_KEYS];
    if arch == Arch::Arm && arch != Arch::HOST {
        tools.push(ARM_COMPILER);
    }
    packages::ensure(&tools)
}

/// The file with the row of a kernel's last whole run: under emulation, all runs together take an hour or more.
fn kept(kernel: &Kernel, arch: Arch) -> PathBuf {
    apt::folder().join("runs").join(arch.name()).join(format!("{}.json", kernel.name))
}

/// The last results of the usual kernels. For another processor, where QEMU takes up to an hour for each kernel: only
/// of the kernels that were run.
fn usual_rows(arch: Arch) -> Result<Vec<Row>> {
    let usual = kernels::chosen(&[], arch)?.into_iter();
    let rows = usual.filter(|kernel| arch == Arch::HOST || kept(kernel, arch).exists()).map(|kernel| {
        let row = fs::read(kept(kernel, arch))
            .with_context(|| format!("{} was never run as a whole", kernel.name))?;
        let row: Row = serde_json::from_slice(&row)
            .with_context(|| format!("the last whole run of {} was another program's", kernel.name))?;
        ensure!(row.is_good(), "the last whole run of {} was no success", kernel.name);
        Ok(row)
    });
    rows.collect()
}

fn boot(kernel: &Kernel, image: &Image, args: &Args, initramfs: &Path) -> Result<Row> {
    // Never KVM: ordinary kernels hang in it on virtual machines like those of CI.
    eprintln!("\n=== {} ({}), emulated by QEMU's TCG ===", kernel.name, image.package);
    let start = Instant::now();
    let limit = Duration::from_secs(args.timeout);
    let (mut row, log) = boot::again_after_death(kernel.name, |died| {
        let (arch, package) = (args.arch.name().to_owned(), image.package.clone());
        let mut row = Row { kernel: kernel.name.to_owned(), arch, package, died, ..Row::default() };
        let hear = |message| row.hear(message).into_iter().for_each(|progress| eprintln!("{progress}"));
        let log = boot::run(args.arch, kernel, &image.path, initramfs, limit, hear)?;
        Ok((row, log))
    })?;
    row.end(&log);
    row.seconds = start.elapsed().as_secs_f32();
    if args.test_args.is_empty() && !args.rust_bpf {
        let kept = kept(kernel, args.arch);
        fs::create_dir_all(kept.parent().context("it lies in a folder")?)?;
        fs::write(kept, serde_json::to_vec(&row)?)?;
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_steps_boot_kernels_that_there_are() {
        let kernels = |line, arch| kernels::chosen(&args_of(line).kernels, arch).unwrap();
        for arch in [Arch::X86, Arch::Arm] {
            assert_eq!(kernels(STEP_ENDS, arch).len(), 2);
        }
        let proofs = [PROOF_OLDEST, PROOF_STABLE, PROOF_PREEMPT, PROOF_NEWEST].concat();
        let usual = kernels::chosen(&[], Arch::HOST).unwrap();
        for lines in [&*proofs, PROOF_FLIGHT] {
            let proven = lines.iter().flat_map(|line| kernels(line, Arch::HOST));
            assert!(proven.map(|kernel| kernel.name).eq(usual.iter().map(|kernel| kernel.name)));
        }
        assert!(matches!(kernels(STEP_PREEMPT, Arch::X86)[..], [kernel] if kernel.preempt == Some("full")));
        assert_eq!(kernels(STEP_OLDEST, Arch::X86).len(), 1);
        let args = args_of(PROOF_ARM);
        assert_eq!(kernels(PROOF_ARM, args.arch).len(), 2);
        assert_eq!((args.arch, args.test_args.len()), (Arch::Arm, 5));
    }

    /// As two processes may boot machines at the same time.
    #[test]
    fn a_second_archive_leaves_the_first_as_it_was() {
        fs::create_dir_all(apt::folder()).unwrap();
        let files = ["first", "second"].map(|content| nameless(content.as_bytes()).unwrap());
        let read = files.each_ref().map(|file| fs::read_to_string(path_of(file)).unwrap());
        assert_eq!(read, ["first", "second"]);
        assert_eq!(files[0].metadata().unwrap().nlink(), 0);
    }
}
