//! `cargo xtask vm`: boots other kernels under QEMU and runs the kernel tests in each.

mod apt;
mod boot;
mod cpio;
mod cross;
mod docs;
mod features;
mod guest;
mod here;
mod initramfs;
mod kernels;
mod net;
mod probe;
mod protocol;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use self::apt::Image;
use self::boot::Said;
use self::features::lacking;
use self::kernels::Kernel;
use self::protocol::{Machine, Message, Outcome, Probed};
use self::report::Row;
use crate::archives::DEBIAN;
use crate::cmd;
use crate::counts::Counts;
use crate::packages::Tool;
use crate::programs;
use crate::setup::{self, Tools};

pub(crate) use self::apt::program;
pub(crate) use self::cross::Cross;
pub(crate) use self::guest::run as guest;
pub(crate) use self::here::features;
pub(crate) use self::kernels::Arch;

/// Which kernels to boot, and what to run in them.
#[derive(clap::Args)]
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
    /// Print all results as JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Write the results of the usual kernels to docs/kernels.md, if nothing failed. If you name kernels, the results of
    /// the others are those of their last complete run
    #[arg(long, conflicts_with = "test_args")]
    write_docs: bool,
    /// Arguments for the tests, after `--`: a part of their names, …
    #[arg(last = true)]
    test_args: Vec<String>,
}

/// Boots the kernels named, or the usual ones.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.list {
        print!("{}", kernels::list(args.arch));
        return Ok(ExitCode::SUCCESS);
    }
    ensure_tools(args.arch)?;
    let good = boot_all(&[args], &setup::ensure()?)?.iter().all(Row::is_good);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `cargo xtask test --all`: what preemption could break, on a kernel that preempts programs wherever it can. Not what tests
/// userspace more than programs, and would take minutes under emulation.
const STEP_PREEMPT: &str = "cargo xtask vm --timeout 2400 6.12-preempt -- \
                            claim preempt nested:: stress:: options:: resizable:: wakeable:: tails:: keep_oldest:: tagged:: commands:: \
                            latches:: top:: writers:: histogram:: gauge:: clocks:: \
                            --skip flight:: --skip conformance:: --skip killed_readers:: --skip died:: --skip tails_are_mapped \
                            --skip merged --skip a_packet_is_a_tail --skip sealed --skip every_command_is_carried_out";
/// The oldest and the newest kernel: programs load, attach and are read, and the recorder records.
const STEP_ENDS: &str = "cargo xtask vm --timeout 2400 5.10 sid -- basic:: verifier:: flight::records::";
/// The oldest kernel here on which programs write rings. Debian had none of this release.
const STEP_OLDEST: &str = "cargo xtask vm --timeout 2400 5.15 -- basic:: options:: verifier:: flight::records::";
pub(crate) const STEPS: &[&str] = if cfg!(target_arch = "aarch64") {
    &[STEP_PREEMPT, STEP_ENDS]
} else {
    &[STEP_PREEMPT, STEP_ENDS, STEP_OLDEST]
};

/// `cargo xtask prove`: the usual kernels with all tests, apart from those of memory files, and of the reader in C that
/// take longest. For these, any kernel will do.
const PROOF_ALL: &str = "cargo xtask vm --timeout 7200 -- --skip memfd:: --skip as_the_library_reads";
pub(crate) const PROOF: &[&str] = &[PROOF_ALL];
/// On aarch64, with and without LSE atomics: the tests that differ there, and a working ring.
pub(crate) const PROOF_ARM: &str = "cargo xtask vm --arch aarch64 6.1 6.12-a53 -- \
                                    code_for_ missing_barriers _for_x86 x86_are_refused every_way_in_gives";

#[derive(clap::Parser)]
struct StepArgs {
    #[command(flatten)]
    args: Args,
}

impl StepArgs {
    fn new(line: &str) -> Self {
        Self::parse_from(line.split(' ').skip(2))
    }
}

