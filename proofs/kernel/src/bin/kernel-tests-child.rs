//! The second process of the tests.
//!
//! `kernel-tests-child [nobody] ring|cells|counters PIN` opens a region of 56-byte records, or of counters, and prints
//! its content. `… write PIN` tries every way to write a region, and prints the kernel's answers. `… overwrite PIN`
//! writes it with a BPF program. `… repin PIN PIN` pins a map a second time. `… compared PIN` prints what a cell's type
//! was compared with. `… alive PIN` prints who writes a ring. `reader PIN STAGE…` opens a ring as a reader, takes it to
//! each stage (`bell`, `arm`, `wait`, `require=MILLISECONDS`), prints `ready`, and stops there; at the stage `again` it comes
//! and goes, and at `read` it reads on. `tails PIN STAGE…` does the same with a ring with tails; it stops `within` the first
//! tail, which it does not read before. Both are there to be killed. `flight DIR` loads programs, attaches one, and pins it.
//! `forks PIN` is a reader that forks. `elsewhere COMMAND` runs a command in a new PID namespace.
//! `commands PIN COUNT` pushes commands, prints the number of the last one, and waits for the end of its stdin. `clocks`
//! prints for each clock how far it is ahead of programs, and the clock before, in and after a program; `unshared OFFSETS
//! [COMMAND]` runs a command in a new time namespace with these offsets, or without one prints what its parent knows of
//! its clocks; `jumps` checks merged readers whose clock jumps. `no_syscalls HOW RING LARGE CELLS LATCHES COUNTERS [GLOBALS]` reads without system calls: see
//! `src/no_syscalls.rs`.
#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result, anyhow, bail, ensure};
use libbpf_rs::libbpf_sys::BPF_F_RDONLY;
use mapring::Commands;
use mapring::time::{Clock, WallClock};
use mapring_kernel_tests::prelude::*;
use mapring_kernel_tests::skel::layouts_types;
use mapring_kernel_tests::tails::Item;
use memmap2::MmapOptions;
use nix::unistd::ForkResult;
use rustix::mm::MprotectFlags;
use rustix::thread::{CapabilitySet, UnshareFlags};

type Record = Filled<14>;

fn main() -> Result<()> {
    let mut args: Vec<_> = std::env::args().skip(1).collect();
    let kept = match args.first().map(String::as_str) {
        Some("nobody") => Some(CapabilitySet::empty()),
        Some("cap_bpf") => Some(CapabilitySet::BPF),
        _ => None,
    };
    if let Some(kept) = kept {
        args.remove(0);
        become_nobody_with(kept)?;
    }
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["ring", pin] => {
            let ring = Ring::<Record>::open(pin)?;
            about(&ring.region());
            let mut reader = ring.reader();
            for event in reader.drain() {
                println!("{} {} {:x?}", event.shard, event.ticket, event.record);
            }
            println!("{:?} dropped {}", reader.stats(), reader.stats().dropped());
        }
        ["cells", pin] => {
            let cells = Cells::<Record>::open(pin)?;
            about(cells.region());
            for index in 0..cells.len() {
                println!("{:x?}", cells.snapshot(index)?);
            }
        }
        ["counters", pin] => {
            let counters = Counters::open(pin)?;
            about(counters.region());
            for index in 0..counters.len() {
                println!("{}", counters.sum(index)?);
            }
        }
        ["compared", pin] => {
            let cells = Cells::<layouts_types::pair>::open(pin)?;
            println!("{:?} {}", cells.access(), cells.layout_check());
        }
        ["commands", pin, count] => {
            let commands = Commands::<Order>::open_with(pin, OpenOptions::new().write(true))?;
            let writer = commands.writer()?;
            let mut last = 0;
            for n in 1..=count.parse()? {
                last = writer.push(&Order::new(1, n))?;
            }
            println!("{last}");
            std::io::stdin().read_line(&mut String::new())?;
        }
        ["alive", pin] => {
            println!("{}", Ring::<[u64; 1]>::from_region(Region::open(pin)?)?.reader().liveness())
        }
        ["reader", pin, ref stages @ ..] => {
            reader::<Rec>(pin, stages, |reader, f| reader.for_each(usize::MAX, |_| f()))?;
        }
        ["tails", pin, ref stages @ ..] => {
            reader::<Item>(pin, stages, |reader, f| reader.for_each(usize::MAX, |_| f()))?;
        }
        ["forks", pin] => forks(pin)?,
        ["elsewhere", ref command @ ..] => elsewhere(command)?,
        ["flight", dir] => flight(dir)?,
        ["clocks"] => clocks()?,
        ["jumps"] => jumps()?,
        ["unshared", offsets, ref command @ ..] => unshared(offsets, command)?,
        ["write", pin] => write(pin)?,
        ["overwrite", pin] => overwrite(pin)?,
        ["repin", pin, path] => repin(pin, path)?,
        ["no_syscalls", how, ring, large, cells, latches, counters, ref globals @ ..] => {
            no_syscalls(how, [ring, large, cells, latches, counters], globals.first().copied())?;
        }
        _ => bail!(
            "kernel-tests-child [nobody|cap_bpf] ring|cells|counters|compared|write|overwrite PIN; commands PIN COUNT; \
             reader|tails PIN STAGE...; clocks; jumps; \
             unshared OFFSETS [COMMAND]; \
             or [nobody|cap_bpf] repin PIN PIN; or no_syscalls HOW RING LARGE CELLS LATCHES COUNTERS [GLOBALS]"
        ),
    }
    Ok(())
}

