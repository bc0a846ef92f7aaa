//! Changes the filter and the sampling rate of a tracer while it runs: the very next event sees each change, whole.
//!
//! `tune [changes]`

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, hint, process, thread};

use anyhow::{Result, ensure};
use bytemuck::{Pod, Zeroable};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use mapring::{Commands, OpenOptions, Reader, Record, Ring};
use rustix::process::{getppid, getuid};
use rustix::time::{ClockId, clock_gettime};
use syscalls::Sysno;

#[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/tune.skel.rs"));
}

/// As in `tune.bpf.c`.
#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(C)]
struct Tuning {
    version: u64,
    pid: u32,
    call: u32,
    every: u32,
    _unused: u32,
}

/// As in `tune.bpf.c`.
#[derive(Clone, Copy, Debug, Pod, Zeroable, Record)]
#[repr(C)]
struct Call {
    begin: u64,
    version: u64,
    index: u64,
    pid: u32,
    call: u32,
    every: u32,
    _unused: u32,
}

/// The system calls of the load, and the sampling rates, which take turns.
const CALLS: [Sysno; 2] = [Sysno::getppid, Sysno::getuid];
const EVERY: [u32; 3] = [1, 10, 100];

fn main() -> Result<()> {
    let changes = env::args().nth(1).map_or(Ok(10), |changes| changes.parse())?;

    let mut storage = MaybeUninit::uninit();
    let mut open = skel::TuneSkelBuilder::default().open(&mut storage)?;
    mapring_loader::prepare(&mut open)?;
    let mut skel = open.load()?;
    mapring_loader::initialize(&skel)?;
    let commands = Commands::<Tuning>::open_with(&skel.maps.commands, OpenOptions::new().write(true))?;
    let ring = Ring::<Call>::open(&skel.maps.calls)?;
    skel.attach()?;

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in mapring::cpus::online_cpus()? {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    hint::black_box((getppid(), getuid()));
                }
            });
        }
        let result = tune(&commands, &mut ring.reader(), changes);
        stop.store(true, Ordering::Relaxed);
        result
    })?;
    println!(
        "{} commands carried out, {} skipped; read {}",
        commands.acknowledged()?,
        commands.skipped()?,
        ring.access()
    );
    Ok(())
}

fn tune(commands: &Commands<Tuning>, reader: &mut Reader<Call>, changes: usize) -> Result<()> {
    let writer = commands.writer()?; // fails while another process has one
    let mut history: Vec<(Tuning, u64)> = Vec::new(); // the commands, and when they were acknowledged
    let (mut events, mut later) = (0, 0);
    for change in 0..changes {
        let (call, every) = (CALLS[change % CALLS.len()], EVERY[change % EVERY.len()]);
        let version = change as u64 + 1;
        let tuning = Tuning { version, pid: process::id(), call: call as u32, every, _unused: 0 };

        let start = Instant::now();
        let number = writer.push(&tuning)?; // no system call
        while writer.acknowledged() < number {
            thread::yield_now(); // a system call, and so an event, if there was none
        }
        let took = start.elapsed();
        history.push((tuning, now()));

        // At least one event, so that each command is seen.
        let mut seen = 0;
        while seen == 0 || start.elapsed() < Duration::from_millis(20) {
            for event in reader.drain() {
                let call = event.record;
                check(&call, &history)?;
                seen += u64::from(call.version == version);
                later += u64::from(call.begin > history[change].1);
                events += 1;
            }
        }
        println!("change {version}: 1 in {every} of {call}, acknowledged after {took:?}; {seen} events");
    }
    println!("{events} events, {later} of them after the acknowledgement: all as their commands say");
    Ok(())
}

/// Checks that an event obeyed one command, whole; and the last one that was acknowledged before it began, or a later
/// one.
fn check(event: &Call, history: &[(Tuning, u64)]) -> Result<()> {
    let command = usize::try_from(event.version)?.checked_sub(1).and_then(|index| history.get(index));
    let whole = command.is_some_and(|(tuning, _)| {
        (event.pid, event.call, event.every) == (tuning.pid, tuning.call, tuning.every)
            && event.index.is_multiple_of(tuning.every.into())
    });
    ensure!(whole, "a mixture: {event:?}");
    let acknowledged = history.iter().rev().find(|(_, at)| event.begin > *at);
    let newest = acknowledged.map_or(0, |(tuning, _)| tuning.version);
    ensure!(event.version >= newest, "{event:?} began after {newest} was acknowledged");
    Ok(())
}

/// The clock of `bpf_ktime_get_ns`.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