/// Why virtual machines can't run here: QEMU can't be installed, or no network to fetch kernels.
pub(crate) fn obstacle(line: &str) -> Option<String> {
    let StepArgs { args } = StepArgs::new(line);
    if let Err(error) = ensure_tools(args.arch) {
        return Some(format!("{error:#}"));
    }
    let kernels = kernels::chosen(&args.kernels, args.arch).expect("the step names kernels that there are");
    let offline =
        |kernel: &&Kernel| apt::image(kernel, args.arch, false).err().filter(|e| e.is::<apt::Offline>());
    kernels.iter().find_map(offline).map(|error| format!("{error:#}"))
}

/// A step of `cargo xtask test`, or a method of `cargo xtask prove`: the machines of all these commands.
pub(crate) fn step(lines: &[&str], tools: &Tools) -> Result<Counts> {
    let steps: Vec<_> = lines.iter().map(|line| StepArgs::new(line)).collect();
    let rows = boot_all(&steps.iter().map(|step| &step.args).collect::<Vec<_>>(), tools)?;
    ensure!(rows.iter().all(Row::is_good), "see above");
    let cases = rows.iter().map(|row| row.tests.len() as u64).sum();
    Ok(Counts { cases, ..Counts::default() })
}

/// The machines of some arguments.
struct Machines<'a> {
    args: &'a Args,
    initramfs: PathBuf,
}

/// Boots the machines of all these arguments, in their order.
fn boot_all(all: &[&Args], tools: &Tools) -> Result<Vec<Row>> {
    let [first, ..] = all else { return Ok(Vec::new()) };
    let cross = if first.arch == Arch::HOST { None } else { Some(Cross::new(first.arch)?) };
    let built = initramfs::build(tools, cross.as_ref())?;
    fs::create_dir_all(apt::folder())?;
    let mut of_args = Vec::new();
    for (number, args) in all.iter().enumerate() {
        let initramfs = apt::folder().join(format!("initramfs-{}-{number}", args.arch.name()));
        fs::write(&initramfs, initramfs::archive(&built, &args.test_args)?)
            .with_context(|| format!("{}", initramfs.display()))?;
        of_args.push(Machines { args, initramfs });
    }
    let mut machines = Vec::new();
    for of in &of_args {
        // One after the other, since kernels share images, and apt its folders.
        for kernel in kernels::chosen(&of.args.kernels, of.args.arch)? {
            machines.push((kernel, apt::image(kernel, of.args.arch, of.args.refresh)?, of));
        }
    }
    let rows = at_once(&machines, |(kernel, image, Machines { args, initramfs })| {
        let row = boot(kernel, image, args, initramfs)?;
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

/// Boots machines in parallel, one per CPU, since QEMU emulates each by one thread; the rows are in the order of the machines.
fn at_once<M: Sync>(machines: &[M], boot: impl Fn(&M) -> Result<Row> + Sync) -> Result<Vec<Row>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut rows = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(machine) = machines.get(at) else { return Ok(rows) };
            rows.push((at, boot(machine).inspect_err(|_| next.store(machines.len(), Ordering::Relaxed))?));
        }
    };
    let workers = programs::cpus().min(machines.len());
    let mut rows = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join().expect("a worker does not panic"));
        joined.collect::<Result<Vec<_>>>()
    })?
    .concat();
    rows.sort_by_key(|(at, _)| *at);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// Installs missing tools, as for a build.
fn ensure_tools(arch: Arch) -> Result<()> {
    if !["apt-get", "dpkg-deb"].into_iter().all(cmd::exists) {
        bail!(
            "the kernels are Debian's and come through apt-get, which is not here\n\
             run this on Debian or Ubuntu; a container will do, it needs no privilege"
        );
    }
    let qemu = match arch {
        Arch::X86 => Tool::QemuX86,
        Arch::Arm => Tool::QemuArm,
    };
    let missing = || {
        let mut missing = Vec::new();
        if !cmd::exists(&qemu.to_string()) {
            missing.push(qemu);
        }
        if !Path::new(DEBIAN.keyring).exists() {
            missing.push(Tool::DebianKeys);
        }
        if arch == Arch::Arm && arch != Arch::HOST && !cmd::exists(&Tool::ArmCompiler.to_string()) {
            missing.push(Tool::ArmCompiler);
        }
        missing
    };
    if !missing().is_empty() {
        setup::install(missing())?;
    }
    match missing().first() {
        None => Ok(()),
        Some(tool) => bail!("apt-get succeeded, yet {tool} is not found"),
    }
}