/// A reader that passes through the stages, and stops at the last one. `read` calls a function at each record.
fn reader<T: mapring::Record>(
    pin: &str,
    stages: &[&str],
    read: impl Fn(&mut Reader<T>, &mut dyn FnMut()) -> usize,
) -> Result<()> {
    let ring = Ring::<T>::open(pin)?;
    let mut reader = ring.reader();
    if stages.last() != Some(&"within") {
        read(&mut reader, &mut || ());
    }
    let (long, ready) = (Duration::from_secs(60), || println!("ready"));
    let stop = || {
        ready();
        std::io::stdin().read_line(&mut String::new()).map(drop)
    };
    for stage in stages {
        match stage.split_once('=').unwrap_or((stage, "")) {
            ("bell", _) => {
                reader.bell().map_err(|e| anyhow!("{e}"))?;
            }
            ("arm", _) => {
                reader.arm().context("there are records")?;
            }
            ("require", lease) => reader.require(Duration::from_millis(lease.parse()?))?,
            ("wait", _) => {
                ready();
                while !reader.wait(long)? {}
                bail!("it was woken");
            }
            ("again", _) => {
                ready();
                loop {
                    let mut reader = ring.reader();
                    for _ in 0..3 {
                        reader.wait(Duration::from_micros(100))?;
                        read(&mut reader, &mut || ());
                    }
                }
            }
            ("read", _) => {
                ready();
                loop {
                    reader.wait(long)?;
                    read(&mut reader, &mut || ());
                }
            }
            ("within", _) => {
                read(&mut reader, &mut || _ = stop());
                bail!("it was not killed");
            }
            _ => bail!("no stage {stage}"),
        }
    }
    Ok(stop()?)
}

/// A required reader with a bell that forks: a child that only drops what it inherited, then one that reads on, while the
/// parent ends without dropping anything. Each step waits for a line on stdin, and prints what the reader is.
fn forks(pin: &str) -> Result<()> {
    let mut reader = Ring::<Rec>::open(pin)?.reader();
    reader.require(Duration::from_secs(3600))?;
    reader.bell().map_err(|e| anyhow!("{e}"))?;
    // SAFETY: this process has one thread.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => {
            drop(reader);
            std::process::exit(0);
        }
        ForkResult::Parent { child } => drop(nix::sys::wait::waitpid(child, None)?),
    }
    let told = |reader: &mut Reader<Rec>| {
        let slept = reader.arm().is_some() && reader.bell().is_ok();
        println!("{} {slept} {}", reader.is_required(), reader.take_error().is_some());
        std::io::stdin().read_line(&mut String::new())
    };
    told(&mut reader)?;
    // SAFETY: as above.
    if unsafe { nix::unistd::fork() }?.is_parent() {
        // SAFETY: it ends at once, as `daemon` does.
        unsafe { libc::_exit(0) };
    }
    while reader.poll().is_some() {}
    told(&mut reader)?;
    Ok(())
}