/// The last whole run of a kernel: its package, its output, its duration in seconds.
type Run = (String, Said, f32);

/// The file with that run: under emulation, all runs together take an hour or more.
fn kept(kernel: &Kernel, arch: Arch) -> PathBuf {
    apt::folder().join("runs").join(arch.name()).join(format!("{}.json", kernel.name))
}

fn row(kernel: &Kernel, arch: Arch, (package, said, seconds): Run) -> Row {
    Row::new(kernel.name, arch.name(), &package, said, seconds)
}

/// The last results of the usual kernels. For another processor, where QEMU takes up to an hour for each kernel: only
/// of the kernels that were run.
fn usual_rows(arch: Arch) -> Result<Vec<Row>> {
    let usual = kernels::chosen(&[], arch)?.into_iter();
    let rows = usual.filter(|kernel| arch == Arch::HOST || kept(kernel, arch).exists()).map(|kernel| {
        let run = fs::read(kept(kernel, arch))
            .with_context(|| format!("{} was never run as a whole", kernel.name))?;
        let run = serde_json::from_slice(&run)
            .with_context(|| format!("the last whole run of {} was another program's", kernel.name))?;
        let row = row(kernel, arch, run);
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
    let said = boot::again_after_panic(kernel.name, || {
        let mut probed = Vec::new();
        let show = |message: &Message| show(kernel.name, message, &mut probed);
        boot::run(args.arch, kernel, &image.path, initramfs, limit, show)
    })?;
    let run = (image.package.clone(), said, start.elapsed().as_secs_f32());
    if args.test_args.is_empty() {
        let kept = kept(kernel, args.arch);
        fs::create_dir_all(kept.parent().context("it lies in a folder")?)?;
        fs::write(kept, serde_json::to_vec(&run)?)?;
    }
    Ok(row(kernel, args.arch, run))
}

/// Prints the progress of one machine among several.
fn show(kernel: &str, message: &Message, probed: &mut Vec<Probed>) {
    match message {
        Message::Booted(machine) => {
            let Machine { release, version, cpus, nodes, preempt } = machine;
            let preempt = preempt.as_ref().map(|mode| format!(", preempt={mode}")).unwrap_or_default();
            eprintln!("{kernel:12} {release} {version}, {cpus} CPUs, by NUMA node: {nodes:?}{preempt}");
        }
        Message::Ended(ended) => {
            let end = match &ended.outcome {
                Outcome::Passed => "ok",
                Outcome::Skipped(_) => "skipped",
                Outcome::Failed(said) if lacking(probed, said).is_some() => "lacking",
                Outcome::Failed(_) => "failed",
            };
            eprintln!(
                "{kernel:12} {:7} {} ({:.1} s)",
                end,
                ended.test,
                Duration::from_millis(ended.milliseconds).as_secs_f32()
            );
        }
        Message::Probed(all) => probed.clone_from(all),
        Message::Started { .. } | Message::Finished { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_boot_kernels_that_there_are() {
        for arch in [Arch::X86, Arch::Arm] {
            let kernels = |line| kernels::chosen(&StepArgs::new(line).args.kernels, arch).unwrap();
            assert_eq!(kernels(STEP_ENDS).len(), 2);
            assert!(kernels(PROOF_ALL).len() > 3);
        }
        assert!(matches!(
            kernels::chosen(&StepArgs::new(STEP_PREEMPT).args.kernels, Arch::X86).unwrap()[..],
            [kernel] if kernel.preempt == Some("full")
        ));
        let StepArgs { args } = StepArgs::new(STEP_OLDEST);
        assert_eq!(kernels::chosen(&args.kernels, Arch::X86).unwrap().len(), 1);
        let StepArgs { args } = StepArgs::new(PROOF_ARM);
        assert_eq!(kernels::chosen(&args.kernels, args.arch).unwrap().len(), 2);
        assert_eq!((args.arch, args.test_args.len()), (Arch::Arm, 5));
    }
}