/// Runs a command of this program in a new PID namespace, with the procfs of this one.
fn elsewhere(command: &[&str]) -> Result<()> {
    // SAFETY: this flag does not affect file descriptors.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) }?;
    let status = Command::new(std::env::current_exe()?).args(command).status()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// A loader that attaches a program, pins its ring and its link, and waits for the end of its stdin.
fn flight(dir: &str) -> Result<()> {
    let object = &bpf::LIVENESS.load(fitted);
    let program = object.progs_mut().find(|program| program.name() == "on_call");
    let mut link = program.context("no program on_call")?.attach()?;
    link.pin(format!("{dir}/link"))?;
    Region::open(&map(object, "calls"))?.pin(format!("{dir}/calls"), 0o600)?;
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

fn clocks() -> Result<()> {
    let object = &bpf::CLOCKS.load_only(unfitted);
    let stamp = Runner::new(object, "stamp");
    for (clock, at) in [(Clock::Monotonic, 0), (Clock::Boottime, 1)] {
        let (before, mut stamps) = (clock.now(), [0; 2]);
        stamp.run(&mut stamps);
        println!("{} {before} {} {}", clock.ahead()?, stamps[at], clock.now());
    }
    Ok(())
}

fn unshared(offsets: &str, command: &[&str]) -> Result<()> {
    // SAFETY: this flag does not affect file descriptors.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWTIME) }?;
    std::fs::write("/proc/self/timens_offsets", offsets)?;
    if command.is_empty() {
        println!("{:?}", WallClock::new(Clock::Monotonic).map(|_| ()).map_err(|e| (e.kind(), e.to_string())));
        return Ok(());
    }
    // With a group it forks. A child that shares its parent's memory stays in the old namespace.
    let status = Command::new(std::env::current_exe()?).args(command).gid(0).status()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

fn write(pin: &str) -> Result<()> {
    let region = OpenOptions::new().write(true).open(pin)?;
    println!("open: {:?}", region.writable());
    let handle = MapHandle::from_pinned_path(pin)?;
    let value = vec![0; handle.value_size() as usize];
    println!("update: {:?}", handle.update(&[0; 4], &value, MapFlags::ANY).map_err(|e| e.kind()));
    println!("mmap: {:?}", MmapOptions::new().len(4096).map_raw(&handle.as_fd()).map_err(|e| e.kind()));
    let mapping = MmapOptions::new().len(4096).map_raw_read_only(&handle.as_fd())?;
    // SAFETY: this process owns the mapping, and nothing relies on its pages staying read-only.
    let made_writable = unsafe {
        rustix::mm::mprotect(mapping.as_mut_ptr().cast(), 4096, MprotectFlags::READ | MprotectFlags::WRITE)
    };
    println!("mprotect: {made_writable:?}");
    Ok(())
}

/// Writes with our own BPF program to a map that we may open for reading only.
fn overwrite(pin: &str) -> Result<()> {
    let handle = MapHandle::from_pinned_path_with_file_flags(pin, BPF_F_RDONLY)?;
    match raw::overwriting(handle.as_fd(), 0x666) {
        Ok(program) => {
            raw::run_filter(program);
            println!("overwritten");
        }
        Err(errno) => println!("refused: {}", raw::errno(errno)),
    }
    Ok(())
}

/// Pins a map a second time through a read-only descriptor, and opens that pin for writing.
fn repin(pin: &str, path: &str) -> Result<()> {
    let mut handle = MapHandle::from_pinned_path_with_file_flags(pin, BPF_F_RDONLY)?;
    println!("write: {:?}", raw::update(&handle, 0, &vec![0; words(&handle)]).map_err(raw::errno));
    handle.pin(path)?;
    let again = MapHandle::from_pinned_path(path)?;
    println!(
        "write by another pin: {:?}",
        raw::update(&again, 0, &vec![7; words(&again)]).map_err(raw::errno)
    );
    Ok(())
}

/// The number of words of a value.
fn words(map: &MapHandle) -> usize {
    (map.value_size() as usize).div_ceil(8)
}

fn about(region: &Region) {
    println!("{:?} {:?}", region.access(), region.preamble());
}
